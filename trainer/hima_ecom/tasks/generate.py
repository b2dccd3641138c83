"""Drawing tasks: families in turn, until a column has as many as asked for; no query twice."""

import random
from collections.abc import Iterator

from trainer.hima_ecom.tasks import cooperation, efc_orders, efc_products, efc_writing, gfc, impossible, mathematics, qa  # noqa: F401
from trainer.hima_ecom.tasks import gfc_chains, gfc_impossible, gfc_lookups, gfc_notes  # noqa: F401
from trainer.hima_ecom.tasks import math_chains, math_impossible, math_reports, math_words  # noqa: F401
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import FAMILIES, Family
from trainer.hima_ecom.tasks.pools import Pools
from trainer.hima_ecom.tasks.task import COLUMNS, SPLITS, Task
from trainer.hima_ecom.world import World

CHINESE = 0.15  # of the tasks
IMPOSSIBLE = 0.04  # of a column; at most 5 % may be
TRIES = 200


def make_tasks(world: World, seed: int, split: str, column: str, count: int, *, seen: set[str] | None = None) -> list[Task]:
    """`count` tasks of one column and split, the same for the same seed.

    Args: seen: queries that may not occur again; the new ones are added.
    Raises: ValueError for an unknown split or column.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    if column not in COLUMNS:
        raise ValueError(f"column: expected one of {', '.join(COLUMNS)}, got {column!r}")
    rng = random.Random(f"{seed}/{split}/{column}")
    pools, known = Pools(world, split), set() if seen is None else seen
    turns = _turns(rng, column, count)
    return [_draw(pools, rng, split, chosen, f"{split}-{column}-{i:05d}", known) for i, chosen in enumerate(turns, 1)]


def _turns(rng: random.Random, column: str, count: int) -> Iterator[Family]:
    """Families in shuffled rounds, with a fixed share of impossible ones: counts per family differ by at most one."""
    possible = [family for family in FAMILIES[column] if not family.impossible]
    impossible = [family for family in FAMILIES[column] if family.impossible]
    refused = int(count * IMPOSSIBLE) if impossible else 0
    chosen = [possible[i % len(possible)] for i in range(count - refused)]
    chosen += [impossible[i % len(impossible)] for i in range(refused)]
    rng.shuffle(chosen)
    return iter(chosen)


def _draw(pools: Pools, rng: random.Random, split: str, family: Family, id: str, known: set[str]) -> Task:
    """One task of the family whose query is new."""
    language = "zh" if rng.random() < CHINESE else "en"
    reason = ""
    for _ in range(TRIES):
        builder = Builder(pools, rng, split, language, difficulty=family.difficulty)
        try:
            family.write(builder)
        except Skip as skipped:
            reason = str(skipped)
            continue
        if builder.query in known:
            reason = "every query was known"
            continue
        known.add(builder.query)
        return builder.task(id, family.column, family.name)
    raise RuntimeError(f"{family.name}: no new {split} task in {TRIES} draws; the last: {reason}")
