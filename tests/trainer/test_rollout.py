"""Sampling along initial trajectories, with scripted policies over a counter: order, counts, states, rewards, failures."""

import json
import math
import random
from typing import Any

import pytest
import scripted
from scripted import AGENTS, Counter, ScriptedEngine, add, ask, hierarchy, policies, say, tasks, tokenizer, told

from trainer.env import Replayable
from trainer.episode import Episode, Limits
from trainer.rollout import RolloutStats, sample_groups
from trainer.vrgrpo import NodeGroup, VRGRPOConfig

G = 4
CONFIG = VRGRPOConfig(group_size=G)


def sample(engine: ScriptedEngine, count: int = 2, config: VRGRPOConfig = CONFIG, seed: int = 7, **options: Any) -> Any:
    given = {"params": None} | options
    chosen = given.pop("tasks", tasks(count))
    return sample_groups(engine, policies(), Counter, AGENTS, chosen, config, seed, **given)


def values(texts: tuple[str, ...]) -> list[int]:
    return [json.loads(text.split("Action Input: ")[1])["n"] for text in texts if "Action: add" in text]


def test_siblings_set_out_when_their_trajectory_passes_their_node() -> None:
    """Two queries of five nodes: a round later than the trajectory acts, three siblings a node start, and go on beside it."""
    engine = ScriptedEngine(hierarchy)
    made = Counter.made
    groups, stats = sample(engine)
    assert [len(asked) for asked in engine.rounds] == [2, 8, 14, 20, 26, 30]
    assert sorted(policy for policy, _, _ in engine.rounds[1]) == ["adder-policy"] * 2 + ["master-policy"] * 6
    assert Counter.made - made == stats.trajectories == 2 * (1 + 5 * (G - 1))
    assert [(g.task, g.node, g.agent) for g in groups] == [
        (t, node, agent) for t in (0, 1) for node, agent in enumerate(["master", "adder", "adder", "adder", "master"])
    ]
    assert {len(g.siblings) for g in groups} == {G}
    assert stats.samples == sum(map(len, engine.rounds)) == 2 * 5 + 90
    assert stats.sampled_tokens == sum(len(s) for s in _texts(engine)) + stats.samples
    assert (stats.queries, stats.groups, stats.failed, stats.truncated, stats.malformed) == (2, 10, 0, 0, 0.0)
    assert stats.engine_seconds < stats.seconds


def _texts(engine: ScriptedEngine) -> list[str]:
    return [engine.write(policy, prompt, random.Random(seed)) for asked in engine.rounds for policy, prompt, seed in asked]


def test_siblings_start_from_the_very_state() -> None:
    """Prompts, counters and contexts of a node are the trajectory's; what follows is the sibling's own."""
    groups, _ = sample(ScriptedEngine(hierarchy), count=8)
    differs = 0
    for g in groups:
        first = next(other for other in groups if (other.task, other.node) == (g.task, 0)).siblings[0]
        mine = g.siblings[0]
        assert (mine.reward, mine.calls) == (
            first.reward,
            3,
        )  # a_t^0 is the trajectory's own action, its reward the trajectory's
        prompt = tokenizer().decode(list(g.prompt_ids))
        assert prompt.endswith("<|im_start|>assistant\n")
        for sibling in g.siblings:
            assert sibling.texts[: g.written] == mine.texts[: g.written]
            assert sibling.texts[g.written] == sibling.text
            assert all(text in prompt for text in sibling.texts[: g.written])
            assert tokenizer().decode(list(sibling.token_ids), skip_special_tokens=True) == sibling.text
            assert len(sibling.token_ids) == len(sibling.rollout_logprobs)
            if g.agent == "adder":
                assert sibling.terms.accuracy == float(sum(values(sibling.texts)) == 3)
                differs += sibling.reward != mine.reward
    assert differs > 10
    assert [g.written for g in groups[:5]] == [0, 0, 1, 2, 1]
    assert {g.policy for g in groups} == {"master-policy", "adder-policy"}
    assert {g.policy_version for g in groups} == {3}


