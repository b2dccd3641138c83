"""What an evaluation found: by column, with intervals, as the paper's table and as JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from trainer.escaping import for_json, for_terminal
from trainer.evaluate.play import Played

RESAMPLES = 10_000
HEADINGS = {"cooperation": "Cooperation", "qa": "QA", "efc": "EFC", "gfc": "GFC", "math": "Math"}
AVERAGE = "Avg"
RULE = "* no tokenizer counted these: up to 6 letters, up to 3 digits, or one other character are a token"


@dataclass(frozen=True)
class Column:
    """The episodes of a column. solved: the share with R_A = 1 in per cent; low, high: its bootstrap 95 % interval; the others
    are means an episode, but `reasons`: {why it ended: how often}."""

    name: str
    episodes: int
    solved: float
    low: float
    high: float
    accuracy: float
    calls: float
    minimal_calls: float
    nodes: float
    written: float
    reasons: dict[str, int]


@dataclass(frozen=True)
class Report:
    """An evaluation. counted: how `written` counts tokens: by the "tokenizer" of the policy, or, where it told no number, by a
    fixed "rule" (`play.count_by_rule`).

    Example: `print(evaluate(policy, tasks, world).table())`.
    """

    policy: str
    split: str
    counted: Literal["tokenizer", "rule"]
    columns: tuple[Column, ...]
    average: Column
    episodes: tuple[Played, ...]

    @property
    def errors(self) -> list[Played]:
        """The episodes that an exception ended."""
        return [played for played in self.episodes if played.error is not None]

    def table(self) -> str:
        """The paper's table: a column each, then their mean."""
        columns = (*self.columns, self.average)
        rows = [
            ("", *(HEADINGS.get(column.name, column.name) for column in columns)),
            ("solved, %", *(f"{column.solved:.1f}" for column in columns)),
            ("95 % interval", *(f"{column.low:.1f}-{column.high:.1f}" for column in columns)),
            ("accuracy R_A", *(f"{column.accuracy:.3f}" for column in columns)),
            ("calls a task", *(f"{column.calls:.1f}" for column in columns)),
            ("  of the expert", *(f"{column.minimal_calls:.1f}" for column in columns)),
            ("nodes a task", *(f"{column.nodes:.1f}" for column in columns)),
            ("tokens a task" + " *" * (self.counted == "rule"), *(f"{column.written:.0f}" for column in columns)),
            ("tasks", *(str(column.episodes) for column in columns)),
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns) + 1)]
        lines = [f"{self.policy} on {self.split}"]
        for name, *cells in rows:
            aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *aligned]))
        lines.append("ended: " + ", ".join(f"{reason} {count}" for reason, count in self.average.reasons.items()))
        if self.counted == "rule":
            lines.append(RULE)
        failed = self.errors
        if failed:
            lines.append(f"{len(failed)} ended by an error and count as unsolved; the first, {failed[0].id}: {failed[0].error}")
        return "\n".join(map(for_terminal, lines))

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: the columns, their average, and every episode."""
        return asdict(self) | {"columns": [asdict(column) for column in self.columns]}

    def dumps(self) -> str:
        """As JSON text that UTF-8 can hold; the same for the same episodes."""
        return for_json(json.dumps(self.to_json(), ensure_ascii=False, indent=1)) + "\n"


def make_report(episodes: Sequence[Played], *, policy: str, split: str, seed: int = 0) -> Report:
    """The report of episodes. Columns stand in the order of the paper, others after them as they come.

    The average is the mean of the columns. Intervals are percentiles of the share over 10,000 resamples of the episodes of each
    column, with a generator of `seed`; where all or none are solved a bootstrap knows no spread.

    Raises: ValueError for no episodes.
    """
    if not episodes:
        raise ValueError("episodes: expected at least one, got none")
    names = dict.fromkeys([*HEADINGS, *(played.column for played in episodes)])
    groups = {name: group for name in names if (group := [played for played in episodes if played.column == name])}
    rng = np.random.default_rng(seed)
    shares = [_resampled(group, rng) for group in groups.values()]
    columns = [_column(name, group, share) for (name, group), share in zip(groups.items(), shares, strict=True)]
    low, high = np.percentile(np.mean(shares, axis=0), (2.5, 97.5))

    def mean(name: str) -> float:
        return float(np.mean([getattr(column, name) for column in columns]))

    means = {name: mean(name) for name in ("solved", "accuracy", "calls", "minimal_calls", "nodes", "written")}
    average = Column(
        name=AVERAGE, episodes=len(episodes), low=float(low), high=float(high), reasons=_reasons(episodes), **means
    )
    counted: Literal["tokenizer", "rule"] = "rule" if any(played.by_rule for played in episodes) else "tokenizer"
    return Report(policy, split, counted, tuple(columns), average, tuple(episodes))


def _resampled(group: Sequence[Played], rng: np.random.Generator) -> np.ndarray:
    """The solved share in per cent of each resample: of n episodes drawn with replacement, binomially many are solved."""
    count = len(group)
    solved = sum(played.solved for played in group)
    return 100.0 * rng.binomial(count, solved / count, RESAMPLES) / count


def _column(name: str, group: Sequence[Played], shares: np.ndarray) -> Column:
    low, high = np.percentile(shares, (2.5, 97.5))

    def mean(name: str) -> float:
        return float(np.mean([getattr(played, name) for played in group]))

    means = {name: mean(name) for name in ("accuracy", "calls", "minimal_calls", "nodes", "written")}
    return Column(
        name=name,
        episodes=len(group),
        solved=100.0 * mean("solved"),
        low=float(low),
        high=float(high),
        reasons=_reasons(group),
        **means,
    )


def _reasons(group: Sequence[Played]) -> dict[str, int]:
    return dict(Counter(played.reason for played in group).most_common())
