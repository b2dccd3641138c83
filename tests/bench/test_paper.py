"""`make paper`: arms load as configurations, runs begin when their starts are there, and first calls are told apart."""

from pathlib import Path

import pytest

from bench import paper
from bench.paper_plan import ARMS, BY_NAME, QUESTIONS, Arm
from bench.paper_propagation import follows, kind_of
from trainer.config import TrainConfig
from trainer.hima_ecom.tasks import Task
from trainer.parts_of import rl_config
from trainer.react import Action, Answer, render

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_arms_are_configurations_that_differ(arm: Arm) -> None:
    common = TrainConfig.load(ROOT / paper.CONFIG)
    config = TrainConfig.load(ROOT / paper.CONFIG, list(arm.changes))
    assert (config == common) == (not arm.changes)
    assert config.max_steps == rl_config(config).total_steps


def test_questions_ask_about_arms_that_there_are() -> None:
    assert {name for question in QUESTIONS for name in question.arms} == set(BY_NAME)


def test_a_run_begins_when_its_start_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed by seed, SFT first; SFT continued waits for the run whose time it takes; what waits for a failed run is left out."""
    begun: list[str] = []

    def run(job: paper.Job) -> str | None:
        begun.append(job.name)
        if job.name == "joint-1":
            return "joint-1: exit code 1"
        (job.folder / "final" / "policies").mkdir(parents=True)
        (job.folder / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "time": 5.0, "seconds/step": 7.0}\n')
        return None

    monkeypatch.setattr(paper, "run", run)
    arms = [BY_NAME["sft_longer"], BY_NAME["joint"], BY_NAME["k1"]]
    failed = paper.run_all(tmp_path, arms, jobs=1, seeds=2)
    assert begun == ["sft-0", "joint-0", "k1-0", "sft_longer-0", "sft-1", "joint-1", "k1-1"]
    assert failed == ["joint-1: exit code 1", "sft_longer-1: left out"]
    assert "sft.seconds=7" in paper.job_of(tmp_path, BY_NAME["sft_longer"], 0).command


def turns(*actions: tuple[str, Action | Answer]) -> list[tuple[str, str]]:
    return [(agent, render(action)) for agent, action in actions]


def test_what_a_master_does_first() -> None:
    expert = turns(
        ("master", Action("qa", {"task": "How heavy is it?"}, "t")),
        ("qa", Action("search_knowledge", {"query": "it heavy"}, "t")),
    )
    task = Task(
        id="a", column="qa", split="test", language="en", difficulty=1, family="weight", query="q", final_response="r",
        checker={}, minimal_calls=2, trajectory=tuple({"agent": agent, "text": text} for agent, text in expert),
    )  # fmt: skip
    assert (kind_of(expert, task), follows(expert, task)) == ("same", True)
    worded = turns(("master", Action("qa", {"task": "Its weight?"}, "t")), ("qa", Answer("1 kg", "t")))
    assert (kind_of(worded, task), follows(worded, task)) == ("worded", False)
    assert kind_of(turns(("master", Action("efc", {"task": "How heavy is it?"}, "t"))), task) == "agent"
    assert kind_of(turns(("master", Answer("I do not know.", "t"))), task) == "none"
