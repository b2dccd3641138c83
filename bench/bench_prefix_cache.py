"""The prefix cache without tensors: match and insert of rollout-shaped requests, and evictions from many leaves.

Requests are those of five agents: each agent's system prompt of 400 tokens, a context of 1,400 that 8 siblings share, and 200
of a sibling's own; every request is matched, given blocks, inserted and let go. The opponent is what a block cache in Python
does: a dictionary of chained hashes, one for each full block. The gate: both find the same full blocks.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.measure import configuration
from himakernels.prefix_cache import PrefixCache

SYSTEM, SHARED, OWN, GROUP, AGENTS = 400, 1400, 200, 8, 5
LEAVES = {"leaves 1,000": 1000, "leaves 10,000": 10_000, "leaves 100,000": 100_000}
BATCH = 1000  # evictions that are timed together

Request = tuple[str, NDArray[np.int64]]


def requests(count: int) -> list[Request]:
    """Siblings one after another, agents in turn."""
    rng = np.random.default_rng(0)
    systems = rng.integers(150_000, size=(AGENTS, SYSTEM))
    made: list[Request] = []
    for first in range(0, count, GROUP):
        agent = first // GROUP % AGENTS
        shared = rng.integers(150_000, size=SHARED)
        for _ in range(min(GROUP, count - first)):
            made.append((f"agent {agent}", np.concatenate([systems[agent], shared, rng.integers(150_000, size=OWN)])))
    return made


def in_tree(cache: PrefixCache, asked: list[Request]) -> Iterator[int]:
    """The tokens in full blocks that each request finds."""
    size = cache.block_size
    for policy, tokens in asked:
        node, begin, _ = cache.match(policy, 0, tokens)
        yield begin // size * size
        own = cache.fork(node).targets
        own = np.concatenate([own, cache.allocate(-(-len(tokens) // size) - begin // size - len(own))])
        cache.unlock(cache.insert(node, tokens[begin:], own).node)
        cache.release(own)


def in_dictionary(size: int, asked: list[Request]) -> Iterator[int]:
    """The same with a hash of each full block and all before it."""
    known: dict[int, int] = {}
    for policy, tokens in asked:
        ids, key, found = tokens.tolist(), hash(policy), 0
        for begin in range(0, len(ids) - size + 1, size):
            key = hash((key, *ids[begin : begin + size]))
            if key in known:
                found += size
            else:
                known[key] = len(known)
        yield found


def run(name: str, size: int, asked: list[Request]) -> Callable[[], int]:
    distinct = len(asked) * OWN + -(-len(asked) // GROUP) * SHARED + AGENTS * SYSTEM
    blocks = distinct // size + 3 * len(asked)

    def once() -> int:
        return sum(in_dictionary(size, asked) if name == "dictionary" else in_tree(PrefixCache(blocks, size), asked))

    return once


@pytest.fixture(scope="module")
def same_as_the_dictionary() -> None:
    """No time before the hits are right."""
    asked = requests(40)
    for size in (1, 16):
        assert list(in_tree(PrefixCache(100_000, size), asked)) == list(in_dictionary(size, asked))


@pytest.mark.usefixtures("same_as_the_dictionary")
@pytest.mark.parametrize("block_size", [1, 16])
@pytest.mark.parametrize("name", ["himakernels", "dictionary"])
def bench_match_and_insert(benchmark: Any, request: pytest.FixtureRequest, name: str, block_size: int) -> None:
    asked = requests(16 if request.config.getoption("benchmark_disable") else 10_000)
    benchmark.group = f"match and insert, blocks of {block_size}"
    found = benchmark.pedantic(run(name, block_size, asked), rounds=3, iterations=1, warmup_rounds=1)
    tokens = sum(len(ids) for _, ids in asked)
    info = {**configuration(), "requests": len(asked), "tokens": tokens, "hit_rate": found / tokens}
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        info |= {"us_per_request": 1e6 * seconds / len(asked), "tokens_per_s": tokens / seconds}
    benchmark.extra_info.update(info)


@pytest.mark.parametrize("count", LEAVES.values(), ids=LEAVES)
def bench_evictions(benchmark: Any, request: pytest.FixtureRequest, count: int) -> None:
    """A block taken where all are in leaves, one of which must go; stored again as the most recent leaf."""
    if request.config.getoption("benchmark_disable"):
        count = 50
    cache = PrefixCache(count, 16)
    tokens = np.arange(16)
    asked = iter(range(10**9))

    def store(evictions: int) -> None:
        for _ in range(evictions):
            tokens[0] = next(asked)
            node = cache.match("qa", 0, tokens).node
            own = cache.allocate(1)
            cache.unlock(cache.insert(node, tokens, own).node)
            cache.release(own)

    store(count)
    assert cache.stats.free_blocks == 0
    batch = min(BATCH, count)
    benchmark.group = "evictions"
    benchmark.pedantic(store, args=(batch,), rounds=30, iterations=1, warmup_rounds=2)
    assert cache.stats.num_nodes == count
    cache.check_integrity()
    info: dict[str, Any] = {**configuration(), "leaves": count, "evictions": batch}
    if benchmark.stats is not None:
        info["us_per_eviction"] = 1e6 * benchmark.stats.stats.median / batch
    benchmark.extra_info.update(info)


@pytest.mark.parametrize("count", LEAVES.values(), ids=LEAVES)
def bench_evict_all(benchmark: Any, request: pytest.FixtureRequest, count: int) -> None:
    """Every leaf of a tree goes in one call."""
    if request.config.getoption("benchmark_disable"):
        count = 50
    benchmark.group = "all leaves at once"

    def full() -> tuple[tuple[PrefixCache], dict[str, Any]]:
        cache, tokens = PrefixCache(count, 16), np.arange(16)
        for first in range(count):
            tokens[0] = first
            node = cache.match("qa", 0, tokens).node
            own = cache.allocate(1)
            cache.unlock(cache.insert(node, tokens, own).node)
            cache.release(own)
        return (cache,), {}

    def evict(cache: PrefixCache) -> None:
        assert cache.evict(count) == count

    benchmark.pedantic(evict, setup=full, rounds=5, iterations=1, warmup_rounds=1)
    info: dict[str, Any] = {**configuration(), "leaves": count}
    if benchmark.stats is not None:
        info["us_per_eviction"] = 1e6 * benchmark.stats.stats.median / count
    benchmark.extra_info.update(info)
