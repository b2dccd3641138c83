"""Checkpoints: whole or not there, the last few kept, a full disk said."""

import errno
import json
import random
import resource
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.checkpoint import (
    Checkpoints,
    FullDiskError,
    is_full,
    random_state,
    replace_text,
    save_tensors,
    set_random_state,
)


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
    assert last.state["files"] == {"learner.pt": 3, "policies/weights": 8}
    assert len(list((tmp_path / "c").iterdir())) == 2
    everything = Checkpoints(tmp_path / "all")
    for step in range(4):
        everything.save(step, {}, write)
    assert len(list((tmp_path / "all").iterdir())) == 4


def test_what_is_torn_does_not_count(tmp_path: Path) -> None:
    """Whatever happened to it, the one before is the last; the torn one is written anew."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {}, write)
    for damage in ("no state", "half a state", "short file", "no file", "never renamed", "no JSON object"):
        path = checkpoints.save(2, {}, write)
        if damage == "no state":
            (path / "state.json").unlink()
        elif damage == "half a state":
            (path / "state.json").write_text((path / "state.json").read_text()[:20])
        elif damage == "short file":
            (path / "policies" / "weights").write_bytes(b"1234")
        elif damage == "no file":
            (path / "learner.pt").unlink()
        elif damage == "no JSON object":
            (path / "state.json").write_text("[1]")
        else:
            path.rename(tmp_path / ".step-2.partial")
        last = checkpoints.latest()
        assert last is not None
        assert last.state["step"] == 1, damage
    checkpoints.save(2, {"new": True}, write)
    last = checkpoints.latest()
    assert last is not None
    assert last.state["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1", "step-2"]


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
