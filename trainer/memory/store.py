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
from contextlib import closing, contextmanager, suppress
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
        ValueError: another kind of file, an empty one, another version, vectors of another embedder, values of other types.
    """

    def __init__(self, path: str | os.PathLike[str], *, embedder: tuple[str, int] | None = None, frozen: bool = False) -> None:
        self.path = Path(path).absolute()
        self.frozen = frozen
        if (frozen or embedder is None) and not self.path.exists():
            raise FileNotFoundError(f"path: expected an existing memory, got {self.path}")
        if not self.path.exists() and embedder is not None:
            _make(self.path, embedder)
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise ValueError(f"path: expected a memory's file, got {self.path} of 0 bytes (as a full disk leaves one)")
        mode = "ro" if frozen else "rw"
        self.db = sqlite3.connect(f"{self.path.as_uri()}?mode={mode}", uri=True, timeout=WAIT, isolation_level=None)
        try:
            self._open(embedder)
        except sqlite3.DatabaseError as error:
            self.db.close()
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise  # locked, read-only, a full disk; SQLITE_ERROR: a table or a column that isn't there
            raise ValueError(f"path: expected a memory's file, got {self.path} ({error})") from error
        except BaseException:
            self.db.close()
            raise

    def _open(self, embedder: tuple[str, int] | None) -> None:
        self.db.execute("PRAGMA foreign_keys = ON")
        # One commit an optimiser step can afford to wait for the disk: then it also outlives a loss of power.
        self.db.execute("PRAGMA synchronous = FULL")
        _check_header(self.db, self.path)
        if not self.frozen:
            self._use_wal()
        name, dimension = self.embedder
        _check_rows(self.db, self.path, dimension)
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

    @property
    def embedder(self) -> tuple[str, int]:
        """Name and dimension of the embedder that made the vectors."""
        meta = dict(self.db.execute("SELECT name, value FROM meta WHERE name IN ('embedder', 'dimension')"))
        name, dimension = meta.get("embedder"), meta.get("dimension")
        if not isinstance(name, str) or not isinstance(dimension, int) or dimension < 1:
            raise ValueError(f"{self.path}: expected the name and the dimension of an embedder, got {name!r} and {dimension!r}")
        return name, dimension

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


def _make(path: Path, embedder: tuple[str, int]) -> None:
    """A memory without entries: whole or not there. Of two processes that make one, the second finds it made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(partial)) as db:
            for statement in SCHEMA:
                db.execute(statement)
            db.executemany("INSERT INTO meta VALUES (?, ?)", [("embedder", embedder[0]), ("dimension", embedder[1])])
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")
            db.commit()
        with suppress(FileExistsError):
            os.link(partial, path)  # unlike a rename it replaces nothing
    finally:
        partial.unlink(missing_ok=True)


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _check_header(db: sqlite3.Connection, path: Path) -> None:
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise ValueError(f"path: expected a memory's file, got the database {path}")
    if _pragma(db, "user_version") != VERSION:
        raise ValueError(f"path: expected version {VERSION} of a memory's file, got version {_pragma(db, 'user_version')}")


# What the columns hold where only this program has written. SQLite itself takes any value in any column.
_ODD = """
    SELECT 'entries: ' || id FROM entries LEFT JOIN key_embeddings ON entry = id
    WHERE typeof(agent) != 'text' OR typeof(key) != 'text' OR typeof(strategy) != 'text' OR typeof(episode) != 'text'
        OR typeof(weight) != 'real' OR abs(weight) > 1e300 OR typeof(reward) NOT IN ('real', 'null')
        OR typeof(uses) != 'integer' OR typeof(last_use) NOT IN ('integer', 'null') OR typeof(step) != 'integer'
        OR typeof(embedding) != 'blob' OR length(embedding) != :size
    UNION ALL SELECT 'rewards: ' || id FROM rewards WHERE typeof(agent) != 'text' OR typeof(reward) != 'real'
    UNION ALL SELECT 'meta: ' || name FROM meta WHERE name = 'step' AND typeof(value) != 'integer'
    LIMIT 1
"""


def _check_rows(db: sqlite3.Connection, path: Path, dimension: int) -> None:
    found = db.execute(_ODD, {"size": 4 * dimension}).fetchone()
    if found is not None:
        raise ValueError(f"{path}: expected texts, numbers and vectors of {dimension} numbers, got others in {found[0]}")
