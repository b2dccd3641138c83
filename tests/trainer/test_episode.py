"""The hierarchy as a state machine, over the benchmark's store."""

import json
import time

import pytest
from plays import ORDER, StoreEnv, ask, call, last, play, say, task, walk

from trainer.agents import hima_ecom_agents, master_only_agents, single_agent
from trainer.episode import Episode, Limits
from trainer.hima_ecom import TOOLS
from trainer.hima_ecom.session import observation
from trainer.prompts import system_prompt
from trainer.react import Action, render
from trainer.types import Message

AGENTS = hima_ecom_agents()


def test_an_episode() -> None:
    episode = Episode(StoreEnv(), AGENTS, task=task(), episode_id="e1")
    request = episode.request
    assert request is not None
    assert (request.agent, request.episode_id, request.node) == ("master", "e1", 0)
    assert request.messages == (Message("system", system_prompt(AGENTS["master"])), Message("user", "Task: Where is my order?"))
    assert (episode.done, episode.outcome, episode.reward) == (False, None, None)
    owners, texts, seen = [], walk(), []
    for node, text in enumerate(texts):
        request = episode.request
        assert request is not None
        assert request.node == node
        owners.append(request.agent)
        seen.append(request.messages)
        episode.act(text)
    assert owners == ["master", "efc", "efc", "master", "math", "math", "master", "efc", "efc", "master"]
    assert seen[1][1:] == (Message("user", f"Task: Look up {ORDER}."),)
    assert json.loads(seen[2][-1].content.removeprefix("Observation: "))["order_id"] == ORDER
    assert seen[3][2:] == (Message("assistant", texts[0]), Message("user", f"Observation: {ORDER} is there."))
    # Called again, the agent goes on where it was.
    assert seen[7] == (*seen[2], Message("assistant", texts[2]), Message("user", "Task: And its parcel?"))
    assert episode.done
    assert episode.request is None
    assert episode.reward == 1.0
    outcome = episode.outcome
    assert outcome is not None
    assert (outcome.answer, outcome.reason, outcome.parsed) == ("done", "answered", [True] * 10)
    assert [(c.agent, c.name) for c in outcome.calls] == [
        ("efc", "get_order"),
        ("math", "calculate"),
        ("efc", "track_shipment"),
    ]
    assert outcome.calls[1].arguments == {"expression": "2 + 3"}
    assert (outcome.delegations, outcome.actions) == (3, 6)
    assert seen[2][-1].content == f"Observation: {outcome.calls[0].observation}"
    with pytest.raises(RuntimeError, match="got one that has ended"):
        episode.act("Final Answer: again")


def test_every_node_is_re_entered() -> None:
    """From each node's state the rest of the episode runs as it did, after other actions, and in another episode."""
    episode, texts = Episode(StoreEnv(), AGENTS, task=task()), walk()
    texts[1] = call("set_reminder", text="x", date="2030-01-01")  # not efc's: refused
    texts[4] = call("calculate", expression="1/0")
    states, requests = [], []
    for text in texts:
        states.append(episode.snapshot())
        requests.append(episode.request)
        episode.act(text)
    end = (episode.outcome, episode.contexts, episode.reward, episode.env.session.state_hash())
    other = Episode(StoreEnv(), AGENTS, task=task())
    for node in reversed(range(len(texts))):
        for place in (episode, other, episode):
            place.restore(states[node])
            assert place.request == requests[node]
            for text in (call("cancel_order", order_id=ORDER), "malformed", say("no"), ask("gfc", "x")):
                place.act(text)
                place.restore(states[node])
            play(place, texts[node:])
            assert (place.outcome, place.contexts, place.reward, place.env.session.state_hash()) == end


def test_writes_are_part_of_the_state() -> None:
    episode = Episode(StoreEnv(), AGENTS, task=task(), entry="gfc")
    before = episode.snapshot()
    episode.act(call("set_reminder", text="pay", date="2030-01-01"))
    after = episode.snapshot()
    assert episode.env.session.changes()
    episode.restore(before)
    assert episode.env.session.changes() == {}
    episode.restore(after)
    assert list(episode.env.session.changes()) == ["reminders"]


@pytest.mark.parametrize("text", ["", "no grammar", "Action: efc", 'Action: efc\nAction Input: {"task": NaN}', "Final Answer:"])
def test_malformed_ends_with_nothing(text: str) -> None:
    env = StoreEnv()
    episode = play(Episode(env, AGENTS, task=task()), [ask("efc", "x"), text])
    assert episode.outcome is not None
    assert (episode.outcome.reason, episode.outcome.answer, episode.outcome.parsed) == ("malformed", None, [True, False])
    assert episode.reward == 0.0
    assert env.gave_up == 0


