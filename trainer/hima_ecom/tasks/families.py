"""The register of task families: a function that writes one task, by column."""

from collections.abc import Callable
from typing import NamedTuple

from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.task import COLUMNS

Write = Callable[[Builder], None]


class Family(NamedTuple):
    """A family of templates."""

    column: str
    name: str
    difficulty: int  # of its plainest task; a builder may raise it
    impossible: bool  # its right answer is a refusal
    write: Write


FAMILIES: dict[str, list[Family]] = {column: [] for column in COLUMNS}


def family(column: str, difficulty: int, *, impossible: bool = False) -> Callable[[Write], Write]:
    """Registers a function that writes one task of `column`; its name is the family's."""

    def register(write: Write) -> Write:
        name = write.__name__
        assert all(other.name != name for other in FAMILIES[column]), name
        FAMILIES[column].append(Family(column, name, difficulty, impossible, write))
        return write

    return register
