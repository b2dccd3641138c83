"""The register of task families, by column."""

from collections.abc import Callable
from typing import NamedTuple

from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.task import COLUMNS

Write = Callable[[Builder], None]


class Family(NamedTuple):
    """A family of tasks."""

    column: str
    name: str
    difficulty: int  # of its plainest task; a builder may raise it
    impossible: bool  # its right answer is a refusal
    topic: str  # what its tasks are about, a sentence: in memory entries of SFT samples and in docs/benchmark.md
    write: Write  # writes one task. Raises: Skip


FAMILIES: dict[str, list[Family]] = {column: [] for column in COLUMNS}


def register(new: Family) -> None:
    """Add a family to its column."""
    assert all(other.name != new.name for other in FAMILIES[new.column]), new.name
    FAMILIES[new.column].append(new)


def family(column: str, difficulty: int, topic: str, *, impossible: bool = False) -> Callable[[Write], Write]:
    """Return a decorator that registers a function which writes one task of `column`; its name is the family's."""

    def decorate(write: Write) -> Write:
        register(Family(column, write.__name__, difficulty, impossible, topic, write))
        return write

    return decorate
