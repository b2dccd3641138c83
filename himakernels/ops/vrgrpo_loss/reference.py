"""The specification of the VR-GRPO loss, sample by sample, in eager torch; the gradient is autograd's.

Sources: HiMA-R1 (arXiv 2506.19846) for the objective and the variance top-K; DeepSeekMath (2402.03300) grpo; Dr. GRPO
(2503.20783) dr_grpo; DAPO (2503.14476) dapo; MiniMax-M1 (2506.13585) cispo; GSPO (2507.18071) sequence ratios; SAPO
(2511.20347) sapo; INTELLECT-2 (2505.07291) delta. bnpo, luspo and vespo as TRL 1.16 defines them.
"""

import math

import torch

from himakernels.ops.group_advantages.reference import group_advantages_reference
from himakernels.ops.select_groups.reference import select_groups_reference
from himakernels.ops.vrgrpo_loss.options import PPO_LOSS_TYPES, PolicyOptions


def _exp(x: torch.Tensor) -> torch.Tensor:
    """exp(x), saturating beyond |x| = 40; there the derivative is the saturated value, so both stay finite."""
    value = x.detach().clamp(-40.0, 40.0).exp()
    return value * (1 + x - x.detach())


def _either(condition: torch.Tensor, yes: float, no: float, like: torch.Tensor) -> torch.Tensor:
    """torch.where on two numbers, in the dtype of `like` (torch would take fp32)."""
    return torch.where(condition, like.new_tensor(yes), like.new_tensor(no))


def _kl(logprobs: torch.Tensor, ref_logprobs: torch.Tensor, estimator: str) -> torch.Tensor:
    log_ratio = ref_logprobs - logprobs
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return log_ratio.square() / 2
    return _exp(log_ratio) - log_ratio - 1


def _importance(diff: torch.Tensor, o: PolicyOptions) -> torch.Tensor:
    """pi_old / pi_rollout of one sample's tokens [n], or of the sample [1], truncated or masked."""
    diff = torch.nan_to_num(diff, nan=0.0)
    assert o.importance is not None
    ratio = _exp(diff.sum()[None] if o.importance.startswith("sequence") else diff)
    low, high = o.importance_min, o.importance_max
    if o.importance.endswith("truncate"):
        return ratio.clamp(low, high)
    return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)


def _vespo_phi(
    log_ratio: torch.Tensor, importance: torch.Tensor | None, advantages: torch.Tensor, o: PolicyOptions
) -> torch.Tensor:
    log_w = log_ratio.detach().clamp(-20.0, 20.0).sum()
    if importance is not None:
        log_w = log_w + importance.log().clamp(math.log(1e-8), 20.0).sum()
    log_w = log_w.clamp(math.log(1e-8), 20.0)
    positive = advantages >= 0
    k = _either(positive, o.vespo_k_pos, o.vespo_k_neg, log_w)
    lam = _either(positive, o.vespo_lambda_pos, o.vespo_lambda_neg, log_w).clamp(min=1e-4)
    return torch.exp(lam + k * log_w - lam * log_w.exp())


def _token_losses(
    logprobs: torch.Tensor,
    old: torch.Tensor,
    ref: torch.Tensor | None,
    rollout: torch.Tensor | None,
    advantages: torch.Tensor,
    o: PolicyOptions,
) -> torch.Tensor:
    """The losses [n] of one sample's tokens, before any normaliser."""
    log_ratio = logprobs - old
    ratio = _exp(log_ratio.mean().expand_as(log_ratio) if o.ratio_level == "sequence" else log_ratio)
    importance = None if rollout is None else _importance(old - rollout, o)
    if o.loss_type in PPO_LOSS_TYPES:
        clipped = ratio.clamp(1 - o.clip_low, 1 + o.clip_high)
        unclipped = ratio if o.delta is None else ratio.clamp(max=o.delta)
        loss = -torch.minimum(unclipped * advantages, clipped * advantages)
    elif o.loss_type == "cispo":
        loss = -ratio.clamp(max=o.clip_high).detach() * advantages * logprobs
    elif o.loss_type == "sapo":
        tau = _either(advantages > 0, o.sapo_temperature_pos, o.sapo_temperature_neg, ratio)
        loss = -torch.sigmoid(tau * (ratio - 1)) * 4 / tau * advantages
    else:
        loss = -_vespo_phi(log_ratio, importance, advantages, o) * advantages * logprobs
    if importance is not None and o.loss_type != "vespo":
        loss = loss * importance
    if o.kl_coef != 0:
        assert ref is not None
        kl = _kl(logprobs, ref, o.kl_estimator)
        loss = loss + o.kl_coef * (kl * ratio if o.kl_ratio_correction else kl)
    return loss


