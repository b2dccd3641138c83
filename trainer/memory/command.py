"""`hima memory show | export | import`: a memory's file at the command line. Reading one needs neither embedder nor search."""

import argparse
import shutil
import sys
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Any

from trainer.checksums import is_listed
from trainer.escaping import for_terminal
from trainer.lock import CONFIG, lock_of_run
from trainer.memory.config import MemoryConfig
from trainer.memory.embedder import load_embedder
from trainer.memory.jsonl import export_entries, import_entries, to_line
from trainer.memory.memory import Memory
from trainer.memory.store import Entry, Store

SORTS = {
    "weight": lambda entry: (-entry.weight, entry.id),
    "reward": lambda entry: (-(entry.reward if entry.reward is not None else float("-inf")), entry.id),
    "uses": lambda entry: (-entry.uses, entry.id),
    "id": lambda entry: entry.id,
}
HEADINGS = ("id", "agent", "weight", "reward", "uses", "last use", "taught by", "key", "strategy")


def add_parser(subparsers: Any) -> None:
    """Adds `memory` with its commands to the subparsers of a program; `args.run(args)` does the work, returns the exit code."""
    parser = subparsers.add_parser("memory", help="read, export and import the agents' memory")
    commands = parser.add_subparsers(dest="memory_command", required=True)

    show = commands.add_parser("show", help="print the entries as a table")
    show.add_argument("file", type=Path, help="the memory's file")
    show.add_argument("--agent", help="only this agent's entries")
    show.add_argument(
        "--sort", choices=sorted(SORTS), default="weight", help="highest first (id: oldest first); default: weight"
    )
    show.add_argument("--limit", type=int, default=50, help="at most so many rows; 0: all; default: 50")
    show.add_argument("--full", action="store_true", help="whole texts instead of what fits the terminal")
    show.set_defaults(run=run_show)

    export = commands.add_parser("export", help="write the entries as JSON lines")
    export.add_argument("file", type=Path, help="the memory's file")
    export.add_argument("jsonl", nargs="?", type=Path, help="where to; default: standard output")
    export.add_argument("--agent", help="only this agent's entries")
    export.set_defaults(run=run_export)

    take = commands.add_parser("import", help="put entries from JSON lines into a memory")
    take.add_argument("file", type=Path, help="the memory's file; made where it is missing")
    take.add_argument("jsonl", type=Path, help="the entries")
    take.add_argument(
        "--embedder", help='"hash", "minilm", or a sentence-transformers model; default: the one that made the file, else hash'
    )
    take.add_argument("--capacity", type=int, default=MemoryConfig().capacity, help="at most so many entries an agent")
    take.set_defaults(run=run_import)


def run_show(args: argparse.Namespace) -> int:
    """Prints the table."""
    with closing(Store(args.file, frozen=True)) as store:
        entries = sorted(store.entries(args.agent), key=SORTS[args.sort])
        embedder, step = store.embedder[0], store.step
    shown = entries[: args.limit] if args.limit > 0 else entries
    width = None if args.full else shutil.get_terminal_size((120, 24)).columns
    print(table(shown, width))
    whose = "" if args.agent is None else f" of {args.agent}"
    when = "before the first step" if step is None else f"step {step}"
    print(for_terminal(f"{len(shown)} of {len(entries)} entries{whose}; {when}; embedder {embedder}"))
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Writes the JSON lines."""
    with closing(Store(args.file, frozen=True)) as store:
        entries = store.entries(args.agent)
    if args.jsonl is None:
        sys.stdout.writelines(to_line(entry) + "\n" for entry in entries)
    else:
        print(for_terminal(f"{export_entries(entries, args.jsonl)} entries written to {args.jsonl}"))
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Takes the JSON lines in; into the memory of a run only while no run holds its folder."""
    if is_listed(args.file.resolve()):
        raise ValueError(
            f"file: expected a memory that is no part of a checkpoint, got {args.file}; a copy of it can be changed"
        )
    folder = args.file.resolve().parent  # a link may lead into a run's folder
    with lock_of_run(folder):
        name = args.embedder
        if name is None and args.file.exists():
            with closing(Store(args.file, frozen=True)) as store:
                name = store.embedder[0]
        with Memory(args.file, load_embedder(name or "hash"), config=MemoryConfig(capacity=args.capacity)) as memory:
            count = import_entries(memory, args.jsonl)
            print(for_terminal(f"{count} entries taken from {args.jsonl}; {args.file} now holds {len(memory.entries())}"))
        if (folder / CONFIG).is_file():
            print("a run that goes on here takes its memory from its last checkpoint instead")
    return 0


def table(entries: list[Entry], width: int | None) -> str:
    """The entries as aligned text; each line cut to `width` columns of a terminal, or (None) whole."""
    rows = [HEADINGS, *(_cells(entry) for entry in entries)]
    texts = 2  # the last two columns: what remains is theirs
    sizes = [max(_columns(row[i]) for row in rows) for i in range(len(HEADINGS))]
    if width is not None:
        rest = max(width - sum(sizes[:-texts]) - 2 * (len(HEADINGS) - 1), 2 * 12)
        sizes[-2] = min(sizes[-2], max(rest // 2, rest - sizes[-1]))
        sizes[-1] = min(sizes[-1], rest - sizes[-2])
    right = {"id", "weight", "reward", "uses", "last use"}
    lines = []
    for row in rows:
        cells = [_fit(cell, size, name in right) for cell, size, name in zip(row, sizes, HEADINGS, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cells(entry: Entry) -> tuple[str, ...]:
    reward = "-" if entry.reward is None else f"{entry.reward:.3f}"
    last_use = "-" if entry.last_use is None else str(entry.last_use)
    taught = f"{entry.episode or '-'} @{entry.step}"
    texts = (entry.agent, taught, entry.key, entry.strategy)
    agent, taught, key, strategy = (for_terminal(" ".join(text.split())) for text in texts)
    return (str(entry.id), agent, f"{entry.weight:+.3f}", reward, str(entry.uses), last_use, taught, key, strategy)


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: wide characters two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fit(text: str, size: int, right: bool) -> str:
    if _columns(text) > size:
        kept = ""
        for letter in text:
            if _columns(kept + letter) > size - 1:
                break
            kept += letter
        text = kept + "…"
    blank = " " * (size - _columns(text))
    return blank + text if right else text + blank
