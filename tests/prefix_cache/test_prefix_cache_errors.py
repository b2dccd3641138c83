"""Bad input: argument, expected, got, and nothing has changed."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from himakernels.prefix_cache import OutOfBlocksError, PrefixCache


class Case:
    """A pool of 6 blocks of 4: a locked node after 6 tokens in two blocks, and two blocks of the caller's."""

    def __init__(self) -> None:
        self.cache = PrefixCache(6, 4)
        found = self.cache.match("qa", 0, [1, 2, 3, 4, 5, 6])
        self.kept = self.cache.allocate(2).tolist()
        self.node = self.cache.insert(found.node, [1, 2, 3, 4, 5, 6], self.kept).node
        self.own = self.cache.allocate(2).tolist()
        self.gone = self.cache.match("qa", 0, [9]).node
        self.cache.unlock(self.gone)

    def state(self) -> tuple[Any, ...]:
        self.cache.check_integrity()
        stats = self.cache.stats
        return stats.free_blocks, stats.evictable_blocks, stats.num_tokens, stats.num_locks, stats.queried_tokens


CASES: list[tuple[str, type[Exception], Callable[[Case], Any]]] = [
    ("policy: expected str, got int", TypeError, lambda c: c.cache.match(3, 0, [1])),  # type: ignore[arg-type]
    ("policy: expected str or None, got int", TypeError, lambda c: c.cache.reset(3)),  # type: ignore[arg-type]
    ("policy_version: expected int, got float", TypeError, lambda c: c.cache.match("qa", 1.0, [1])),  # type: ignore[arg-type]
    ("policy_version: expected a number >= 0, got -1", ValueError, lambda c: c.cache.match("qa", -1, [1])),
    ("policy_version: expected a number of 64 bits, got", ValueError, lambda c: c.cache.match("qa", 2**63, [1])),
    ("token_ids: expected dtype int64 or int32, got float32", TypeError, lambda c: c.cache.match("qa", 0, torch.ones(2))),
    ("token_ids: expected 1 dimension, got shape [1, 2]", ValueError, lambda c: c.cache.match("qa", 0, np.ones((1, 2), int))),
    ("token_ids: expected ids >= 0, got -100 at index 1", ValueError, lambda c: c.cache.insert(c.node, [7, -100], [1])),
    (
        "block_ids: expected 2 blocks of 4 for the depths 6 to 9, got 1",
        ValueError,
        lambda c: c.cache.insert(c.node, [7, 8, 9], c.own[:1]),
    ),
    (
        "block_ids: expected values in [0, 6), got 6 at index 1",
        ValueError,
        lambda c: c.cache.insert(c.node, [7, 8, 9], [c.own[0], 6]),
    ),
    ("block_ids: expected values in [0, 6), got 4294967296 at index 0", ValueError, lambda c: c.cache.release([2**32])),
    ("block_ids: expected each block once, got 2 twice", ValueError, lambda c: c.cache.insert(c.node, [7, 8, 9], [2, 2])),
    (  # a free one
        "block_ids: expected blocks that the caller has allocated and that keep no other tokens, got 5 at index 1",
        ValueError,
        lambda c: c.cache.insert(c.node, [7, 8, 9], [c.own[0], 5]),
    ),
    (  # the first of the prompt for later tokens
        "block_ids: expected blocks that the caller has allocated and that keep no other tokens, got 0 at index 1",
        ValueError,
        lambda c: c.cache.insert(c.node, [7, 8, 9], [c.own[0], 0]),
    ),
    ("node: expected a locked node, got -1", ValueError, lambda c: c.cache.lock(-1)),
    ("node: expected a locked node, got 99", ValueError, lambda c: c.cache.insert(99, [1], c.own[:1])),
    ("node: expected a locked node, got ", ValueError, lambda c: c.cache.unlock(c.gone)),
    ("node: expected a locked node, got ", ValueError, lambda c: c.cache.fork(c.gone)),
    ("node: expected int, got NoneType", TypeError, lambda c: c.cache.unlock(None)),  # type: ignore[arg-type]
    ("count: expected at most 1, the locks of the node, got 2", ValueError, lambda c: c.cache.unlock(c.node, 2)),
    ("count: expected a number >= 1, got 0", ValueError, lambda c: c.cache.lock(c.node, 0)),
    ("count: expected a number >= 0, got -1", ValueError, lambda c: c.cache.allocate(-1)),
    ("count: expected a number >= 0, got -3", ValueError, lambda c: c.cache.evict(-3)),
    ("n: expected a number >= 1, got 0", ValueError, lambda c: c.cache.fork(c.node, 0)),
    (
        "block_ids: expected blocks that the caller has allocated, got 5 at index 1",
        ValueError,
        lambda c: c.cache.release([2, 5]),
    ),
    ("block_ids: expected each block once, got 2 twice", ValueError, lambda c: c.cache.release([2, 2])),
    ("num_blocks: expected a number >= 1, got 0", ValueError, lambda c: PrefixCache(0, 4)),
    ("num_blocks: expected a number <= 2147483647, got 2147483648", ValueError, lambda c: PrefixCache(2**31, 4)),
    ("block_size: expected a number >= 1, got -2", ValueError, lambda c: PrefixCache(4, -2)),
    ("block_size: expected a number <= 2147483647, got 2147483648", ValueError, lambda c: PrefixCache(4, 2**31)),
    ("block_size: expected a number <= 2147483647, got 9223372036854775807", ValueError, lambda c: PrefixCache(4, 2**63 - 1)),
    (  # sums of locks stay far below 2^63
        "count: expected at most 4611686018427387903 more locks (there are 1), got 9223372036854775807",
        ValueError,
        lambda c: c.cache.lock(c.node, 2**63 - 1),
    ),
    (
        "n: expected at most 4611686018427387903 more locks (there are 1), got",
        ValueError,
        lambda c: c.cache.fork(c.node, 2**62),
    ),
    (
        "count: expected at most 2 blocks (2 free, 0 evictable, of 6), got",
        OutOfBlocksError,
        lambda c: c.cache.allocate(2**63 - 1),
    ),
    ("block_size: expected int, got bool", TypeError, lambda c: PrefixCache(4, True)),
]


