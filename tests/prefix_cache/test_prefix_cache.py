"""The contract by hand: siblings, versions, locks, the order and the cost of eviction, threads."""

import random
import threading
import time

import numpy as np
import pytest
import torch

from himakernels.prefix_cache import Match, OutOfBlocksError, PrefixCache


def put(cache: PrefixCache, tokens: list[int], policy: str = "qa", version: int = 0) -> int:
    """Stores a sequence as one that runs would; returns its node, locked. It holds no blocks of its own any more."""
    found = cache.match(policy, version, tokens)
    size, begin = cache.block_size, found.num_cached_tokens
    own = cache.fork(found.node).targets.tolist()
    own += cache.allocate(-(-len(tokens) // size) - begin // size - len(own)).tolist()
    node = cache.insert(found.node, tokens[begin:], own).node
    cache.release(own)
    return node


def store(cache: PrefixCache, tokens: list[int], policy: str = "qa", version: int = 0) -> None:
    cache.unlock(put(cache, tokens, policy, version))


def cached(cache: PrefixCache, tokens: list[int], policy: str = "qa", version: int = 0) -> int:
    """How many of the tokens are there. This uses them."""
    found = cache.match(policy, version, tokens)
    cache.unlock(found.node)
    return found.num_cached_tokens


def test_siblings_share_their_prompt_and_copy_its_last_block() -> None:
    """A prompt of 10 in blocks of 4, three siblings that write three tokens each: 3 blocks, and 2 for each sibling."""
    cache = PrefixCache(16, 4)
    prompt = list(range(100, 110))
    found = cache.match("qa", 0, prompt[:-1])
    assert found.num_cached_tokens == 0
    table = cache.allocate(3)
    done = cache.insert(found.node, prompt, table)
    assert done.num_new_tokens == 10
    assert done.block_ids.tolist() == table.tolist()
    tails = cache.fork(done.node, 3)
    assert tails.sources.tolist() == [table[2]] * 3
    assert tails.num_tokens.tolist() == [2, 2, 2]
    assert cache.stats.num_locks == 3
    for sibling, tail in enumerate(tails.targets):
        more = cache.allocate(1)
        own = [tail, *more]
        node, new, _ = cache.insert(done.node, [sibling, 7, 8], own)
        assert new == 3
        assert cache.stats.num_tokens == 10 + 3 * (sibling + 1)
        cache.unlock(node)
        cache.release(own)
    assert cache.stats.free_blocks == 16 - 3 - 3 * 2
    assert cache.stats.evictable_blocks == 3 * 2  # the prompt's are still the caller's
    cache.release(table)
    cache.check_integrity()
    # The next turn of a sibling finds the prompt's two full blocks, and the sibling's own two.
    again = cache.match("qa", 0, [*prompt, 1, 7, 8, 9])
    assert again.num_cached_tokens == 13
    assert again.block_ids.tolist() == [*table[:2], tails.targets[1], again.block_ids[3]]
    cache.unlock(again.node)
    assert cache.evict(100) == 9
    assert cache.stats.free_blocks == 16


def test_a_fork_between_blocks_copies_nothing() -> None:
    cache = PrefixCache(8, 4)
    node = put(cache, [1, 2, 3, 4])
    copies = cache.fork(node, 5)
    assert [len(part) for part in copies] == [0, 0, 0]
    assert cache.stats.num_locks == 5
    cache.unlock(node, 5)
    assert cache.stats.free_blocks == 7


def test_a_block_can_be_inserted_before_it_is_written() -> None:
    """Two prompts of one step: the second begins with what the first is about to compute."""
    cache = PrefixCache(8, 4)
    first = cache.match("qa", 0, [1, 2, 3, 4, 5])
    own = cache.allocate(2)
    first = cache.insert(first.node, [1, 2, 3, 4, 5], own)
    second = cache.match("qa", 0, [1, 2, 3, 4, 9])
    assert second.num_cached_tokens == 4
    assert second.block_ids.tolist() == own[:1].tolist()
    # The step fails: nobody is to find the two again.
    cache.reset("qa")
    assert cached(cache, [1, 2, 3, 4]) == 0
    cache.unlock(first.node)
    cache.unlock(second.node)
    cache.release(own)
    assert cache.stats.free_blocks == 8


def test_nothing_of_an_older_version_matches_and_its_blocks_return() -> None:
    cache = PrefixCache(16, 4)
    tokens = list(range(12))
    store(cache, tokens, version=3)
    store(cache, tokens, policy="math", version=3)
    assert cached(cache, tokens, version=3) == 12
    assert cached(cache, tokens, version=4) == 0
    assert cache.stats.free_blocks == 13  # those of math are left
    assert cached(cache, tokens, version=3) == 0
    store(cache, tokens, version=3)
    assert cached(cache, tokens, version=3) == 0  # nor does it begin again
    assert cached(cache, tokens, policy="math", version=3) == 12
    cache.check_integrity()
    assert cache.stats.free_blocks == 13


@pytest.mark.parametrize("how", ["a newer version", "reset of the policy", "reset of all"])
def test_a_sequence_that_runs_through_an_update_leaves_nothing_behind(how: str) -> None:
    """Its blocks stay until it has ended, it forks and shares with its siblings, and nobody else finds what it inserts."""
    cache = PrefixCache(16, 4)
    tokens = list(range(6))
    node = put(cache, tokens)
    store(cache, [9, 9, 9, 9])
    if how == "a newer version":
        store(cache, tokens[:5], version=1)
    else:
        assert cache.reset("qa" if how == "reset of the policy" else None) == 1
    version = int(how == "a newer version")
    cache.check_integrity()
    fork = cache.fork(node, 2)
    assert fork.num_tokens.tolist() == [2, 2]
    ends = [cache.insert(node, [20 + i, 21], [target]).node for i, target in enumerate(fork.targets)]
    cache.release(fork.targets)
    assert cached(cache, [*tokens, 20, 21], version=version) == (5 if version else 0)
    assert cached(cache, [*tokens, 20, 21], version=0) == 0
    cache.check_integrity()
    cache.unlock(ends[0])
    cache.check_integrity()
    assert cache.evict(16) == 2 * version  # not what is locked
    cache.unlock(ends[1])
    cache.check_integrity()
    assert cache.stats.free_blocks == 16
    assert cache.stats.num_nodes == 0


@pytest.mark.parametrize(("evicted", "left"), [*enumerate([(4, 6, 2), (4, 4, 2), (4, 2, 2), (4, 2, 0), (2, 2, 0), (0, 0, 0)])])
@pytest.mark.parametrize("allocates", [False, True])
def test_the_least_recently_used_leaf_gives_up_its_last_block_first(
    evicted: int, left: tuple[int, ...], allocates: bool
) -> None:
    """What is left of three sequences, two of which begin alike; the prefix that they share goes last."""
    cache = PrefixCache(8, 2)
    sequences = [[1, 2, 3, 4], [1, 2, 5, 6, 7, 8], [9, 9]]
    for tokens in sequences:
        store(cache, tokens)
    assert cached(cache, sequences[0]) == 4  # used again: now 5 6 7 8 is the oldest leaf, then 9 9
    assert cache.stats.free_blocks == 3
    if allocates:
        assert len(cache.allocate(3 + evicted)) == 3 + evicted
    else:
        assert cache.evict(evicted) == evicted
    assert cache.stats.evicted_blocks == evicted
    assert tuple(cached(cache, tokens) for tokens in sequences) == left
    cache.check_integrity()


def test_what_is_locked_is_never_evicted() -> None:
    cache = PrefixCache(6, 2)
    node = put(cache, [1, 2, 3, 4])
    store(cache, [1, 2, 5, 6])
    store(cache, [1, 2, 3, 4, 7, 8])
    assert cache.stats.available_blocks == 4
    with pytest.raises(OutOfBlocksError, match=r"count: expected at most 4 blocks \(2 free, 2 evictable, of 6\), got 5"):
        cache.allocate(5)
    assert cache.stats.evicted_blocks == 0  # not in vain
    own = cache.allocate(4)
    found = cache.match("qa", 0, [1, 2, 3, 4, 7, 8])
    assert found.num_cached_tokens == 4
    assert cache.evict(1) == 0
    cache.unlock(found.node)
    assert cache.evict(1) == 0
    inside = cache.insert(node, [50], own[:1]).node
    with pytest.raises(OutOfBlocksError, match="expected at most 0 blocks"):
        cache.fork(inside, 1)
    assert cache.stats.num_locks == 1
    cache.check_integrity()


def leaves(count: int, block_size: int = 1) -> PrefixCache:
    """A cache full of unlocked leaves."""
    cache = PrefixCache(count, block_size)
    for token in range(count):
        store(cache, [token])
    return cache


def test_an_eviction_costs_the_logarithm_of_the_leaves() -> None:
    """1,000 blocks of 32,000 leaves take less than 8 times what they take of 1,000; looking at all would take 32 times."""

    def seconds(count: int) -> float:
        cache = leaves(count)
        begin = time.perf_counter()
        for _ in range(1000):
            cache.evict(1)
        return time.perf_counter() - begin

    few, many = (min(seconds(count) for _ in range(3)) for count in (1000, 32000))
    assert many < 8 * few, (few, many)


@pytest.mark.parametrize("kind", ["list", "int32", "tensor", "strided"])
def test_tokens_and_blocks_come_as_any_vector(kind: str) -> None:
    make = {
        "list": list,
        "int32": lambda values: np.array(values, np.int32),
        "tensor": torch.tensor,
        "strided": lambda values: np.repeat(values, 2)[::2],
    }[kind]
    cache = PrefixCache(8, 4)
    found = cache.match("qa", 0, make([1, 2, 3, 4, 5]))
    own = cache.allocate(2)
    node = cache.insert(found.node, make([1, 2, 3, 4, 5]), make(own.tolist())).node
    assert cached(cache, make([1, 2, 3, 4, 6])) == 4
    cache.unlock(node)
    cache.release(make(own.tolist()))
    assert isinstance(found, Match)
    assert found.block_ids.dtype == own.dtype == np.int32


def test_threads() -> None:
    """Four threads, a pool too small for them, three policies, versions that go up. Each reads what a match gives it."""
    size, threads, rounds = 4, 4, 1500
    cache = PrefixCache(48, size)
    slots = np.zeros((48, size), np.int64)  # what stands where: a number for policy, version and path
    versions = [0, 0, 0]
    wrong: list[object] = []

    def contents(policy: int, version: int, tokens: list[int]) -> list[int]:
        return [hash((policy, version, *tokens[: depth + 1])) for depth in range(len(tokens))]

    def read(table: list[int], length: int) -> list[int]:
        return slots[table].reshape(-1)[:length].tolist()

    def run(seed: int) -> None:
        rng = random.Random(seed)
        for step in range(rounds):
            policy = rng.randrange(3)
            if rng.random() < 0.01:
                versions[policy] += 1
            version = versions[policy]
            tokens = rng.choices(range(2), k=rng.randint(1, 14))
            truth = contents(policy, version, tokens)
            found = cache.match(str(policy), version, tokens)
            begin = found.num_cached_tokens
            table, own = found.block_ids.tolist(), []
            if read(table, begin) != truth[:begin]:
                wrong.append((seed, step))
            node = found.node
            try:
                copies = cache.fork(node)
                own += copies.targets.tolist()
                if own:
                    slots[own[0], : begin % size] = slots[table[-1], : begin % size]
                    table[-1] = own[0]
                more = cache.allocate(-(-len(tokens) // size) - len(table)).tolist()
                own += more
                table += more
                for depth in range(begin, len(tokens)):
                    slots[table[depth // size], depth % size] = truth[depth]
                node = cache.insert(node, tokens[begin:], table[begin // size :]).node
            except OutOfBlocksError:
                cache.evict(2)
            if own and read(table, begin) != truth[:begin]:
                wrong.append((seed, step))
            cache.unlock(node)
            cache.release(own)
            if step % 100 == 0:
                cache.check_integrity()

    def guarded(seed: int) -> None:
        try:
            run(seed)
        except Exception as error:
            wrong.append(error)

    workers = [threading.Thread(target=guarded, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    cache.check_integrity()
    stats = cache.stats
    assert stats.matched_tokens > 1000
    assert stats.evicted_blocks > 100
    assert stats.num_locks == 0
    cache.reset()
    assert cache.stats.free_blocks == 48
