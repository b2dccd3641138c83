"""No constant answer solves 5 % of a column, not even one that is made from the right answers."""

from dataclasses import replace
from functools import cache

import pytest
from constants import best_constant, pieces, score

from trainer.evaluate import evaluate
from trainer.hima_ecom import World
from trainer.hima_ecom.tasks import COLUMNS, Task, make_tasks
from trainer.policies import ConstantPolicy

DRAWS = 6  # of the test split, 100 tasks of a column each: what is frequent by chance in one is not in all


@pytest.fixture(scope="module")
def full() -> World:
    return World.in_memory(0, "full")


@cache
def drawn(full: World, column: str) -> list[Task]:
    return [
        replace(task, id=f"{seed}/{task.id}") for seed in range(DRAWS) for task in make_tasks(full, seed, "test", column, 100)
    ]


@pytest.mark.long
@pytest.mark.parametrize("column", COLUMNS)
def test_the_best_constant_that_a_search_finds_solves_under_5_percent(full: World, column: str) -> None:
    tasks = drawn(full, column)
    constant, share = best_constant(full, tasks)
    print(f"{column}: {100 * share:.1f} % by {constant!r}")
    assert share < 0.05, constant
    by_policy = evaluate(ConstantPolicy(constant or "?"), tasks, full).columns[0]
    assert by_policy.solved == pytest.approx(100 * share)  # what the table of `hima eval` would say of it
    assert by_policy.accuracy < 0.12


def test_the_search_finds_a_constant_where_there_is_one(full: World) -> None:
    """Two slots that a checker lets through together, and a third that it does not."""
    base = next(task for task in make_tasks(full, 0, "test", "qa", 20) if task.family == "warranty")
    specs = [
        *([{"kind": "number", "value": "30", "unit": "month"}] * 3),
        *([{"kind": "text", "value": "Peru", "accept": [], "reject": ["Chile"]}] * 2),
        {"kind": "number", "value": "36", "unit": "month"},
        {"kind": "calls", "calls": [{"agent": "gfc", "name": "get_today", "arguments": {}}]},
    ]
    tasks = [replace(base, id=str(i), checker=spec) for i, spec in enumerate(specs)]
    constant, share = best_constant(full, tasks)
    assert share == 5 / 7
    assert [score(full, task, constant) for task in tasks[:6]] == [1.0] * 5 + [0.0]


def test_constants_made_by_hand_solve_near_nothing(full: World) -> None:
    countries = "Germany Italy Canada Japan China Poland Turkey Portugal Vietnam Mexico"
    for text in (
        f"yes yes 30 40 15 {countries} home sports",
        "1 2 3 delivered SwiftParcel BlueVan",
        "Sorry, I cannot: it has shipped, the period is over, it expired, I do not know which. No information, no solution.",
    ):
        for column in COLUMNS:
            tasks = drawn(full, column)
            assert sum(score(full, task, text) == 1.0 for task in tasks) < 0.05 * len(tasks), (column, text)


def test_right_answers_of_other_tasks_are_pieces(full: World) -> None:
    """What the search puts together is right for the task that it comes from."""
    for column in ("qa", "efc"):
        for task in make_tasks(full, 1, "test", column, 60):
            for text in pieces(task):
                assert score(full, task, text) > 0.3, (task, text)


def test_no_right_answer_comes_twice_in_a_hundred_where_there_are_enough(full: World) -> None:
    tasks = make_tasks(full, 0, "test", "qa", 100)
    values = [task.checker["value"] for task in tasks if task.family in ("warranty", "origin", "care", "weight")]
    assert len(values) >= 25
    assert len(set(values)) == len(values)
