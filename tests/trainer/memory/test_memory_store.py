"""The file: frozen, snapshots, and what is no memory."""

import hashlib
import sqlite3

import pytest

from trainer.memory import HashingEmbedder, Memory, Observation
from trainer.memory.store import Store

LESSON = Observation(agent="efc", query="0", rewards=(0.0, 2.0), strategy="look first", episode="e1")


def prints(folder):
    """The files of a folder and what is in them; SQLite's index of the log is shared memory, not content."""
    files = [path for path in sorted(folder.iterdir()) if not path.name.endswith("-shm")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_frozen_memory_writes_nothing(make, tmp_path) -> None:
    memory = make()
    memory.evolve(1, [LESSON])
    memory.snapshot(tmp_path / "then.db")
    before = prints(tmp_path)
    frozen = make(frozen=True)
    (entry,) = frozen.retrieve("efc", "0")
    assert (entry.uses, entry.last_use) == (0, None)
    assert frozen.retrieve_many(["efc", "qa"], ["5", "5"]) == [[entry], []]
    with pytest.raises(RuntimeError, match=r"the memory .*memory\.db is frozen: nothing may be written"):
        frozen.evolve(2, [LESSON])
    with pytest.raises(RuntimeError, match="is frozen"):
        frozen.restore(tmp_path / "then.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):  # not even past our own checks
        frozen.store.db.execute("DELETE FROM entries")
    frozen.close()
    assert prints(tmp_path) == before
    memory.close()
    alone = prints(tmp_path)
    with make(frozen=True) as frozen:
        assert frozen.retrieve("efc", "0") == [entry]
    assert {name: alone[name] for name in ("memory.db", "then.db")} == {
        name: prints(tmp_path)[name] for name in ("memory.db", "then.db")
    }


def test_a_frozen_memory_sees_what_others_write(make) -> None:
    memory, frozen = make(floor=-1.0), make(frozen=True, floor=-1.0)
    assert frozen.retrieve("efc", "0") == []
    memory.evolve(1, [LESSON])
    (entry,) = frozen.retrieve("efc", "0")
    memory.evolve(2, [Observation(agent="efc", query="0", rewards=(1.0,), used=(entry.id,))])
    assert frozen.retrieve("efc", "0")[0].uses == 1


def test_a_snapshot_is_one_plain_file(make, tmp_path) -> None:
    memory = make()
    memory.evolve(1, [LESSON])
    (tmp_path / "checkpoint").mkdir()
    memory.snapshot(tmp_path / "checkpoint" / "memory.db")
    memory.evolve(2, [LESSON])
    memory.snapshot(tmp_path / "checkpoint" / "memory.db")  # an older one is replaced
    with make(file="checkpoint/memory.db", frozen=True) as frozen:
        assert frozen.step == 2
        assert frozen.entries() == memory.entries()
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["memory.db"]
    with sqlite3.connect(tmp_path / "checkpoint" / "memory.db") as ordinary:
        assert ordinary.execute("SELECT agent, key, strategy FROM entries").fetchall() == [("efc", "0", "look first")]
        assert ordinary.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    ordinary.close()


def test_the_file_is_in_wal_mode_and_a_restore_leaves_it_so(make, tmp_path) -> None:
    memory, other = make(), make()
    memory.snapshot(tmp_path / "empty.db")
    memory.evolve(1, [LESSON])
    assert len(other.retrieve("efc", "0")) == 1
    memory.restore(tmp_path / "empty.db")
    assert (memory.entries(), memory.step) == ([], None)
    assert memory.retrieve("efc", "0") == []
    assert other.retrieve("efc", "0") == []  # another connection sees it as any other commit
    assert memory.store.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    memory.evolve(1, [LESSON])
    assert len(other.retrieve("efc", "0")) == 1


def test_ids_survive_deletion(make, put) -> None:
    memory = make()
    first = put(memory, "efc", "0")
    with memory.store.write() as db:
        db.execute("DELETE FROM entries")
    assert memory.store.db.execute("SELECT count(*) FROM key_embeddings").fetchone() == (0,)
    assert put(memory, "efc", "0") == first + 1


def test_files_that_are_refused(make, tmp_path) -> None:
    (tmp_path / "text.db").write_text("not a database, whatever its name says " * 100)
    with pytest.raises(ValueError, match=r"path: expected a memory's file, got .*text\.db \(file is not a database\)"):
        make(file="text.db")
    with sqlite3.connect(tmp_path / "foreign.db") as foreign:
        foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    for frozen in (False, True):
        with pytest.raises(ValueError, match=r"path: expected a memory's file, got the database .*foreign\.db"):
            make(file="foreign.db", frozen=frozen)
    memory = make()
    memory.store.db.execute("PRAGMA user_version = 7")
    with pytest.raises(ValueError, match=r"path: expected version 1 of a memory's file, got version 7"):
        make()
    memory.store.db.execute("PRAGMA user_version = 1")
    with pytest.raises(ValueError, match=r"embedder: expected 'angles' of dimension 2, which made .*, got \('hash-256', 256\)"):
        Memory(tmp_path / "memory.db", HashingEmbedder())
    Memory(tmp_path / "hashed.db", HashingEmbedder()).close()
    with pytest.raises(ValueError, match=r"embedder: expected 'hash-256' of dimension 256"):
        memory.restore(tmp_path / "hashed.db")


def test_files_that_are_not_there(make, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path: expected an existing memory, got .*absent\.db"):
        make(file="absent.db", frozen=True)
    with pytest.raises(FileNotFoundError, match="expected an existing memory"):
        Store(tmp_path / "absent.db")
    with pytest.raises(FileNotFoundError, match="expected an existing memory"):
        make().restore(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()
    assert make(file="new/folder/memory.db").entries() == []
