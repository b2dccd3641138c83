"""The specification of group_advantages: one group after the other, in eager torch."""

import torch


def _normalize(rewards: torch.Tensor, normalize: str, eps: float, std: torch.Tensor | None) -> torch.Tensor:
    """One group's rewards [k], none of them NaN -> their advantages [k]; `std` stands in for the group's own."""
    mean = rewards.mean()
    mean = torch.where(mean.isfinite(), mean, torch.nan)
    if normalize == "std":
        own = (rewards - mean).square().sum().div(max(len(rewards) - 1, 1)).sqrt()
        return (rewards - mean) / ((own if std is None else std) + eps)
    if normalize == "mean":
        advantages = rewards - mean
    elif normalize == "leave_one_out":
        others = torch.stack([torch.cat([rewards[:i], rewards[i + 1 :]]).mean() for i in range(len(rewards))])
        others = torch.where(mean.isfinite(), others, torch.nan) if len(rewards) > 1 else mean.expand(1)
        advantages = rewards - others
    else:
        advantages = rewards
    return advantages if std is None else advantages / (std + eps)


def _std(values: torch.Tensor) -> torch.Tensor:
    """ddof = 1; zero for fewer than two values."""
    return values.std() if len(values) > 1 else values.new_zeros(())


def group_advantages_reference(
    rewards: torch.Tensor,
    group_id: torch.Tensor,
    *,
    num_groups: int,
    normalize: str = "std",
    eps: float = 1e-4,
    weights: torch.Tensor | None = None,
    combine: str = "sum_then_normalize",
    scale_by_batch_std: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """advantages [S], count [n], mean [n], variance [n] of `group_advantages`, in the rewards' dtype (half: fp32)."""
    columns = rewards.to(torch.promote_types(rewards.dtype, torch.float32)).reshape(len(rewards), -1)
    weight = columns.new_ones(columns.shape[1]) if weights is None else weights.to(columns.dtype)
    scored = ~columns.isnan()
    valid = scored.any(dim=1)
    total = torch.where(scored, columns, 0).mul(weight).sum(dim=1)
    known = (group_id >= 0) & (group_id < num_groups)

    advantages = torch.where(known, 0.0, torch.nan).to(columns.dtype)
    count = torch.zeros(num_groups, dtype=torch.int64, device=rewards.device)
    mean, variance = columns.new_zeros(num_groups), columns.new_zeros(num_groups)
    then_sum = combine == "normalize_then_sum"
    batch_std = _std(total[valid & known]) if scale_by_batch_std and not then_sum else None
    for g in range(num_groups):
        member = (group_id == g) & valid
        x = total[member]
        count[g] = len(x)
        if len(x) == 0:
            continue
        mean[g] = torch.where(x.mean().isfinite(), x.mean(), torch.nan)
        variance[g] = (x - mean[g]).square().sum() / max(len(x) - 1, 1)
        if not then_sum:
            advantages[member] = _normalize(x, normalize, eps, batch_std)
            continue
        for m in range(columns.shape[1]):
            counted = member & scored[:, m]
            if bool(counted.any()):
                advantages[counted] += weight[m] * _normalize(columns[counted, m], normalize, eps, None)
    if then_sum and scale_by_batch_std and bool((valid & known).any()):
        summed = advantages[valid & known]
        advantages[valid & known] = (summed - summed.mean()) / (_std(summed) + eps)
    return advantages, count, mean, variance
