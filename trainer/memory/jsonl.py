"""A memory as JSON lines, one entry a line, to be read, edited and carried elsewhere. (For a checkpoint: `Memory.snapshot`,
which also holds the thresholds' windows and the step.)

    {"agent": "efc", "key": "Cancel order O00001", "strategy": "Look the order up before cancelling it.", "weight": 1.2,
     "reward": 1.6, "uses": 4, "last_use": 31, "episode": "s12-q3", "step": 12}

Only agent, key and strategy must be there. The vectors are made again from the keys.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainer.escaping import for_json
from trainer.jsonlines import lines
from trainer.memory.memory import Memory, check_text
from trainer.memory.store import Entry
from trainer.reading import load_json, short

FIELDS = ("agent", "key", "strategy", "weight", "reward", "uses", "last_use", "episode", "step")
REQUIRED = FIELDS[:3]


def to_line(entry: Entry) -> str:
    """One entry as one line, without its end and without the id, which is the file's own."""
    return for_json(json.dumps({name: getattr(entry, name) for name in FIELDS}, ensure_ascii=False))


def from_line(line: str) -> Entry:
    """The entry of one line (its id is 0).

    Raises:
        ValueError: what is wrong: field, expected, got.
    """
    found = load_json(line, once=True)
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object of an entry, got {short(found)}")
    for name in REQUIRED:
        if name not in found:
            raise ValueError(f"{name}: expected a text, got no such field")
    for name in found:
        if name not in FIELDS:
            raise ValueError(f"{name[:60]}: expected one of {', '.join(FIELDS)}, got another field")
    entry = Entry(0, **found)
    try:
        for name in (*REQUIRED, "episode"):
            check_text(name, getattr(entry, name), empty=name == "episode")
    except TypeError as error:
        raise ValueError(str(error)) from error
    _check_number("weight", entry.weight)
    if entry.reward is not None:
        _check_number("reward", entry.reward)
    _check_count("uses", entry.uses)
    _check_count("step", entry.step)
    if entry.last_use is not None:
        _check_count("last_use", entry.last_use)
    return entry


def export_entries(entries: Iterable[Entry], path: str | os.PathLike[str]) -> int:
    """Writes the entries to a file, complete or not at all; returns how many."""
    lines = [to_line(entry) + "\n" for entry in entries]
    target = Path(path).absolute()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_text("".join(lines), encoding="utf-8", newline="\n")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return len(lines)


def read_entries(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Yield the entries of a file; blank lines are skipped.

    Raises:
        ValueError: the first bad line: its number and what is wrong.
    """
    for number, line in lines(path):
        try:
            yield from_line(line)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}, line {number}: {error}") from error


def import_entries(memory: Memory, path: str | os.PathLike[str]) -> int:
    """Puts a file's entries into the memory, all or none; one with the agent and key of an entry that is there replaces it.

    Returns:
        How many lines were taken.

    Raises:
        ValueError: a bad line, or more entries of an agent than memory.config.capacity; nothing was written.
        RuntimeError: the memory is frozen.
    """
    entries = list(read_entries(path))
    vectors = memory.embedder.embed([entry.key for entry in entries])
    with memory.store.write() as db:
        for entry, vector in zip(entries, vectors, strict=True):
            db.execute("DELETE FROM entries WHERE agent = ? AND key = ?", (entry.agent, entry.key))
            memory.store.insert(entry, vector)
        for agent, count in db.execute("SELECT agent, count(*) FROM entries GROUP BY agent ORDER BY agent"):
            if count > memory.config.capacity:
                raise ValueError(
                    f"{os.fspath(path)}: expected at most {memory.config.capacity} entries of {agent!r}, got {count}"
                )
    memory.forget()
    return len(entries)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {short(value)}")


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{name}: expected an int >= 0, got {short(value)}")
