"""Checkpoints: whole or not there, the last few kept, a full disk said."""

import errno
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer import checkpoint
from trainer.checkpoint import (
    Checkpoints,
    FullDiskError,
    is_full,
    load_tensors,
    random_state,
    replace_text,
    save_tensors,
    set_random_state,
)
from trainer.checksums import DamagedError


def write(folder: Path) -> None:
    (folder / "policies").mkdir()
    (folder / "policies" / "weights").write_bytes(b"12345678")
    (folder / "learner.pt").write_bytes(b"123")


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    assert checkpoints.latest() is None
    for step in (5, 9, 10, 100):
        assert checkpoints.save(step, {"cursor": step * 8}, write) == tmp_path / "c" / f"step-{step}"
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["step-10", "step-100"]
    last = checkpoints.latest()
    assert last is not None
    assert (last.path.name, last.state["step"], last.state["cursor"]) == ("step-100", 100, 800)
    names = {str(path.relative_to(last.path)) for path in last.path.rglob("*") if path.is_file()}
    assert names == {"learner.pt", "policies/weights", "state.json", "SHA256SUMS"}
    assert len(list((tmp_path / "c").iterdir())) == 2
    everything = Checkpoints(tmp_path / "all")
    for step in range(4):
        everything.save(step, {}, write)
    assert len(list((tmp_path / "all").iterdir())) == 4


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no state": (lambda path: (path / "state.json").unlink(), r"step-2/state.json: expected the file that .*SHA256SUMS names"),
    "half a state": (
        lambda path: cut(path / "state.json", 5),
        r"step-2/state.json: expected sha256 [0-9a-f]{64}, got [0-9a-f]",
    ),
    "a short file": (lambda path: cut(path / "policies" / "weights", 4), r"step-2/policies/weights: expected sha256"),
    "no file": (lambda path: (path / "learner.pt").unlink(), r"step-2/learner.pt: expected the file that .*, got none"),
    "a byte": (lambda path: (path / "learner.pt").write_bytes(b"133"), r"step-2/learner.pt: expected sha256"),
    "half of the sums": (lambda path: cut(path / "SHA256SUMS", 100), r"step-2/SHA256SUMS:2: expected a checksum and the name"),
    "empty sums": (
        lambda path: cut(path / "SHA256SUMS", 0),
        r"step-2/SHA256SUMS:1: expected a checksum and the name of a file",
    ),
    "no sums": (
        lambda path: (path / "SHA256SUMS").unlink(),
        r"step-2/SHA256SUMS: expected the checksums of .*step-2, got none",
    ),
}


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_does_not_count(kind: str, tmp_path: Path) -> None:
    """It is named; the one before is the last, stands until a whole one follows, and the damaged one goes then."""
    checkpoints, (damage, message) = Checkpoints(tmp_path, keep=1), DAMAGE[kind]
    checkpoints.save(1, {}, write)
    shutil.copytree(tmp_path / "step-1", tmp_path / "kept")
    damage(checkpoints.save(2, {}, write))
    with pytest.raises(DamagedError, match=rf"{message}.*; no checkpoint is whole: without {tmp_path} its stage begins anew"):
        checkpoints.latest()
    (tmp_path / "kept").rename(tmp_path / "step-1")
    with pytest.warns(UserWarning, match=rf"{message}.*; the last whole checkpoint is {tmp_path}/step-1"):
        last = checkpoints.latest()
    assert last is not None
    assert last.state == {"step": 1}
    between = Checkpoints(tmp_path, keep=1)
    (tmp_path / "step-2").rename(tmp_path / "step-9")
    between.save(5, {"new": True}, write)
    assert [path.name for path in tmp_path.iterdir()] == ["step-5"]
    last = checkpoints.latest()
    assert last is not None
    assert last.state["new"]


def test_what_a_kill_left_half_made_does_not_count(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {}, write)
    checkpoints.save(2, {}, write).rename(tmp_path / ".step-2.partial")
    last = checkpoints.latest()
    assert last is not None
    assert last.state["step"] == 1
    checkpoints.save(2, {"new": True}, write)
    last = checkpoints.latest()
    assert last is not None
    assert last.state["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1", "step-2"]


