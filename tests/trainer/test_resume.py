"""A run that was cut off, wherever, ends as one that never was: the same weights, memory and metrics, to the last bit."""

from pathlib import Path
from typing import Any

import pytest
from tiny_run import KILL, TERM, files, interrupted, lines, memory, trainer

from trainer.metrics import read_metrics


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from end to end."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = trainer(folder).train()
    assert (result.global_step, result.stopped) == (3, None)
    return folder


def same(folder: Path, whole: Path) -> None:
    assert files(folder / "sft") == files(whole / "sft")
    assert files(folder / "final") == files(whole / "final")
    assert len(files(folder / "final")) == 6  # five adapters and their base
    assert memory(folder / "memory.sqlite") == memory(whole / "memory.sqlite")
    assert lines(folder) == lines(whole)
    assert (folder / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()


def test_the_run_that_the_others_are_compared_with_learns(whole: Path) -> None:
    train = read_metrics(whole, "train")
    assert [line["step"] for line in train] == [1, 2, 3]
    assert all(line["updated/master"] == 1 and line["learner/grad_norm/master"] > 0 for line in train)
    assert [(line["name"], line["step"]) for line in read_metrics(whole, "eval")] == [("sft", 0), ("step-2", 2), ("final", 3)]
    start, final = files(whole / "sft" / "policies"), files(whole / "final" / "policies")
    assert start.keys() == final.keys()
    assert {name for name in start if start[name] != final[name]} >= {"master/adapter_model.safetensors"}
    assert start["base-0/model.safetensors"] == final["base-0/model.safetensors"]


# Where the process dies: module, object, function, which call of it, and whether before or after what that does.
PLACES: dict[str, tuple[str, str, str, int, bool]] = {
    "sft": ("trainer.learner", "Learner", "sft_step", 4, False),
    "rollout": ("trainer.play", "Table", "collect", 6, False),
    "update": ("trainer.optim", "Optimizer", "step", 6, True),
    "memory": ("trainer.memory.evolution", "", "evolve", 2, True),
    "checkpoint": ("trainer.checkpoint", "", "_sync", 45, False),
    "evaluation": ("trainer.train", "", "evaluate", 2, False),
}


@pytest.mark.parametrize("place", PLACES)
def test_killed(place: str, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert interrupted(PLACES[place], KILL, folder, "sft.save_steps=2") == -KILL
    result = trainer(folder, "sft.save_steps=2").train(resume_from_checkpoint=True)
    assert (result.global_step, result.stopped) == (3, None)
    same(folder, whole)


@pytest.mark.parametrize("place", ["sft", "rollout", "update"])
def test_asked_to_stop(place: str, whole: Path, tmp_path: Path) -> None:
    """It leaves a checkpoint of where it was, even where none was due, and says so by its result."""
    folder = tmp_path / "run"
    options = ("save_steps=null", "sft.save_steps=null")
    assert interrupted(PLACES[place], TERM, folder, *options) == 0
    assert not (folder / "final").exists()
    where = folder / "sft" / "checkpoints" if place == "sft" else folder / "checkpoints"
    assert [path.name[:5] for path in where.iterdir()] == ["step-"]
    trainer(folder, *options).train(resume_from_checkpoint=True)
    same(folder, whole)


def test_a_finished_run_is_left_alone_and_a_longer_one_goes_on(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer(folder, "max_steps=2").train()
    before: list[Any] = [files(folder), (folder / "metrics.jsonl").read_text()]
    assert trainer(folder, "max_steps=2").train(resume_from_checkpoint=True).global_step == 2
    assert [files(folder), (folder / "metrics.jsonl").read_text()] == before
    last = folder / "checkpoints" / "step-2"
    with pytest.raises(
        ValueError, match=rf"resume_from_checkpoint: expected True or the last checkpoint, {last}, got .*step-1"
    ):
        trainer(folder, "max_steps=3").train(resume_from_checkpoint=str(last.with_name("step-1")))
    trainer(folder, "max_steps=3").train(resume_from_checkpoint=str(last))
    assert files(folder / "final") == files(whole / "final")
    assert [line["name"] for line in read_metrics(folder, "eval")] == ["sft", "step-2", "final"]


@pytest.mark.parametrize("paradigm", ["full", "shared"])
def test_other_paradigms_and_a_reference(paradigm: str, tmp_path: Path) -> None:
    """With the KL term: what the reference is survives the end of a process."""
    options = (f"model.paradigm={paradigm}", "learner.kl_coef=0.1", "eval_steps=null", "max_steps=2", "data.test_tasks=0")
    trainer(tmp_path / "whole", *options).train()
    assert any(line["learner/master/ref_kl"] > 0 for line in read_metrics(tmp_path / "whole", "train"))
    trainer(tmp_path / "run", *options, "max_steps=1").train()
    trainer(tmp_path / "run", *options).train(resume_from_checkpoint=True)
    assert files(tmp_path / "run" / "final") == files(tmp_path / "whole" / "final")


def test_sft_of_each_policy_and_a_start_from_another_run(tmp_path: Path) -> None:
    options = ("sft.trains=policies", "learner.kl_coef=0.1", "max_steps=1", "data.test_tasks=0", "sft.epochs=2")
    trainer(tmp_path / "one", *options).train()
    start = files(tmp_path / "one" / "sft" / "policies")
    assert {f"{agent}/reference/adapter_model.safetensors" for agent in ("master", "efc", "math")} <= start.keys()
    assert start["efc/reference/adapter_model.safetensors"] == start["efc/adapter_model.safetensors"]
    sft = read_metrics(tmp_path / "one", "sft")
    assert sft[-1]["learner/loss"] < sft[0]["learner/loss"]
    assert sft[-1]["learner/learning_rate"] < sft[1]["learner/learning_rate"]
    trainer(tmp_path / "two", *options, f"init_from={tmp_path}/one/sft/policies").train()
    assert read_metrics(tmp_path / "two", "sft") == []
    assert files(tmp_path / "two" / "final") == files(tmp_path / "one" / "final")
    with pytest.raises(FileNotFoundError, match="expected a folder of saved policies"):
        trainer(tmp_path / "three", f"init_from={tmp_path}").train()
    with pytest.raises(ValueError, match=r"model: expected that of init_from=.*, got \(here and there\) lora_rank 8 and 4"):
        trainer(tmp_path / "four", *options, "model.lora_rank=8", f"init_from={tmp_path}/one/sft/policies").train()


def test_the_reference_is_what_a_run_begins_with(tmp_path: Path) -> None:
    """Also where the policies come from a run without a KL term, whose adapters are no longer what the base alone is."""
    options = ("sft.trains=policies", "max_steps=1", "data.test_tasks=0", "memory=null")
    trainer(tmp_path / "one", *options).train()
    start = f"init_from={tmp_path}/one/final/policies"
    trainer(tmp_path / "two", *options, "learner.kl_coef=0.1", start).train()
    (line,) = read_metrics(tmp_path / "two", "train")
    assert {line[f"learner/{agent}/ref_kl"] for agent in ("master", "efc", "math") if f"learner/{agent}/ref_kl" in line} == {
        0.0
    }


def test_a_base_of_another_run_is_a_model(tmp_path: Path) -> None:
    """{output_dir}/sft/base under its name: any paradigm can begin with it."""
    options = ("max_steps=0", "data.test_tasks=0")
    trainer(tmp_path / "one", *options).train()
    trainer(tmp_path / "two", *options, f"model.name={tmp_path}/one/sft/base", "sft.epochs=0", "model.paradigm=full").train()
    one = files(tmp_path / "one" / "sft" / "base")
    assert files(tmp_path / "two" / "final" / "policies" / "math") == one
