"""Random sequences of operations against the dictionary model, and against what stands in the blocks.

Every sequence writes, into each slot of its blocks, which token of which path of which version it is. Whatever a match finds,
and whatever a running sequence still reads, must be what it would have written itself.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from cache_model import CacheModel, Prefix, Tree

from himakernels.prefix_cache import OutOfBlocksError, PrefixCache

OPERATIONS = 10_000


@dataclass(eq=False)
class Running:
    """A sequence that runs: its tokens, of which the first `stored` are in the tree, and its blocks."""

    policy: str
    version: int
    tree: Tree
    node: int
    tokens: Prefix
    stored: int
    table: list[int]
    own: list[int] = field(default_factory=list)


class Driver:
    """Does the same to the cache and to the model."""

    def __init__(self, num_blocks: int, block_size: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.cache, self.model = PrefixCache(num_blocks, block_size), CacheModel(num_blocks, block_size)
        self.slots: dict[tuple[int, int], Any] = {}  # what is written where
        self.running: list[Running] = []
        self.versions = {"qa": 0, "math": 0}
        self.seen: list[Prefix] = [()]
        self.counts: dict[str, int] = {}
        self.evicted = 0

    def step(self) -> None:
        kinds = {"start": 30, "grow": 30, "store": 20, "fork": 12, "finish": 30, "evict": 4, "lock": 4, "update": 1, "reset": 1}
        kind = self.random.choices(list(kinds), list(kinds.values()))[0]
        if kind in ("grow", "store", "fork", "finish", "lock"):
            if not self.running:
                return
            getattr(self, kind)(self.random.choice(self.running))
        else:
            getattr(self, kind)()
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def check(self) -> None:
        self.cache.check_integrity()
        stats = self.cache.stats
        assert stats.free_blocks == self.model.free()
        assert stats.evictable_blocks == self.model.evictable()
        assert stats.num_tokens == sum(len(tree.entries) for tree in self.model.trees)
        assert stats.num_locks == sum(tree.locks.total() for tree in self.model.trees)
        for run in self.running:
            self.check_read(run, len(run.tokens))

    def start(self) -> None:
        policy = self.random.choice(list(self.versions))
        version = max(self.versions[policy] - self.random.choice([0] * 9 + [1]), 0)
        begin = self.random.choice(self.seen)
        tokens = begin[: self.random.randint(0, len(begin))] + self.draw(self.random.randint(0, 6))
        found = self.cache.match(policy, version, np.array(tokens, np.int64))
        tree, known = self.model.match(policy, version, tokens)
        assert found.num_cached_tokens == known
        assert found.block_ids.tolist() == self.model.blocks(tree, tokens[:known])
        run = Running(policy, version, tree, found.node, tokens[:known], known, found.block_ids.tolist())
        self.check_read(run, known)
        if self.fork_tail(run, 1) and self.grow(run, tokens[known:]):
            self.running.append(run)
            self.seen = [*self.seen[-9:], tokens]
        else:
            self.leave(run)

    def grow(self, run: Running, more: Prefix | None = None) -> bool:
        """Writes tokens behind those that are there."""
        more = self.draw(self.random.randint(1, 5)) if more is None else more
        size = self.model.block_size
        wanted = -(-(len(run.tokens) + len(more)) // size) - len(run.table)
        blocks = self.take(lambda: self.cache.allocate(wanted), wanted)
        if blocks is None:
            return False
        run.own += blocks
        run.table += blocks
        for token in more:
            depth = len(run.tokens)
            run.tokens += (token,)
            assert run.table[depth // size] in run.own
            self.slots[run.table[depth // size], depth % size] = (run.policy, run.version, run.tokens)
        return True

    def store(self, run: Running) -> None:
        """Inserts some of what is not in the tree yet. Where the tree had it already, its blocks may be taken over."""
        size = self.model.block_size
        end = self.random.choice([len(run.tokens), self.random.randint(run.stored, len(run.tokens))])
        first, last = run.stored // size, -(-end // size)
        tokens = run.tokens[run.stored : end]
        done = self.cache.insert(run.node, np.array(tokens, np.int64), run.table[first:last])
        assert done.num_new_tokens == self.model.insert(run.tree, run.tokens[: run.stored], tokens, run.table[first:last])
        assert done.block_ids.tolist() == self.model.blocks(run.tree, run.tokens[:end])[first:]
        run.node, run.stored = done.node, end

    def fork(self, run: Running) -> None:
        """A sequence that is in the tree as a whole goes on as n, the first of which keeps its blocks."""
        if run.stored < len(run.tokens):
            self.store(run)
        n = self.random.randint(1, 3)
        table = self.model.blocks(run.tree, run.tokens[: run.stored])
        others = [
            Running(run.policy, run.version, run.tree, run.node, run.tokens[: run.stored], run.stored, list(table))
            for _ in range(n)
        ]
        if self.fork_tail(others[0], n, others[1:]):
            self.running += others
            self.running.remove(run)
            self.release(run)

    def fork_tail(self, run: Running, n: int, others: list[Running] | None = None) -> bool:
        inside = len(run.tokens) % self.model.block_size
        out: list[Any] = []
        if self.take(lambda: out.append(self.cache.fork(run.node, n)) or out[0].targets, n if inside else 0) is None:
            return False
        run.tree.locks[run.tokens] += n - 1
        copies = out[0]
        assert copies.num_tokens.tolist() == [inside] * len(copies.targets)
        assert len(copies.targets) == (n if inside else 0)
        for copy, source, target in zip([run, *(others or [])], copies.sources.tolist(), copies.targets.tolist(), strict=False):
            assert source == copy.table[-1]
            for offset in range(inside):
                self.slots[target, offset] = self.slots[source, offset]
            copy.table[-1] = target
            copy.own.append(target)
        return True

    def finish(self, run: Running) -> None:
        if self.random.random() < 0.7:
            self.store(run)
        self.running.remove(run)
        self.leave(run)

    def leave(self, run: Running) -> None:
        self.cache.unlock(run.node)
        self.model.unlock(run.tree, run.tokens[: run.stored])
        self.release(run)

    def release(self, run: Running) -> None:
        self.cache.release(np.array(run.own, np.int32))
        self.model.held -= set(run.own)

    def evict(self) -> None:
        count = self.random.randint(0, 4)
        freed = self.cache.evict(count)
        assert freed == self.model.evict(count)
        self.evicted += freed

    def lock(self, run: Running) -> None:
        count = self.random.randint(1, 3)
        self.cache.lock(run.node, count)
        self.cache.unlock(run.node, count)

    def update(self) -> None:
        policy = self.random.choice(list(self.versions))
        self.versions[policy] += 1
        self.start()

    def reset(self) -> None:
        policy = self.random.choice(list(self.versions))
        before = self.model.free()
        self.model.reset(policy)
        assert self.cache.reset(policy) == self.model.free() - before

    def take(self, allocate: Any, count: int) -> list[int] | None:
        """Blocks that nobody has; None exactly where there are too few."""
        if count > self.model.free() + self.model.evictable():
            with pytest.raises(OutOfBlocksError):
                allocate()
            return None
        blocks: list[int] = allocate().tolist()
        if count > self.model.free():
            self.evicted += self.model.evict(count - self.model.free())
        assert len(set(blocks)) == count
        assert not set(blocks) & (self.model.kept() | self.model.held)
        self.model.held |= set(blocks)
        return blocks

    def check_read(self, run: Running, length: int) -> None:
        size = self.model.block_size
        for depth in range(length):
            written = self.slots[run.table[depth // size], depth % size]
            assert written == (run.policy, run.version, run.tokens[: depth + 1])

    def draw(self, count: int) -> Prefix:
        return tuple(self.random.choices(range(3), k=count))


@pytest.mark.parametrize(("num_blocks", "block_size"), [(40, 4), (12, 4), (120, 1), (8, 16)])
def test_ten_thousand_operations(num_blocks: int, block_size: int) -> None:
    """Every operation ends with a check of the cache's own invariants, of the model's numbers and of what is in the blocks."""
    driver = Driver(num_blocks, block_size, seed=num_blocks)
    for _ in range(OPERATIONS):
        driver.step()
        driver.check()
    stats = driver.cache.stats
    assert min(driver.counts.values()) > 50
    assert stats.evicted_blocks == driver.evicted > 100
    assert stats.matched_tokens > 1000
    for run in list(driver.running):
        driver.finish(run)
    driver.cache.reset()
    driver.cache.check_integrity()
    end = driver.cache.stats
    assert (end.free_blocks, end.num_nodes, end.num_tokens, end.num_locks) == (num_blocks, 0, 0, 0)
