"""Export, import, and the commands that a reader types."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.memory import Entry, HashingEmbedder, Memory, MemoryConfig, Observation
from trainer.memory.command import add_parser, table
from trainer.memory.jsonl import export_entries, from_line, import_entries, read_entries, to_line

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
TEXTS = [
    "Cancel order O00001",
    "  two\nlines\tand \x00",
    "取消订单 O00001",
    'quotes " and \\',
    "'; DROP TABLE entries; --",
    "e\u0301 🎁",
]


@pytest.fixture
def full(tmp_path):
    """A memory with entries of two agents, some used."""
    with Memory(tmp_path / "full.db", HashingEmbedder()) as memory:
        lines = [json.dumps({"agent": "efc", "key": t, "strategy": t[::-1], "weight": i / 3}) for i, t in enumerate(TEXTS)]
        lines += [json.dumps({"agent": "qa", "key": t, "strategy": "s", "reward": 0.1, "step": 3}) for t in TEXTS[:2]]
        (tmp_path / "seed.jsonl").write_text("\n".join(lines) + "\n\n")
        assert import_entries(memory, tmp_path / "seed.jsonl") == 8
        used = tuple(entry.id for entry in memory.retrieve("efc", "Cancel order O00007"))
        memory.evolve(5, [Observation(agent="efc", query="q", rewards=(0.5, 1.2), used=used, episode="e5")])
        yield memory


def test_round_trip(full, tmp_path) -> None:
    """Every field of every entry, bit by bit, and the same file again."""
    assert export_entries(full.entries(), tmp_path / "out.jsonl") == 8
    with Memory(tmp_path / "copy.db", HashingEmbedder()) as copy:
        assert import_entries(copy, tmp_path / "out.jsonl") == 8
        assert [to_line(e) for e in copy.entries()] == [to_line(e) for e in full.entries()]
        export_entries(copy.entries(), tmp_path / "again.jsonl")
        assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()
        queries = ["cancel my order", "取消", "drop table"]
        assert [[e.key for e in es] for es in copy.retrieve_many(["efc"] * 3, queries)] == [
            [e.key for e in es] for es in full.retrieve_many(["efc"] * 3, queries)
        ]
        import_entries(copy, tmp_path / "out.jsonl")  # twice is once
        assert len(copy.entries()) == 8
    assert any(e.uses for e in full.entries())
    assert [e.key for e in full.entries("efc")] == TEXTS


def test_an_import_replaces_what_has_the_same_key(full, tmp_path) -> None:
    assert [e.strategy for e in full.retrieve("efc", TEXTS[0], 1)] == [TEXTS[0][::-1]]
    (tmp_path / "new.jsonl").write_text(json.dumps({"agent": "efc", "key": TEXTS[0], "strategy": "edited", "weight": 5}))
    import_entries(full, tmp_path / "new.jsonl")
    assert [e.strategy for e in full.retrieve("efc", TEXTS[0], 1)] == ["edited"]
    assert len(full.entries()) == 8


GOOD = {"agent": "efc", "key": "k", "strategy": "s"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: .*"),
        ("[1]", r"line 2: expected a JSON object of an entry, got \[1\]"),
        ("[" * 100_000, r"line 2: expected at most 64 levels of nesting"),
        ({"agent": "efc", "key": "k"}, r"line 2: strategy: expected a text, got no such field"),
        ({**GOOD, "wieght": 1}, r"line 2: wieght: expected one of agent, key, .*, got another field"),
        ({**GOOD, "id": 1}, r"line 2: id: expected one of"),
        ({**GOOD, "key": ""}, r"line 2: key: expected a text, got ''"),
        ({**GOOD, "key": "\ud800"}, r"line 2: key: expected text that UTF-8 can hold"),
        ({**GOOD, "agent": 5}, r"line 2: agent: expected a string, got 5"),
        ({**GOOD, "weight": "1"}, r"line 2: weight: expected a finite number, got '1'"),
        ({**GOOD, "weight": 10**400}, r"line 2: a number has more than 308 digits"),
        ({**GOOD, "weight": None}, r"line 2: weight: expected a finite number, got None"),
        ({**GOOD, "reward": float("nan")}, r"line 2: NaN is no JSON"),
        ({**GOOD, "uses": -1}, r"line 2: uses: expected an int >= 0, got -1"),
        ({**GOOD, "step": True}, r"line 2: step: expected an int >= 0, got True"),
        ({**GOOD, "last_use": 2**63}, r"line 2: last_use: expected an int >= 0, got 9223372036854775808"),
        ('{"agent": "a", "agent": "b", "key": "k", "strategy": "s"}', r"line 2: a key occurs twice"),
    ],
)
def test_lines_that_are_refused(full, tmp_path, line, message) -> None:
    """With the number of the line; and nothing of the file is taken, not even what was good."""
    before = full.entries()
    text = line if isinstance(line, str) else json.dumps(line)
    (tmp_path / "bad.jsonl").write_text(json.dumps({**GOOD, "key": "new"}) + "\n" + text + "\n")
    with pytest.raises(ValueError, match=r"bad\.jsonl, " + message):
        import_entries(full, tmp_path / "bad.jsonl")
    assert full.entries() == before


def test_more_than_fits_is_refused(full, tmp_path) -> None:
    with Memory(tmp_path / "small.db", HashingEmbedder(), config=MemoryConfig(capacity=5)) as small:
        with pytest.raises(ValueError, match=r"seed\.jsonl: expected at most 5 entries of 'efc', got 6"):
            import_entries(small, tmp_path / "seed.jsonl")
        assert small.entries() == []


def test_a_line_of_an_entry() -> None:
    entry = from_line(json.dumps(GOOD))
    assert (entry.weight, entry.reward, entry.uses, entry.last_use, entry.episode, entry.step) == (1.0, None, 0, None, "", 0)
    assert from_line(to_line(entry)) == entry


def hima(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="hima")
    add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["memory", *map(str, words)])
    return args.run(args)


def test_show(full, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert hima("show", tmp_path / "full.db") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "agent", "weight", "reward", "uses", "last", "use", "taught", "by", "key", "strategy"]
    assert len(lines) == 1 + 8 + 1
    assert lines[-1] == "8 of 8 entries; step 5; embedder hash-256"
    weights = [float(line.split()[2]) for line in lines[1:-1]]
    assert weights == sorted(weights, reverse=True)
    assert all(len(line) <= 100 for line in lines)


def test_columns_of_a_table() -> None:
    """A wide character takes two columns and a combining one none, so the strategies are aligned; long texts are cut."""
    keys = ["取消订单", "12345678", "e\u0301" * 8]
    entries = [Entry(i, "efc", key, "STRATEGY " + "long " * 30) for i, key in enumerate(keys)]
    heading, *lines = table(entries, 100).splitlines()
    start = heading.index("strategy")
    assert [line.index("STRATEGY") for line in lines] == [start - 4, start, start + 8]
    assert [len(line) for line in lines] == [100 - 4, 100, 100 + 8]
    assert all(line.endswith("…") for line in lines)
    assert table(entries, None).splitlines()[2].endswith("long " * 29 + "long")


def test_show_of_one_agent(full, tmp_path, capsys) -> None:
    assert hima("show", tmp_path / "full.db", "--agent", "qa", "--limit", 1, "--sort", "id", "--full") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["7", "qa", "+1.000", "0.100", "0", "-", "-", "@3", *TEXTS[0].split(), "s"]
    assert lines[2] == "1 of 2 entries of qa; step 5; embedder hash-256"


def test_export_and_import(full, tmp_path, capsys) -> None:
    assert hima("export", tmp_path / "full.db") == 0
    assert capsys.readouterr().out == "".join(to_line(entry) + "\n" for entry in full.entries())
    assert hima("export", tmp_path / "full.db", tmp_path / "qa.jsonl", "--agent", "qa") == 0
    assert [entry.key for entry in read_entries(tmp_path / "qa.jsonl")] == TEXTS[:2]
    assert hima("import", tmp_path / "new.db", tmp_path / "qa.jsonl", "--embedder", "hash-64") == 0
    assert hima("import", tmp_path / "new.db", tmp_path / "qa.jsonl") == 0  # the file's own embedder
    assert capsys.readouterr().out.endswith("new.db now holds 2\n")
    with Memory(tmp_path / "new.db", HashingEmbedder(64)) as memory:
        assert len(memory.entries("qa")) == 2


def test_reading_needs_no_library(full, tmp_path) -> None:
    """A fresh process shows a memory without torch, search or a model; only retrieval asks for the search library."""
    code = f"""
import argparse, sys
sys.modules["usearch"] = None
from trainer.memory import HashingEmbedder, Memory
from trainer.memory.command import add_parser
parser = argparse.ArgumentParser()
add_parser(parser.add_subparsers())
args = parser.parse_args(["memory", "show", {str(tmp_path / "full.db")!r}])
assert args.run(args) == 0
assert not {{"torch", "sentence_transformers", "transformers"}} & set(sys.modules)
try:
    Memory({str(tmp_path / "full.db")!r}, HashingEmbedder()).retrieve("efc", "cancel")
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("retrieval from memory needs usearch: pip install 'himakernels[memory]'\n")


def test_commands_on_what_is_not_there(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="expected an existing memory"):
        hima("show", tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()
