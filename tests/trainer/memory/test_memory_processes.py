"""A memory's file among processes: killed at any instant, shared by two."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.memory import HashingEmbedder, Memory
from trainer.memory.jsonl import import_entries

ROOT = Path(__file__).resolve().parents[3]
LIVES = Path(__file__).with_name("lives.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def lives():
    spec = importlib.util.spec_from_file_location("lives", LIVES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 is tested where processes fork")
def test_fifty_kills_lose_at_most_the_step_in_flight(lives, tmp_path) -> None:
    """After each kill the file is sound and holds exactly what an undisturbed life holds after the same step."""
    command = [sys.executable, str(LIVES), str(tmp_path / "killed.db"), "50"]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    deaths = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(deaths) == 50
    undisturbed = {}
    with Memory(tmp_path / "undisturbed.db", HashingEmbedder(), config=lives.CONFIG) as memory:
        for step in range(deaths[-1]["step"] + 1):
            memory.evolve(step, lives.observations(memory, step))
            undisturbed[step] = lives.digest(memory)
        assert len(memory.entries()) > 10
        assert len(set(undisturbed.values())) == len(undisturbed)
    for death in deaths:
        assert death["signal"] == 9
        assert death["sound"]
        assert death["digest"] == undisturbed[death["step"]]
        # Killed inside a transaction: exactly that step is lost. From outside: the commit may be done, the word of it not out.
        assert death["step"] - death["finished"] in ((0,) if death["inside"] else (0, 1)), death
    assert sum(death["inside"] for death in deaths) == 25


SHARE = """
import sys
from trainer.memory import HashingEmbedder, Memory, MemoryConfig, Observation
memory = Memory(sys.argv[1], HashingEmbedder(), config=MemoryConfig(min_window=1))
print("ready", flush=True)
sys.stdin.readline()
for step in range(40):
    shared = memory.retrieve("efc", "cancel an order", 1)[0].id
    query = f"{sys.argv[2]} {'abcdefghij'[step % 10] * 5} {'klmnopqrst'[step // 10] * 5}"
    memory.evolve(step, [
        Observation(agent="efc", query="cancel an order", rewards=(1.0,), used=(shared,), episode=f"{sys.argv[2]} {step}"),
        Observation(agent="qa", query=query, rewards=(0.0, 2.0), strategy=query),
    ])
"""


def test_two_processes_share_one_file(tmp_path) -> None:
    """No update is lost, none is refused, and a third process that only reads sees them."""
    path = tmp_path / "shared.db"
    seed = '{"agent": "efc", "key": "cancel an order", "strategy": "look it up", "weight": 9}\n'
    (tmp_path / "seed.jsonl").write_text(seed)
    with Memory(path, HashingEmbedder()) as memory:
        import_entries(memory, tmp_path / "seed.jsonl")
    with Memory(path, HashingEmbedder(), frozen=True) as reader:
        assert reader.retrieve("efc", "cancel an order")[0].uses == 0
        runs = [
            subprocess.Popen(
                [sys.executable, "-c", SHARE, str(path), name],
                env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for name in ("this", "that")
        ]  # fmt: skip
        for run in runs:
            assert run.stdout.readline() == "ready\n", run.stderr.read()
        for run in runs:
            run.stdin.write("go\n")
            run.stdin.flush()
        for run in runs:
            _, errors = run.communicate(timeout=60)
            assert run.returncode == 0, errors
        assert reader.retrieve("efc", "cancel an order")[0].uses == 80
        keys = [entry.key for entry in reader.entries("qa")]
        assert len(keys) == len(set(keys)) == 80
        assert reader.store.db.execute("SELECT count(*) FROM rewards").fetchone() == (80 + 160,)
        assert reader.store.db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the six processes are forked")
def test_many_processes_make_one_file(tmp_path) -> None:
    """Whoever comes first makes it, the others wait and find it made. (The change to WAL mode does not wait by itself.)"""
    code = """
import os, sys
from trainer.memory import HashingEmbedder, Memory
for turn in range(10):
    children = []
    for i in range(6):
        children.append(os.fork())
        if children[-1] == 0:
            Memory(f"{sys.argv[1]}/{turn}.db", HashingEmbedder()).evolve(1, [])
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
