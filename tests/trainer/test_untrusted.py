"""A run's folder that somebody else made: its code never runs, and what is odd in it is one line with the file's name."""

import ast
import io
import json
import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import config, trainer

from trainer.checksums import SUMS, seal
from trainer.cli import main
from trainer.policies.transformers import TransformersPolicy

ROOT = Path(__file__).resolve().parents[2]
EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nraise SystemExit('it ran')\n"
CODE = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrusted") / "run"
    trainer(folder, "max_steps=1", "data.test_tasks=0").train()
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def sealed(folder: Path) -> None:
    """With checksums that fit, as whoever makes a folder can make them too."""
    for path in folder.rglob(SUMS):
        path.unlink()
    seal(folder)


def change(path: Path, with_what: Callable[[Any], Any]) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps(with_what(found) or found))


def one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    shown = [line for line in capsys.readouterr().err.strip().split("\n") if line.startswith("hima: ")]
    assert len(shown) == 1
    return shown[0]


PLACES = {
    "model": ("base-0", "config.json", lambda found: found.update(model_type="evil", auto_map=CODE)),
    "tokenizer": ("tokenizer", "tokenizer_config.json", lambda found: found.update(tokenizer_class="Evil", auto_map=CODE)),
    "tokenizer's configuration": ("tokenizer", "config.json", None),
}


@pytest.mark.parametrize("place", PLACES)
def test_its_code_never_runs(
    place: str, copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when the first query is what transformers' question wants to hear."""
    name, file, with_what = PLACES[place]
    folder = copy / "final" / "policies" / name
    (folder / "evil.py").write_text(EVIL)
    if with_what is None:
        (folder / file).write_text(json.dumps({"model_type": "evil", "auto_map": CODE}))
        change(folder / "tokenizer_config.json", lambda found: found.update(tokenizer_class="Evil"))
    else:
        change(folder / file, with_what)
    sealed(copy / "final")
    queries = io.StringIO("y\nyes\n")
    monkeypatch.setattr("sys.stdin", queries)
    code = main(["generate", str(copy)])
    shown = capsys.readouterr()
    assert code in (0, 2)  # 0: transformers has code of its own for it
    assert code == 0 or f"hima: {folder}: expected a model or a tokenizer of transformers" in shown.err
    assert "run the custom code? [y/N]" not in shown.out
    assert ("query: y" in shown.out) == (code == 0)
    assert not list(copy.rglob("ran"))
    assert place != "model" or code == 2


def test_a_model_that_is_evaluated(copy: Path) -> None:
    folder = copy / "sft" / "base"
    (folder / "evil.py").write_text(EVIL)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(EVIL)
    TransformersPolicy(str(folder))
    change(folder / "config.json", lambda found: found.update(model_type="evil", auto_map=CODE))
    sealed(folder)
    with pytest.raises(ValueError, match=rf"{folder}: expected a model or a tokenizer of transformers, got ValueError"):
        TransformersPolicy(str(folder))
    assert not list(copy.rglob("ran"))


def test_one_file_asks_transformers() -> None:
    """So that none forgets to refuse."""
    found = []
    for path in sorted((ROOT / "trainer").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained":
                said = [key.value for key in node.keywords if key.arg == "trust_remote_code"]
                refuses = len(said) == 1 and isinstance(said[0], ast.Constant) and said[0].value is False
                found.append((path.name, ast.unparse(node.func.value), refuses))
    assert set(found) == {("pretrained.py", "kind", True), ("transformers.py", "PeftModel", False)}  # PEFT asks for no code


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


STATES = {
    "a pickle": ("learner.pt", lambda path: path.write_bytes(pickle.dumps(Evil())), "expected tensors that a run saved, got"),
    "tensors with code": ("learner.pt", lambda path: torch.save({"step": Evil()}, path), "expected tensors that a run saved"),
    "another learner": ("learner.pt", lambda path: torch.save({"step": 1}, path), "expected the state of this run's learner"),
    "no dict": ("learner.pt", lambda path: torch.save([1], path), "expected the state of this run's learner, got TypeError"),
    "no cursor": ("state.json", lambda path: change(path, lambda f: f.pop("cursor") and None), "expected cursor to be a whole"),
    "a text as cursor": ("state.json", lambda path: change(path, lambda f: f.update(cursor="8")), "a whole number, got '8'"),
    "no generators": ("state.json", lambda path: change(path, lambda f: f.update(random={})), "expected the states of random"),
    "no policies": (
        "policies/policies.json",
        lambda path: path.write_text("{}"),
        "expected what Policies.save writes, got",
    ),
    "an unknown key": (
        "policies/policies.json",
        lambda path: change(path, lambda f: f["config"].update(lora_rnk=3)),
        "lora_rnk: no such key; did you mean lora_rank?",
    ),
    "agents that are none": ("policies/policies.json", lambda path: change(path, lambda f: f.update(agents=3)), "got 3"),
    "a version that is none": (
        "policies/policies.json",
        lambda path: change(path, lambda f: f["versions"].update(qa="1")),
        "versions: expected whole numbers by policy, got",
    ),
    "no adapter": (
        "policies/qa/adapter_model.safetensors",
        lambda path: path.write_bytes(b"1234"),
        "the weights of an adapter",
    ),
    "a list": (
        "policies/qa/adapter_config.json",
        lambda path: path.write_text("[1]"),
        "expected the configuration of an adapter",
    ),
    "an empty memory": ("memory.sqlite", lambda path: path.write_bytes(b""), "of 0 bytes (as a full disk leaves one)"),
    "a text in the memory": ("memory.sqlite", lambda path: sql(path, "UPDATE entries SET weight = 'heavy'"), "entries: 1"),
    "a table less": ("memory.sqlite", lambda path: sql(path, "DROP TABLE rewards"), "no such table: rewards"),
}


def sql(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(
            "INSERT INTO entries (agent, key, strategy, weight, uses, episode, step) VALUES ('qa', 'zz', 'zz', 1.0, 0, '', 1)"
        )
        db.execute("UPDATE entries SET id = -id")
        db.execute("UPDATE entries SET id = 1 WHERE id = (SELECT min(id) FROM entries)")
        db.execute("DELETE FROM entries WHERE id != 1")
        db.execute("DELETE FROM key_embeddings")
        db.execute("INSERT INTO key_embeddings VALUES (1, ?)", (bytes(4 * 256),))
        db.execute(statement)
    db.close()


@pytest.mark.parametrize("kind", STATES)
def test_what_is_odd_is_one_line(
    kind: str, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume says so before it changes anything; checksums fit, as nothing was damaged."""
    monkeypatch.chdir(tmp_path)
    name, make, message = STATES[kind]
    checkpoint = copy / "checkpoints" / "step-1"
    make(checkpoint / name)
    sealed(checkpoint)
    before = (copy / "metrics.jsonl").read_bytes()
    config(copy, "max_steps=2", "data.test_tasks=0").save(tmp_path / "run.yaml")
    shown = one_line(["train", str(tmp_path / "run.yaml"), "--resume"], capsys)
    assert f"{checkpoint / name}" in shown
    assert message in shown
    assert (copy / "metrics.jsonl").read_bytes() == before
    assert not (tmp_path / "ran").exists()
