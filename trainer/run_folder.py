"""A run's folder: what lies in it.

{output_dir}/.lock config.yaml metrics.jsonl samples.jsonl tensorboard/ eval/ failures/ memory.sqlite
{output_dir}/sft/policies/ (where RL begins), sft/checkpoints/step-N/ while SFT runs, sft/base/ if it trained the base
{output_dir}/checkpoints/step-N/{policies/, learner.pt, memory.sqlite, state.json} final/policies/

What is loaded again has checksums: SHA256SUMS in sft/policies, sft/base, every checkpoint and final, and the last line of
config.yaml.
"""

import hashlib
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoint import STATE, Checkpoint, Checkpoints, load_tensors, read_folder, replace_text, set_random_state
from trainer.checksums import DamagedError, naming
from trainer.config import TrainConfig
from trainer.learner import Learner
from trainer.lock import CONFIG, FolderLock
from trainer.metrics import EPISODES, LINES

__all__ = ["CONFIG", "LEARNER", "MEMORY", "Left", "left_in", "read_config", "remove", "restore", "write_config"]

_SUM = "# sha256 of these lines: "
LEARNER = "learner.pt"
MEMORY = ("memory.sqlite", "memory.sqlite-wal", "memory.sqlite-shm")


def write_config(folder: Path, config: TrainConfig) -> None:
    """{folder}/config.yaml, with the checksum of its lines in the last one. Raises: FullDiskError."""
    text = config.to_yaml()
    replace_text(folder / CONFIG, f"{text}{_SUM}{_digest(text)}\n")


def read_config(folder: Path) -> TrainConfig:
    """The configuration that a run wrote into its folder; one without a checksum is taken as it is.

    Raises: FileNotFoundError; DamagedError for another text than the run's; ValueError: as `TrainConfig.load`.
    """
    path = folder / CONFIG
    if path.is_file():
        text, mark, digest = path.read_bytes().rpartition(_SUM.encode())
        if mark and digest.strip() != _digest(text).encode():
            expected, got = digest.strip().decode("ascii", "replace"), _digest(text)
            meant = "if the change is meant, delete the last line"
            raise DamagedError(
                f"{path}: expected lines of sha256 {expected}, got {got}: it is damaged, or was changed; {meant}"
            )
    return TrainConfig.load(path)


@dataclass(frozen=True, kw_only=True)
class Left:
    """The state that earlier processes left in a folder, all of it checked. sft: the last checkpoint of SFT while SFT is not
    over; start, final: the states of sft/policies and final; last: the last checkpoint of RL."""

    sft: Checkpoint | None = None
    start: dict[str, Any] | None = None
    last: Checkpoint | None = None
    final: dict[str, Any] | None = None

    @property
    def step(self) -> int | None:
        """That of the last checkpoint of RL."""
        return None if self.last is None else self.last.state["step"]


def left_in(folder: Path) -> Left:
    """Read a run's folder; a warning names what is damaged and can be done without.

    Raises: DamagedError for what can't; ValueError for a state that no run writes.
    """
    last = Checkpoints(folder / "checkpoints").latest()
    sft = start = final = None
    try:
        start = _state(folder / "sft" / "policies", {"step": int, "time": float})
    except DamagedError as error:
        if last is None:
            raise DamagedError(f"{error}; without {folder / 'sft' / 'policies'} SFT is done anew") from None
        warnings.warn(f"{error}; {last.path} has what is needed of it", stacklevel=3)
    if start is None and last is None:  # else SFT is over, and a kill may have left its checkpoints half deleted
        sft = Checkpoints(folder / "sft" / "checkpoints").latest()
    try:
        final = _state(folder / "final", {"step": int})
    except DamagedError as error:
        warnings.warn(f"{error}; it is written anew", stacklevel=3)
    for found, kinds in ((sft, _SFT), (last, _RL)):
        if found is not None:
            _check(found.path, found.state, kinds)
    return Left(sft=sft, start=start, last=last, final=final)


_SFT = {"step": int, "time": float, "seconds": float, "random": dict}
_RL = _SFT | {"cursor": int, "evaluated": int, "tasks": str}
_WORDS = {int: "a whole number", float: "a number", str: "a text", dict: "an object"}


def _state(path: Path, kinds: Mapping[str, type]) -> dict[str, Any] | None:
    return _check(path, read_folder(path), kinds) if path.is_dir() else None


def _check(path: Path, state: dict[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    for name, kind in kinds.items():
        value = state.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            got = repr(value)[:80] if name in state else "none"
            raise ValueError(f"{path / STATE}: expected {name} to be {_WORDS[kind]}, got {got}")
    return state


def restore(last: Checkpoint, learner: Learner) -> None:
    """The learner, and the generators of random numbers, as they were. Raises: DamagedError for what no such learner saved."""
    path = last.path / LEARNER
    state = load_tensors(path)
    with naming(path, "the state of this run's learner"):
        learner.load_state_dict(state)
    with naming(last.path / STATE, "the states of random generators"):
        set_random_state(last.state["random"])


def remove(folder: Path) -> None:
    """Deletes what a run has written into its folder, and nothing else; without a config.yaml it is no run's.

    Raises: FolderInUseError for a run that goes on.
    """
    if not (folder / CONFIG).is_file():
        return
    with FolderLock(folder):
        for name in ("checkpoints", "sft", "final", "tensorboard", "eval", "failures"):
            shutil.rmtree(folder / name, ignore_errors=True)
        files = (LINES, EPISODES)
        for name in (CONFIG, *files, *(f"{name}.damaged" for name in files), "report.html", *MEMORY):
            (folder / name).unlink(missing_ok=True)


def _digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()
