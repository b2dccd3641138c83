"""The world: the base store made from a seed, in a file or in memory, and the sessions over it."""

import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

from trainer.hima_ecom.base import Base
from trainer.hima_ecom.generation import generate
from trainer.hima_ecom.schema import COLUMNS, SQL
from trainer.hima_ecom.session import Session


def _fill(connection: sqlite3.Connection, seed: int, size: str) -> None:
    connection.executescript(SQL)
    rows = generate(seed, size)
    for table, columns in COLUMNS.items():
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows.get(table, []))
    documents = [(key, title, body) for key, _, title, body in rows["policies"]]
    documents += [(key, question, answer) for key, _, question, answer in rows["product_questions"]]
    connection.executemany("INSERT INTO knowledge VALUES (?, ?, ?)", documents)
    connection.commit()


def _open_file(path: Path) -> sqlite3.Connection:
    # immutable: no locks and no look at the file's changes; `create` replaces a file, never writes into one.
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    connection.execute("PRAGMA query_only = 1")
    return connection


def _open_image(image: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.deserialize(image)
    connection.execute("PRAGMA query_only = 1")
    return connection


class World(Base):
    """A read-only base store that any number of sessions, threads and processes share. Pickles as its path or its image."""

    def __init__(self, *, path: Path | None = None, image: bytes | None = None) -> None:
        if (path is None) == (image is None):
            raise ValueError("World: expected exactly one of path and image")
        self._origin: dict[str, Any] = {"path": path, "image": image}
        super().__init__(partial(_open_file, path) if path is not None else partial(_open_image, image or b""))

    @classmethod
    def create(cls, path: str | Path, seed: int, *, size: str = "small") -> "World":
        """Writes the store of `seed` to `path`, replacing what stands there in one step, and opens it. Sizes: small, full."""
        path = Path(path)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
        unfinished.unlink(missing_ok=True)
        connection = sqlite3.connect(unfinished)
        try:
            _fill(connection, seed, size)
        except BaseException:
            unfinished.unlink()
            raise
        finally:
            connection.close()
        unfinished.replace(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> "World":
        """Opens a store that `create` wrote. Raises: FileNotFoundError; sqlite3.DatabaseError if it is no store."""
        path = Path(path).resolve()
        if not path.is_file():
            raise FileNotFoundError(f"world: no file {path}")
        return cls(path=path)

    @classmethod
    def in_memory(cls, seed: int, size: str = "small") -> "World":
        """The same store without a file; every thread gets a copy of its image."""
        connection = sqlite3.connect(":memory:")
        try:
            _fill(connection, seed, size)
            return cls(image=connection.serialize())
        finally:
            connection.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._origin,)

    def session(self, customer_id: str | None = None) -> Session:
        """An episode: of a customer who is logged in, or (None) of one who must be identified by find_customer first.

        Raises: ValueError for a customer that does not exist.
        """
        return Session(self, customer_id)

    def dump(self) -> str:
        """The logical content as SQL text: equal for equal seeds and sizes."""
        return "\n".join(self.connection.iterdump())


def _restore(origin: dict[str, Any]) -> World:
    return World(**origin)
