"""The file of a memory: one SQLite database in WAL mode, the single truth; whatever else exists is made from it.

    entries          one row an entry, readable with any SQLite tool
    key_embeddings   the entries' vectors (fp32, little-endian, unit length), apart so that a step rewrites small rows
    rewards          each agent's latest rewards, from which the thresholds are taken
    meta             embedder, dimension, step (the highest optimiser step that has evolved the memory)

A transaction is either in the file or not, at whatever instant its process dies. Several processes may open one file; each
needs a connection of its own (not one inherited by fork).
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

APPLICATION_ID = 0x48694D41  # "HiMA", in the file's header
VERSION = 1
SCHEMA = (
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice, so a deleted entry's id means nobody else
        agent TEXT NOT NULL,
        key TEXT NOT NULL,                    -- the query that the strategy is for
        strategy TEXT NOT NULL,
        weight REAL NOT NULL,
        reward REAL,                          -- running mean over the siblings that saw it; NULL: none did
        uses INTEGER NOT NULL,                -- episodes that used it
        last_use INTEGER,                     -- optimiser step; NULL: never
        episode TEXT NOT NULL,                -- which episode taught the strategy; empty: imported by hand
        step INTEGER NOT NULL,                -- and at which optimiser step
        UNIQUE (agent, key)
    )""",
    "CREATE TABLE key_embeddings (entry INTEGER PRIMARY KEY REFERENCES entries ON DELETE CASCADE, embedding BLOB NOT NULL)",
    "CREATE TABLE rewards (id INTEGER PRIMARY KEY, agent TEXT NOT NULL, reward REAL NOT NULL)",
    "CREATE INDEX rewards_of_agent ON rewards (agent, id)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
)
COLUMNS = "id, agent, key, strategy, weight, reward, uses, last_use, episode, step"
WAIT = 60.0  # seconds for another process's transaction


@dataclass(frozen=True, slots=True)
class Entry:
    """One piece of advice: for queries like `key`, `agent` should follow `strategy`.

    For example: Entry(id=7, agent="efc", key="Cancel order O00001", strategy="Look the order up before cancelling it.",
    weight=1.2, reward=1.6, uses=4, last_use=31, episode="s12-q3", step=12).
    """

    id: int
    agent: str
    key: str
    strategy: str
    weight: float = 1.0
    reward: float | None = None
    uses: int = 0
    last_use: int | None = None
    episode: str = ""
    step: int = 0


