"""JSON lines: the one reader and the one writer of every such file, from metrics to datasets.

append("metrics.jsonl", {"kind": "train", "step": 3})
[record["step"] for record in objects("metrics.jsonl", ("kind", "step"))]

A line ends at "\\n" and nowhere else: `str.splitlines` also cuts at U+0085, U+2028 and U+2029, which JSON texts may hold.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.reading import lines_of, load_json


def line(record: Mapping[str, Any]) -> str:
    """A record as one line, with its end. Raises: ValueError for a number that isn't finite."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    if not _fits_utf8(text):  # half of a surrogate pair has no UTF-8, but JSON has an escape for it
        text = json.dumps(record, allow_nan=False)
    return text + "\n"


def append(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Adds a line. One that a kill has cut off before it gets its end first, so that only that one is damaged.

    Raises: OSError where the disk is full; the file is then as it was.
    """
    data = line(record).encode()
    with open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            data = data if file.read(1) == b"\n" else b"\n" + data
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(size)
            raise


def write(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> int:
    """Writes a file, whole or not at all; returns how many lines it has."""
    target = Path(path).absolute()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    count = 0
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for count, record in enumerate(records, 1):  # noqa: B007
                file.write(line(record))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return count


def lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text with its end) of the lines that are not blank.

    Bytes that are not UTF-8 become lone surrogates, which `record_of` refuses; `surrogateescape` writes the same bytes back.

    Raises: OSError; ValueError for a line of more than 2^24 characters.
    """
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        yield from ((number, text) for number, text in lines_of(file, os.fspath(path)) if text.strip())


def record_of(text: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """The object of a line, which has these names. Raises: ValueError: what was expected, and what came."""
    try:
        found = load_json(text)
    except ValueError as error:
        raise ValueError(f"expected a JSON object, got an error: {error}") from None
    if not _fits_utf8(text):
        raise ValueError("expected UTF-8, got other bytes")
    missing = [name for name in names if not isinstance(found, dict) or name not in found]
    if missing:
        raise ValueError(f"expected {', '.join(names)}, got a line without {missing[0]}")
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, got {found!r}")
    return found


def objects(
    path: str | os.PathLike[str], names: Sequence[str] = (), check: Callable[[str, dict[str, Any]], object] | None = None
) -> list[dict[str, Any]]:
    """The objects of a file that another process may be writing: a last line without its end doesn't count unless it is whole.

    Args: check: (file and line, object): raises a ValueError for an object that can't be.

    Raises: ValueError, with file and line, for another line that is no such object with these names.
    """
    found = []
    for number, text in lines(path):
        try:
            record = record_of(text, names)
        except ValueError as error:
            if text.endswith("\n"):
                raise ValueError(f"{os.fspath(path)}:{number}: {error}") from None
            continue
        if check is not None:
            check(f"{os.fspath(path)}:{number}", record)
        found.append(record)
    return found


def _fits_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