def test_checkpoints_from_before_there_were_checksums(tmp_path: Path) -> None:
    """They are read, with a word about it; their sizes are what they can be checked by."""
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        path = checkpoints.save(step, {}, write)
        (path / "SHA256SUMS").unlink()
        state = {"step": step, "files": {"learner.pt": 3, "policies/weights": 8}}
        (path / "state.json").write_text(json.dumps(state) + "\n")
    with pytest.warns(UserWarning, match=r"step-2: saved without checksums, so only the sizes of its files were checked"):
        last = checkpoints.latest()
    assert last is not None
    assert last.state["step"] == 2
    for text, message in (
        ("12", r"learner.pt: expected a file of 3 bytes, got 2"),
        (None, "expected a file of 3 bytes, got none"),
    ):
        path = tmp_path / "step-2" / "learner.pt"
        path.unlink() if text is None else path.write_text(text)
        with pytest.warns(UserWarning, match=message):
            last = checkpoints.latest()
        assert last is not None
        assert last.state["step"] == 1
    for text in ("[1]", "{", "\udcff", "[" * 100_000, '{"step": ' + "9" * 5_000 + "}"):
        (tmp_path / "step-1" / "state.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(DamagedError, match=r"step-1/state.json: expected (the JSON that a run wrote|a JSON object), got"):
            checkpoints.latest()


def test_a_reader_meets_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run takes the checkpoint away that is just being read: the reader looks again, and nothing was damaged."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, {}, write)
    inner, later = checkpoint.verify, [2]

    def verify(path: Path) -> None:
        if later:
            checkpoints.save(later.pop(), {}, write)
        inner(path)

    monkeypatch.setattr(checkpoint, "verify", verify)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        last = checkpoints.latest()
    assert last is not None
    assert last.state["step"] == 2


def test_tensors_that_are_none(tmp_path: Path) -> None:
    """Whatever stands in the file, the error names it, and no code of it runs."""
    path, ran = tmp_path / "learner.pt", tmp_path / "ran"
    save_tensors({"a": torch.arange(3)}, path)
    assert load_tensors(path)["a"].tolist() == [0, 1, 2]
    whole = path.read_bytes()

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(ran),)

    for data in (b"", whole[:100], whole[:-30], b"text", pickle.dumps(Evil()), b"PK\x03\x04" + bytes(50)):
        path.write_bytes(data)
        with pytest.raises(DamagedError, match=r"learner.pt: expected tensors that a run saved, got \w+: \S"):
            load_tensors(path)
    torch.save(Evil(), path)
    with pytest.raises(DamagedError, match=r"expected tensors"):
        load_tensors(path)
    assert not ran.exists()
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "none")


def test_a_full_disk(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)

    def fail(folder: Path) -> None:
        write(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FullDiskError, match=rf"no space for checkpoint step-1 in {tmp_path}; no checkpoint stands yet"):
        checkpoints.save(1, {}, fail)
    assert list(tmp_path.iterdir()) == []
    checkpoints.save(1, {}, write)
    with pytest.raises(FullDiskError, match=rf"step-2 in {tmp_path}; the last checkpoint is {tmp_path}/step-1"):
        checkpoints.save(2, {}, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]

    def break_down(folder: Path) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        checkpoints.save(2, {}, break_down)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    replace_text(path, "seed: 1\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    inner = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, before[1]))
        with pytest.raises(OSError, match="File too large"):
            replace_text(path, "seed: 23456\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, inner)
    assert path.read_text() == "seed: 1\n"
    assert list(tmp_path.iterdir()) == [path]
    replace_text(path, "seed: 2\n")
    assert path.read_text() == "seed: 2\n"


def test_the_words_for_a_full_disk() -> None:
    """Of whoever writes here: /dev/full is always full."""
    with pytest.raises(OSError, match="No space left") as found:
        save_tensors({"a": torch.zeros(1 << 20)}, Path("/dev/full"))
    assert is_full(found.value)
    assert is_full(sqlite3.OperationalError("database or disk is full"))
    assert is_full(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"))  # safetensors
    assert not is_full(sqlite3.OperationalError("database is locked"))
    assert not is_full(OSError(errno.EACCES, "Permission denied"))
    wrapped = RuntimeError("writing failed")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert is_full(wrapped)


def test_random_generators_go_on() -> None:
    kept = json.loads(json.dumps(random_state()))

    def draw() -> tuple[float, float, list[float]]:
        return random.gauss(0, 1), float(np.random.normal()), torch.randn(3).tolist()  # noqa: NPY002

    first = [draw() for _ in range(3)]
    set_random_state(kept)
    assert [draw() for _ in range(3)] == first
