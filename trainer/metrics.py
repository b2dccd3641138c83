"""What a run tells: scalars as JSON lines and for TensorBoard, sample episodes, each written when it happens.

metrics = Metrics("runs/1")
metrics.log("train", 3, {"rollout/reward": 1.2, "learner/loss": 0.1})
{"kind": "train", "step": 3, "time": 81.2, "rollout/reward": 1.2, "learner/loss": 0.1}
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LINES, EPISODES, BOARD = "metrics.jsonl", "samples.jsonl", "tensorboard"


class Metrics:
    """{folder}/metrics.jsonl, samples.jsonl and, where TensorBoard is installed, tensorboard/{kind}.

    Args:
        elapsed: seconds that the run has taken before; `time` goes on from there.
        keep: of a resumed run: (kind, step) -> whether such a line stays. The others, and one that a kill cut off, are dropped,
            so that what is done again stands once.
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
        _append(self.folder / LINES, line)
        writer = self._writer(kind, step)
        if writer is not None:
            for name, value in finite.items():
                if value is not None:
                    writer.add_scalar(name, value, step)
            writer.flush()

    def episode(self, step: int, record: Mapping[str, Any]) -> None:
        """An episode as it went."""
        _append(self.folder / EPISODES, {"step": step, **record})

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
        kept, all_of_it = [], path.read_bytes()
        for line in all_of_it.splitlines(keepends=True):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            kind, step = record.get("kind", "train"), record["step"]
            if keep(kind, step):
                self._last[kind] = max(step, self._last.get(kind, -1))
                kept.append(line)
        if len(b"".join(kept)) != len(all_of_it):
            partial = path.with_name(f".{path.name}.partial")
            partial.write_bytes(b"".join(kept))
            partial.replace(path)


def read_metrics(folder: str | os.PathLike[str], kind: str | None = None) -> list[dict[str, Any]]:
    """The lines of a run, or those of a kind."""
    text = (Path(folder) / LINES).read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines()]
    return [line for line in found if kind is None or line["kind"] == kind]


def _append(path: Path, record: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
