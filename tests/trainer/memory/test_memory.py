"""Retrieval, with an embedder whose cosines are known; and what a memory refuses."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from trainer.memory import Observation, rule
from trainer.memory.index import top


def test_retrieval_weighs_the_cosine(make, put) -> None:
    """cos 0 x sigmoid(-1) = 0.27 stands behind cos 60 x sigmoid(1) = 0.37 and before cos 75 x sigmoid(1) = 0.19."""
    memory = make(floor=0.1)
    near, middle, far = (put(memory, "efc", key, weight=w) for key, w in (("0", -1.0), ("60", 1.0), ("75", 1.0)))
    put(memory, "qa", "0")
    assert [e.id for e in memory.retrieve("efc", "0")] == [middle, near, far]
    assert [e.id for e in memory.retrieve("efc", "0", 1)] == [middle]
    assert memory.retrieve("efc", "0", 0) == []
    assert [e.id for e in make(floor=0.25).retrieve("efc", "0")] == [middle, near]
    assert [e.id for e in make(floor=0.1, m=2).retrieve("efc", "75")] == [far, middle]
    assert memory.retrieve("nobody", "0") == []


def test_many_queries_are_the_single_ones(make, put) -> None:
    memory = make(floor=-1.0)
    draw = random.Random(0)
    for i in range(40):
        put(memory, draw.choice(["efc", "qa"]), f"{draw.uniform(0, 360)} {i}", weight=draw.uniform(-1, 2))
    agents = [draw.choice(["efc", "qa", "math"]) for _ in range(30)]
    queries = [str(draw.uniform(0, 360)) for _ in range(30)]
    found = memory.retrieve_many(agents, queries)
    assert found == [memory.retrieve(a, q) for a, q in zip(agents, queries, strict=True)]
    assert memory.retrieve_many([], []) == []
    for agent, query, entries in zip(agents, queries, found, strict=True):
        scores = {
            e.id: math.cos(math.radians(float(query) - float(e.key.split()[0]))) * rule.sigmoid(e.weight)
            for e in memory.entries(agent)
        }
        assert [e.id for e in entries] == sorted(scores, key=lambda i: -scores[i])[:3]


def test_the_search_is_exact() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((300, 48)).astype(np.float32)
    queries = draw.standard_normal((20, 48)).astype(np.float32)
    products = queries.astype(np.float64) @ vectors.astype(np.float64).T
    for hits, exact in zip(top(vectors, queries, 7), products, strict=True):
        assert [row for row, _ in hits] == np.argsort(-exact)[:7].tolist()
        np.testing.assert_allclose([p for _, p in hits], np.sort(exact)[::-1][:7], rtol=1e-5)
    assert top(vectors, queries[3:4], 7)[0] == top(vectors, queries, 7)[3]  # bitwise: alone as among others
    assert top(vectors[:0], queries, 7) == [[]] * 20
    assert [row for row, _ in top(np.ones((3, 2), np.float32), np.ones((1, 2), np.float32), 9)[0]] == [0, 1, 2]


GOOD = Observation(agent="efc", query="0", rewards=(0.0, 2.0), used=(1,), strategy="s", episode="e")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"agent": ""}, ValueError, r"observations\[1\]\.agent: expected a text, got ''"),
        ({"agent": None}, TypeError, r"observations\[1\]\.agent: expected a string, got None"),
        ({"query": " \n"}, ValueError, r"observations\[1\]\.query: expected a text"),
        ({"query": "0 \ud800"}, ValueError, r"observations\[1\]\.query: expected text that UTF-8 can hold"),
        ({"strategy": ""}, ValueError, r"observations\[1\]\.strategy: expected a text, got ''"),
        ({"episode": 3}, TypeError, r"observations\[1\]\.episode: expected a string, got 3"),
        ({"rewards": ()}, ValueError, r"observations\[1\]\.rewards: expected at least one reward, got none"),
        ({"rewards": (2.5,)}, ValueError, r"\[1\]\.rewards: expected .* = \[0\.0, 2\.0\] or NaN, got 2\.5"),
        ({"rewards": (-math.inf,)}, ValueError, r"observations\[1\]\.rewards: expected numbers in .*, got -inf"),
        ({"rewards": ("2",)}, TypeError, r"observations\[1\]\.rewards: expected numbers, got '2'"),
        ({"used": ("1",)}, TypeError, r"observations\[1\]\.used: expected ids of entries, got '1'"),
        ({"used": (99,)}, ValueError, r"observations\[1\]\.used: expected ids in \[1, 1\], got 99"),
        ({"used": (0,)}, ValueError, r"observations\[1\]\.used: expected ids in \[1, 1\], got 0"),
        ({"agent": "qa"}, ValueError, r"observations\[1\]\.used: expected entries of 'qa', got 1 of 'efc'"),
    ],
)
def test_observations_that_are_refused(make, put, change, error, message) -> None:
    memory = make()
    put(memory, "efc", "0")
    before = memory.entries()
    with pytest.raises(error, match=message):
        memory.evolve(1, [GOOD, replace(GOOD, **change)])
    assert memory.entries() == before
    assert memory.step is None


def test_other_arguments_that_are_refused(make) -> None:
    memory = make()
    with pytest.raises(ValueError, match=r"step: expected an int >= 0, got -1"):
        memory.evolve(-1, [])
    with pytest.raises(ValueError, match=r"step: expected an int >= 0, got 1\.5"):
        memory.evolve(1.5, [])
    with pytest.raises(TypeError, match=r"observations\[0\]: expected an Observation, got dict"):
        memory.evolve(1, [{}])
    with pytest.raises(ValueError, match=r"queries: expected 2, one for each of agents, got 1"):
        memory.retrieve_many(["a", "b"], ["0"])
    with pytest.raises(ValueError, match=r"m: expected an int >= 0, got -1"):
        memory.retrieve("a", "0", -1)
    with pytest.raises(ValueError, match=r"query: expected a text, got ''"):
        memory.retrieve("a", "")
