"""The contents of a dataset, counted, for people and for programs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from trainer.hima_ecom.dataset.samples import Sample
from trainer.hima_ecom.tasks import COLUMNS, Task

_TEXT = """\
# HiMA-Ecom, made from seed {seed}

{total:,} instances over one store (`store.sqlite`, seed {seed}, size {world_size}). The same seed gives the same bytes. What a
line holds is described in docs/benchmark.md of the project; `hima data validate FILE` checks a file against it.

| file | instances | what |
| --- | --- | --- |
| sft.jsonl | {sft:,} | one agent's context in an expert episode each; {with_memory:,} of them with entries of memory |
| train.jsonl | {train:,} | (query, final response) pairs with checkers, for RL |
| test.jsonl | {test:,} | the same, with wordings, products, customers and compositions that training never sees |

{tables}
Everything is synthetic: no person, brand or order in it is real. Expert trajectories are played through the real tools.
Queries are English, about 15 % Chinese; the agents speak English among themselves. At most 5 % of a column are impossible
requests, whose right answer is a refusal with the reason.
"""


class Datasheet(NamedTuple):
    """The counts, and the text that shows them."""

    counts: dict[str, Any]
    text: str


def _counted(records: Iterable[Any], *names: str) -> dict[str, dict[str, int]]:
    listed = list(records)
    return {name: dict(sorted(Counter(str(getattr(record, name)) for record in listed).items())) for name in names}


def datasheet(seed: int, world_size: str, sft: Sequence[Sample], train: Sequence[Task], test: Sequence[Task]) -> Datasheet:
    """Counts by agent, column, split, language and difficulty."""
    counts: dict[str, Any] = {
        "seed": seed,
        "world_size": world_size,
        "instances": len(sft) + len(train) + len(test),
        "sft": {"instances": len(sft), "with_memory": sum(bool(sample.memory) for sample in sft)}
        | _counted(sft, "agent", "column", "language", "difficulty"),
        "train": {"instances": len(train)} | _counted(train, "column", "language", "difficulty"),
        "test": {"instances": len(test)} | _counted(test, "column", "language", "difficulty"),
    }
    text = _TEXT.format(
        seed=seed,
        world_size=world_size,
        total=counts["instances"],
        sft=len(sft),
        with_memory=counts["sft"]["with_memory"],
        train=len(train),
        test=len(test),
        tables=_tables(counts),
    )
    return Datasheet(counts, text)


def _tables(counts: dict[str, Any]) -> str:
    lines = ["| | sft | train | test |", "| --- | --- | --- | --- |"]
    keys = [("column", column) for column in COLUMNS]
    keys += [("language", name) for name in ("en", "zh")] + [("difficulty", level) for level in ("1", "2", "3")]
    for kind, key in keys:
        lines.append(
            f"| {kind} {key} | " + " | ".join(f"{counts[f][kind].get(key, 0):,}" for f in ("sft", "train", "test")) + " |"
        )
    lines += [f"| agent {name} | {count:,} | | |" for name, count in counts["sft"]["agent"].items()]
    return "\n".join(lines) + "\n"
