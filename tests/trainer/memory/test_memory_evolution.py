"""Evolution, step by step, with an embedder whose cosines are known."""

import math
import random

import pytest

from trainer.memory import MemoryConfig, Observation, rule
from trainer.memory.index import top


def see(agent="efc", query="0", rewards=(0.0, 2.0), used=(), strategy=None, episode="e"):
    return Observation(agent=agent, query=query, rewards=rewards, used=tuple(used), strategy=strategy, episode=episode)


def test_a_used_entry_by_hand(make, put) -> None:
    """Two groups saw it in one step: r is the mean over their five scored siblings, 1.2, and there is one update."""
    memory = make(half_life=20, thresholds="fixed")
    memory.evolve(10, [])
    one = put(memory, "efc", "0", weight=1.0, reward=0.8, uses=2, step=3)
    other = put(memory, "efc", "90", weight=0.5, reward=0.8)
    done = memory.evolve(
        15, [see(used=[one], rewards=(2.0, 1.0, math.nan)), see(used=[one], rewards=(0.0, 1.0, 2.0), episode="f")]
    )
    entry, idle = memory.entries()
    assert entry.weight == pytest.approx(1.0 - 5 / 20 + (1.2 - 0.8))
    assert entry.reward == pytest.approx((3 * 0.8 + 2 * 1.2) / 5)
    assert (entry.uses, entry.last_use, entry.step) == (4, 15, 3)
    assert idle.id == other
    assert idle.weight == pytest.approx(0.5 - 5 / 20)  # time passes for all
    assert (idle.reward, idle.uses, idle.last_use) == (0.8, 0, None)
    assert (done.updated, done.penalised, done.added) == (1, 0, 0)


def test_one_episode_is_one_use(make, put) -> None:
    memory = make()
    one = put(memory, "efc", "0")
    groups = [
        see(used=[one, one], rewards=(0.0,)),
        see(used=[one], rewards=(1.0,)),
        see(used=[one], rewards=(2.0,), episode="f"),
    ]
    memory.evolve(1, groups)
    (entry,) = memory.entries()
    assert entry.uses == 2
    assert entry.reward == 1.0  # an id that is named twice saw its siblings once


def test_low_rewards_are_penalised(make, put) -> None:
    """All siblings that saw it failed: -0.5 beside beta (0 - 1). Of a group that half succeeded only the latter."""
    memory = make(penalty=0.5, min_weight=-9.0)
    bad, fair = put(memory, "efc", "0", reward=1.0), put(memory, "efc", "90", reward=1.0)
    done = memory.evolve(1, [see(used=[bad], rewards=(0.0, 0.0)), see(used=[fair], rewards=(0.0, 2.0))])
    assert done.bounds == {"efc": (0.0, 2.0)}
    assert [e.weight for e in memory.entries()] == [-0.5, 1.0]
    assert done.penalised == 1


def test_half_life_in_optimiser_steps(make, put) -> None:
    memory = make(half_life=50, min_weight=-0.9)
    memory.evolve(100, [])  # the first step only starts the clock
    put(memory, "efc", "0", weight=1.0)
    memory.evolve(150, [])
    assert memory.entries()[0].weight == 0.0
    memory.evolve(150, [])
    memory.evolve(120, [])  # of another process that lags behind: time stands still
    assert (memory.entries()[0].weight, memory.step) == (0.0, 150)
    assert memory.evolve(194, []).deleted == 0
    assert memory.evolve(196, []).deleted == 1
    assert memory.entries() == []


@pytest.mark.parametrize("thresholds", ["quantile", "normal"])
def test_the_trap_end_to_end(make, monkeypatch, thresholds) -> None:
    """Rewards of an agent that mostly succeeds: ours adds; mu + 1.96 sigma without the clamp adds nothing, ever."""
    rewards = [0.0] * 4 + [1.0] * 9 + [2.0] * 87
    random.Random(0).shuffle(rewards)
    groups = [see(query=str(10 * i), rewards=tuple(rewards[4 * i : 4 * i + 4]), strategy=f"s{i}") for i in range(25)]
    assert make(file="ours.db", thresholds=thresholds).evolve(1, groups).added > 10
    monkeypatch.setattr(rule, "clamped", lambda bounds, low, high: bounds)
    naive = make(file="naive.db", thresholds="normal")
    assert sum(naive.evolve(step, groups).added for step in range(1, 20)) == 0
    assert naive.entries() == []


