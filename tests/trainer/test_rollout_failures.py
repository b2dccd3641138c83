"""An exception while a batch is sampled costs its trajectory only, wherever it is raised; one in all of them is an error."""

import math
from typing import Any

import pytest
import reasoning_gym
from scripted import AGENTS, ALONE, Counter, ScriptedEngine, hierarchy, policies, say, tasks

from trainer.evaluate import Job, play
from trainer.foreign import as_environment
from trainer.policies import CopyPolicy
from trainer.rollout import sample_groups
from trainer.vrgrpo import VRGRPOConfig

METHODS = ["make", "reset", "step", "snapshot", "restore"]
G = 4
PATHS = VRGRPOConfig(group_size=G)
TREES = VRGRPOConfig(sampling="tree", leaves=6)


def fragile(method: str, error: BaseException, at: range | None = None) -> Any:
    """A factory of counters that raise in one of their methods: in the calls of the numbers `at`; None: in every one."""
    calls = 0

    def called(name: str) -> None:
        nonlocal calls
        if name == method:
            calls += 1
            if at is None or calls in at:
                raise error

    class Fragile(Counter):
        def __init__(self) -> None:
            called("make")
            super().__init__()

        def reset(self, task: Any, seed: int = 0) -> str:
            called("reset")
            return super().reset(task, seed)

        def step(self, action: Any, *, agent: str | None = None) -> Any:
            called("step")
            return super().step(action, agent=agent)

        def snapshot(self) -> Any:
            called("snapshot")
            return super().snapshot()

        def restore(self, state: Any) -> None:
            called("restore")
            super().restore(state)

    return Fragile


def sample(make: Any, config: VRGRPOConfig = PATHS, count: int = 3, **options: Any) -> Any:
    return sample_groups(ScriptedEngine(hierarchy), policies(), make, AGENTS, tasks(count), config, 7, params=None, **options)


@pytest.mark.parametrize("config", [PATHS, TREES], ids=["trajectories", "trees"])
@pytest.mark.parametrize("method", METHODS)
def test_one_call_that_raises_costs_one_trajectory(method: str, config: VRGRPOConfig) -> None:
    """The first call of all, and a later one; every reward that does not hang on that trajectory is as without it."""
    exact = {(g.task, g.node, s.texts): s.reward for g in sample(Counter, config)[0] for s in g.siblings}
    for at in (1, 9):
        groups, stats = sample(fragile(method, ConnectionError("gone"), range(at, at + 1)), config)
        assert (stats.failed, stats.unscored, stats.errors) == (1, 0, ("ConnectionError: gone",))
        assert not math.isnan(stats.reward)
        found = [(g.task, g.node, s) for g in groups for s in g.siblings]
        assert len(found) > len(exact) / 2
        for task, node, sibling in found:
            if config is PATHS and sibling.error is None:
                assert sibling.reward == exact[task, node, sibling.texts]
            assert math.isnan(sibling.reward) == (sibling.error is not None)


def test_a_sibling_that_cannot_begin_is_missing_from_its_group() -> None:
    groups, stats = sample(fragile("restore", OSError("busy"), range(1, 3)), count=1)
    assert sorted(len(group.siblings) for group in groups) == [G - 2, G, G, G, G]
    assert (stats.failed, stats.trajectories) == (2, 1 + 5 * (G - 1))


