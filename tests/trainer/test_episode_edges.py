"""Limits, environments of other manners, and hierarchies of other shapes."""

from collections.abc import Sequence
from typing import Any

import pytest
from plays import StoreEnv, ask, call, last, play, say, task

from trainer.agents import Agent, delegation, hima_ecom_agents, single_agent
from trainer.env import Step
from trainer.episode import Episode, Limits
from trainer.prompts import system_prompt
from trainer.react import Action, Answer
from trainer.types import Message

AGENTS = hima_ecom_agents()


def test_limits() -> None:
    def outcome(limits: Limits, texts: Sequence[str]) -> tuple[Any, ...]:
        env = StoreEnv()
        episode = play(Episode(env, AGENTS, task=task(), limits=limits), texts)
        assert episode.done
        assert episode.reward == float(episode.outcome is not None and episode.outcome.answer == "done")
        assert episode.outcome is not None
        return episode.outcome.reason, env.gave_up, len(episode.outcome.parsed), len(episode.outcome.calls)

    sums = [call("calculate", expression="1")] * 4
    assert outcome(Limits(nodes=3), [ask("math", "x"), *sums[:2]]) == ("turn limit", 1, 3, 2)
    assert outcome(Limits(nodes=1), [say("done")]) == ("answered", 0, 1, 0)
    assert outcome(Limits(calls=2), [ask("math", "x"), *sums[:3]]) == ("call limit", 1, 4, 2)
    # A new turn counts its calls anew; the master's own are its delegations.
    twice = [ask("math", "x"), *sums[:2], say("1"), ask("math", "x"), *sums[:2], say("1")]
    assert outcome(Limits(calls=2), [*twice, say("done")]) == ("answered", 0, 9, 4)
    assert outcome(Limits(calls=2), [*twice, ask("qa", "x")]) == ("call limit", 1, 9, 4)
    assert outcome(Limits(delegations=1), [ask("math", "x"), say("1"), ask("math", "x")]) == ("call limit", 1, 3, 0)
    assert outcome(Limits(delegations=2), [call("math")] * 3) == ("call limit", 1, 3, 0)


def test_long_observations_are_cut() -> None:
    episode = Episode(StoreEnv(), AGENTS, task=task(), limits=Limits(observation=10))
    play(episode, [ask("gfc", "x"), call("reverse_text", text="0123456789")])
    assert last(episode).startswith('Observation: {"text":"9... (')
    episode.act(say("0123456789abc"))
    assert last(episode) == "Observation: 0123456789... (3 more characters)"
    episode.act(say("x"))
    assert episode.outcome is not None
    assert episode.outcome.calls[0].observation.startswith('{"text":"9... (')


def test_an_environment_that_begins_with_messages() -> None:
    begin = [Message("system", "The policy."), Message("user", "Hi."), Message("assistant", "Yes?"), Message("user", "Cancel.")]
    episode = Episode(StoreEnv(), AGENTS, task=task(query=begin), retrieve=lambda agent, query: [f"for {query}"])
    request = episode.request
    assert request is not None
    system = system_prompt(AGENTS["master"]) + "\n\nThe policy."
    first = Message("user", "Strategies from memory:\n- for Cancel.\n\nTask: Cancel.")
    assert request.messages == (Message("system", system), *begin[1:3], first)
    for bad in ([], begin[:1], begin[:3]):
        with pytest.raises(ValueError, match="expected messages that end with the user's"):
            Episode(StoreEnv(), AGENTS, task=task(query=bad))


def test_an_environment_may_end_it_and_pay_by_step() -> None:
    class Paying(StoreEnv):
        def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
            assert isinstance(action, Action)
            return Step("paid", 0.25, action.name == "stop")

    tools = [delegation("pay", "pays."), delegation("stop", "ends.")]
    episode = Episode(Paying(), single_agent(tools), task=task(), entry="assistant")
    play(episode, [call("pay"), call("pay")])
    assert episode.reward is None
    episode.act(call("stop"))
    assert episode.reward == 0.75
    assert episode.outcome is not None
    assert (episode.outcome.answer, episode.outcome.reason) == (None, "answered")


def test_agents_below_agents() -> None:
    deep = {
        "a": Agent("a", "asks b.", (delegation("b", "asks."),), ("b",)),
        "b": Agent(
            "b", "asks all.", (delegation("a", "asks."), delegation("b", "asks."), delegation("c", "asks.")), ("a", "b", "c")
        ),
        "c": Agent("c", "knows.", ()),
    }
    episode = Episode(StoreEnv(), deep, task=task(), entry="a")
    episode.act(ask("b", "1"))
    for waiting in ("a", "b"):
        episode.act(ask(waiting, "2"))
        assert f"{waiting} is waiting" in last(episode)
    play(episode, [ask("c", "3"), say("4")])
    assert last(episode) == "Observation: 4"
    play(episode, [say("5"), say("done")])
    assert episode.reward == 1.0