def test_the_best_sibling_teaches(make) -> None:
    """A group is judged by its best sibling, and its entry starts with the mean of all: what its advice has to beat."""
    memory = make(min_window=8)
    assert memory.evolve(1, [see(rewards=(0.0, 2.0), strategy="too early")]).added == 0
    good = see(query="0", rewards=(0.0, 2.0, math.nan, 1.0), strategy="look first", episode="s2-q7")
    poor = see(query="90", rewards=(0.0, 1.0, 1.0), strategy="guess")
    done = memory.evolve(2, [good, poor])
    assert done.added == 1
    (entry,) = memory.entries()
    assert (entry.agent, entry.key, entry.strategy) == ("efc", "0", "look first")
    assert (entry.weight, entry.reward, entry.uses, entry.last_use) == (1.0, 1.0, 0, None)
    assert (entry.episode, entry.step) == ("s2-q7", 2)
    assert memory.retrieve("efc", "10") == [entry]


def test_near_duplicates_keep_the_better_text(make) -> None:
    memory = make(duplicate=0.95)  # cos 18 = 0.951, cos 19 = 0.946
    seed = [see(query="300", rewards=(0.0,)), see(query="0", rewards=(0.0, 2.0), strategy="first")]
    assert memory.evolve(1, seed).added == 1
    worse = memory.evolve(2, [see(query="17", rewards=(0.0, 0.0, 2.0), strategy="worse")])
    assert (worse.added, worse.replaced, worse.duplicates) == (0, 0, 1)
    better = memory.evolve(3, [see(query="18", rewards=(1.0, 2.0), strategy="better", episode="b")])
    assert (better.added, better.replaced, better.duplicates) == (0, 1, 0)
    (entry,) = memory.entries()
    assert (entry.key, entry.strategy, entry.reward, entry.weight) == ("0", "better", 1.5, 1.0)
    assert (entry.episode, entry.step, entry.uses, entry.last_use) == ("b", 3, 0, None)
    assert memory.evolve(4, [see(query="19", rewards=(0.0, 2.0), strategy="another")]).added == 1
    other_agent = memory.evolve(5, [see(agent="qa", query="0", rewards=(0.0, 2.0), strategy="first")])
    assert other_agent.added == 1


def test_duplicates_within_a_step_go_to_the_best(make) -> None:
    memory = make(thresholds="fixed", fixed_high=1.0)
    groups = [see(query="0", rewards=(1.0,), strategy="fair"), see(query="1", rewards=(0.0, 2.0), strategy="best")]
    done = memory.evolve(1, groups)
    assert (done.added, done.duplicates) == (1, 1)
    assert [e.strategy for e in memory.entries()] == ["best"]


def test_the_same_key_is_one_entry_whatever_the_cosine(make) -> None:
    """In fp32 a vector's product with itself can be below 1."""
    memory = make(duplicate=1.0)
    keys = [str(degrees) for degrees in range(0, 360, 7)]
    vectors = memory.embedder.embed(keys)
    assert any(top(vectors[i : i + 1], vectors[i : i + 1], 1)[0][0][1] < 1 for i in range(len(keys)))
    for step in range(2):
        memory.evolve(step, [see(query=key, strategy=f"s{step}") for key in keys])
    assert [entry.key for entry in memory.entries()] == keys


def test_the_lowest_weights_leave_a_full_memory(make, put) -> None:
    memory = make(capacity=2)
    for key, weight, last_use in (("0", 3.0, None), ("90", 0.9, 1), ("180", 2.0, 9)):
        put(memory, "efc", key, weight=weight, last_use=last_use)
    put(memory, "qa", "0", weight=-0.5)
    assert memory.evolve(1, [see(query="270", strategy="new")]).evicted == 2
    assert [(e.agent, e.key) for e in memory.entries()] == [("efc", "0"), ("efc", "180"), ("qa", "0")]
    put(memory, "efc", "1", weight=2.0, last_use=8)  # of equal weights the one that was used later stays
    assert memory.evolve(1, [see(query="270")]).evicted == 1
    assert [e.key for e in memory.entries("efc")] == ["0", "180"]


