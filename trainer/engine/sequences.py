"""The sequences that run in one network, and the blocks of the prefix cache that they hold."""

import numpy as np

from himakernels.kv_pool import KVPool
from himakernels.prefix_cache import PrefixCache
from trainer.engine.base import Weights
from trainer.engine.jobs import Ints, Job
from trainer.engine.requests import Request
from trainer.engine.rows import Order, Rows


class Sequences:
    """Rows on blocks. What leads to a row's `depth` is the tree's; the blocks behind are its own."""

    def __init__(self, pool: KVPool, cache: PrefixCache, names: tuple[str, ...]) -> None:
        self.pool, self.cache, self.names, self.size = pool, cache, names, pool.block_size
        self.rows, self.order = Rows(), Order()
        self.requests: dict[int, tuple[Request, int]] = {}  # of a row that decodes: (its request, which sample)
        self.prompts: dict[int, Ints] = {}  # of a row
        self.weights = dict.fromkeys(names, Weights(-1, -1))
        self.generations = dict.fromkeys(names, -1)  # counts the changes of weights; the cache's version, which must go up
        self._unwritten = np.zeros(pool.num_blocks, np.bool_)  # blocks that stand in the tree before they are computed
        self._age = 0

    def _admit(self, job: Job) -> bool:
        """Gives the job its blocks and a place in the tree; False where there are not enough."""
        cache, rows, size = self.cache, self.rows, self.size
        name = self.names[job.policy]
        total = len(job.tokens)
        found = cache.match(name, self.generations[name], job.tokens[:-1])
        known = begin = found.num_cached_tokens
        if known % size and self._unwritten[found.block_ids[-1]]:
            begin = known // size * size
        shared = begin // size
        need = -(-total // size) - shared
        room = len(self.order) + len(job.wants) if self.order else 0  # a block for each that runs
        if cache.stats.available_blocks < need + room:
            cache.unlock(found.node)
            return False
        if begin % size:
            copies = cache.fork(found.node)
            self.pool.copy(copies)
            own = np.concatenate([copies.targets, cache.allocate(need - 1)])
        else:
            own = cache.allocate(need)
        table = np.concatenate([found.block_ids[:shared], own])
        node, _, job.kept = cache.insert(found.node, job.tokens[known:], table[known // size :])
        row = rows.take(len(table), 1)
        rows.table[row, : len(table)] = table
        rows.blocks[row], rows.node[row], rows.depth[row] = len(table), node, begin
        rows.computed[row], rows.policy[row], rows.count[row] = begin, job.policy, 0
        job.row, job.known, job.end = row, known, begin
        self._unwritten[own] = True
        self._enter(row, job.tokens)
        return True

    def _leave(self, row: int, keep: bool = False) -> None:
        """The row lets go of its blocks. keep: the tree keeps what it has computed, as long as there is room."""
        rows, size = self.rows, self.size
        node, depth, computed = int(rows.node[row]), int(rows.depth[row]), int(rows.computed[row])
        own = rows.table[row, depth // size : rows.blocks[row]]
        if keep and computed > depth:
            start = depth - len(self.prompts[row])
            tokens = rows.tokens[row, start : start + computed - depth]
            node = self.cache.insert(node, tokens, own[: -(-computed // size) - depth // size]).node
        self.cache.unlock(node)
        self.cache.release(own)
        self.order.exit(row)

    def _enter(self, row: int, tokens: Ints, again: bool = False) -> None:
        """The row runs; `again`: as old as it was."""
        if not again:
            self._age += 1
            self.rows.age[row] = self._age
        self.order.enter(row, int(self.rows.policy[row]), tokens, int(self.rows.age[row]))

    def _forget(self, row: int) -> None:
        self.requests.pop(row, None)
        self.prompts.pop(row, None)
        self.rows.free(row)