def test_rewards_by_hand() -> None:
    """R_E = 0.2 * 1 * (5 calls - 3) / 10; format 1 of the action even where the continuation is malformed later."""

    def write(policy: str, prompt: str, rng: random.Random) -> str:
        heard = told(prompt)
        if "master" in policy:
            return ask("Count.") if len(heard) == 1 else say(heard[-1])
        return [add(1), add(0), add(1), add(1)][len(heard) - 1] if len(heard) < 5 else say(heard[-1])

    groups, stats = sample(ScriptedEngine(write), 1, limits=Limits(nodes=10))
    assert groups[2].siblings[1].terms == pytest.approx((1.0, 1.0, 0.04))
    assert (stats.accuracy, stats.calls, stats.reward) == (1.0, 5.0, pytest.approx(1.96))
    plain = VRGRPOConfig(group_size=2, efficiency=0.0, format=0.5)
    groups, _ = sample(ScriptedEngine(write), 1, plain)
    assert groups[0].rewards == (1.5, 1.5)


def test_malformed_actions() -> None:
    """One that is outside the grammar ends its episode with nothing; those before it in the trajectory keep their R_F."""

    def write(policy: str, prompt: str, rng: random.Random) -> str:
        text = hierarchy(policy, prompt, rng)
        return "Hm." if "adder" in policy and len(told(prompt)) == 2 and rng.random() < 0.5 else text

    groups, stats = sample(ScriptedEngine(write), count=8)
    broken = [s for g in groups for s in g.siblings if not s.parsed]
    assert broken
    assert {s.terms for s in broken} == {(0.0, 0.0, 0.0)}
    assert {s.reason for s in broken} == {"malformed"}
    later = [s for g in groups for s in g.siblings if s.parsed and s.reason == "malformed"]
    assert {s.reward for s in later} == {1.0}
    assert stats.malformed == pytest.approx(len(broken) / (G * len(groups)))
    short = [g for g in groups if g.task == next(g.task for g in groups if not g.siblings[0].parsed)]
    assert [g.node for g in short] == [0, 1, 2]  # the trajectory ended there
    generous, _ = sample(ScriptedEngine(write), count=8, score=lambda task, episode: 1.0)
    assert {s.terms.accuracy for g in generous for s in g.siblings if s.reason == "malformed"} == {0.0}


def test_limits() -> None:
    groups, stats = sample(ScriptedEngine(hierarchy), 1, limits=Limits(nodes=3))
    assert {s.reason for g in groups for s in g.siblings} == {"turn limit"}
    assert (len(groups), stats.accuracy) == (3, 0.0)
    groups, _ = sample(ScriptedEngine(hierarchy), 1, limits=Limits(calls=1))
    assert {s.reason for g in groups for s in g.siblings} == {"call limit"}
    long = len(groups[-1].prompt_ids)
    groups, stats = sample(ScriptedEngine(hierarchy), 1, max_prompt_tokens=long)
    assert [g.node for g in groups] == [0, 1, 2]
    assert {(s.reason, s.reward) for g in groups for s in g.siblings} == {("context limit", 1.0)}
    with pytest.raises(ValueError, match="max_prompt_tokens: expected at least 1 or None, got 0"):
        sample(ScriptedEngine(hierarchy), 1, max_prompt_tokens=0)