@pytest.mark.parametrize("config", [PATHS, TREES], ids=["trajectories", "trees"])
@pytest.mark.parametrize("method", METHODS)
def test_an_environment_that_always_fails_is_an_error(method: str, config: VRGRPOConfig) -> None:
    make = fragile(method, ConnectionError("gone"))
    with pytest.raises(RuntimeError, match=r"expected at least one .*got none: ConnectionError: gone"):
        sample(make, config)
    _, stats = sample(make, config, strict=False)
    assert stats.errors == ("ConnectionError: gone",)
    assert stats.failed == stats.trajectories - (3 if method == "restore" else 0)
    assert math.isnan(stats.reward) == (method != "restore")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_who_wants_to_end_the_process_does(method: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        sample(fragile(method, error(), range(4, 5)))


def test_agents_that_are_none_are_no_failure_of_the_environment() -> None:
    with pytest.raises(ValueError, match="agents: expected one named 'boss', got master, adder"):
        sample(Counter, entry="boss")


@pytest.mark.parametrize("reward", [None, math.nan, math.inf, -math.inf])
def test_an_environment_without_a_score_is_no_error(reward: float | None) -> None:
    """Always: nobody is scored; now and then: only those are left out."""

    class Silent(Counter):
        always = True

        def step(self, action: Any, *, agent: str | None = None) -> Any:
            step = super().step(action, agent=agent)
            return step._replace(reward=reward) if self.always or self.value == 4 else step

    groups, stats = sample(Silent)
    assert (stats.unscored, stats.failed) == (stats.trajectories, 0)
    assert len(stats.reasons) == 1
    assert all(math.isnan(r) for group in groups for r in group.rewards)
    assert math.isnan(stats.reward)
    Silent.always = False
    groups, stats = sample(Silent)
    rewards = [r for group in groups for r in group.rewards]
    assert 0 < stats.unscored < stats.trajectories
    assert any(map(math.isnan, rewards))
    assert not all(map(math.isnan, rewards))


@pytest.mark.parametrize("method", ["make", "reset", "step"])
def test_an_evaluation_loses_one_episode(method: str) -> None:
    jobs = [Job(id=str(i), column="eval", task=task, minimal_calls=3) for i, task in enumerate(tasks(4))]
    played = play(CopyPolicy(), jobs, fragile(method, ConnectionError("gone"), range(2, 3)), AGENTS)
    assert [one.error for one in played].count("ConnectionError: gone") == 1
    assert [one.reason for one in played].count("error") == 1
    with pytest.raises(KeyboardInterrupt):
        play(CopyPolicy(), jobs, fragile(method, KeyboardInterrupt(), range(2, 3)), AGENTS)


@pytest.mark.parametrize("method", ["__init__", "reset", "get_reward"])
def test_an_environment_of_trl_that_fails(method: str) -> None:
    """As our own: once, always, and by an interrupt."""

    class Trl:
        calls = 0
        at: range | None = range(3, 4)
        error: BaseException = TimeoutError("slow")

        def _called(self, name: str) -> None:
            if name == method:
                Trl.calls += 1
                if Trl.at is None or Trl.calls in Trl.at:
                    raise Trl.error

        def __init__(self) -> None:
            self._called("__init__")

        def reset(self, **row: Any) -> None:
            self._called("reset")

        def get_reward(self) -> float:
            self._called("get_reward")
            return 1.0

    def sampled() -> Any:
        Trl.calls = 0
        engine, rows = ScriptedEngine(lambda *_: say("1")), [{"prompt": "Count."}] * 2
        make = lambda: as_environment(Trl)  # noqa: E731
        return sample_groups(engine, policies(), make, ALONE, rows, PATHS, 7, params=None)

    groups, stats = sampled()
    assert (stats.failed, stats.errors) == (1, ("TimeoutError: slow",))
    assert sum(len(group.siblings) for group in groups) == (8 if method == "get_reward" else 7)
    Trl.at = None
    with pytest.raises(RuntimeError, match=r"got none: TimeoutError: slow"):
        sampled()
    Trl.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        sampled()


def test_an_item_without_a_question() -> None:
    make = lambda: as_environment(reasoning_gym.create_dataset("chain_sum", size=2, seed=1))  # noqa: E731
    engine = ScriptedEngine(lambda *_: say("1"))
    groups, stats = sample_groups(engine, policies(), make, ALONE, [0, {"id": "x"}, 1], PATHS, 7, params=None)
    assert [group.task for group in groups] == [0, 2]
    assert stats.failed == 1
    assert stats.errors == ("KeyError: 'question'",)
