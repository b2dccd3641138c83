"""A run's folder as it is read: its configuration, metrics, evaluations and episodes, as far as they are there."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.jsonlines import objects
from trainer.metrics import KINDS
from trainer.reading import load_json, short

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """What a run has written so far. sft, train, evals: lines of metrics.jsonl, by step. reports: eval/{name}.json by name.
    episodes: samples.jsonl. finished: the policies at the end are there."""

    path: Path
    config: dict[str, Any]
    sft: list[Line] = field(default_factory=list)
    train: list[Line] = field(default_factory=list)
    evals: list[Line] = field(default_factory=list)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    episodes: list[Line] = field(default_factory=list)
    finished: bool = False

    def names(self, prefix: str, suffix: str = "") -> list[str]:
        """What stands between prefix and suffix in the names of the training's scalars, in their order."""
        found: dict[str, None] = {}
        for line in self.train:
            for name in line:
                if name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix):
                    inner = name[len(prefix) : len(name) - len(suffix)]
                    if "/" not in inner:
                        found[inner] = None
        return list(found)

    @property
    def agents(self) -> list[str]:
        """In the order of the metrics."""
        return self.names("selected/")

    def column(self, name: str) -> tuple[list[float], list[float]]:
        """(steps, values) of a scalar of the training, where it is a number."""
        return numbers(self.train, name)


def numbers(lines: Sequence[Line], name: str) -> tuple[list[float], list[float]]:
    """(steps, values) of a scalar, where it is a number."""
    found = [(float(line["step"]), float(line[name])) for line in lines if _is_number(line.get(name))]
    return [step for step, _ in found], [value for _, value in found]


def read_run(path: str | os.PathLike[str]) -> RunFolder:
    """Reads a run, also one that goes on: a last line that is still being written doesn't count.

    Raises: FileNotFoundError for a folder that is no run's, saying what is missing; ValueError, with file and line, for what is
    no JSON or no line of a run.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the folder of a run, got {'a file' if folder.exists() else 'nothing'}")
    if not (folder / "metrics.jsonl").is_file():
        raise FileNotFoundError(f"{folder}: expected the folder of a run with metrics.jsonl, got none; `hima train` writes one")
    lines = objects(folder / "metrics.jsonl", _OF_LINES, _check_line)
    samples = folder / "samples.jsonl"
    return RunFolder(
        path=folder,
        config=_config(folder / "config.yaml"),
        sft=_of(lines, "sft"),
        train=_of(lines, "train"),
        evals=_of(lines, "eval"),
        reports={file.stem: _report(file) for file in sorted((folder / "eval").glob("*.json"))},
        episodes=objects(samples, _OF_EPISODES, _check_episode) if samples.is_file() else [],
        finished=(folder / "final" / "policies").is_dir(),
    )


def _of(lines: Sequence[Line], kind: str) -> list[Line]:
    return sorted((line for line in lines if line["kind"] == kind), key=lambda line: float(line["step"]))


def _check_line(where: str, line: Line) -> None:
    _check_fields(where, line, _OF_LINES)
    if line["kind"] not in KINDS:
        raise ValueError(f"{where}: expected kind {', '.join(KINDS)}, got {short(line['kind'])}")


def _check_episode(where: str, line: Line) -> None:
    _check_fields(where, line, _OF_EPISODES)


def _config(path: Path) -> dict[str, Any]:
    from trainer.config_file import parse  # only where a page is made: the command line starts without YAML

    if not path.is_file():
        return {}
    try:
        found = parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected YAML, got an error: {error}") from None
    return found if isinstance(found, dict) else {}


def _report(path: Path) -> dict[str, Any]:
    try:
        report = load_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got an error: {error}") from None
    if not isinstance(report, dict) or not {"columns", "average"} <= report.keys():
        raise ValueError(f"{path}: expected the report of an evaluation, with columns and average, got other JSON")
    for name in ("columns", "episodes"):
        rows = report.get(name, [])
        if not isinstance(rows, list):
            raise ValueError(f"{path}: {name}: expected a list, got {short(rows)}")
        for i, row in enumerate(rows):
            _check_fields(f"{path}: {name}[{i}]", row, _OF_ROWS[name])
    _check_fields(f"{path}: average", report["average"], _SHARES)
    return report


def _check_fields(where: str, row: object, names: Sequence[str]) -> None:
    """Raises: ValueError unless an object has these fields, each of its kind."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object, got {short(row)}")
    for name in names:
        kind, fits = _FIELDS[name]
        if not fits(row.get(name)):
            raise ValueError(f"{where}: {name}: expected {kind}, got {short(row.get(name))}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(turn, dict) and {"agent", "text"} <= turn.keys() for turn in value)


_OF_LINES = ("kind", "step", "time")
_OF_EPISODES = ("step", "reward", "turns")
_SHARES = ("solved", "low", "high")
_OF_ROWS = {"columns": ("name", *_SHARES), "episodes": ("id", "column", "accuracy")}
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("step", "time", "reward", "accuracy", *_SHARES), ("a finite number", _is_number)),
    **dict.fromkeys(("kind", "name", "id", "column"), ("a text", lambda value: isinstance(value, str))),
    "turns": ("a list of objects with agent and text", _are_turns),
}