@pytest.mark.parametrize(("kind", "error"), [("nan", "NaN"), ("raise", "KeyError: 'no'"), ("high", "expected 0 to 1, got 2.0")])
def test_a_failed_scorer_costs_its_sample_only(kind: str, error: str) -> None:
    def score(task: Any, episode: Episode) -> float:
        if episode.outcome is not None and episode.outcome.answer == "2":
            if kind == "raise":
                raise KeyError("no")
            return math.nan if kind == "nan" else 2.0
        return float(episode.reward or 0.0)

    groups, stats = sample(ScriptedEngine(hierarchy), 6, score=score)
    exact, _ = sample(ScriptedEngine(hierarchy), 6)
    failed = 0
    for g, e in zip(groups, exact, strict=True):
        for sibling, same in zip(g.siblings, e.siblings, strict=True):
            two = sibling.error is not None
            failed += two
            assert error in (sibling.error or error)
            assert math.isnan(sibling.reward) == math.isnan(sibling.terms.cost) == two
            assert two or sibling == same
    assert 0 < failed < G * len(groups)
    assert 0 < (stats.failed if kind == "raise" else stats.unscored) < stats.trajectories
    assert min(stats.failed, stats.unscored) == 0
    (said,) = stats.errors + stats.reasons
    assert error in said


def test_an_environment_that_raises_costs_its_sample_only() -> None:
    class Fragile(Counter):
        def step(self, action: Any, *, agent: str | None = None) -> Any:
            step = super().step(action, agent=agent)
            if self.value == 4:
                raise OSError("overflow")
            return step

    groups, stats = sample_groups(ScriptedEngine(hierarchy), policies(), Fragile, AGENTS, tasks(8), CONFIG, 7, params=None)
    broken = [s for g in groups for s in g.siblings if s.error]
    assert {s.error for s in broken} == {"OSError: overflow"}
    assert all(math.isnan(s.reward) and s.reason is None for s in broken)
    assert stats.errors == ("OSError: overflow",)
    assert not math.isnan(stats.accuracy)


def test_all_failed_is_an_error_of_the_scorer() -> None:
    def score(task: Any, episode: Episode) -> float:
        raise ZeroDivisionError("oh")

    with pytest.raises(RuntimeError, match=r"of 32 to be scored, got none: ZeroDivisionError: oh"):
        sample(ScriptedEngine(hierarchy), score=score)


def test_without_the_cost_any_finite_score_counts() -> None:
    config = VRGRPOConfig(group_size=2, efficiency=0.0)
    groups, _ = sample(ScriptedEngine(hierarchy), 1, config, score=lambda task, episode: -5.0)
    assert groups[0].rewards == (-4.0, -4.0)


def test_the_seed_decides() -> None:
    first, _ = sample(ScriptedEngine(hierarchy), count=4)
    assert sample(ScriptedEngine(hierarchy), count=4)[0] == first
    assert sample(ScriptedEngine(hierarchy), count=4, seed=8)[0] != first
    assert sample(ScriptedEngine(hierarchy), count=2)[0] == first[:10]  # whatever else is in the batch
    engine = ScriptedEngine(hierarchy)
    sample(engine, count=4)
    seeds = [seed for asked in engine.rounds for _, _, seed in asked]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_agents_that_are_not_trained_have_no_siblings() -> None:
    config = VRGRPOConfig(group_size=G, trained_agents=("adder",))
    groups, stats = sample(ScriptedEngine(hierarchy), config=config)
    assert [(g.task, g.node) for g in groups] == [(t, n) for t in (0, 1) for n in (1, 2, 3)]
    assert stats.trajectories == 2 * (1 + 3 * (G - 1))
    with pytest.raises(ValueError, match="trained_agents: expected agents among master, adder, got math"):
        sample(ScriptedEngine(hierarchy), config=VRGRPOConfig(trained_agents=("adder", "math")))


def test_without_continuation() -> None:
    """One step: the last node only, nothing after it; who goes on there instead of answering has accuracy 0."""

    def write(policy: str, prompt: str, rng: random.Random) -> str:
        return say("0") if rng.random() < 0.5 else add(1) if len(told(prompt)) == 1 else say("1")

    engine = ScriptedEngine(write)
    config = VRGRPOConfig(group_size=G, continuation=False)
    groups, stats = sample_groups(engine, policies(), Counter, scripted.ALONE, tasks(6, target=0), config, 3, params=None)
    assert len(groups) == 6
    assert stats.trajectories == 6 * G
    assert len(engine.rounds[-1]) == 6 * (G - 1)
    for sibling in (s for g in groups for s in g.siblings[1:]):
        over = sibling.text == say("0")
        assert sibling.reason == ("answered" if over or sibling.text == say("1") else None)
        assert sibling.terms == ((1.0, 1.0, 0.0) if over and sibling.calls == 0 else (0.0, 1.0, 0.0))


