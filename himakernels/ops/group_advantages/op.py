"""group_advantages: schema, device functions and the public function."""

from typing import Any, NamedTuple

import torch

from himakernels import _core
from himakernels.backend import use_triton
from himakernels.checks import FLOATS, INTS, check_choice, check_device, check_dtype, check_positive, check_shape
from himakernels.library import define_op


class GroupAdvantages(NamedTuple):
    """What `group_advantages` returns; none of it carries a gradient."""

    advantages: torch.Tensor  # [S] fp32 (fp64 from fp64 rewards)
    count: torch.Tensor  # type: ignore[assignment]  # [n] int64: samples that count (hides tuple.count)
    mean: torch.Tensor  # [n] as advantages
    variance: torch.Tensor  # [n] as advantages; ddof = 1


_Out = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
_NORMALIZE = ("std", "mean", "leave_one_out", "none")
_COMBINE = ("sum_then_normalize", "normalize_then_sum")


def _out_dtype(rewards: torch.Tensor) -> torch.dtype:
    return torch.float64 if rewards.dtype == torch.float64 else torch.float32


def _batch_std(count: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """fp64 group statistics [n] -> the batch's mean [] and std [] (ddof = 1; 0 for fewer than two samples)."""
    counts = count.double()
    samples = counts.sum()
    batch_mean = (counts * mean).sum() / samples.clamp(min=1)
    squares = ((counts - 1).clamp(min=0) * variance + counts * (mean - batch_mean).square()).sum()
    return batch_mean, (squares / (samples - 1).clamp(min=1)).sqrt()


def _triton(
    rewards: torch.Tensor,
    group_id: torch.Tensor,
    num_groups: int,
    weights: torch.Tensor | None,
    normalize: str,
    eps: float,
    normalize_then_sum: bool,
    scale_by_batch_std: bool,
) -> _Out:
    """One launch; the combinations beyond a plain normalisation are composed from it in fp64, still without a sync."""
    from himakernels.ops.group_advantages.kernels import group_advantages_fwd  # keeps `import himakernels` triton-free

    dtype = _out_dtype(rewards)
    wide = torch.float64
    if not normalize_then_sum and not scale_by_batch_std:
        return group_advantages_fwd(
            rewards, group_id, num_groups, weights, normalize=normalize, eps=eps, separate=False, dtype=dtype
        )
    if not normalize_then_sum:
        plain = "mean" if normalize == "std" else normalize
        centred, count, mean, variance = group_advantages_fwd(
            rewards, group_id, num_groups, weights, normalize=plain, eps=eps, separate=False, dtype=wide
        )
        _, std = _batch_std(count, mean, variance)
        return (centred / (std + eps)).to(dtype), count, mean.to(dtype), variance.to(dtype)

    columns, _, _, _ = group_advantages_fwd(
        rewards, group_id, num_groups, None, normalize=normalize, eps=eps, separate=True, dtype=wide
    )
    total = (columns if weights is None else columns * weights.to(wide)).sum(dim=1)
    _, count, mean, variance = group_advantages_fwd(
        rewards, group_id, num_groups, weights, normalize="none", eps=eps, separate=False, dtype=dtype
    )
    if scale_by_batch_std:
        # A sample without any score has no place in the batch's statistics and keeps its advantage of zero.
        scored = ~rewards.reshape(columns.shape).isnan().all(dim=1)
        known = (group_id >= 0) & (group_id < num_groups)
        one_batch = torch.where(scored & known, 0, -1)
        _, batch_count, batch_mean, batch_variance = group_advantages_fwd(
            total, one_batch, 1, None, normalize="none", eps=eps, separate=False, dtype=wide
        )
        centre, std = _batch_std(batch_count, batch_mean, batch_variance)
        total = torch.where(scored, (total - centre) / (std + eps), total)
    return total.to(dtype), count, mean, variance


def _cpu(
    rewards: torch.Tensor,
    group_id: torch.Tensor,
    num_groups: int,
    weights: torch.Tensor | None,
    normalize: str,
    eps: float,
    normalize_then_sum: bool,
    scale_by_batch_std: bool,
) -> _Out:
    dtype = _out_dtype(rewards)
    if rewards.dtype != dtype:
        rewards = rewards.to(dtype)  # bf16 and fp16 widen exactly
    advantages, count, mean, variance = _core.group_advantages(
        rewards.numpy(),
        group_id.numpy(),
        num_groups,
        None if weights is None else weights.double().numpy(),
        normalize,
        eps,
        normalize_then_sum,
        scale_by_batch_std,
        torch.get_num_threads(),
    )
    to_tensor = torch.from_numpy
    return to_tensor(advantages), to_tensor(count), to_tensor(mean), to_tensor(variance)


def _run(rewards: torch.Tensor, *arguments: Any) -> _Out:
    on_triton = rewards.is_cuda or use_triton(rewards)  # its sums are fp64 anyway, so it takes fp64 rewards as well
    return (_triton if on_triton else _cpu)(rewards, *arguments)


def _fake(rewards: torch.Tensor, group_id: torch.Tensor, num_groups: int, *rest: Any) -> _Out:
    dtype = _out_dtype(rewards)
    return (
        rewards.new_empty(rewards.shape[0], dtype=dtype),
        rewards.new_empty(num_groups, dtype=torch.int64),
        rewards.new_empty(num_groups, dtype=dtype),
        rewards.new_empty(num_groups, dtype=dtype),
    )


_op = define_op(
    "group_advantages(Tensor rewards, Tensor group_id, SymInt num_groups, Tensor? weights, str normalize, float eps, "
    "bool normalize_then_sum, bool scale_by_batch_std) -> (Tensor, Tensor, Tensor, Tensor)",
    _run,
    _fake,
)


def group_advantages(
    rewards: torch.Tensor,
    group_id: torch.Tensor,
    *,
    num_groups: int | None = None,
    normalize: str = "std",
    eps: float = 1e-4,
    weights: torch.Tensor | None = None,
    combine: str = "sum_then_normalize",
    scale_by_batch_std: bool = False,
) -> GroupAdvantages:
    """advantage_i = (r_i - mean_g) / (std_g + eps), with mean and std over the samples that share i's group g.

    Groups are ragged, in any order, and may be empty. Nothing here is differentiable.

    Args:
        rewards: [S] or [S, M] fp32, bf16, fp16 or fp64, any strides. NaN is a scorer that failed: a NaN column counts
            for nothing, and a sample without any number gets advantage 0 and leaves count, mean and variance.
        group_id: [S] int64 or int32, in [0, num_groups).
        num_groups: n. None reads the highest id, which synchronises with the GPU and which torch.compile can't trace.
        normalize: "std" as above; "mean" r - mean; "leave_one_out" r - the mean of the group's others (RLOO); "none" r.
        eps: added to a std before dividing by it.
        weights: [M] of any float dtype, for rewards [S, M]; None is ones.
        combine: "sum_then_normalize" sums the weighted columns, then normalises; "normalize_then_sum" normalises each
            column inside its group, then sums what comes out (GDPO).
        scale_by_batch_std: divide by (the std over the whole batch + eps) instead of by the group's; also with "mean",
            "leave_one_out" and "none", which else divide by nothing. With "normalize_then_sum" the columns are
            normalised as without it, and their sum y becomes (y - batch mean of y) / (batch std of y + eps).

    Returns:
        GroupAdvantages: advantages [S], count [n], mean [n] and variance [n] (ddof = 1). The statistics are those of
        the weighted sum of the raw columns, whatever `normalize` and `combine`: one number a group to select by.
        A single member has variance 0 and advantage 0 (also with "leave_one_out"; its reward with "none"); an empty
        group has count, mean and variance 0; equal members have a variance of exactly 0.
        A reward of +-inf makes its group's mean and variance NaN, and so the advantages of all its scored samples;
        "none" passes rewards through, and scale_by_batch_std spreads NaN to the batch.

    Numerics:
        Two passes over fp64 sums; a result is rounded once, to the output's dtype (fp32; fp64 for fp64 rewards).
        Bitwise reproducible; the number of threads changes nothing. On a GPU one launch without a synchronisation up
        to 2^24 samples x groups (as 8,192 x 2,048); beyond, the ids are sorted first. `scale_by_batch_std` and
        "normalize_then_sum" take a few launches more.

    Raises:
        ValueError, TypeError: for a wrong shape, dtype, device or option. A group id out of range raises ValueError on
        CPU; on a GPU that sample's advantage is NaN and it counts nowhere.

    Source: GRPO, arXiv 2402.03300; RLOO, arXiv 2402.14740; GDPO and the option names, TRL 1.16 (scale_rewards "group",
    "none", "batch" are normalize="std", "mean", and scale_by_batch_std=True; its normalize_then_sum always has
    scale_by_batch_std=True).
    """
    check_dtype("rewards", rewards, FLOATS)
    if rewards.dim() not in (1, 2):
        raise ValueError(f"rewards: expected shape [S] or [S, M], got {list(rewards.shape)}")
    check_dtype("group_id", group_id, INTS)
    check_shape("group_id", group_id, (rewards.shape[0],))
    check_device("group_id", group_id, rewards.device)
    check_choice("normalize", normalize, _NORMALIZE)
    check_choice("combine", combine, _COMBINE)
    check_positive("eps", eps)
    if rewards.dim() == 2:
        if rewards.shape[1] == 0:
            raise ValueError(f"rewards: expected at least one column, got {list(rewards.shape)}")
        if weights is not None:
            check_dtype("weights", weights, FLOATS)
            check_shape("weights", weights, (rewards.shape[1],))
            check_device("weights", weights, rewards.device)
            weights = weights.detach()
    elif weights is not None:
        raise ValueError(f"weights: expected None with rewards of shape [S], got {type(weights).__name__}")
    if num_groups is None:
        num_groups = max(int(group_id.max()) + 1, 0) if group_id.shape[0] else 0
    elif isinstance(num_groups, bool) or not isinstance(num_groups, int):
        raise TypeError(f"num_groups: expected int or None, got {type(num_groups).__name__}")
    elif num_groups < 0:
        raise ValueError(f"num_groups: expected a number >= 0, got {num_groups}")
    if rewards.requires_grad:
        rewards = rewards.detach()
    then_sum = combine == "normalize_then_sum"
    return GroupAdvantages(*_op(rewards, group_id, num_groups, weights, normalize, eps, then_sum, scale_by_batch_std))
