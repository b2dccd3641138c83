"""Folders that are whole or not there: written under another name, sealed with checksums, synchronised, renamed; checkpoints.

checkpoints = Checkpoints("runs/1/checkpoints", keep=2)
checkpoints.save(40, {"cursor": 320}, lambda folder: policies.save(folder / "policies"))
checkpoints.latest()  # Checkpoint(path=.../step-40, state={"step": 40, "cursor": 320, ...}), every byte of it checked

The checksums cost a pass over the files when they are written, and one when they are read. Measured on an AMD EPYC: sha256 of a
file of 1 GiB takes 0.7 s of one core (files are spread over all cores), writing and synchronising it 3.9 s.
"""

import errno
import json
import os
import random
import re
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer.checksums import SUMS, DamagedError, is_sealed, naming, seal, verify

STATE = "state.json"
_SEALED = "checksums"  # in a state: that there are some
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
        """Makes `step-{step}` with what `write` puts into a folder, in the place of one of that name; then others go.

        When it stands, whole and synchronised, those before it go but for the last ones, and so do those of later steps: a run
        that saves now has gone on from before them, so they were damaged.

        Raises: FullDiskError: the disk is full; those that stood before still stand. What `write` raises.
        """
        target = self.folder / f"step-{step}"
        try:
            for path in self.folder.glob(".step-*"):  # what a kill has left half made
                shutil.rmtree(path)
            write_folder(target, {"step": step, **state}, write)
        except BaseException as error:
            if is_full(error):
                before = [number for number in self._numbers() if number <= step]
                stands = f"the last checkpoint is {self.folder}/step-{before[-1]}" if before else "no checkpoint stands yet"
                raise FullDiskError(errno.ENOSPC, f"no space for checkpoint step-{step} in {self.folder}; {stands}") from error
            raise
        numbers = self._numbers()
        before = [number for number in numbers if number <= step]
        gone = [number for number in numbers if number > step] + ([] if self.keep is None else before[: -self.keep])
        for number in gone:
            shutil.rmtree(self.folder / f"step-{number}")
        return target

    def latest(self) -> Checkpoint | None:
        """The whole one of the highest step; None if there are none at all. A warning names what is damaged in later ones.

        Raises: DamagedError if there are some, and none is whole.
        """
        damage: list[str] = []
        numbers = self._numbers()
        for number in reversed(numbers):
            path = self.folder / f"step-{number}"
            try:
                found = Checkpoint(path, read_folder(path))
            except (DamagedError, OSError) as error:
                if self._numbers()[-1:] > numbers[-1:]:  # the run goes on, and has taken this one away for a later one
                    return self.latest()
                damage.append(str(error))
                continue
            for text in damage:
                warnings.warn(f"{text}; the last whole checkpoint is {path}", stacklevel=2)
            if not is_sealed(path):
                warnings.warn(f"{path}: saved without checksums, so only the sizes of its files were checked", stacklevel=2)
            return found
        if damage:
            raise DamagedError(f"{'; '.join(damage)}; no checkpoint is whole: without {self.folder} its stage begins anew")
        return None

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(found[1]) for path in self.folder.iterdir() if (found := _NAME.fullmatch(path.name)))


def write_folder(target: Path, state: Mapping[str, Any] | None, write: Callable[[Path], None]) -> None:
    """Makes `target` with what `write` puts into a folder, and with state.json; sealed, and whole or as it was before.

    Args: state: None: without state.json.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        write(partial)
        if state is not None:
            (partial / STATE).write_text(json.dumps({**state, _SEALED: SUMS}) + "\n", encoding="utf-8")
        seal(partial)
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_folder(path: Path) -> dict[str, Any]:
    """The state of a folder that `write_folder` made, every byte of it checked.

    One that was made before there were checksums is checked by the sizes in its state, where it has them.

    Raises: DamagedError, naming the file.
    """
    verify(path)
    file = path / STATE
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{file}: expected the JSON that a run wrote, got an error: {error}") from None
    if not isinstance(state, dict):
        raise DamagedError(f"{file}: expected a JSON object, got {state!r}")
    promised = state.pop(_SEALED, None) is not None
    if is_sealed(path):
        return state
    if promised:
        raise DamagedError(f"{path / SUMS}: expected the checksums of {path}, got none")
    sizes = state.get("files", {})
    for name, size in sizes.items() if isinstance(sizes, dict) else ():
        part = path / name
        got = f"{part.stat().st_size}" if part.is_file() else "none"
        if got != str(size):
            raise DamagedError(f"{part}: expected a file of {size} bytes, got {got}")
    return state


def save_tensors(value: Any, path: Path) -> None:
    """torch.save; a full disk is an OSError here, which given a path torch would not tell."""
    with path.open("wb") as file:
        torch.save(value, file)


def load_tensors(path: Path) -> Any:
    """Load what `save_tensors` wrote, on the CPU. Raises: DamagedError for anything else; pickled code is never run."""
    with naming(path, "tensors that a run saved"):
        return torch.load(path, map_location="cpu", weights_only=True)


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException) -> bool:
    """Return True for an error of a full disk, in the words of Python, SQLite, torch or safetensors."""
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
