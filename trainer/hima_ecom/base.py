"""Reading the base store: one read-only SQLite connection a thread, rows as dicts that nobody changes."""

import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

from trainer.hima_ecom.schema import COLUMNS, PRIMARY_KEY

Row = dict[str, Any]


class Product(NamedTuple):
    """A product with what searching needs: its attributes, and its words in lower case."""

    row: Row
    attributes: dict[str, str]
    text: str  # each word after a space


class Base:
    """The base store behind `connect`, which opens one more connection to it. Threads and forked processes get their own."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._local = threading.local()
        self._select = {
            (table, column): f"SELECT * FROM {table} WHERE {column} = ? ORDER BY {PRIMARY_KEY[table]}"
            for table, columns in COLUMNS.items()
            for column in columns
        }
        today = self.row("meta", "today")
        if today is None:
            raise ValueError("world: no row 'today' in the table meta")
        self.today: str = today["value"]

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection; one that came over a fork is not used."""
        local = self._local
        pid = os.getpid()
        if getattr(local, "pid", None) != pid:
            local.connection, local.pid = self._connect(), pid
        connection: sqlite3.Connection = local.connection
        return connection

    def rows(self, table: str, column: str, value: str) -> list[Row]:
        """The rows where `column` equals `value`, by primary key. Table and column are our own names, value is anybody's."""
        columns = COLUMNS[table]
        found = self.connection.execute(self._select[table, column], (value,))
        return [dict(zip(columns, row, strict=True)) for row in found]

    def row(self, table: str, key: str) -> Row | None:
        """The row with that primary key."""
        found = self.rows(table, PRIMARY_KEY[table], key)
        return found[0] if found else None

    def all(self, table: str) -> list[Row]:
        """Every row of a table, by primary key."""
        found = self.connection.execute(f"SELECT * FROM {table} ORDER BY {PRIMARY_KEY[table]}")
        return [dict(zip(COLUMNS[table], row, strict=True)) for row in found]

    @cached_property
    def products(self) -> dict[str, Product]:
        """The catalogue, small enough to be searched in memory, by primary key."""
        found = {}
        for row in self.all("products"):
            text = " ".join(str(row[c]) for c in ("type", "category", "brand", "name", "name_zh", "description"))
            words = " ".join(re.findall(r"\w+", text.lower()))
            found[row["product_id"]] = Product(row, json.loads(row["attributes"]), f" {words}")
        return found

    def search(self, query: str, limit: int) -> list[Row]:
        """Full-text search over the knowledge base: documents with any of the query's words, best (bm25) first.

        Only the first 32 words count; each is quoted, so nothing in the query is syntax.
        """
        words = re.findall(r"\w+", query.lower())[:32]
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in dict.fromkeys(words))
        found = self.connection.execute(
            "SELECT document_id, title, snippet(knowledge, 2, '', '', ' ...', 24) FROM knowledge "
            "WHERE knowledge MATCH ? ORDER BY rank, document_id LIMIT ?",
            (match, limit),
        )
        return [dict(zip(("document_id", "title", "excerpt"), row, strict=True)) for row in found]
