"""TRL environments, reasoning-gym data sets and environments without states play episodes as they are."""

import functools
import json
import threading
from typing import Any

import pytest
import reasoning_gym
from plays import StoreEnv, call, last, play, say

from trainer.agents import single_agent
from trainer.env import Environment, Replayable, Step
from trainer.episode import Episode
from trainer.foreign import ReasoningGym, as_environment
from trainer.react import Action, Answer


class Guess:
    """A TRL environment as its documentation shows them."""

    limit = 10

    def __init__(self) -> None:
        self.guesses: list[int] = []

    @property
    def best(self) -> int:
        return self.guesses[-1]

    def reset(self, **row: Any) -> str | None:
        self.secret = row["secret"]
        self.guesses = []
        return row.get("hint")

    def guess(self, number: int, loud: bool = False) -> str:
        """
        Guess the secret number.

        Args:
            number: your guess
            loud: whether to shout

        Returns:
            what the game says
        """
        if number > self.limit:
            raise ValueError(f"{number} is more than {self.limit}")
        self.guesses.append(number)
        answer = "right" if number == self.secret else "lower" if number > self.secret else "higher"
        return answer.upper() if loud else answer

    async def history(self) -> list[int]:
        """Your guesses so far."""
        return self.guesses

    def _helper(self) -> None: ...

    def get_reward(self) -> float:
        return float(self.secret in self.guesses) / len(self.guesses) if self.guesses else 0.0


class Locked(Guess):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    async def get_reward(self) -> float:  # type: ignore[override]
        return super().get_reward()


class Unpaid:
    def reset(self, prompt: str) -> None:
        pass


def start(env: Environment, task: Any) -> Episode:
    return Episode(env, single_agent(env.tools), task=task, entry="assistant")


@pytest.mark.parametrize("thing", [Guess, Guess(), functools.partial(Guess), lambda: Guess(), Locked])
def test_a_trl_environment(thing: Any) -> None:
    env = as_environment(thing)
    assert isinstance(env, Environment)
    parameters = {
        "type": "object",
        "properties": {
            "number": {"type": "integer", "description": "your guess"},
            "loud": {"type": "boolean", "description": "whether to shout"},
        },
        "required": ["number"],
    }
    described = {"name": "guess", "description": "Guess the secret number.", "parameters": parameters}
    assert env.tools[0] == {"type": "function", "function": described}
    assert [tool["function"]["name"] for tool in env.tools] == ["guess", "history"]
    episode = start(env, {"prompt": "Find it.", "secret": 3, "hint": " It is odd."})
    assert last(episode) == "Task: Find it. It is odd."
    episode.act(call("guess", number=7))
    assert last(episode) == "Observation: lower"
    state = episode.snapshot()
    for _ in range(2):
        play(episode, [call("guess", number=1, loud=True), call("history")])
        assert last(episode) == "Observation: [7, 1]"
        play(episode, [call("guess", number=3), say("3")])
        assert episode.reward == pytest.approx(1 / 3)
        episode.restore(state)
        play(episode, [call("guess", number=3), say("3")])
        assert episode.reward == 0.5
        episode.restore(state)
    for wrong, reason in (({"number": 99}, "99 is more than 10"), ({"x": 1}, "unexpected keyword"), ({}, "missing 1 required")):
        episode.act(call("guess", **wrong))
        assert reason in json.loads(last(episode).removeprefix("Observation: "))["error"]
    for hidden in ("reset", "get_reward", "_helper", "best", "limit", "__init__"):
        assert env.step(Action(hidden, {})) == Step('{"error":"unknown tool \'' + hidden + "'\"}")
    assert env.step(None) == Step("", 0.0, True)


def test_rows_of_a_trl_environment() -> None:
    env = as_environment(Guess)
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Find it."}]
    begin = env.reset({"prompt": prompt, "secret": 1, "hint": " It is odd."})
    assert begin == [("system", "Be brief."), ("user", "Find it. It is odd.")]
    assert prompt[1]["content"] == "Find it."
    assert env.reset({"secret": 1, "hint": "Alone."}) == "Alone."
    assert as_environment(Unpaid).reset({"prompt": "x"}) == "x"
    assert as_environment(Unpaid).step(Answer("x")) == Step("", None, True)
    with pytest.raises(TypeError, match=r"task: expected a row \(a mapping\) or None, got int"):
        env.reset(3)
    with pytest.raises(TypeError, match=r"reset: expected a string or None, got list"):
        env.reset({"secret": 1, "hint": [1]})
    with pytest.raises(TypeError, match=r"task\['prompt'\]: expected a text or messages with texts"):
        env.reset({"secret": 1, "prompt": [{"role": "user", "content": [{"type": "image"}]}]})


def test_a_trl_tool_without_a_description_is_refused() -> None:
    class Silent(Guess):
        def pay(self, amount: int) -> str:
            return str(amount)

    with pytest.raises(Exception, match="docstring"):
        as_environment(Silent)


def test_a_reasoning_gym_dataset() -> None:
    dataset = reasoning_gym.create_dataset("chain_sum", size=5, seed=1)
    env = as_environment(dataset)
    assert isinstance(env, ReasoningGym)
    for index in range(5):
        item = dataset[index]
        for task in (index, item):
            episode = start(env, task)
            assert last(episode) == f"Task: {item['question']}"
            before = episode.snapshot()
            assert play(episode, [say(item["answer"])]).reward == 1.0
            episode.restore(before)
            env.reset(0)
            episode.restore(before)
            assert play(episode, [call("calculate", expression="1"), say("no idea")]).reward == 0.0
    assert env.step(None) == Step("", 0.0, True)


def test_an_answer_that_a_scorer_cannot_read_is_wrong() -> None:
    env = as_environment(reasoning_gym.create_dataset("prime_factorization", size=1, seed=1))
    env.reset(0)
    step = env.step(Answer("a prime"))
    assert (step.reward, step.done) == (0.0, True)
    assert "ValueError" in step.info["error"]
    assert env.step(Answer(env.dataset[0]["answer"])).reward == 1.0  # type: ignore[attr-defined]


def test_our_own_pass_through() -> None:
    env = StoreEnv()
    assert as_environment(env) is env
    assert isinstance(as_environment(StoreEnv), StoreEnv)

    class Stateless:
        tools: list[dict[str, Any]] = []  # noqa: RUF012

        def reset(self, task: Any, seed: int = 0) -> str:
            return str(task)

        def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
            return Step("", 1.0, True)

    made = as_environment(Stateless)
    assert isinstance(made, Replayable)
    assert play(start(made, "x"), [say("y")]).reward == 1.0


@pytest.mark.parametrize("thing", [3, "text", [], object(), dict])
def test_anything_else_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="thing: expected an environment"):
        as_environment(thing)