def test_deleted_entries_are_missing_not_wrong(make, put) -> None:
    """Between retrieval and update another process may have deleted an entry; its id is never given again."""
    memory = make(half_life=1)
    memory.evolve(0, [])
    gone = put(memory, "efc", "0")
    assert memory.evolve(9, []).deleted == 1
    assert put(memory, "efc", "90") == gone + 1
    done = memory.evolve(9, [see(used=[gone])])
    assert (done.missing, done.updated) == (1, 0)


def test_groups_without_a_scored_sibling_teach_nothing(make, put) -> None:
    memory = make()
    one = put(memory, "efc", "0")
    before = memory.entries()
    done = memory.evolve(1, [see(used=[one], rewards=(math.nan, math.nan), strategy="s")])
    assert (done.updated, done.added, done.bounds) == (0, 0, {})
    assert memory.entries() == before


def test_the_window_forgets(make) -> None:
    """Eight rewards of 0 push the earlier ones out; each agent has a window of its own."""
    memory = make(window=8)
    assert memory.evolve(1, [see(rewards=(2.0,) * 8), see(agent="qa", rewards=(1.0,))]).bounds["efc"] == (2.0, 2.0)
    done = memory.evolve(2, [see(rewards=(0.0,) * 7), see(agent="qa", rewards=(1.0,))])
    assert done.bounds == {"efc": (0.0, 2.0), "qa": (1.0, 1.0)}
    assert memory.evolve(3, [see(rewards=(0.0,))]).bounds["efc"] == (0.0, 0.0)
    assert memory.store.db.execute("SELECT agent, count(*) FROM rewards GROUP BY agent").fetchall() == [("efc", 8), ("qa", 2)]


def play(memory, steps, seed=0):
    """Some steps of a random life; everything that was retrieved is reported as used."""
    draw = random.Random(seed)
    for step in steps:
        groups = []
        for i in range(4):
            agent, query = draw.choice(["efc", "qa"]), f"{draw.uniform(0, 360):.3f}"
            used = [e.id for e in memory.retrieve(agent, query)]
            rewards = tuple(draw.choice([0.0, 1.0, 2.0]) for _ in range(4))
            groups.append(see(agent, query, rewards, used, f"advice {step}.{i}", f"s{step}-{i}"))
        memory.evolve(step, groups)
    return memory


def test_the_same_life_leaves_the_same_memory(make) -> None:
    settings = MemoryConfig(capacity=6, half_life=8, min_weight=0.2)
    one, two = (play(make(file=f, capacity=6, half_life=8, min_weight=0.2, min_window=4), range(30)) for f in ("a.db", "b.db"))
    assert one.entries() == two.entries()
    assert 4 < len(one.entries()) <= 2 * settings.capacity
    assert one.entries() != play(make(file="c.db", capacity=6), range(30), seed=1).entries()


def test_a_snapshot_continues_exactly(make, tmp_path) -> None:
    memory = play(make(window=20), range(10))
    memory.snapshot(tmp_path / "step10.db")
    then = play(memory, range(10, 20), seed=1).entries()
    memory.restore(tmp_path / "step10.db")
    assert memory.step == 9
    assert memory.entries() != then
    assert play(memory, range(10, 20), seed=1).entries() == then
    # And in another file, which the snapshot became.
    assert play(make(file="step10.db", window=20), range(10, 20), seed=1).entries() == then


def test_nothing_of_a_step_that_fails(make, put, monkeypatch) -> None:
    memory = make()
    one = put(memory, "efc", "0", reward=1.0)
    before = memory.entries(), memory.step, memory.store.db.execute("SELECT * FROM rewards").fetchall()

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.memory.evolution._evict", fail)
    with pytest.raises(KeyboardInterrupt):
        memory.evolve(5, [see(used=[one], strategy="new", query="90")])
    assert (memory.entries(), memory.step, memory.store.db.execute("SELECT * FROM rewards").fetchall()) == before
    assert memory.retrieve("efc", "0") == before[0]
