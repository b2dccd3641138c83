"""States for environments that have none: copies, else replay."""

import threading
from typing import Any

import pytest

from trainer.env import Environment, Playable, Replayable, Step
from trainer.react import Action, Answer


class Counter:
    """Adds up what it is given; the answer must be the sum."""

    tools: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.total = 0
        self.steps = 0

    def reset(self, task: Any, seed: int = 0) -> str:
        self.total = task + seed
        return "add"

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        self.steps += 1
        if isinstance(action, Action):
            self.total += action.arguments["x"]
            return Step(str(self.total))
        return Step("", float(action is not None and action.text == str(self.total)), True)


class Uncopyable(Counter):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Drifting(Uncopyable):
    """Another environment at every reset."""

    resets = 0

    def reset(self, task: Any, seed: int = 0) -> str:
        Drifting.resets += 1
        return super().reset(task + Drifting.resets, seed)


def add(x: int) -> Action:
    return Action("add", {"x": x})


@pytest.mark.parametrize("kind", [Counter, Uncopyable])
def test_states_are_restored_any_number_of_times(kind: type[Counter]) -> None:
    env = Replayable(kind())
    assert isinstance(env, Environment)
    assert not isinstance(env.inner, Environment)
    assert isinstance(env.inner, Playable)
    assert env.reset(10, seed=1) == "add"
    env.step(add(5))
    middle = env.snapshot()
    for _ in range(3):
        assert env.step(add(1)).observation == "17"
        later = env.snapshot()
        assert env.step(add(100)).observation == "117"
        env.restore(later)
        assert env.step(Answer("17")).reward == 1.0
        assert env.step(None).reward == 0.0
        env.restore(middle)
    assert env.step(add(0)).observation == "16"


def test_a_copy_plays_nothing_again_and_a_replay_does() -> None:
    for kind, steps in ((Counter, 1), (Uncopyable, 2)):
        env = Replayable(kind())
        env.reset(0)
        env.step(add(1))
        env.restore(env.snapshot())
        assert env.inner.steps == steps  # type: ignore[attr-defined]


def test_a_replay_that_drifts_is_an_error() -> None:
    env = Replayable(Drifting())
    env.reset(0)
    env.step(add(1))
    state = env.snapshot()
    with pytest.raises(RuntimeError, match=r"replay: step 0: expected observation '2', got '3'"):
        env.restore(state)
