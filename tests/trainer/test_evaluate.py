"""Evaluation: the expert solves all, what does not try scores near nothing, errors cost an episode."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from trainer.agents import hima_ecom_agents, single_agent
from trainer.env import Step
from trainer.evaluate import Job, Report, evaluate, evaluate_jobs
from trainer.evaluate.command import write_whole
from trainer.evaluate.play import Played, count_by_rule
from trainer.evaluate.report import make_report
from trainer.hima_ecom import World
from trainer.hima_ecom.tasks import COLUMNS, Task, make_tasks
from trainer.policies import (
    ConstantPolicy,
    CopyPolicy,
    ExpertPolicy,
    KeywordPolicy,
    Policy,
    RandomPolicy,
    RefusingPolicy,
    ReplayPolicy,
)
from trainer.policies.base import query_of
from trainer.react import Action, Answer, render
from trainer.types import Request


@pytest.fixture(scope="module")
def full() -> World:
    return World.in_memory(0, "full")


@pytest.fixture(scope="module")
def tasks(full: World) -> list[Task]:
    return [task for column in COLUMNS for task in make_tasks(full, 0, "test", column, 100)]


def shares(report: Report) -> dict[str, float]:
    return {column.name: column.solved for column in report.columns}


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_expert_solves_everything_with_the_fewest_calls(full: World, split: str) -> None:
    own = [task for column in COLUMNS for task in make_tasks(full, 2, split, column, 60)]
    report = evaluate(ExpertPolicy(own), own, full)
    assert set(shares(report).values()) == {100.0}
    assert report.average.calls == report.average.minimal_calls


@pytest.mark.parametrize(
    ("policy", "most"),
    [
        (ConstantPolicy("Yes."), 5.0),
        (ConstantPolicy("30 days"), 5.0),
        (RefusingPolicy(), 5.0),
        (CopyPolicy(), 0.0),
        (RandomPolicy(hima_ecom_agents(), seed=1), 5.0),
    ],
)
def test_what_does_not_try_scores_near_nothing(full: World, tasks: list[Task], policy: Policy, most: float) -> None:
    for column, share in shares(evaluate(policy, tasks, full)).items():
        assert share <= most, column


class Edited:
    """Answers with the task itself, changed a little."""

    def __init__(self, edit: Callable[[str], str]) -> None:
        self._edit = edit

    def act(self, requests: Sequence[Request]) -> list[str]:
        return [render(Answer(self._edit(query_of(request)).strip() or "?")) for request in requests]


def test_copies_with_an_edit_solve_nothing(full: World, tasks: list[Task]) -> None:
    for policy in (Edited(lambda query: query[1:]), Edited(lambda query: f"{query} Sorry, I cannot.")):
        assert set(shares(evaluate(policy, tasks, full)).values()) == {0.0}


def test_rules_by_keywords_solve_what_takes_one_lookup(full: World, tasks: list[Task]) -> None:
    """A baseline worth beating: questions, some lookups; nothing that takes several steps of arithmetic."""
    found = shares(evaluate(KeywordPolicy(hima_ecom_agents()), tasks, full))
    assert 20.0 < found["qa"] < 45.0  # what asks for one fact; two facts take more than one call
    assert 5.0 < found["efc"] < 30.0
    assert 5.0 < found["gfc"] < 30.0
    assert found["cooperation"] < 15.0
    assert found["math"] < 5.0


def test_a_report_is_the_same_twice_and_survives_json(full: World, tasks: list[Task]) -> None:
    one, two = (evaluate(RandomPolicy(hima_ecom_agents(), seed=3), tasks[:60], full, parallel=n) for n in (7, 256))
    assert one.dumps() == two.dumps()
    assert json.loads(one.dumps())["columns"][0]["name"] == "cooperation"
    assert "Cooperation" in one.table()


class Coin:
    """Rewards 1 for heads; scores of other answers raise or are no numbers."""

    tools: list[dict[str, Any]] = []  # noqa: RUF012

    def reset(self, task: Any, seed: int = 0) -> str:
        if task == "broken":
            raise RuntimeError("no such coin")
        return "heads or tails?"

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        assert isinstance(action, Answer)
        return Step("", {"heads": 1.0, "tails": 0.0, "edge": float("nan")}[action.text], True)

    def snapshot(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        pass


def test_an_error_costs_its_episode_only() -> None:
    texts = {name: [render(Answer(name))] for name in ("heads", "tails", "edge", "gone", "broken")}
    jobs = [Job(id=name, column="coin", task=name, minimal_calls=0) for name in texts]
    report = evaluate_jobs(ReplayPolicy(texts), jobs, Coin, single_agent([]), entry="assistant")
    assert report.columns[0].solved == pytest.approx(20.0)
    assert {played.id: played.error for played in report.errors} == {
        "edge": "ValueError: reward: expected a number, got nan",
        "gone": "KeyError: 'gone'",
        "broken": "RuntimeError: no such coin",
    }
    assert "3 ended by an error" in report.table()


def test_a_report_holds_and_shows_any_text(tmp_path: Path) -> None:
    """Escape sequences, C1 controls, unpaired surrogates: escaped in JSON, which says the same, and nothing to a terminal."""
    evil = "\x1b[31mx\x9b2J\ud800\n价格"
    played = Played(id=evil, column=evil, minimal_calls=1, reason="error", error=evil, answer=evil)
    report = make_report([played], policy=evil, split=evil)
    assert all(letter.isprintable() or letter == "\n" for letter in report.table() + report.dumps())
    assert json.loads(report.dumps())["episodes"][0]["answer"] == evil
    path = tmp_path / "report.json"
    path.write_text("the old one")
    write_whole(path, report.dumps())
    assert json.loads(path.read_bytes()) == json.loads(report.dumps())
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, evil)
    assert path.read_text() == report.dumps()
    assert list(tmp_path.iterdir()) == [path]


def test_intervals_are_wider_for_fewer_episodes() -> None:
    def interval(count: int) -> float:
        texts = {str(i): [render(Answer("heads" if i % 2 else "tails"))] for i in range(count)}
        jobs = [Job(id=name, column="coin", task=name, minimal_calls=0) for name in texts]
        column = evaluate_jobs(ReplayPolicy(texts), jobs, Coin, single_agent([]), entry="assistant").columns[0]
        assert column.solved == 50.0
        return column.high - column.low

    assert interval(100) == pytest.approx(2 * 1.96 * 5.0, rel=0.1)  # 2 * 1.96 * 100 * sqrt(0.25 / 100)
    assert interval(10) > 2 * interval(100)


def test_wrong_input(full: World, tasks: list[Task]) -> None:
    with pytest.raises(ValueError, match="episodes: expected at least one"):
        evaluate(CopyPolicy(), [], full)
    with pytest.raises(ValueError, match="parallel: expected at least 1, got 0"):
        evaluate(CopyPolicy(), tasks[:1], full, parallel=0)
    with pytest.raises(ValueError, match="expected an id once"):
        evaluate(CopyPolicy(), [tasks[0], tasks[0]], full)

    class Silent:
        def act(self, requests: Any) -> list[str]:
            return []

    with pytest.raises(ValueError, match="policy: expected 1 texts"):
        evaluate(Silent(), tasks[:1], full)


def test_tokens_of_what_no_tokenizer_has_seen_are_counted_by_one_rule(full: World, tasks: list[Task]) -> None:
    assert [count_by_rule(text) for text in ("", "Thought", "return it", "12345.60", "退货 30 天", "Action: efc\n")] == [
        0,
        2,
        2,
        4,
        4,
        3,
    ]
    table = evaluate(CopyPolicy(), tasks[:10], full).table()
    assert "tokens a task *" in table
    assert "* no tokenizer counted these" in table
    assert "words" not in table


class Counting(CopyPolicy):
    """Tells how many tokens each text has."""

    def act(self, requests: Sequence[Request]) -> list[str]:
        texts = super().act(requests)
        self.written: list[int] | None = [7] * len(texts)
        return texts


def test_tokens_are_the_policys_own_where_it_tells(full: World, tasks: list[Task]) -> None:
    report = evaluate(Counting(), tasks[:10], full)
    assert (report.counted, report.average.written) == ("tokenizer", 7.0)
    assert "*" not in report.table()