@pytest.mark.parametrize(("message", "kind", "call"), CASES, ids=[message for message, *_ in CASES])
def test_bad_input(message: str, kind: type[Exception], call: Callable[[Case], Any]) -> None:
    case = Case()
    before = case.state()
    with pytest.raises(kind, match="^" + re.escape(message)):
        call(case)
    assert case.state() == before


def test_as_many_locks_as_there_may_be() -> None:
    case = Case()
    case.cache.lock(case.node, 2**62 - 1)
    with pytest.raises(ValueError, match=r"count: expected at most 0 more locks \(there are 4611686018427387904\), got 1"):
        case.cache.lock(case.node)
    found = case.cache.match("qa", 0, [1, 2, 3])  # a lock of its own
    assert case.cache.stats.num_locks == 2**62 + 1
    case.cache.check_integrity()
    case.cache.unlock(found.node)
    case.cache.unlock(case.node, 2**62)
    assert case.cache.stats.num_locks == 0


def test_the_widest_block() -> None:
    cache = PrefixCache(3, 2**31 - 1)
    found = cache.match("qa", 0, [1, 2, 3])
    node = cache.insert(found.node, [1, 2, 3], cache.allocate(1)).node
    assert cache.fork(node, 2).num_tokens.tolist() == [3, 3]
    assert cache.match("qa", 0, [1, 2, 3]).num_cached_tokens == 3
    cache.check_integrity()


def test_a_block_given_back_twice() -> None:
    case = Case()
    case.cache.release(case.own)
    with pytest.raises(ValueError, match="block_ids: expected blocks that the caller has allocated, got 2 at index 0"):
        case.cache.release(case.own)
    assert case.cache.stats.free_blocks == 4


def test_a_node_is_not_taken_for_a_later_one_in_its_place() -> None:
    """The numbers of nodes that are gone stay wrong when others stand, locked, where they stood."""
    cache = PrefixCache(6, 4)
    gone = []
    for version in range(4):
        gone.append(cache.match("qa", version, [1]).node)
        cache.unlock(gone[-1])
    cache.reset()
    there = [cache.match("qa", 4, [1]).node for _ in range(2)] + [cache.match(name, 0, [1]).node for name in "abcd"]
    assert not set(gone) & set(there)
    for node in gone:
        with pytest.raises(ValueError, match=f"node: expected a locked node, got {node}"):
            cache.unlock(node)
    for node in there:
        cache.unlock(node)
