"""One writer a folder: a lock that ends with its process, however that ends.

with FolderLock("runs/1"):  # FolderInUseError names the process that holds it, its host, and since when
    ...

It is flock(2) on {folder}/.lock, a file that stays. The kernel lets the lock go with its process, so a kill leaves nothing to
clean up. On network file systems it holds between hosts where the mount says so: on NFS by default (not with nolock or
local_lock=flock), on CIFS by default (not with nobrl), on Lustre with flock (localflock: within a host only). Where a mount
has no locks, a warning says so, and nothing keeps a second writer out.
"""

import errno
import fcntl
import json
import os
import socket
import warnings
import weakref
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from trainer.reading import load_json

LOCK = ".lock"
CONFIG = "config.yaml"  # what makes a folder a run's


class FolderInUseError(OSError):
    """Another process writes into the folder, or this one by another object."""


class FolderRemovedError(OSError):
    """The folder was removed, moved or replaced while it was locked."""


class FolderLock:
    """The lock of a folder that exists, held until `release`.

    A child by fork does not keep it, so it ends with the process that took it. exclusive: False where the file system has no
    locks.

    Raises: FolderInUseError if somebody holds it; OSError where the folder can't be written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.path = self.folder / LOCK
        self.exclusive = True
        self._file: BinaryIO | None = None
        while self._file is None:
            file = self.path.open("a+b", buffering=0)
            try:
                self._take(file)
            except BaseException:
                file.close()
                raise
            if _same(file, self.path):  # else the file that was locked is not the one that stands there now
                self._file = file
            else:
                file.close()
        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().astimezone().isoformat(" ", "seconds")}
        with suppress(OSError):  # on a full disk the lock holds all the same
            self._file.truncate(0)
            self._file.write(json.dumps(who).encode() + b"\n")
        _held.add(self)

    def check(self) -> None:
        """Raises: FolderRemovedError if the folder is no longer the one that was locked."""
        if self._file is not None and not _same(self._file, self.path):
            got = f"one without its {LOCK}" if self.folder.is_dir() else "none"
            raise FolderRemovedError(
                f"{self.folder}: expected the folder that this process began to write into, got {got}; it was removed or moved"
            )

    def release(self) -> None:
        """Let others write into the folder. A second call does nothing."""
        if self._file is not None:
            with suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)  # also of copies in children that have not closed theirs yet
            self._forget()

    def _forget(self) -> None:
        """Close the file. The lock goes with the last copy of its descriptor."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def _take(self, file: BinaryIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(
                f"{self.folder}: expected a folder that nobody else writes into, got one {_holder(file)}; wait for its end, or "
                "choose another folder"
            ) from None
        except OSError as error:
            self.exclusive = False
            warnings.warn(f"{self.folder}: its file system has no locks ({error}): keep other runs out of it", stacklevel=4)


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget_all() -> None:
    """Close a child's copies of the descriptors: they would keep the locks after the death of its parent."""
    for lock in list(_held):
        lock._forget()


os.register_at_fork(after_in_child=_forget_all)


def lock_of_run(folder: str | os.PathLike[str]) -> AbstractContextManager[object]:
    """The lock of a run's folder, for whoever writes into it and is no run; nothing for another folder."""
    path = Path(folder)
    return FolderLock(path) if any((path / name).is_file() for name in (LOCK, CONFIG)) else nullcontext()


def _same(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno != errno.ESTALE:  # NFS: removed by another host
            raise
        return False


def _holder(file: BinaryIO) -> str:
    """Describe the holder, as far as it has written its name yet."""
    file.seek(0)
    try:
        who = dict(load_json(file.read()))
        return f"held by process {who['pid']} on {who['host']} since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "held by another process"
