"""The dataset: bytes from a seed, counts as planned, no leak, and every bad line named."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.agents import hima_ecom_agents
from trainer.hima_ecom.dataset import InvalidDatasetError, read_samples, read_tasks, validate, write_dataset
from trainer.hima_ecom.dataset.write import Plan
from trainer.hima_ecom.strategies import Step, lessons
from trainer.lock import FolderLock
from trainer.prompts import first_message, system_prompt
from trainer.react import Action, Answer, Malformed, parse


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "hima"
    write_dataset(out, seed=7, size=600, world_size="full")
    return out


def test_the_papers_size() -> None:
    assert Plan.of(22_800) == (20_000, 17_700, 2_300, 500)
    with pytest.raises(ValueError, match="at least 100, got 3"):
        Plan.of(3)


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", seed=7, size=600, world_size="full")
    for name in ("sft.jsonl", "train.jsonl", "test.jsonl", "datasheet.json", "README.md", "store.sqlite"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_counts_are_the_plans(folder: Path) -> None:
    plan = Plan.of(600)
    samples, train, test = (
        read_samples(folder / "sft.jsonl"),
        read_tasks(folder / "train.jsonl"),
        read_tasks(folder / "test.jsonl"),
    )
    assert (len(samples), len(train), len(test)) == (plan.sft, plan.train, plan.test)
    assert sum(bool(sample.memory) for sample in samples) == plan.with_memory
    sheet = json.loads((folder / "datasheet.json").read_text())
    assert sheet["instances"] == 600
    assert sum(sheet["sft"]["agent"].values()) == plan.sft


def test_no_query_is_in_two_files(folder: Path) -> None:
    train = {task.query for task in read_tasks(folder / "train.jsonl")}
    test = {task.query for task in read_tasks(folder / "test.jsonl")}
    asked = {
        sample.messages[0]["content"].split("Task: ", 1)[1]
        for sample in read_samples(folder / "sft.jsonl")
        if sample.agent == "master"
    }
    assert not train & test
    assert not (train | asked) & test
    assert not train & asked


def test_samples_are_whole_contexts(folder: Path) -> None:
    agents = hima_ecom_agents()
    for sample in read_samples(folder / "sft.jsonl"):
        assert sample.agent in agents
        assert system_prompt(agents[sample.agent])
        assert sample.messages[0]["role"] == "user"
        assert sample.messages[-1]["role"] == "assistant"
        assert all(text in sample.messages[0]["content"] for text in sample.memory)
        for message in sample.messages:
            assert message["role"] != "assistant" or not isinstance(parse(message["content"]), Malformed)


def test_no_two_samples_differ_in_their_memory_alone(folder: Path) -> None:
    samples = read_samples(folder / "sft.jsonl")
    assert len({sample.told for sample in samples}) == len(samples)
    one = next(sample for sample in samples if sample.memory)
    other = first_message(one.messages[0]["content"].partition("Task: ")[2], ["Be quick."])
    messages = ({"role": "user", "content": other}, *one.messages[1:])
    assert replace(one, memory=("Be quick.",), messages=messages).told == one.told


def test_memory_is_what_earlier_episodes_taught(folder: Path) -> None:
    """Of the family mostly, of this agent always, and in many words."""
    samples = [sample for sample in read_samples(folder / "sft.jsonl") if sample.memory]
    texts = {text for sample in samples for text in sample.memory}
    assert len(texts) > 0.6 * len(samples), (len(texts), len(samples))  # 54 texts for all would be 0.1 of these
    assert all(1 <= len(sample.memory) <= 3 for sample in samples)
    own = {agent.name: agent.tool_names for agent in hima_ecom_agents().values()}
    for sample in samples:
        foreign = {name for names in own.values() for name in names - own[sample.agent] if "_" in name}
        assert not {word.strip(".,:;()") for text in sample.memory for word in text.split()} & foreign, sample.memory
    numbers = re.compile(r"\b[OPCAM]\d{3,}|\d{4}-\d\d-\d\d|\d+\.\d")
    assert not [text for text in texts if numbers.search(text)]  # no value of an episode


def test_lessons_are_read_off_an_episode() -> None:
    steps = [
        Step(Action("get_order", {"order_id": "O00012"}), '{"items":[{"item_id":"O00012-1"}],"total":"12.50"}'),
        Step(Action("return_items", {"order_id": "O00012", "item_ids": ["O00012-1"]}), '{"refund":"12.50"}'),
        Step(Answer("The refund is 12.50 USD."), ""),
    ]
    found = lessons("returning an item", "Return the mug of O00012.", steps)
    said = [wordings[0].format(**facts) for wordings, facts in found]
    assert said == [
        "For returning an item: get_order, then return_items.",
        "Begin with get_order when the question is about returning an item.",
        "For returning an item the last of 2 calls is return_items; then answer at once.",
        "For returning an item, get_order needs order_id.",
        "The order_id that get_order wants is in the task when it is about returning an item.",
        "For returning an item, return_items needs order_id and item_ids.",
        "The order_id that return_items wants is in the task when it is about returning an item.",
        "Take item_ids of return_items from what get_order returned (returning an item).",
        "The answer about returning an item is the field refund of return_items.",
        "Say the unit with the number: USD for returning an item.",
    ]
    refused = [Step(Action("get_order", {"order_id": "O1"}), '{"error":"no"}'), Step(Answer("No."), "")]
    assert any("refuses" in wordings[0] for wordings, _ in lessons("x", "O1", refused))


def test_our_files_are_valid(folder: Path) -> None:
    for name in ("sft", "train", "test"):
        assert list(validate(folder / f"{name}.jsonl")) == []


def test_plain_pairs_are_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "test_real.jsonl"
    path.write_text(
        '{"query": "How long is it?", "final_response": "36 months"}\n\n{"query": "多久？", "final_response": "三年"}\n'
    )
    one, two = read_tasks(path)
    assert (one.split, one.language, two.language, one.checker) == ("test", "en", "zh", {"kind": "text", "value": "36 months"})
    assert one.id != two.id


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    good = {"id": "a", "query": "q", "final_response": "r"}
    lines = [
        json.dumps(good),
        "{",
        "[1]",
        json.dumps(good),
        json.dumps({"query": "q"}),
        json.dumps(good | {"id": "b", "column": "art", "difficulty": 9}),
        json.dumps(good | {"id": "c", "checker": {"kind": "judge"}, "trajectory": [{"agent": "qa", "text": "hm"}]}),
        json.dumps({"id": "d", "agent": "cook", "messages": []}),
        json.dumps({"id": "e", "agent": "qa", "messages": [{"role": "assistant", "content": "hm"}], "memory": "x"}),
        '{"id": "f", "query": "\\ud800", "final_response": "r"}',
    ]
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines) + "\n")
    found = [(problem.line, problem.reason) for problem in validate(path)]
    expected = [
        (2, "not JSON"),
        (3, "expected a JSON object, got a list"),
        (4, "id: 'a' is that of line 1 already"),
        (5, "missing: final_response"),
        (6, "column: expected one of cooperation"),
        (6, "difficulty: expected an integer from 1 to 3, got 9"),
        (7, "checker: expected an object whose kind"),
        (7, "trajectory[0].text: "),
        (8, "agent: expected one of master"),
        (8, "messages: expected a list of at least one message"),
        (9, "memory: expected a list of texts"),
        (9, "messages[0].content: "),
        (10, "expected valid Unicode"),
    ]
    assert [line for line, _ in found] == [line for line, _ in expected], found
    for (_, reason), (_, begin) in zip(found, expected, strict=True):
        assert reason.startswith(begin), reason
    with pytest.raises(InvalidDatasetError, match=r"13 problems: line 2: not JSON"):
        read_tasks(path)


def test_a_folder_with_files_is_refused_and_a_failed_run_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(FileExistsError, match="expected a new or an empty folder"):
        write_dataset(tmp_path / "full", size=100)
    monkeypatch.setattr("trainer.hima_ecom.dataset.write.datasheet", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_dataset(tmp_path / "new", size=100, world_size="full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_what_a_killed_run_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    """Nor what no run has locked: it may be anybody's."""
    code = "import os, signal, sys, trainer.hima_ecom.dataset.write as w\n"
    code += "w._write = lambda folder, *_: ((folder / 'sft.jsonl').touch(), os.kill(os.getpid(), signal.SIGKILL))\n"
    code += "w.write_dataset(sys.argv[1], size=100)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "new")], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert sorted(path.name for path in left.iterdir()) == [".lock", "sft.jsonl"]
    alive, strange, other = (tmp_path / f"{name}.unfinished" for name in ("new.1", "new.2", "old.1"))
    for path in (alive, strange, other):
        path.mkdir()
    with FolderLock(alive):
        shutil.copy(left / ".lock", other)
        write_dataset(tmp_path / "new", size=100)
        assert {path.name for path in tmp_path.iterdir()} == {"new", alive.name, strange.name, other.name}
    assert not (tmp_path / "new" / ".lock").exists()