def vrgrpo_loss_reference(
    logprobs: torch.Tensor,
    entropy: torch.Tensor,
    *,
    sample_id: torch.Tensor,
    options: PolicyOptions,
    counted: torch.Tensor | None = None,
    advantages: torch.Tensor | None = None,
    advantage_level: str = "sample",
    rewards: torch.Tensor | None = None,
    group_id: torch.Tensor | None = None,
    top_k: int | None = None,
    normalize: str = "std",
    eps: float = 1e-4,
    agent_id: torch.Tensor | None = None,
    old_logprobs: torch.Tensor | None = None,
    ref_logprobs: torch.Tensor | None = None,
    rollout_logprobs: torch.Tensor | None = None,
    num_samples: torch.Tensor | float | None = None,
    num_tokens: torch.Tensor | float | None = None,
) -> torch.Tensor:
    """The loss [] as a function of `logprobs` [R] and `entropy` [R] (both differentiable), sample by sample.

    `counted` [R] is False on rows that are ignored. The other arguments are those of `vrgrpo_loss`.
    """
    o = options
    keep = None
    if rewards is not None:
        assert group_id is not None
        advantages, _, _, variance = group_advantages_reference(
            rewards, group_id, num_groups=len(rewards), normalize=normalize, eps=eps
        )
        broken = variance.isnan()[group_id.long()] & ~rewards.isnan()  # an infinite reward in the group: the loss is NaN
        keep = (select_groups_reference(variance, top_k=top_k)[group_id.long()] & ~rewards.isnan()) | broken
        advantages = advantages.masked_fill(broken, torch.nan)
    assert advantages is not None
    n_samples = len(agent_id) if agent_id is not None else len(advantages)
    counted = torch.ones_like(sample_id, dtype=torch.bool) if counted is None else counted
    old = logprobs.detach() if old_logprobs is None else old_logprobs.to(logprobs.dtype)
    agents = torch.zeros(n_samples, dtype=torch.int64) if agent_id is None else agent_id
    total = (logprobs.sum() + entropy.sum()) * 0
    for a in agents.unique().tolist():
        sums, means, bonus, tokens, samples = [], [], [], 0, 0
        for s in (agents == a).nonzero()[:, 0].tolist():
            rows = ((sample_id == s) & counted).nonzero()[:, 0]
            if (keep is not None and not keep[s]) or (advantage_level == "token" and len(rows) == 0):
                continue
            samples += 1
            tokens += len(rows)
            if len(rows) == 0:
                continue
            per_token = advantages[rows] if advantage_level == "token" else advantages[s].expand(len(rows))
            losses = _token_losses(
                logprobs[rows],
                old[rows],
                None if ref_logprobs is None else ref_logprobs[rows].to(logprobs.dtype),
                None if rollout_logprobs is None else rollout_logprobs[rows].to(logprobs.dtype),
                per_token.to(logprobs.dtype),
                o,
            )
            sums.append(losses.sum())
            means.append(losses.mean())
            bonus.append(entropy[rows].sum())
        if not sums:
            continue
        n_s = (
            max(samples, 1)
            if num_samples is None
            else torch.as_tensor(num_samples).reshape(-1)[a if agent_id is not None else 0]
        )
        n_t = (
            max(tokens, 1) if num_tokens is None else torch.as_tensor(num_tokens).reshape(-1)[a if agent_id is not None else 0]
        )
        if o.loss_type in ("grpo", "sapo"):
            loss = torch.stack(means).sum() / n_s
        elif o.loss_type == "luspo":
            loss = torch.stack(sums).sum() / n_s
        elif o.loss_type == "dr_grpo":
            assert o.max_completion_length is not None
            loss = torch.stack(sums).sum() / (n_s * o.max_completion_length)
        else:  # bnpo, dapo, cispo, vespo
            loss = torch.stack(sums).sum() / n_t
        total = total + loss - o.entropy_coef * torch.stack(bonus).sum() / n_t
    return total
