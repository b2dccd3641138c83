"""What the processes of test_memory_processes.py do; `python lives.py FILE ROUNDS` is a life that ends ROUNDS times.

Each round a child goes on with the memory from the step it finds in the file. Every other child kills itself inside the
update, each at another statement; the others are killed from outside, at whatever instant that is. After
each death one JSON line says which step the child had last finished, what the file holds, and whether it is sound.
"""

import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import time

from trainer.memory import HashingEmbedder, Memory, MemoryConfig, Observation

CONFIG = MemoryConfig(min_window=8, window=64, capacity=12, half_life=6, min_weight=0.0)


def observations(memory: Memory, step: int) -> list[Observation]:
    """Some groups that depend on nothing but the step and what the memory holds."""
    draw = random.Random(step)
    found = []
    for i in range(6):
        agent, query = (
            draw.choice(["efc", "qa"]),
            f"{draw.choice(['cancel', 'return', 'refund'])} {draw.choice('abcdefgh') * 4}",
        )
        used = tuple(entry.id for entry in memory.retrieve(agent, query))
        rewards = tuple(draw.choice([0.0, 1.0, 2.0]) for _ in range(4))
        found.append(
            Observation(agent=agent, query=query, rewards=rewards, used=used, strategy=f"s{step}.{i}", episode=f"e{step}.{i}")
        )
    return found


def digest(memory: Memory) -> str:
    """Of everything in the file."""
    tables = [memory.store.db.execute(f"SELECT * FROM {name}").fetchall() for name in ("entries", "key_embeddings", "rewards")]
    return hashlib.sha256(repr(tables).encode()).hexdigest()


def live(path: str, done: int, statement: int) -> None:
    """Goes on until death; writes a byte to `done` after each step. With `statement`, the third step is the last."""
    memory = Memory(path, HashingEmbedder(), config=CONFIG)
    step = -1 if memory.step is None else memory.step
    for count in range(1, 10_000):
        groups = observations(memory, step + count)
        if statement and count == 3:
            kill_within_transaction(memory.store.db, statement)
        memory.evolve(step + count, groups)
        os.write(done, b".")


def kill_within_transaction(db: sqlite3.Connection, statement: int) -> None:
    """SIGKILL a few instructions into the transaction's statement of that number, which may be its COMMIT."""
    seen = 0

    def die() -> int:
        return os.kill(os.getpid(), signal.SIGKILL) if db.in_transaction else 0

    def count(_: str) -> None:
        nonlocal seen
        seen += db.in_transaction
        if seen == statement:
            db.set_progress_handler(die, 1 + statement % 7)

    db.set_trace_callback(count)


def main(path: str, rounds: int) -> None:
    draw = random.Random(0)
    last = -1
    for turn in range(rounds):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            live(path, writer, 1 + 2 * turn if turn % 2 else 0)
        os.close(writer)
        finished = 0
        if turn % 2 == 0:
            finished += len(os.read(reader, 1))
            time.sleep(draw.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
        while chunk := os.read(reader, 4096):
            finished += len(chunk)
        os.close(reader)
        _, status = os.waitpid(child, 0)
        with Memory(path, HashingEmbedder(), config=CONFIG) as memory:
            sound = memory.store.db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            sound = sound and memory.store.db.execute("PRAGMA foreign_key_check").fetchall() == []
            record = {"finished": last + finished, "step": memory.step, "digest": digest(memory), "sound": sound}
            last = memory.step
        print(json.dumps({**record, "signal": os.WTERMSIG(status), "inside": turn % 2 == 1}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
