"""Checkpoints that are whole or not there: written under another name, synchronised, renamed, checked when read.

checkpoints = Checkpoints("runs/1/checkpoints", keep=2)
checkpoints.save(40, {"cursor": 320}, lambda folder: policies.save(folder / "policies"))
checkpoints.latest()  # Checkpoint(path=.../step-40, state={"step": 40, "cursor": 320, ...})
"""

import errno
import json
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

STATE = "state.json"
_NAME = re.compile(r"step-(\d+)")


class FullDiskError(OSError):
    """There is no space to write a checkpoint, or another file of the run."""


class Checkpoint(NamedTuple):
    """A whole one: its folder, and what `save` was told."""

    path: Path
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of a folder, step-N each.

    Args: keep: the last so many stay; None: all.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int | None = None) -> None:
        self.folder, self.keep = Path(folder), keep

    def save(self, step: int, state: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
        """Makes `step-{step}` with what `write` puts into a folder; then older ones go. One of that name is taken away first.

        Raises: FullDiskError: the disk is full; those that stood before still stand. What `write` raises.
        """
        target = self.folder / f"step-{step}"
        partial = self.folder / f".{target.name}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clear()
            partial.mkdir()
            write(partial)
            files = {str(p.relative_to(partial)): p.stat().st_size for p in sorted(partial.rglob("*")) if p.is_file()}
            record = {"step": step, **state, "files": files}
            (partial / STATE).write_text(json.dumps(record) + "\n", encoding="utf-8")
            for path in [*partial.rglob("*"), partial]:
                _sync(path)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            _sync(self.folder)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if is_full(error):
                last = self.latest()
                stands = "no checkpoint stands yet" if last is None else f"the last checkpoint is {last.path}"
                raise FullDiskError(errno.ENOSPC, f"no space for checkpoint step-{step} in {self.folder}; {stands}") from error
            raise
        self._clear()
        if self.keep is not None:
            for old in self._numbers()[: -self.keep]:
                shutil.rmtree(self.folder / f"step-{old}")
        return target

    def latest(self) -> Checkpoint | None:
        """The one of the highest step that is whole: what has no state, or other files than that says, doesn't count."""
        for step in reversed(self._numbers()):
            path = self.folder / f"step-{step}"
            state = _read(path)
            if state is not None:
                return Checkpoint(path, state)
        return None

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(found[1]) for path in self.folder.iterdir() if (found := _NAME.fullmatch(path.name)))

    def _clear(self) -> None:
        """What a kill has left half made."""
        for path in self.folder.glob(".step-*"):
            shutil.rmtree(path)


def save_tensors(value: Any, path: Path) -> None:
    """torch.save; a full disk is an OSError here, which given a path torch would not tell."""
    with path.open("wb") as file:
        torch.save(value, file)


def replace_text(path: Path, text: str) -> None:
    """The file holds `text`, or, after a kill or on a full disk, what it held before. Raises: FullDiskError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        _sync(partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if is_full(error):
            raise FullDiskError(errno.ENOSPC, f"no space for {path}; what it held stands") from error
        raise
    _sync(path.parent)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        state = dict(json.loads((path / STATE).read_text(encoding="utf-8")))
        whole = all((path / name).stat().st_size == size for name, size in state["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return state if whole else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException) -> bool:
    """Whether it comes from a full disk, in the words of Python, SQLite, torch or safetensors."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error):
        return True
    if "No space left" in str(error) or "quota exceeded" in str(error):
        return True
    inner = error.__cause__ or error.__context__
    return inner is not None and is_full(inner)


def random_state() -> dict[str, Any]:
    """The global generators of Python, NumPy and torch, as JSON. A run draws nothing from them; environments may."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one is meant
    kind, keys, position, has_gauss, cached = legacy
    found: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [kind, keys.tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
    }
    if torch.cuda.is_available():
        found["cuda"] = [state.numpy().tobytes().hex() for state in torch.cuda.get_rng_state_all()]
    return found


def set_random_state(state: Mapping[str, Any]) -> None:
    """Back to what `random_state` found. A GPU that was not there then keeps its own."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(_bytes(state["torch"]))
    if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([_bytes(part) for part in state["cuda"]])


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
