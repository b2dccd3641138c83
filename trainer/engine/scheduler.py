"""Who runs in the next step of one network, on which blocks: admission, prefill in pieces, forks, preemption.

A distinct prompt is a job: it matches the prefix cache, gets blocks for what is not there, and stands in the tree before it is
computed, so that whoever comes next shares it. Jobs are computed in the order of their coming, so that what is shared is there
in time. A job that is computed becomes its samples' rows, which decode. When blocks run out the youngest row becomes a job
again: what it has sampled is kept, and matched again if its blocks were not needed.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from himakernels.kv_pool import KVPool
from himakernels.prefix_cache import OutOfBlocksError, PrefixCache
from trainer.engine.base import Weights
from trainer.engine.jobs import Batch, Ints, Job, compose
from trainer.engine.requests import Request
from trainer.engine.rows import key_of
from trainer.engine.sequences import Sequences


@dataclass(slots=True)
class Counts:
    """See EngineStats."""

    prompt_tokens: int = 0
    computed_tokens: int = 0
    recomputed_tokens: int = 0
    preemptions: int = 0


class Scheduler(Sequences):
    """Of one network; `names` are its policies.

    Args:
        pool: its blocks are this scheduler's alone.
        prefill_tokens: of all jobs in a step.
        max_rows: sequences in a step.
        counts: to go on from.
    """

    def __init__(
        self, pool: KVPool, names: tuple[str, ...], *, prefill_tokens: int, max_rows: int, counts: Counts | None = None
    ) -> None:
        super().__init__(pool, PrefixCache(pool.num_blocks, pool.block_size), names)
        self.prefill_tokens, self.max_rows = prefill_tokens, max_rows
        self.counts = Counts() if counts is None else counts
        self.waiting: deque[Job] = deque()
        self.jobs: list[Job] = []  # that are computed, in the order of their coming
        self._open: dict[tuple[int, bytes], Job] = {}  # that more samples of the same prompt can join

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self.waiting or self.order)

    def submit(self, request: Request) -> None:
        """Its samples wait, together with those of an equal prompt that waits or is computed."""
        policy = self.names.index(request.policy)
        key = policy, key_of(request.prompt)
        job = self._open.get(key)
        if job is None:
            job = self._open[key] = Job(policy, request.prompt, [])
            self.waiting.append(job)
        job.wants += [(request, i, None) for i in range(request.n)]

    def cancel(self, request: Request) -> None:
        """Its samples are given up; what of a prompt is being computed stays for others."""
        for job in [*self.waiting, *self.jobs]:
            for want in [want for want in job.wants if want[0] is request]:
                job.wants.remove(want)
                if want[2] is not None:
                    self._forget(want[2])
        for job in [job for job in self.waiting if not job.wants]:
            self.waiting.remove(job)
            self._close(job)
        for row in [row for row, (owner, _) in self.requests.items() if owner is request]:
            self._leave(row)
            self._forget(row)

    def check_weights(self, weights: Mapping[str, Weights]) -> None:
        """Samples that began under other weights begin again: a sample is of one set of weights."""
        for policy, name in enumerate(self.names):
            if weights[name] == self.weights[name]:
                continue
            for job in [job for job in self.jobs if job.policy == policy]:
                self._abandon(job)
            for job in [job for job in self.waiting if job.policy == policy]:
                for i, (request, sample, row) in enumerate(job.wants):
                    if row is not None:
                        self._forget(row)
                        job.wants[i], job.tokens = (request, sample, None), request.prompt
            running = [row for row in self.requests if self.rows.policy[row] == policy]
            again = [self.requests[row] for row in running]
            for row in running:
                self._leave(row)
                self._forget(row)
            self.waiting.extendleft(Job(policy, r.prompt, [(r, i, None)]) for r, i in reversed(again))
            self.weights[name] = weights[name]
            self.generations[name] += 1

    def plan(self) -> Batch | None:
        """The next step; None if there is nothing to compute."""
        self._extend_tables()
        budget = self.prefill_tokens
        for job in self.jobs:
            budget = self._piece(job, budget)
        while budget > 0 and self.waiting and len(self.order) < self.max_rows:
            if not self._admit(self.waiting[0]):
                if self.order:
                    break
                self.cache.reset()  # copies of blocks where sequences forked took the room
                if not self._admit(self.waiting[0]):
                    raise AssertionError("a sequence that the pool is too small for")
            job = self.waiting.popleft()
            self.jobs.append(job)
            budget = self._piece(job, budget)
        if not self.order:
            return None
        rows, at = self.rows, self.order.rows
        short = rows.blocks[at] * self.size <= rows.computed[at]
        if short.any():  # they wait until what is being computed lets go of its blocks
            at = at[~short]
        return compose(rows, at, self.jobs)

    def commit(self, batch: Batch) -> tuple[Ints, Ints]:
        """The step has been computed. Returns (rows to sample for, which sequence of the batch gives each its logits)."""
        rows = self.rows
        rows.computed[batch.rows] += batch.counts
        if not batch.jobs:
            return batch.rows, np.arange(len(batch.rows))
        decoding = np.ones(len(batch.rows), np.bool_)
        new_rows: list[int] = []
        sources: list[int] = []
        for i, job in batch.jobs:
            decoding[i] = False
            job.spent += int(batch.counts[i])
            if job.end == len(job.tokens):
                forked = self._fork(job)
                new_rows += forked
                sources += [i] * len(forked)
        old = decoding.nonzero()[0]
        return (
            np.concatenate([batch.rows[old], np.array(new_rows, np.int64)]),
            np.concatenate([old, np.array(sources, np.int64)]),
        )

    def finish(self, row: int) -> tuple[Request, int]:
        """The row has all its tokens: they stay in the cache. Returns (its request, which sample); frees the row."""
        owner = self.requests[row]
        self._leave(row, keep=True)
        self._forget(row)
        return owner

    def _piece(self, job: Job, budget: int) -> int:
        """How far the job gets in the next step; returns what is left for others."""
        begin = int(self.rows.computed[job.row])
        job.end = min(len(job.tokens), begin + max(budget, 0))
        return budget - (job.end - begin)

    def _fork(self, job: Job) -> list[int]:
        """The rows of a job that is computed. Samples without blocks wait."""
        cache, rows, size = self.cache, self.rows, self.size
        leader, total = job.row, len(job.tokens)
        table = rows.table[leader, : rows.blocks[leader]].copy()
        node, own = int(rows.node[leader]), table[rows.depth[leader] // size :].copy()
        self._unwritten[own] = False
        table[job.known // size :] = job.kept
        self.order.exit(leader)
        self.jobs.remove(job)
        self._close(job)
        rows.free(leader)
        free = self.max_rows - len(self.order)
        if total % size:
            free = min(free, cache.stats.available_blocks)
        wants, late = job.wants[:free], job.wants[free:]
        self._count(job, wants)
        made: list[int] = []
        if wants:
            copies = cache.fork(node, len(wants))
            self.pool.copy(copies)
        else:
            cache.unlock(node)
        cache.release(own)
        if late:
            self.waiting.appendleft(Job(job.policy, job.tokens, late))
            if not wants and not self.order:
                self.cache.reset()  # what it has computed holds blocks twice, and takes the room of what comes
        for i, (request, sample, before) in enumerate(wants):
            row = rows.take(len(table) + 1, request.limit) if before is None else before
            if before is None:
                self.prompts[row] = request.prompt
                rows.count[row], rows.limit[row] = 0, request.limit
                rows.u[row, : request.limit] = request.u[sample]
                rows.params[row] = request.style
            rows.table[row, : len(table)] = table
            if total % size:
                rows.table[row, len(table) - 1] = copies.targets[i]
            rows.blocks[row], rows.node[row], rows.depth[row] = len(table), node, total
            rows.computed[row], rows.policy[row] = total, job.policy
            self.requests[row] = request, sample
            self._enter(row, job.tokens, again=before is not None)
            made.append(row)
        return made

    def _count(self, job: Job, wants: list[tuple[Request, int, int | None]]) -> None:
        """The prompt of each sample once, and what was computed of it for the first of them."""
        new = [(request, sample) for request, sample, _ in wants if sample not in request.counted]
        for request, sample in new:
            request.counted.add(sample)
        self.counts.prompt_tokens += len(job.tokens) * len(new)
        if new:
            self.counts.computed_tokens += job.spent
        else:
            self.counts.recomputed_tokens += job.spent
        job.spent = 0

    def _extend_tables(self) -> None:
        """A block for each row whose next token begins one; the youngest rows make room where there is none."""
        rows = self.rows
        while True:
            at = self.order.rows
            short = at[rows.blocks[at] * self.size <= rows.computed[at]]
            if not len(short):
                return
            try:
                given = self.cache.allocate(len(short))
            except OutOfBlocksError:
                decoding = [row for row in at.tolist() if row in self.requests]
                if len(decoding) > 1 or not self.jobs:
                    self._preempt(max(decoding, key=lambda row: int(rows.age[row])))
                    if not self.order:
                        self.cache.reset()  # blocks that it held twice, where it began as a copy, took its room
                    continue
                return
            rows.widen(int(rows.blocks[short].max()) + 1, 1)
            rows.table[short, rows.blocks[short]] = given
            rows.blocks[short] += 1
            return

    def _preempt(self, row: int) -> None:
        """The row waits with all its tokens."""
        request, sample = self.requests.pop(row)
        tokens = np.concatenate([self.prompts[row], self.rows.tokens[row, : self.rows.count[row]]])
        policy = int(self.rows.policy[row])
        self._leave(row, keep=True)
        self.waiting.appendleft(Job(policy, tokens, [(request, sample, row)]))
        self.counts.preemptions += 1

    def _abandon(self, job: Job) -> None:
        """A job that was being computed waits again, from its beginning."""
        rows, row = self.rows, job.row
        own = rows.table[row, rows.depth[row] // self.size : rows.blocks[row]]
        self._unwritten[own] = False
        self.cache.unlock(int(rows.node[row]))
        self.cache.release(own)
        self.order.exit(row)
        self.jobs.remove(job)
        self._close(job)
        rows.free(row)
        job.row = -1
        self.counts.recomputed_tokens += job.spent
        job.spent = 0
        wants = job.wants
        for request, _, before in wants:
            if before is not None:
                self._forget(before)
                job.tokens = request.prompt
        job.wants = [(request, sample, None) for request, sample, _ in wants]
        if wants:
            self.waiting.appendleft(job)

    def _close(self, job: Job) -> None:
        for key in [key for key, open_ in self._open.items() if open_ is job]:
            del self._open[key]
