"""One writer a folder: who comes second is told who holds it; a lock ends with its process."""

import errno
import fcntl
import multiprocessing
import os
import resource
import shutil
import signal
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from trainer.lock import LOCK, FolderInUseError, FolderLock, FolderRemovedError, lock_of_run

FORK = multiprocessing.get_context("fork")


def _holds(folder: Path, told: Connection) -> None:
    lock = FolderLock(folder)
    told.send("held")
    signal.pause()
    lock.release()


def held(folder: Path, holds: Callable[[Path, Connection], None] = _holds) -> multiprocessing.process.BaseProcess:
    """A process that holds the folder until it is killed."""
    here, there = FORK.Pipe()
    child = FORK.Process(target=holds, args=(folder, there))
    child.start()
    assert here.recv() == "held"
    return child


def test_the_second_is_told_who_holds_it_until_that_is_killed(tmp_path: Path) -> None:
    child = held(tmp_path)
    who = (
        rf"{tmp_path}: expected .*, got one held by process {child.pid} on {socket.gethostname()} since 20\d\d-.*; wait for its"
    )
    with pytest.raises(FolderInUseError, match=who):
        FolderLock(tmp_path)
    for text in ("", "{", "[" * 100_000, "5", '{"pid": 1}'):  # not written yet, or by something else
        (tmp_path / LOCK).write_text(text)
        with pytest.raises(FolderInUseError, match=rf"{tmp_path}: expected .*, got one held by another process; wait"):
            FolderLock(tmp_path)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with FolderLock(tmp_path), pytest.raises(FolderInUseError, match=f"process {os.getpid()} on"):  # also in one process
        FolderLock(tmp_path)
    FolderLock(tmp_path).release()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_child_by_fork_does_not_keep_it(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    child = FORK.Process(target=signal.pause)
    child.start()
    try:
        lock.release()
        FolderLock(tmp_path).release()
    finally:
        child.kill()
        child.join()


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    lock = FolderLock(folder)
    lock.check()
    shutil.rmtree(folder)
    with pytest.raises(FolderRemovedError, match=rf"{folder}: expected the folder that .*, got none; it was removed or moved"):
        lock.check()
    folder.mkdir()
    with pytest.raises(FolderRemovedError, match=r"got one without its \.lock"):
        lock.check()
    with FolderLock(folder), pytest.raises(FolderRemovedError):  # another one's
        lock.check()
    shutil.rmtree(folder)
    folder.touch()
    with pytest.raises(FolderRemovedError, match="got none"):  # a file in its place
        lock.check()
    lock.release()
    lock.check()


def test_a_folder_that_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone is what another host removed; any other error is itself."""
    lock = FolderLock(tmp_path)
    for number, expected in ((errno.ESTALE, FolderRemovedError), (errno.EIO, OSError), (errno.EACCES, PermissionError)):

        def fail(path: Path, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", fail)
            patch.setattr(Path, "is_dir", lambda path: False)
            with pytest.raises(expected, match="was removed or moved" if number == errno.ESTALE else os.strerror(number)):
                lock.check()
    lock.check()
    lock.release()


def _holds_on_a_full_disk(folder: Path, told: Connection) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _holds(folder, told)


def test_a_full_disk_takes_no_lock_away(tmp_path: Path) -> None:
    child = held(tmp_path, _holds_on_a_full_disk)
    with pytest.raises(FolderInUseError, match="held by another process"):
        FolderLock(tmp_path)
    child.kill()
    child.join()
    FolderLock(tmp_path).release()


def test_whose_lock_a_writer_takes(tmp_path: Path) -> None:
    with lock_of_run(tmp_path):
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "config.yaml").touch()
    with lock_of_run(tmp_path), pytest.raises(FolderInUseError):
        FolderLock(tmp_path)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match=r"its file system has no locks \(.*No locks available\): keep other runs out of it"):
        FolderLock(tmp_path).release()