class Store:
    """A memory's file, opened.

    Args:
        path: the file; made if it does not exist, unless `frozen`.
        embedder: name and dimension of the embedder that makes its vectors; None: whichever made them (an existing file only).
        frozen: nothing is ever written, not even by a mistake: SQLite opens the file for reading only.

    Raises:
        FileNotFoundError: `frozen` or without embedder, and there is no file.
        ValueError: another kind of file, another version, or vectors of another embedder.
    """

    def __init__(self, path: str | os.PathLike[str], *, embedder: tuple[str, int] | None = None, frozen: bool = False) -> None:
        self.path = Path(path).absolute()
        self.frozen = frozen
        if (frozen or embedder is None) and not self.path.exists():
            raise FileNotFoundError(f"path: expected an existing memory, got {self.path}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mode = "ro" if frozen else "rwc"
        self.db = sqlite3.connect(f"{self.path.as_uri()}?mode={mode}", uri=True, timeout=WAIT, isolation_level=None)
        try:
            self._open(embedder)
        except sqlite3.DatabaseError as error:
            self.db.close()
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise ValueError(f"path: expected a memory's file, got {self.path} ({error})") from error
        except BaseException:
            self.db.close()
            raise

    def _open(self, embedder: tuple[str, int] | None) -> None:
        self.db.execute("PRAGMA foreign_keys = ON")
        # One commit an optimiser step can afford to wait for the disk: then it also outlives a loss of power.
        self.db.execute("PRAGMA synchronous = FULL")
        if not self.frozen and _pragma(self.db, "application_id") == 0:
            with self.write():  # of two processes that make the file, one waits here and then finds it made
                if _pragma(self.db, "application_id") == 0:
                    self._make(embedder)
        _check_header(self.db, self.path)
        if not self.frozen:
            self._use_wal()
        name, dimension = self.embedder
        if embedder is not None and embedder != (name, dimension):
            raise ValueError(f"embedder: expected {name!r} of dimension {dimension}, which made {self.path}, got {embedder}")

    def _use_wal(self) -> None:
        """The change of mode does not wait for other processes by itself, as transactions do."""
        until = time.monotonic() + WAIT
        while self._mode() != "wal":
            try:
                if self._mode("= WAL") != "wal":
                    raise ValueError(f"path: expected a file system on which SQLite's WAL mode works, got that of {self.path}")
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.005)

    def _mode(self, change: str = "") -> str:
        return str(self.db.execute(f"PRAGMA journal_mode {change}").fetchone()[0])

    def _make(self, embedder: tuple[str, int] | None) -> None:
        if embedder is None or self.db.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise ValueError(f"path: expected a memory's file, got the database {self.path}")
        for statement in SCHEMA:
            self.db.execute(statement)
        self.db.executemany("INSERT INTO meta VALUES (?, ?)", [("embedder", embedder[0]), ("dimension", embedder[1])])
        self.db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self.db.execute(f"PRAGMA user_version = {VERSION}")

    @property
    def embedder(self) -> tuple[str, int]:
        """Name and dimension of the embedder that made the vectors."""
        meta = dict(self.db.execute("SELECT name, value FROM meta WHERE name IN ('embedder', 'dimension')"))
        return str(meta["embedder"]), int(meta["dimension"])

    @property
    def step(self) -> int | None:
        """The highest optimiser step that has evolved the memory; None before the first."""
        row = self.db.execute("SELECT value FROM meta WHERE name = 'step'").fetchone()
        return None if row is None else int(row[0])

    @property
    def version(self) -> int:
        """A number that changes when another connection has committed."""
        return _pragma(self.db, "data_version")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block, or nothing of it."""
        if self.frozen:
            raise RuntimeError(f"the memory {self.path} is frozen: nothing may be written")
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def entries(self, agent: str | None = None) -> list[Entry]:
        """All entries, or those of one agent, in the order in which they came."""
        where, arguments = ("", ()) if agent is None else ("WHERE agent = ?", (agent,))
        return [Entry(*row) for row in self.db.execute(f"SELECT {COLUMNS} FROM entries {where} ORDER BY id", arguments)]

    def keyed(self, agent: str) -> tuple[list[Entry], Floats]:
        """One agent's entries and their vectors [N, D], both as one transaction left them."""
        query = f"SELECT {COLUMNS}, embedding FROM entries JOIN key_embeddings ON entry = id WHERE agent = ? ORDER BY id"
        rows = self.db.execute(query, (agent,)).fetchall()
        dimension = self.embedder[1]
        vectors = np.frombuffer(b"".join(row[-1] for row in rows), dtype="<f4").astype(np.float32)
        return [Entry(*row[:-1]) for row in rows], vectors.reshape(len(rows), dimension)

    def insert(self, entry: Entry, vector: Floats) -> int:
        """A new row (the entry's own id is ignored) with its vector [D], inside `write`; returns its id."""
        texts = (entry.agent, entry.key, entry.strategy)
        values = (*texts, entry.weight, entry.reward, entry.uses, entry.last_use, entry.episode, entry.step)
        cursor = self.db.execute(f"INSERT INTO entries ({COLUMNS}) VALUES (NULL, {', '.join('?' * 9)})", values)
        identity = int(cursor.lastrowid or 0)
        self.db.execute("INSERT INTO key_embeddings VALUES (?, ?)", (identity, vector.astype("<f4").tobytes()))
        return identity

    def snapshot(self, path: str | os.PathLike[str]) -> None:
        """A copy of the whole memory as one plain file, for a checkpoint: readable where nothing can be written, and either
        complete or absent. Other processes may go on writing."""
        target = Path(path).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        partial.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
                self.db.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """The memory becomes what `snapshot` wrote to `path`, as one transaction that other processes see as any other.

        Raises:
            FileNotFoundError, RuntimeError: there is no such file; the memory is frozen.
            ValueError: not a memory's file, or vectors of another embedder.
        """
        if self.frozen:
            raise RuntimeError(f"the memory {self.path} is frozen: nothing may be written")
        with closing(Store(path, embedder=self.embedder, frozen=True)) as source:
            source.db.backup(self.db)

    def close(self) -> None:
        """The file is let go; what was committed is in it."""
        self.db.close()


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _check_header(db: sqlite3.Connection, path: Path) -> None:
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise ValueError(f"path: expected a memory's file, got the database {path}")
    if _pragma(db, "user_version") != VERSION:
        raise ValueError(f"path: expected version {VERSION} of a memory's file, got version {_pragma(db, 'user_version')}")
