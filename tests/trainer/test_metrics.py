"""Metrics: a line an event, nothing twice after a resume, nothing that JSON can't say."""

import json
import math
from pathlib import Path

import pytest

from trainer.metrics import Metrics, read_metrics


def test_lines_and_boards(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.log("sft", 1, {"learner/loss": 2.0})
    metrics.log("train", 1, {"rollout/reward": 0.5, "learner/loss": math.nan, "x": math.inf}, errors=["no"])
    metrics.log("eval", 1, {"qa/accuracy": 0.25}, name="final")
    metrics.episode(1, {"query": "几点？", "turns": []})
    metrics.close()
    sft, train, final = read_metrics(tmp_path)
    assert (sft["kind"], sft["step"], sft["learner/loss"]) == ("sft", 1, 2.0)
    assert (train["rollout/reward"], train["learner/loss"], train["x"], train["errors"]) == (0.5, None, None, ["no"])
    assert 0 <= sft["time"] <= train["time"] <= final["time"] < 60
    assert read_metrics(tmp_path, "eval") == [final]
    assert json.loads((tmp_path / "samples.jsonl").read_text()) == {"step": 1, "query": "几点？", "turns": []}
    assert "几点" in (tmp_path / "samples.jsonl").read_text()
    assert {path.name for path in (tmp_path / "tensorboard").iterdir()} == {"sft", "train", "eval"}


def test_what_comes_after_the_checkpoint_is_dropped(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    for step in range(1, 5):
        metrics.log("sft", step, {"a": step})
        metrics.log("train", step, {"a": step})
        metrics.episode(step, {"query": str(step)})
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 5, "a"')  # a kill in the middle of a write
    ends = {"sft": 9, "train": 2}
    again = Metrics(tmp_path, elapsed=100.0, keep=lambda kind, step: step <= ends[kind])
    again.log("train", 3, {"a": 33})
    again.close()
    assert [line["step"] for line in read_metrics(tmp_path, "sft")] == [1, 2, 3, 4]
    assert [line["a"] for line in read_metrics(tmp_path, "train")] == [1, 2, 33]
    assert 100 <= read_metrics(tmp_path)[-1]["time"] < 160
    assert [json.loads(line)["step"] for line in (tmp_path / "samples.jsonl").read_text().splitlines()] == [1, 2]


def test_tensorboard_shows_each_step_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = Metrics(tmp_path)
    for step in range(1, 5):
        metrics.log("train", step, {"a": step})
    metrics.close()
    again = Metrics(tmp_path, keep=lambda kind, step: step <= 2)
    again.log("train", 3, {"a": 33})
    again.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(1, 1.0), (2, 2.0), (3, 33.0)]


def test_a_whole_line_without_its_end_stays(tmp_path: Path) -> None:
    """A kill can come between a line and its newline: neither this line nor the next is lost."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{"kind": "train", "step": 2}')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    metrics = Metrics(tmp_path, keep=lambda kind, step: True)
    metrics.log("train", 3, {"a": 3})
    metrics.close()
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("5", r"expected step, got a line without step"),
        ("null", r"expected step, got a line without step"),
        ('{"kind": "train"}', r"expected step, got a line without step"),
        ('{"kind": "train", "step": "2"}', r"expected step to be a whole number, got '2'"),
        ('{"kind": "cook", "step": 2}', r"expected kind sft, train, eval, got 'cook'"),
        ('{"kind": "train", "st\x00p', r"expected a JSON object, got an error: .*column 22.*"),
        ('{"kind": "train", "step": 2, "text": "\udcff"}', r"expected UTF-8, got other bytes"),
    ],
)
def test_damaged_lines_are_named_and_kept_aside(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "metrics.jsonl"
    damaged = (text + "\n").encode("utf-8", "surrogateescape")
    path.write_bytes(b'{"kind": "train", "step": 1}\n' + damaged + b'{"kind": "train", "step": 3}\n')
    with pytest.warns(UserWarning, match=rf"metrics.jsonl:2: {reason}; 1 such lines are now in .*metrics.jsonl.damaged"):
        Metrics(tmp_path, keep=lambda kind, step: True)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 3]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damaged


def test_reading_names_the_damaged_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 1}\n\nnull\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:3: expected kind, step, got a line without kind"):
        read_metrics(tmp_path)
