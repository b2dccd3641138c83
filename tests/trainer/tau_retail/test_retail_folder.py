"""The real folder: every gold replay is rewarded, doing nothing is not, and states compare as the whole store would."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.react import Action, Answer, render
from trainer.tau_retail import Retail, Task, TauRetailEnv, tool_schemas
from trainer.tau_retail.world import World

DONE = Answer("done")


def tasks_of(retail: Retail) -> list[Task]:
    return [task for tasks in retail.tasks.values() for task in tasks]


def play(env: TauRetailEnv, task: Task, actions: tuple[Action, ...]) -> float | None:
    env.reset(task)
    for action in actions:
        env.step(action)
    return env.step(DONE).reward


def test_the_folder(retail: Retail, folder: Path) -> None:
    assert {split: len(tasks) for split, tasks in retail.tasks.items()} == {"train": 500, "dev": 20}
    assert {table: len(rows) for table, rows in retail.base.tables.items()} == {"users": 500, "orders": 1000, "products": 50}
    assert len(tool_schemas(folder)) == 16


def test_gold_replay_scores_on_every_task(retail: Retail, folder: Path) -> None:
    env = TauRetailEnv(retail)
    started = time.perf_counter()
    scores = [play(env, task, task.actions) for task in tasks_of(retail)]
    assert scores == [1.0] * 520
    assert time.perf_counter() - started < 5  # 0.1 s where it was written
    # No episode has changed the shared rows.
    for table, rows in retail.base.tables.items():
        assert rows == json.loads((folder / f"{table}.json").read_text())


def test_doing_nothing_fails(retail: Retail) -> None:
    env = TauRetailEnv(retail)
    scores = [play(env, task, ()) for task in tasks_of(retail)]
    # One task asks for nothing; of five the tools refuse every gold action.
    assert sum(scores) == 6  # type: ignore[arg-type]
    assert sum(scores) < 0.1 * len(scores)  # type: ignore[arg-type]


def test_refused_gold_actions_are_the_gift_cards(retail: Retail) -> None:
    """The data was made with gold actions that tau-bench's tools refuse: a gift card's balance is too small in 20 of 793."""
    errors, total = [], 0
    for task in tasks_of(retail):
        world = World(retail.base)
        results = [retail.toolbox.call(world, action.name, action.arguments) for action in task.actions]
        errors += [result.observation for result in results if result.refused]
        total += len(results)
    assert (len(errors), total) == (20, 793)
    assert all("gift card" in error or "expected the status" in error for error in errors)


def test_a_write_too_many_or_too_few_fails(retail: Retail) -> None:
    env = TauRetailEnv(retail)
    moves = {"address1": "1 Elm St", "address2": "", "city": "Reno", "state": "NV", "country": "USA", "zip": "89501"}
    fewer = 0
    for task in tasks_of(retail):
        extra = Action("modify_user_address", {"user_id": task.user_id, **moves})
        assert play(env, task, (*task.actions, extra)) == 0.0, task.id
        if len(task.actions) > 1:
            fewer += play(env, task, task.actions[:-1]) == 0.0
    assert fewer >= 160  # of 168; the others' last action is one that the tools refuse


def test_every_changed_argument_of_a_write_fails(retail: Retail) -> None:
    """A gold action with an argument of another task leaves another state, refused or not."""
    env, rng = TauRetailEnv(retail), random.Random(0)
    tasks = [task for task in tasks_of(retail) if len(task.actions) == 1 and play(env, task, ()) == 0.0]
    caught = tried = 0
    for task in rng.sample(tasks, 200):
        action = task.actions[0]
        others = [other.actions[0] for other in tasks if other.actions[0].name == action.name]
        key = rng.choice(list(action.arguments))
        value = rng.choice(others).arguments[key]
        if value != action.arguments[key]:
            tried += 1
            caught += play(env, task, (Action(action.name, action.arguments | {key: value}),)) == 0.0
    assert caught == tried > 100


def test_equal_states_are_those_that_compare_equal_as_a_whole(retail: Retail) -> None:
    rng, tasks = random.Random(1), tasks_of(retail)
    states: list[tuple[str, dict[str, Any]]] = []
    for task in rng.sample(tasks, 12):
        for actions in (task.actions, task.actions[::-1], task.actions[:1], ()):
            world = World(retail.base)
            for action in actions:
                retail.toolbox.call(world, action.name, action.arguments)
            whole: dict[str, Any] = {
                table: {key: world.row(table, key) for key in rows} for table, rows in retail.base.tables.items()
            }
            states.append((world.state_hash(), whole))
    same = [(a[0] == b[0], a[1] == b[1]) for i, a in enumerate(states) for b in states[:i]]
    assert all(by_hash == by_rows for by_hash, by_rows in same)
    assert {by_hash for by_hash, _ in same} == {True, False}


def test_snapshot_and_restore_take_microseconds(retail: Retail) -> None:
    env = TauRetailEnv(retail)
    task = max(tasks_of(retail), key=lambda task: len(task.actions))
    env.reset(task)
    for action in task.actions:
        env.step(action)
    best = min(_timed(env) for _ in range(20))
    assert best < 50e-6


def _timed(env: TauRetailEnv) -> float:
    started = time.perf_counter()
    for _ in range(100):
        env.restore(env.snapshot())
    return (time.perf_counter() - started) / 100


@pytest.mark.parametrize("split", ["train", "dev"])
def test_gold_actions_can_be_written_as_react(retail: Retail, split: str) -> None:
    assert all(render(action) for task in retail.tasks[split] for action in task.actions)
