"""What a step's log shows of the policy loss, per agent, as tensors (reading one is the caller's synchronisation)."""

from typing import NamedTuple

import torch

from himakernels.ops.vrgrpo_loss.batch import Batch
from himakernels.ops.vrgrpo_loss.options import PPO_LOSS_TYPES, PolicyOptions
from himakernels.ops.vrgrpo_loss.rows import expm1_minus, kl_terms, log_ratio


class PolicyMetrics(NamedTuple):
    """Over the counted rows, [] each, or [A] with `agent_id`; fp32. Means of no rows are 0, extremes of none 1."""

    clip_frac_low: torch.Tensor  # ratio below 1 - clip_low with a negative advantage
    clip_frac_high: torch.Tensor  # ratio above 1 + clip_high (cispo: above clip_high) with a positive advantage
    approx_kl: torch.Tensor  # mean of ratio - 1 - log ratio by token: KL(old || trained), never negative
    ref_kl: torch.Tensor  # mean of the KL estimate against ref_logprobs; 0 without them
    entropy: torch.Tensor  # mean, nats
    ratio_min: torch.Tensor  # at the level of ratio_level
    ratio_max: torch.Tensor
    active_rows: torch.Tensor  # rows with a coefficient other than zero: those that enter the backward products
    num_tokens: torch.Tensor  # counted rows
    num_samples: torch.Tensor  # counted samples


def policy_metrics(
    o: PolicyOptions, batch: Batch, logprobs: torch.Tensor, entropy: torch.Tensor, active: torch.Tensor
) -> torch.Tensor:
    """[len(PolicyMetrics), A] fp32, in the order of its fields."""
    rows, num_agents = batch.rows, batch.num_tokens.shape[0]
    by_token, level = log_ratio(o, rows, logprobs)
    ratio = level.clamp(-40.0, 40.0).exp()
    none = torch.zeros_like(ratio)
    low, high = none, none
    if o.loss_type in PPO_LOSS_TYPES:
        low = ((ratio < 1 - o.clip_low) & (rows.advantages < 0)).to(ratio.dtype)
        high = ((ratio > 1 + o.clip_high) & (rows.advantages > 0)).to(ratio.dtype)
    elif o.loss_type == "cispo":
        high = ((ratio > o.clip_high) & (rows.advantages > 0)).to(ratio.dtype)
    kl = none if rows.ref_logprobs is None else kl_terms(o, rows, logprobs)[0]
    values = torch.stack([low, high, expm1_minus(by_token), kl, entropy, active.to(ratio.dtype)]).double()
    mine = batch.agent_of_row == torch.arange(num_agents, device=ratio.device)[:, None]  # [A, R]
    sums = torch.where(mine[:, None], values, 0.0).sum(-1)  # [A, 6]
    tokens, samples = batch.num_tokens.double(), batch.num_samples.double()
    means = sums[:, :5] / tokens.clamp(min=1)[:, None]
    one = torch.ones((), dtype=ratio.dtype, device=ratio.device)
    if ratio.shape[0]:
        least, most = torch.where(mine, ratio, torch.inf).amin(-1), torch.where(mine, ratio, -torch.inf).amax(-1)
        least, most = torch.where(tokens > 0, least, one), torch.where(tokens > 0, most, one)
    else:
        least = most = one.expand(num_agents)
    columns = [*means.unbind(1), least.double(), most.double(), sums[:, 5], tokens, samples]
    return torch.stack(columns).float()
