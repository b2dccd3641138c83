"""The metrics of a run: scalars as JSON lines and for TensorBoard, sample episodes, each written when it happens.

metrics = Metrics("runs/1")
metrics.log("train", 3, {"rollout/reward": 1.2, "learner/loss": 0.1})
{"kind": "train", "step": 3, "time": 81.2, "rollout/reward": 1.2, "learner/loss": 0.1}
"""

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer.jsonlines import append, lines, objects, record_of

KINDS = ("sft", "train", "eval")
LINES, EPISODES, BOARD = "metrics.jsonl", "samples.jsonl", "tensorboard"


class Metrics:
    """{folder}/metrics.jsonl, samples.jsonl and, where TensorBoard is installed, tensorboard/{kind}.

    Args:
        elapsed: seconds that the run has taken before; `time` goes on from there.
        keep: of a resumed run: (kind, step) -> whether such a line stays. The others, and one that a kill cut off, are dropped,
            so that what is done again stands once. Damaged lines are moved to {file}.damaged, with a warning.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, elapsed: float = 0.0, keep: Callable[[str, int], bool] | None = None
    ) -> None:
        self.folder, self._begin = Path(folder), time.monotonic() - elapsed
        self._writers: dict[str, Any] = {}
        self._last: dict[str, int] = {}  # the highest step that stays, by kind
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (LINES, EPISODES):
            self._drop(self.folder / name, keep or (lambda kind, step: True))

    @property
    def elapsed(self) -> float:
        """Seconds since the run's start, without the time between a stop and a resume."""
        return time.monotonic() - self._begin

    def log(self, kind: str, step: int, scalars: Mapping[str, float], **more: Any) -> None:
        """A line, and its scalars for TensorBoard. What isn't finite is null, and no scalar.

        Args: more: what else the line says, no numbers.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        line = {"kind": kind, "step": step, "time": round(self.elapsed, 3), **more, **finite}
        append(self.folder / LINES, line)
        writer = self._writer(kind, step)
        if writer is not None:
            for name, value in finite.items():
                if value is not None:
                    writer.add_scalar(name, value, step)
            writer.flush()

    def episode(self, step: int, record: Mapping[str, Any]) -> None:
        """An episode as it went."""
        append(self.folder / EPISODES, {"step": step, **record})

    def close(self) -> None:
        """Nothing is written any more."""
        for writer in self._writers.values():
            if writer is not None:
                writer.close()
        self._writers.clear()

    def _writer(self, kind: str, step: int) -> Any:
        if kind not in self._writers:
            self._writers[kind] = None
            if find_spec("tensorboard") is not None:
                from torch.utils.tensorboard import SummaryWriter

                folder = self.folder / BOARD / kind
                purge = self._last.get(kind, -1) + 1 if folder.exists() else None
                self._writers[kind] = SummaryWriter(str(folder), purge_step=purge)
        return self._writers[kind]

    def _drop(self, path: Path, keep: Callable[[str, int], bool]) -> None:
        if not path.exists():
            return
        kept: list[str] = []
        damaged: list[tuple[int, str, str]] = []
        for number, text in lines(path):
            try:
                kind, step = place_of(record_of(text, ("step",)))
            except ValueError as error:
                if text.endswith("\n"):  # else a kill has cut it off
                    damaged.append((number, text, str(error)))
                continue
            if keep(kind, step):
                self._last[kind] = max(step, self._last.get(kind, -1))
                kept.append(text.removesuffix("\n") + "\n")
        if damaged:
            aside = path.with_name(f"{path.name}.damaged")
            with aside.open("ab") as file:
                file.write(_bytes([text for _, text, _ in damaged]))
            number, _, reason = damaged[0]
            warnings.warn(f"{path}:{number}: {reason}; {len(damaged)} such lines are now in {aside}", stacklevel=4)
        if _bytes(kept) != path.read_bytes():
            partial = path.with_name(f".{path.name}.partial")
            partial.write_bytes(_bytes(kept))
            partial.replace(path)


def read_metrics(folder: str | os.PathLike[str], kind: str | None = None) -> list[dict[str, Any]]:
    """The lines of a run, or those of a kind. Raises: ValueError, with file and line, for one that is none of a run's."""
    return [line for line in objects(Path(folder) / LINES, ("kind", "step"), _check) if kind is None or line["kind"] == kind]


def _check(where: str, record: Mapping[str, Any]) -> None:
    try:
        place_of(record)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def place_of(record: Mapping[str, Any]) -> tuple[str, int]:
    """Kind and step of a line. Raises: ValueError for what no run writes there."""
    kind, step = record.get("kind", "train"), record["step"]
    if kind not in KINDS:
        raise ValueError(f"expected kind {', '.join(KINDS)}, got {kind!r}")
    if isinstance(step, bool) or not isinstance(step, int):
        raise ValueError(f"expected step to be a whole number, got {step!r}")
    return kind, step


def _bytes(texts: list[str]) -> bytes:
    return "".join(texts).encode("utf-8", "surrogateescape")
