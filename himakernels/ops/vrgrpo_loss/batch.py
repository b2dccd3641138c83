"""From what the caller has (samples, agents, normalisers) to the [R] vectors of the loss: no host synchronisation.

An id out of range is an error on the CPU; on GPU every row of the call gets the weight NaN, and so does the loss.
"""

from typing import NamedTuple

import torch

from himakernels.backend import use_triton
from himakernels.checks import check_range
from himakernels.lm_head.types import IGNORE_INDEX
from himakernels.ops.vrgrpo_loss.options import PolicyOptions
from himakernels.ops.vrgrpo_loss.rows import Optional, Rows, Samples

_PER_SAMPLE = ("grpo", "sapo", "dr_grpo", "luspo")  # normalised by the number of samples; the others by tokens


class Batch(NamedTuple):
    """The rows of the loss, and per agent how much was counted."""

    rows: Rows
    agent_of_row: torch.Tensor  # [R] int64 in [0, A]; A where the row does not count
    num_tokens: torch.Tensor  # [A] int64, counted here
    num_samples: torch.Tensor  # [A] int64, counted here


def check_id_values(sample_id: torch.Tensor, size: int, agent_id: Optional, num_agents: int) -> None:
    """ValueError for an id out of range, on the CPU."""
    if sample_id.device.type != "cpu":
        return
    check_range("sample_id", sample_id, size)
    if agent_id is not None:
        check_range("agent_id", agent_id, num_agents)


def _into(ids: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids with everything out of range moved to `size`, where that was)."""
    ids = ids.long()
    bad = (ids < 0) | (ids >= size)
    return ids.masked_fill(bad, size), bad


def make_batch(
    o: PolicyOptions,
    labels: torch.Tensor,
    sample_id: torch.Tensor,
    advantages: torch.Tensor,
    keep: Optional,
    agent_id: Optional,
    num_agents: int,
    old_logprobs: Optional,
    ref_logprobs: Optional,
    rollout_logprobs: Optional,
    num_samples: Optional,
    num_tokens: Optional,
    by_token: bool,
    dtype: torch.dtype,
) -> Batch:
    """`keep` [S] is False on samples that leave the loss; advantages are [S], or [R] if `by_token`."""
    device, n_rows = labels.device, labels.shape[0]
    size = advantages.shape[0] if not by_token else n_rows if agent_id is None else agent_id.shape[0]
    check_id_values(sample_id, size, agent_id, num_agents)
    sample, bad_row = _into(sample_id, size)
    counted = labels != IGNORE_INDEX
    if keep is not None:
        counted &= torch.cat([keep, keep.new_ones(1)])[sample]
    sample = sample.masked_fill(~counted, size)
    tokens = torch.zeros(size + 1, dtype=torch.int64, device=device).scatter_add_(0, sample, counted.long())

    agent, bad_agent = _into(torch.zeros(size, dtype=torch.int64, device=device) if agent_id is None else agent_id, num_agents)
    exists = tokens[:size] > 0 if by_token else torch.ones_like(bad_agent) if keep is None else keep
    per_agent = torch.zeros(2, num_agents + 1, dtype=torch.int64, device=device)
    per_agent[0].scatter_add_(0, agent, tokens[:size])
    per_agent[1].scatter_add_(0, agent, exists.long())
    by_count = per_agent[:, :num_agents].clamp(min=1).double()
    norm_tokens = by_count[0] if num_tokens is None else num_tokens.double().expand(num_agents)
    norm_samples = by_count[1] if num_samples is None else num_samples.double().expand(num_agents)

    # Per-sample weights; the last entries of the tables stand for ids that are out of range, and for rows that do not count.
    zero = torch.zeros(1, dtype=torch.float64, device=device)
    entropy_weight = torch.cat([1 / norm_tokens, zero])[agent]
    weight = torch.cat([1 / norm_samples, zero])[agent] if o.loss_type in _PER_SAMPLE else entropy_weight
    if o.loss_type in ("grpo", "sapo"):
        weight = weight / tokens[:size].clamp(min=1)
    if o.max_completion_length is not None:
        weight = weight / o.max_completion_length
    # One bad id makes the counts of the others wrong, and a sample without rows has no weight to show it in: all are NaN.
    broken = bad_row.any() | bad_agent.any()
    weight, entropy_weight = (
        torch.cat([w, zero])[sample].masked_fill(broken, torch.nan).to(dtype) for w in (weight, entropy_weight)
    )
    adv = advantages if by_token else torch.cat([advantages, advantages.new_zeros(1)])[sample]
    order = offsets = None
    if o.needs_whole_samples and use_triton(adv.to(dtype)):
        by_sample = torch.sort(sample, stable=True)
        order = by_sample.indices
        offsets = torch.searchsorted(by_sample.values, torch.arange(size + 2, device=device))
    rows = Rows(
        advantages=adv.to(dtype).contiguous(),
        weight=weight,
        entropy_weight=entropy_weight,
        old_logprobs=None if old_logprobs is None else old_logprobs.to(dtype).contiguous(),
        ref_logprobs=None if ref_logprobs is None else ref_logprobs.to(dtype).contiguous(),
        rollout_logprobs=None if rollout_logprobs is None else rollout_logprobs.to(dtype).contiguous(),
        samples=Samples(sample, tokens, size, order, offsets),
    )
    agent_of_row = torch.cat([agent, agent.new_full((1,), num_agents)])[sample]
    return Batch(rows, agent_of_row, per_agent[0, :num_agents], per_agent[1, :num_agents])