def test_malformed_can_be_observed() -> None:
    episode = Episode(StoreEnv(), AGENTS, task=task(), limits=Limits(malformed="observe"))
    episode.act("hello \ud800")
    assert last(episode).startswith('Observation: {"error":"text: expected valid Unicode')
    assert [m.content for m in episode.contexts["master"]][-2] == "hello ?"
    episode.act("hello")
    assert last(episode).startswith('Observation: {"error":"expected a line that starts with \'Action:\'')
    episode.act(say("done"))
    assert episode.reward == 1.0
    assert episode.outcome is not None
    assert episode.outcome.parsed == [False, False, True]


def test_what_is_unknown_or_wrong_is_observed() -> None:
    episode = Episode(StoreEnv(), AGENTS, task=task())
    episode.act(call("get_order", order_id=ORDER))  # the master has no tools
    assert last(episode) == "Observation: " + observation({"error": "unknown tool 'get_order'"})
    for arguments in ({}, {"task": ""}, {"task": " \n"}, {"task": 3}, {"task": "x", "more": 1}, {"Task": "x"}):
        episode.act(render(Action("efc", arguments)))
        assert last(episode) == "Observation: " + observation(
            {"error": 'efc takes {"task": "what it should do"} and nothing else'}
        )
    episode.act(ask("math", "x"))
    episode.act(call("efc", task="x"))  # math has no sub-agents
    assert "unknown tool 'efc'" in last(episode)
    episode.act(call("calculate", expr="1"))
    assert "unknown argument" in last(episode)
    play(episode, [say("x"), say("done")])
    assert episode.outcome is not None
    assert [c.name for c in episode.outcome.calls] == ["get_order", "efc", "calculate"]
    assert (episode.outcome.delegations, episode.outcome.actions) == (7, 10)  # six were refused


def test_memory_is_asked_once_an_agent() -> None:
    asked = []

    def retrieve(agent: str, query: str) -> list[str]:
        asked.append((agent, query))
        return [f"{len(asked)}. for {agent}"] if agent != "math" else []

    episode = Episode(StoreEnv(), AGENTS, task=task(), retrieve=retrieve)
    assert last(episode) == "Strategies from memory:\n- 1. for master\n\nTask: Where is my order?"
    state = episode.snapshot()
    episode.act(ask("efc", "a"))
    assert last(episode) == "Strategies from memory:\n- 2. for efc\n\nTask: a"
    play(episode, [say("x"), ask("math", "b")])
    assert last(episode) == "Task: b"
    play(episode, [say("x"), ask("efc", "c")])
    assert last(episode) == "Task: c"
    assert asked == [("master", "Where is my order?"), ("efc", "a"), ("math", "b")]
    assert episode.strategies == {"master": ("1. for master",), "efc": ("2. for efc",), "math": ()}
    episode.restore(state)
    assert list(episode.strategies) == ["master"]
    episode.act(ask("efc", "d"))  # another query: at this state efc has not been called
    assert last(episode) == "Strategies from memory:\n- 4. for efc\n\nTask: d"


def test_one_agent_alone() -> None:
    for agents, entry in ((AGENTS, "efc"), (master_only_agents(), "master"), (single_agent(TOOLS["efc"]), "assistant")):
        episode = play(Episode(StoreEnv(), agents, task=task(), entry=entry), [call("get_order", order_id=ORDER)])
        assert json.loads(last(episode).removeprefix("Observation: "))["order_id"] == ORDER
        assert play(episode, [say("done")]).reward == 1.0


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="agents: expected one named 'boss', got master"):
        Episode(StoreEnv(), AGENTS, task=task(), entry="boss")
    with pytest.raises(ValueError, match="agents: expected one named 'qa', got master"):
        Episode(StoreEnv(), {"master": AGENTS["master"]}, task=task())
    with pytest.raises(ValueError, match=r"limits.calls: expected at least 1, got 0"):
        Limits(calls=0)
    with pytest.raises(ValueError, match=r"limits.malformed: expected 'end' or 'observe', got 'x'"):
        Limits(malformed="x")  # type: ignore[arg-type]


def test_a_state_costs_microseconds() -> None:
    """Snapshot and restore in under 50 microseconds late in an episode; the best of a hundred: other work may run."""
    texts = walk()
    texts[5:5] = [call("calculate", expression="1")] * 10
    episode = play(Episode(StoreEnv(), AGENTS, task=task()), texts[:-1])
    best = float("inf")
    for _ in range(100):
        start = time.perf_counter()
        episode.restore(episode.snapshot())
        best = min(best, time.perf_counter() - start)
    assert best < 50e-6
