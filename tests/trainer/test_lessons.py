"""What groups teach: texts from the best sibling's actions, and what the memory does with them."""

import math
from pathlib import Path
from typing import Any

import pytest
from scripted import AGENTS, Counter, ScriptedEngine, group, hierarchy, policies, say, sibling, tasks

from trainer.lessons import lesson, observations
from trainer.memory import HashingEmbedder, Memory, MemoryConfig
from trainer.memory.store import Entry
from trainer.react import Action, render
from trainer.rewards import Reward
from trainer.rollout import sample_groups
from trainer.vrgrpo import NodeGroup, VRGRPOConfig

GET = render(Action("get_order", {"order_id": "O00001"}))
CANCEL = render(Action("cancel_order", {"order_id": "O00001", "reason": "late"}))
RETURN = render(Action("return_items", {"order_id": "O1", "item_ids": [], "condition": "new"}))
RIGHT = Reward(1.0, 1.0, 0.01)


def taught(*texts: str, terms: Reward = RIGHT, written: int = 0, **fields: Any) -> str | None:
    only = sibling(1.0, terms=terms, texts=texts, **fields)
    return lesson(group([], siblings=(only,), written=written))


def test_texts() -> None:
    assert (
        taught(GET, CANCEL, say("Done."))
        == "Call get_order with order_id, then cancel_order with order_id and reason, then answer."
    )
    assert taught(RETURN, say("x")) == "Call return_items with order_id, item_ids and condition, then answer."
    assert taught(say("Hello.")) == "Answer at once, without any call."
    assert taught(GET, GET, GET, say("x")) == "Call get_order with order_id (3 times), then answer."
    master = [render(Action(name, {"task": f"{name} it"})) for name in ("efc", "math", "efc")]
    assert taught(*master, say("x")) == "Call efc, then math, then efc, then answer."
    assert taught(render(Action("get_today", {})), say("x")) == "Call get_today, then answer."
    many = [render(Action(f"tool{i}", {})) for i in range(9)]
    assert taught(*many, say("x")) == "Call " + ", then ".join([f"tool{i}" for i in range(6)] + ["more calls", "answer."])
    assert taught(GET, "Hm.", say("x")) == "Call get_order with order_id, then answer."  # read on after a malformed text


def test_what_teaches_nothing() -> None:
    assert taught(GET, say("x"), terms=Reward(0.0, 1.0, 0.0)) is None
    assert taught(GET, say("x"), reason="turn limit") is None
    assert taught(GET) is None  # another agent ended the episode meanwhile
    assert taught(GET, say("x"), terms=Reward(math.nan, 1.0, math.nan), error="failed") is None
    # The node is in the agent's second task: nothing of the way to the first answer is the sibling's.
    assert taught(GET, say("x"), CANCEL, say("y"), written=2) is None
    assert taught(GET, say("x"), CANCEL, say("y"), written=1) == "Call get_order with order_id, then answer."


def test_the_best_sibling_teaches() -> None:
    """Highest R_A + R_F, then the shorter, then the first; a failed one never."""
    ways = [
        sibling(1.0, terms=Reward(0.5, 1.0, 0.0), texts=(RETURN, say("x"))),
        sibling(1.0, terms=Reward(1.0, 1.0, 0.05), texts=(GET, CANCEL, say("x"))),
        sibling(1.0, terms=Reward(1.0, 1.0, 0.01), texts=(GET, say("x"))),
        sibling(1.0, terms=Reward(1.0, 1.0, 0.01), texts=(say("x"),)),
        sibling(1.0, terms=Reward(math.nan, 1.0, math.nan), error="failed", texts=(CANCEL, say("x"))),
    ]
    found = group([], siblings=tuple(ways), used=(4, 9), query="Where is it?", task=3, task_id="efc-7", agent="efc")
    (observation,) = observations([found])
    assert observation.strategy == "Call get_order with order_id, then answer."
    assert observation.rewards[:4] == (1.5, 2.0, 2.0, 2.0)
    assert math.isnan(observation.rewards[4])
    assert (observation.agent, observation.query, observation.used) == ("efc", "Where is it?", (4, 9))
    assert observation.episode == "efc-7#3"


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    with Memory(tmp_path / "memory.db", HashingEmbedder(), config=MemoryConfig(min_window=1)) as opened:
        yield opened


def sampled(memory: Memory | None, engine: ScriptedEngine) -> list[NodeGroup]:
    config = VRGRPOConfig(group_size=4)
    return sample_groups(engine, policies(), Counter, AGENTS, tasks(3), config, 7, params=None, memory=memory)[0]


def test_a_memory_learns_and_is_read(memory: Memory) -> None:
    groups = sampled(memory, ScriptedEngine(hierarchy))
    assert {g.used for g in groups} == {()}
    assert {g.query for g in groups if g.agent == "adder"} == {"Count to 3."}
    assert {g.query for g in groups if g.agent == "master"} == {"Count 0.", "Count 1.", "Count 2."}
    memory.evolve(1, observations(groups))
    assert {(e.agent, e.strategy) for e in memory.entries()} == {
        ("master", "Call adder, then answer."),
        ("adder", "Call add with n (2 times), then answer."),
    }
    engine = ScriptedEngine(hierarchy)
    groups = sampled(memory, engine)
    ids = {e.agent: e.id for e in memory.entries()}
    assert all(ids[g.agent] in g.used for g in groups)
    for asked in engine.rounds:
        for policy, prompt, _ in asked:
            advice = "Call adder, then answer." if "master" in policy else "Call add with n (2 times), then answer."
            assert prompt.count(advice) == 1
    done = memory.evolve(2, observations(groups))
    assert done.updated == 2


def test_memory_is_asked_once_a_question_and_together(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three queries of the master one by one, then every new task of an adder once, all of a round in one call."""
    asked: list[list[tuple[str, str]]] = []
    retrieve = memory.retrieve_many

    def spy(agents: Any, queries: Any, m: int | None = None) -> list[list[Entry]]:
        asked.append(list(zip(agents, queries, strict=True)))
        return retrieve(agents, queries, m)

    def write(policy: str, prompt: str, rng: Any) -> str:
        if "master" in policy and prompt.count("<|im_start|>user") == 1:
            return render(Action("adder", {"task": f"Task {rng.choice('abcdef')}"}))
        return hierarchy(policy, prompt, rng)

    monkeypatch.setattr(memory, "retrieve_many", spy)
    sampled(memory, ScriptedEngine(write))
    assert asked[:3] == [[("master", f"Count {i}.")] for i in range(3)]
    assert len(asked) <= 5
    flat = [question for questions in asked for question in questions]
    assert len(set(flat)) == len(flat) > 5


def test_wrong_calls_are_not_looked_up(memory: Memory) -> None:
    """Tasks that the episode refuses are no questions to a memory."""
    config = VRGRPOConfig(group_size=2)
    for arguments in ({"task": " "}, {"task": 3}, {}):
        engine = ScriptedEngine(
            lambda policy, prompt, rng, a=arguments: render(Action("adder", a)) if "Observation" not in prompt else say("0")
        )
        groups, _ = sample_groups(engine, policies(), Counter, AGENTS, tasks(1, 0), config, 7, params=None, memory=memory)
        assert [g.siblings[1].terms.accuracy for g in groups] == [1.0, 1.0]
