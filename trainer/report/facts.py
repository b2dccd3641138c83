"""What a reader wants to know first, as numbers: did it learn, what did it cost, who was updated."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from trainer.report.folder import RunFolder

RESAMPLES = 4000
SHARE = 10  # the first and the last tenth of the steps are compared
START, END = "sft", "final"


@dataclass(frozen=True)
class Change:
    """A number before and after; low, high: the 95 % interval of the difference, where it is known."""

    before: float
    after: float
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float:
        """after - before; never -0."""
        return self.after - self.before + 0.0

    @property
    def verdict(self) -> str:
        """In words: "up", "down" where the interval leaves out 0; else "no clear change"; "" where nothing tells."""
        if self.low is None or self.high is None:
            return ""
        return "up" if self.low > 0 else "down" if self.high < 0 else "no clear change"


@dataclass(frozen=True)
class Facts:
    """Of one run. tested: solved on the test, per cent, before and after RL. reward, accuracy: means over the first and the
    last tenth of the steps. Seconds on the clock; tokens that were sampled (estimated where not every step is logged). saved:
    of the tokens of the learner's batches; cached: of the prompts' tokens. updated: {policy: share of the logged steps}.
    skipped: steps without an update because of a loss or gradient that isn't finite. failed: trajectories that could not be
    scored."""

    steps: int
    planned: int | None
    tested: Change | None
    reward: Change | None
    accuracy: Change | None
    sft_seconds: float
    rl_seconds: float
    step_seconds: float
    tokens: float
    saved: float
    cached: float
    updated: dict[str, float]
    skipped: int
    failed: int


def facts(run: RunFolder) -> Facts:
    """The numbers of a run; those of RL are 0 before it begins."""
    steps = int(run.train[-1]["step"]) if run.train else 0
    planned = run.config.get("max_steps")
    sft_end = max((float(line["time"]) for line in run.sft), default=0.0)
    end = max((float(line["time"]) for line in [*run.train, *run.evals, *run.sft]), default=0.0)
    original, packed = total(run, "learner/original_tokens"), total(run, "learner/packed_tokens")
    prompts, cached = total(run, "engine/prompt_tokens"), total(run, "engine/cached_tokens")
    return Facts(
        steps=steps,
        planned=planned if isinstance(planned, int) else None,
        tested=tested(run),
        reward=ends(run, "rollout/reward"),
        accuracy=ends(run, "rollout/accuracy"),
        sft_seconds=sft_end,
        rl_seconds=end - sft_end,
        step_seconds=mean(run, "seconds/step"),
        tokens=mean(run, "rollout/sampled_tokens") * steps,
        saved=1 - packed / original if original else 0.0,
        cached=cached / prompts if prompts else 0.0,
        updated={policy: mean(run, f"updated/{policy}") for policy in run.names("updated/")},
        skipped=int(total(run, "learner/skipped")),
        failed=int(total(run, "rollout/failed") + total(run, "rollout/unscored")),
    )


def total(run: RunFolder, name: str) -> float:
    """The sum of a scalar over the logged steps."""
    return sum(run.column(name)[1])


def mean(run: RunFolder, name: str) -> float:
    """Its mean; 0 without any."""
    values = run.column(name)[1]
    return fmean(values) if values else 0.0


def ends(run: RunFolder, name: str) -> Change | None:
    """The means over the first and the last tenth of the logged steps, at least one of each; None with fewer than two."""
    values = run.column(name)[1]
    part = max(1, len(values) // SHARE)
    return Change(fmean(values[:part]), fmean(values[-part:])) if len(values) > 1 else None


def around(run: RunFolder) -> tuple[str, str] | None:
    """The names of the evaluations before and after RL; while it runs, the last one so far. None where there are not two."""
    order = sorted(run.evals, key=lambda line: float(line["step"]))
    names = list(dict.fromkeys(str(line.get("name")) for line in order if str(line.get("name")) in run.reports))
    if len(names) < 2:
        return None
    return (START if START in names else names[0]), (END if END in names else names[-1])


def tested(run: RunFolder) -> Change | None:
    """The average of the columns' solved shares before and after, over the episodes that both evaluations played."""
    names = around(run)
    if names is None:
        return None
    before, after = (run.reports[name] for name in names)
    pairs = paired(before, after)
    if not pairs:
        return Change(float(before["average"]["solved"]), float(after["average"]["solved"]))
    first, second = (100 * fmean(fmean(pair[i] for pair in column) for column in pairs.values()) for i in (0, 1))
    low, high = interval(list(pairs.values()))
    return Change(first, second, low, high)


def paired(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """{column: (solved before, solved after) of each episode that both reports have}."""
    known = {episode["id"]: float(episode["accuracy"] == 1.0) for episode in before.get("episodes", ())}
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for episode in after.get("episodes", ()):
        if episode["id"] in known:
            found[str(episode["column"])].append((known[episode["id"]], float(episode["accuracy"] == 1.0)))
    return dict(found)


def interval(columns: Sequence[Sequence[tuple[float, float]]]) -> tuple[float, float]:
    """The bootstrap's 95 % interval, in points, of the mean over columns of the mean difference over their episodes."""
    rng = np.random.default_rng(0)
    means = []
    for column in columns:
        differences = np.array([after - before for before, after in column])
        drawn = rng.integers(len(differences), size=(RESAMPLES, len(differences)))
        means.append(differences[drawn].mean(axis=1))
    low, high = np.percentile(100 * np.mean(means, axis=0), (2.5, 97.5))
    return float(low), float(high)


def smooth(values: Sequence[float], window: int) -> list[float]:
    """The mean over the `window` values around each; fewer at the ends."""
    half = window // 2
    return [fmean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def labels(runs: Sequence[RunFolder]) -> list[str]:
    """What to call runs side by side: with and without memory where that tells two apart, else by their folders."""
    memory = [run.config.get("memory") is not None for run in runs]
    if len(runs) == 2 and memory[0] != memory[1] and all(run.config for run in runs):
        return ["with memory" if on else "without memory" for on in memory]
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def duration(seconds: float) -> str:
    """`48 s`, `6 min 12 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def amount(number: float) -> str:
    """`812`, `45.2 k`, `3.1 M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f}"
