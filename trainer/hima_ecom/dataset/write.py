"""Writing the dataset: SFT samples, (query, final response) pairs for RL, and the test set, with a datasheet."""

import glob
import json
import random
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from trainer.hima_ecom.dataset.datasheet import datasheet
from trainer.hima_ecom.dataset.samples import Sample, samples
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.strategies import Lessons
from trainer.hima_ecom.tasks import COLUMNS, Task, stream_tasks
from trainer.hima_ecom.world import World
from trainer.jsonlines import write as write_lines
from trainer.lock import LOCK, FolderInUseError, FolderLock

SIZE = 22_800  # the paper's: 20,000 SFT samples (17,700 with memory), 2,300 pairs for RL, 500 test tasks
_UNFINISHED = ".unfinished"
FILES = ("sft.jsonl", "train.jsonl", "test.jsonl")


class Plan(NamedTuple):
    """The numbers of samples, pairs and tests for a size."""

    sft: int
    with_memory: int
    train: int
    test: int

    @classmethod
    def of(cls, size: int) -> "Plan":
        """The paper's proportions. Raises: ValueError below 100, too few for five columns of each."""
        if size < 100:
            raise ValueError(f"size: expected at least 100, got {size}")
        test = len(COLUMNS) * max(4, min(100, size * 100 // SIZE))
        train = max(len(COLUMNS), size * 2300 // SIZE)
        sft = size - train - test
        return cls(sft, sft * 177 // 200, train, test)


def write_dataset(out: str | Path, *, seed: int = 0, size: int = SIZE, world_size: str = "full") -> dict[str, Any]:
    """Writes the dataset of a seed to the folder `out`, which must not exist or be empty; returns its datasheet.

    The same seed and sizes give the same bytes. The folder appears when it is whole; what a killed run leaves beside it
    (`*.unfinished`), the next one removes.
    Raises: FileExistsError, ValueError.
    """
    out, plan = Path(out), Plan.of(size)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"out: expected a new or an empty folder, got {out}, which has files")
    out.parent.mkdir(parents=True, exist_ok=True)
    _clear(out)
    unfinished = out.with_name(f"{out.name}.{secrets.token_hex(4)}{_UNFINISHED}")
    unfinished.mkdir()
    with FolderLock(unfinished) as lock:
        try:
            sheet = _write(unfinished, plan, seed, world_size)
            lock.path.unlink()
            if out.exists():
                out.rmdir()
            unfinished.replace(out)
        except BaseException:
            shutil.rmtree(unfinished)
            raise
    return sheet


def _clear(out: Path) -> None:
    """Removes what processes that were killed have left beside `out`: folders whose locks were held, and are no more."""
    for path in out.parent.glob(f"{glob.escape(out.name)}.*{_UNFINISHED}/{LOCK}"):
        with suppress(FolderInUseError, FileNotFoundError):
            if path.stat().st_size:  # else its process is about to lock it
                with FolderLock(path.parent) as lock:
                    if lock.exclusive:
                        shutil.rmtree(path.parent)


def _write(folder: Path, plan: Plan, seed: int, world_size: str) -> dict[str, Any]:
    world = World.create(folder / "store.sqlite", seed, size=world_size)
    seen: set[str] = set()
    test = list(_by_column(world, seed, "test", plan.test, seen))
    train = list(_by_column(world, seed, "train", plan.train, seen))
    sft = list(_samples(world, seed, plan, seen))
    parts: tuple[list[Sample] | list[Task], ...] = (sft, train, test)
    for name, records in zip(FILES, parts, strict=True):
        write_lines(folder / name, (record.to_json() for record in records))
    sheet = datasheet(seed, world_size, sft, train, test)
    (folder / "datasheet.json").write_text(json.dumps(sheet.counts, ensure_ascii=False, indent=1) + "\n")
    (folder / "README.md").write_text(sheet.text)
    return sheet.counts


def _shares(count: int) -> Iterator[tuple[str, int]]:
    """A count spread over the columns, the first ones one more."""
    for i, column in enumerate(COLUMNS):
        yield column, count // len(COLUMNS) + (i < count % len(COLUMNS))


def _by_column(world: World, seed: int, split: str, count: int, seen: set[str]) -> Iterator[Task]:
    for column, share in _shares(count):
        yield from islice(stream_tasks(world, seed, split, column, seen=seen), share)


def _samples(world: World, seed: int, plan: Plan, seen: set[str]) -> Iterator[Sample]:
    """The SFT samples of every column; of each column's the first ones have memory, then all are shuffled. No two differ in
    their memory alone."""
    env, rng = HimaEcomEnv(world), random.Random(f"{seed}/samples")
    lessons = Lessons(random.Random(f"{seed}/lessons"))
    found: list[Sample] = []
    known: set[tuple[str, ...]] = set()
    with_memory = dict(_shares(plan.with_memory))
    for column, share in _shares(plan.sft):
        counts: Counter[bool] = Counter()
        wanted = {True: with_memory[column], False: share - with_memory[column]}
        stream = stream_tasks(world, seed, "sft", column, seen=seen)
        for memory in (True, False):
            while counts[memory] < wanted[memory]:
                for sample in samples(next(stream), env, lessons if memory else None):
                    fits = bool(sample.memory) == memory and counts[memory] < wanted[memory]
                    if fits and sample.told not in known:
                        known.add(sample.told)
                        counts[memory] += 1
                        found.append(sample)
    rng.shuffle(found)
    yield from found
