"""What is computed in a step: jobs, which make rows, and batches of both."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.engine.requests import Request
from trainer.engine.rows import Rows

Ints = NDArray[np.int64]


@dataclass(eq=False, slots=True)
class Job:
    """A sequence to be computed, and the samples that go on from it: (request, its sample, its row if it ran before)."""

    policy: int
    tokens: Ints
    wants: list[tuple[Request, int, int | None]]
    known: int = 0  # of its tokens that were cached when it was admitted
    end: int = 0  # what is computed after the next step
    spent: int = 0  # tokens that were computed for it
    row: int = -1  # while it is computed
    # The blocks that the tree keeps of what was not cached.
    kept: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))


class Batch(NamedTuple):
    """A step: sequences side by side by policy and prefix."""

    rows: Ints  # [N]
    cached: Ints  # [N]
    counts: Ints  # [N] new tokens
    token_ids: Ints  # [T]
    policies: Ints  # [N], ascending
    jobs: list[tuple[int, Job]]  # (which sequence, its job)


def compose(rows: Rows, at: Ints, running: list[Job]) -> Batch:
    """The step of the sequences `at`: a token for each row that decodes, up to its `end` for each job."""
    cached = rows.computed[at]
    counts = np.ones(len(at), np.int64)
    place = {job.row: job for job in running}
    jobs = [(i, place[row]) for i, row in enumerate(at.tolist()) if row in place] if place else []
    for i, job in jobs:
        counts[i] = job.end - rows.computed[job.row]
    if jobs and not counts.all():  # jobs that the budget did not reach
        keep = counts > 0
        numbers = np.cumsum(keep) - 1
        jobs = [(int(numbers[i]), job) for i, job in jobs if keep[i]]
        at, cached, counts = at[keep], cached[keep], counts[keep]
    if jobs:
        starts = np.cumsum(counts) - counts
        token_ids = np.empty(int(counts.sum()), np.int64)
        token_ids[starts] = rows.last[at]
        for i, job in jobs:
            token_ids[starts[i] : starts[i] + counts[i]] = job.tokens[cached[i] : job.end]
    else:
        token_ids = rows.last[at]
    return Batch(at, cached, counts, token_ids, rows.policy[at], jobs)