def test_trees_split_until_they_have_their_leaves() -> None:
    """Two queries, six leaves each: 1, 2, 4, 6 branches; every node above has two actions, whose reward is the mean below."""
    config = VRGRPOConfig(sampling="tree", branching=2, leaves=6, efficiency=0.0)
    engine = ScriptedEngine(hierarchy)
    groups, stats = sample(engine, 2, config)
    assert [len(asked) for asked in engine.rounds] == [4, 8, 12, 12, 12]
    assert stats.trajectories == 12
    mine = [g for g in groups if g.task == 0]
    assert [(g.node, len(g.siblings)) for g in mine] == [(0, 2), (1, 2), (1, 2), (2, 2), (2, 2)]
    # Node 1 of the first branch: each action has the two leaves of a node 2 below it.
    above = mine[1]
    for sibling, below in zip(above.siblings, mine[3:], strict=True):
        assert below.siblings[0].texts[0] == sibling.text
        assert sibling.terms.accuracy == sum(s.terms.accuracy for s in below.siblings) / 2
    assert mine[0].siblings[0].terms.accuracy == sum(s.terms.accuracy for s in above.siblings) / 2
    assert sample(ScriptedEngine(hierarchy), 2, config)[0] == groups
    seeds = [seed for asked in engine.rounds for _, _, seed in asked]
    assert len(set(seeds)) == len(seeds)


def test_weights_that_change_meanwhile_are_refused() -> None:
    engine = ScriptedEngine(hierarchy, version=lambda: len(engine.rounds) // 4)
    with pytest.raises(RuntimeError, match=r"policy 'adder-policy': expected weights of version 0, got 1"):
        sample(engine, 1)


def test_an_agent_without_a_policy() -> None:
    few = policies()
    del few.policy_of["adder"]
    with pytest.raises(ValueError, match="policies: expected one for agent 'adder', got master"):
        sample_groups(ScriptedEngine(hierarchy), few, Counter, AGENTS, tasks(1), CONFIG, 7, params=None)


def test_no_tasks() -> None:
    groups, stats = sample(ScriptedEngine(hierarchy), 0)
    assert groups == []
    assert isinstance(stats, RolloutStats)
    assert stats.trajectories == 0
    assert math.isnan(stats.accuracy)


def test_tasks_may_be_objects_or_bare() -> None:
    groups, _ = sample(ScriptedEngine(hierarchy), tasks=[{"query": "Count.", "target": 3}] * 2)
    assert {g.task_id for g in groups} == {"0", "1"}
    costs = [s.terms.cost for g in groups for s in g.siblings if s.terms.accuracy]
    assert {round(cost, 6) for cost in costs} == {round(0.2 * 3 / 64, 6)}  # no fewest number of calls: each one costs
    assert isinstance(groups[0], NodeGroup)


@pytest.mark.parametrize("copies", [True, False])
def test_environments_without_states_are_re_entered_as_well(copies: bool) -> None:
    class Plain(Counter):
        snapshot = restore = None  # type: ignore[assignment]

        def __deepcopy__(self, memo: Any) -> Any:
            if not copies:
                raise TypeError("no copies")
            other = Plain()
            other.__dict__ |= self.__dict__
            return other

    exact, _ = sample(ScriptedEngine(hierarchy))
    make = lambda: Replayable(Plain())  # noqa: E731
    groups, _ = sample_groups(ScriptedEngine(hierarchy), policies(), make, AGENTS, tasks(2), CONFIG, 7, params=None)
    assert groups == exact
