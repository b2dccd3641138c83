"""Draw tasks: the families of a column in turn, no query twice."""

import json
import random
from collections import deque
from collections.abc import Collection, Iterator
from itertools import islice

from trainer.hima_ecom.tasks import (  # noqa: F401 - these modules register their families
    cooperation,
    efc_orders,
    efc_products,
    efc_writing,
    gfc,
    gfc_chains,
    gfc_impossible,
    gfc_lookups,
    gfc_notes,
    math_chains,
    math_impossible,
    math_reports,
    math_words,
    mathematics,
    qa_policies,
    qa_products,
    refusals,
)
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import FAMILIES, Family
from trainer.hima_ecom.tasks.pools import Pools
from trainer.hima_ecom.tasks.task import COLUMNS, SPLITS, Task
from trainer.hima_ecom.world import World

CHINESE = 0.15  # of the tasks
BLOCK = 33  # one task in a block is impossible; it comes late, so that of the first n of a column at most 5 % are
TRIES = 200
SPREAD = 100  # a column's last tasks, whose right answers are not repeated
PATIENCE = 12  # draws of a family in search of another answer


def make_tasks(world: World, seed: int, split: str, column: str, count: int, *, seen: set[str] | None = None) -> list[Task]:
    """Return `count` tasks of one column and split, the same for the same seed.

    Args:
        seen: queries that may not occur again; the new ones are added.
    Raises: ValueError for an unknown split or column.
    """
    return list(islice(stream_tasks(world, seed, split, column, seen=seen), count))


def stream_tasks(
    world: World,
    seed: int,
    split: str,
    column: str,
    *,
    seen: set[str] | None = None,
    families: Collection[str] | None = None,
) -> Iterator[Task]:
    """Yield the tasks of `make_tasks` without end; only those of `families`, if given."""
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    if column not in COLUMNS:
        raise ValueError(f"column: expected one of {', '.join(COLUMNS)}, got {column!r}")
    known: set[str] = set() if seen is None else seen
    rng = random.Random(f"{seed}/{split}/{column}")
    pools, recent = Pools(world, split), deque[str](maxlen=SPREAD)
    chosen = [family for family in FAMILIES[column] if families is None or family.name in families]
    for i, family in enumerate(_turns(rng, chosen), 1):
        yield _draw(pools, rng, split, family, f"{split}-{column}-{i:05d}", known, recent)


def _turns(rng: random.Random, families: list[Family]) -> Iterator[Family]:
    """Yield families in shuffled rounds, so that all occur equally often; one in BLOCK is impossible."""
    possible = _rounds(rng, [family for family in families if not family.impossible])
    impossible = _rounds(rng, [family for family in families if family.impossible])
    while True:
        refused = rng.randrange(BLOCK - 5, BLOCK)
        for i in range(BLOCK):
            turn = (next(impossible, None) if i == refused else None) or next(possible, None)
            if turn is None:
                return
            yield turn


def _rounds(rng: random.Random, families: list[Family]) -> Iterator[Family]:
    while families:
        yield from rng.sample(families, len(families))


def _draw(pools: Pools, rng: random.Random, split: str, family: Family, id: str, known: set[str], recent: deque[str]) -> Task:
    """Return a task of the family whose query is new and, within PATIENCE draws, whose answer is not a recent one."""
    language = "zh" if rng.random() < CHINESE else "en"
    reason = ""
    for attempt in range(TRIES):
        builder = Builder(pools, rng, split, language, difficulty=family.difficulty)
        try:
            family.write(builder)
        except Skip as skipped:
            reason = str(skipped)
            continue
        if builder.query in known:
            reason = "every query was known"
            continue
        answer = json.dumps([part.get("value") for part in builder.parts])
        if answer in recent and attempt < PATIENCE and not family.impossible:
            continue
        known.add(builder.query)
        recent.append(answer)
        return builder.task(id, family.column, family.name)
    raise RuntimeError(f"{family.name}: no new {split} task in {TRIES} draws; the last: {reason}")
