"""Checksums beside what is loaded again: SHA256SUMS, in the format of `sha256sum -c SHA256SUMS`.

seal("runs/1/final")    # when everything is written
verify("runs/1/final")  # before anything is read: DamagedError names the file

SHA256SUMS itself needs no checksum: whatever changes in it, a line no longer fits its file.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")


class DamagedError(ValueError):
    """A file does not hold what was written into it."""


@contextmanager
def naming(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Raise a DamagedError with the file's name in place of what its content makes a reader raise.

    Errors of other causes pass: a file or a library that is missing, too little memory.
    """
    try:
        yield
    except (OSError, ImportError, MemoryError, DamagedError):
        raise
    except Exception as error:
        if "out of memory" in str(error).lower():
            raise
        reason = " ".join(str(error).split()) or "nothing said"
        raise DamagedError(f"{os.fspath(path)}: expected {what}, got {type(error).__name__}: {reason}") from error


def seal(folder: str | os.PathLike[str], names: Iterable[str] | None = None) -> None:
    """Writes the checksums of the files in a folder, those of its folders too.

    Args: names: only these files and folders; None: all, and what has been sealed on the way is not read again.
    """
    root = Path(folder)
    found: dict[str, str] = {}
    if names is None:
        for path in sorted(root.rglob(SUMS)):
            prefix = path.parent.relative_to(root)
            found |= {str(prefix / name): digest for name, digest in _read(path).items()}
        places = [root]
    else:
        places = [root / name for name in names]
    files = [path for place in places for path in _files(place)]
    left = [path for path in files if path != root / SUMS and str(path.relative_to(root)) not in found]
    found |= dict(zip((str(path.relative_to(root)) for path in left), _digests(left), strict=True))
    (root / SUMS).write_text("".join(f"{found[name]}  {name}\n" for name in sorted(found)), encoding="utf-8")


def is_sealed(folder: str | os.PathLike[str]) -> bool:
    """Return True if the folder has checksums."""
    return (Path(folder) / SUMS).is_file()


def is_listed(path: str | os.PathLike[str]) -> bool:
    """Return True if the checksums beside a file list it: a change is damage then. Raises: DamagedError for unreadable sums."""
    path = Path(path)
    return is_sealed(path.parent) and path.name in _read(path.parent / SUMS)


def verify(folder: str | os.PathLike[str]) -> None:
    """Reads every file that has a checksum; a folder without checksums has none to check.

    Raises: DamagedError, naming the first file that is missing or holds something else.
    """
    root = Path(folder)
    if not is_sealed(root):
        return
    expected = _read(root / SUMS)
    missing = next((name for name in expected if not (root / name).is_file()), None)
    if missing is not None:
        raise DamagedError(f"{root / missing}: expected the file that {root / SUMS} names, got none")
    for (name, digest), got in zip(expected.items(), _digests([root / name for name in expected]), strict=True):
        if digest != got:
            raise DamagedError(f"{root / name}: expected sha256 {digest}, got {got}: it is damaged, or was changed")


def _read(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        match = _LINE.fullmatch(line.decode("utf-8", "replace"))
        if match is not None and not (Path(match[2]).is_absolute() or ".." in Path(match[2]).parts):
            found[match[2]] = match[1]
        elif line or not found:
            raise DamagedError(f"{path}:{number}: expected a checksum and the name of a file, got {line[:80]!r}")
    return found


def _files(place: Path) -> list[Path]:
    return [path for path in sorted(place.rglob("*")) if path.is_file()] if place.is_dir() else [place]


def _digests(paths: Iterable[Path]) -> Iterator[str]:
    """Hash on all cores: hashing releases the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(_digest, paths)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
