# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Group statistics and the advantages that follow from them, in one launch.

Fused: the weighted sum over reward columns, both passes of the statistics and the advantages. A program owns BLOCK_G
groups and scans the samples three times (sum; squared deviations; advantages), so that deviations are taken from a mean
that is already final. It alone writes what belongs to its groups: no atomics, no second launch, no fill beforehand.

Every program scans all samples, from L2: 12 bytes a sample and pass with int64 ids and fp32 rewards, and S * num_groups
comparisons in all. Up to _SCAN_PAIRS of them a sort would cost more than it saves: 8,192 samples in 512 groups are 128
programs of 3 x 16 steps. Beyond, the ids are sorted first (torch's stable sort, without a synchronisation), and each
program scans only its own stretch of the order: O(S log S), through the same kernel.

All sums are fp64 and in a fixed order: the same bits on every run. A sample with an id outside [0, num_groups) belongs
to no group and gets NaN; ids are compared and never used as addresses.

Source: the group baseline of GRPO, arXiv 2402.03300; leave-one-out of RLOO, arXiv 2402.14740.
"""

import torch
import triton
import triton.language as tl

_SCAN_PAIRS = 2**24  # samples x groups


def _config(num_samples: int, num_groups: int) -> tuple[bool, dict[str, int]]:
    """Whether to sort the ids first, and the block sizes."""
    return num_samples * num_groups > _SCAN_PAIRS, {"BLOCK_G": 4, "BLOCK_S": 512, "num_warps": 8}


@triton.jit
def _load_samples(
    rewards_ptr, group_id_ptr, weights_ptr, order_ptr, stride_rs, stride_rm, stride_gs, stride_w, M, offs_s, mask_s,
    HAS_WEIGHTS: tl.constexpr, SORTED: tl.constexpr,
):  # fmt: skip
    """What stands at offs_s [BLOCK_S] of the scan: index, group id, total (fp64), 1 where any column is a number."""
    if SORTED:
        index = tl.load(order_ptr + offs_s, mask=mask_s, other=0).to(tl.int64)
    else:
        index = offs_s
    group_id = tl.load(group_id_ptr + index * stride_gs, mask=mask_s, other=-1).to(tl.int64)
    total = tl.zeros(offs_s.shape, dtype=tl.float64)
    scored = tl.zeros(offs_s.shape, dtype=tl.int32)
    for m in range(M):
        reward = tl.load(rewards_ptr + index * stride_rs + m * stride_rm, mask=mask_s, other=0.0)
        if reward.dtype != tl.float64:
            reward = reward.to(tl.float32)
        reward = reward.to(tl.float64)
        is_number = reward == reward
        if HAS_WEIGHTS:
            weight = tl.load(weights_ptr + m * stride_w)
            if weight.dtype != tl.float64:
                weight = weight.to(tl.float32)
            reward = reward * weight.to(tl.float64)
        total += tl.where(is_number, reward, 0.0)
        scored |= is_number.to(tl.int32)
    return index, group_id, total, scored


@triton.jit(
    do_not_specialize=[
        "stride_rs", "stride_rm", "stride_gs", "stride_w", "stride_as", "stride_am", "S", "M", "num_groups", "eps",
    ]
)  # fmt: skip
def group_advantages_fwd_kernel(
    rewards_ptr,  # [S, M_all]
    group_id_ptr,  # [S]
    weights_ptr,  # [M], or unused
    order_ptr,  # [S] samples by group id, or unused
    start_ptr,  # [num_groups + 1] where each group starts in the order, or unused
    advantages_ptr,  # [S, columns]
    count_ptr,  # [columns, num_groups]
    mean_ptr,
    variance_ptr,
    stride_rs: tl.int64,
    stride_rm: tl.int64,
    stride_gs: tl.int64,
    stride_w: tl.int64,
    stride_as: tl.int64,
    stride_am: tl.int64,
    S: tl.int64,
    M: tl.int64,  # columns that one sample's total sums over
    num_groups: tl.int64,
    eps: tl.float64,
    NORMALIZE: tl.constexpr,
    HAS_WEIGHTS: tl.constexpr,
    SORTED: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    # Programs of one column of advantages stand together: (column, block of groups).
    blocks = tl.maximum(tl.cdiv(num_groups, BLOCK_G), 1)
    pid = tl.program_id(0).to(tl.int64)
    pid_m = pid // blocks
    pid_g = pid % blocks
    rewards_ptr += pid_m * stride_rm
    advantages_ptr += pid_m * stride_am
    offs_g = pid_g * BLOCK_G + tl.arange(0, BLOCK_G)
    mask_g = offs_g < num_groups

    # In the order, groups are stretches; ids below 0 come before the first and ids too high after the last.
    low = S * 0
    high = S
    if SORTED:
        if pid_g > 0:
            low = tl.load(start_ptr + pid_g * BLOCK_G).to(tl.int64)
        if pid_g < blocks - 1:
            high = tl.load(start_ptr + (pid_g + 1) * BLOCK_G).to(tl.int64)

    total_sum = tl.zeros([BLOCK_S, BLOCK_G], dtype=tl.float64)
    lowest = tl.full([BLOCK_S, BLOCK_G], float("inf"), dtype=tl.float64)
    highest = tl.full([BLOCK_S, BLOCK_G], float("-inf"), dtype=tl.float64)
    members = tl.zeros([BLOCK_S, BLOCK_G], dtype=tl.int32)
    for s in range(low, high, BLOCK_S):
        offs_s = s + tl.arange(0, BLOCK_S).to(tl.int64)
        _, group_id, total, scored = _load_samples(
            rewards_ptr, group_id_ptr, weights_ptr, order_ptr, stride_rs, stride_rm, stride_gs, stride_w, M,
            offs_s, offs_s < high, HAS_WEIGHTS, SORTED,
        )  # fmt: skip
        own = (group_id[:, None] == offs_g[None, :]) & mask_g[None, :] & (scored[:, None] != 0)
        total_sum += tl.where(own, total[:, None], 0.0)
        lowest = tl.minimum(lowest, tl.where(own, total[:, None], float("inf")))
        highest = tl.maximum(highest, tl.where(own, total[:, None], float("-inf")))
        members += own.to(tl.int32)
    count = tl.sum(members, axis=0)
    sums = tl.sum(total_sum, axis=0)
    low_g = tl.min(lowest, axis=0)
    high_g = tl.max(highest, axis=0)
    # Equal members have exactly their value as mean, so that their variance is exactly zero; inf has no mean.
    mean = tl.where(low_g == high_g, low_g, sums / tl.maximum(count, 1).to(tl.float64))
    mean = tl.where(tl.abs(sums) < float("inf"), mean, float("nan"))
    mean = tl.where(count > 0, mean, 0.0)

    squares = tl.zeros([BLOCK_S, BLOCK_G], dtype=tl.float64)
    for s in range(low, high, BLOCK_S):
        offs_s = s + tl.arange(0, BLOCK_S).to(tl.int64)
        _, group_id, total, scored = _load_samples(
            rewards_ptr, group_id_ptr, weights_ptr, order_ptr, stride_rs, stride_rm, stride_gs, stride_w, M,
            offs_s, offs_s < high, HAS_WEIGHTS, SORTED,
        )  # fmt: skip
        own = (group_id[:, None] == offs_g[None, :]) & mask_g[None, :] & (scored[:, None] != 0)
        deviation = tl.where(own, total[:, None] - mean[None, :], 0.0)
        squares += deviation * deviation
    others = tl.maximum(count - 1, 1).to(tl.float64)
    variance = tl.sum(squares, axis=0) / others

    at = pid_m * num_groups + offs_g
    tl.store(count_ptr + at, count.to(tl.int64), mask=mask_g)
    tl.store(mean_ptr + at, mean.to(mean_ptr.dtype.element_ty), mask=mask_g)
    tl.store(variance_ptr + at, variance.to(variance_ptr.dtype.element_ty), mask=mask_g)

    # advantage = (reward - centre) * scale
    centre = mean
    scale = tl.full([BLOCK_G], 1.0, dtype=tl.float64)
    if NORMALIZE == "std":
        scale = 1.0 / (tl.sqrt(variance) + eps)
    if NORMALIZE == "leave_one_out":  # r - (sum - r) / (n - 1) = (r - mean) n / (n - 1)
        scale = count.to(tl.float64) / others
    if NORMALIZE == "none":
        centre = tl.zeros([BLOCK_G], dtype=tl.float64)
    for s in range(low, high, BLOCK_S):
        offs_s = s + tl.arange(0, BLOCK_S).to(tl.int64)
        mask_s = offs_s < high
        index, group_id, total, scored = _load_samples(
            rewards_ptr, group_id_ptr, weights_ptr, order_ptr, stride_rs, stride_rm, stride_gs, stride_w, M,
            offs_s, mask_s, HAS_WEIGHTS, SORTED,
        )  # fmt: skip
        own = (group_id[:, None] == offs_g[None, :]) & mask_g[None, :]
        each = (total[:, None] - centre[None, :]) * scale[None, :]
        advantage = tl.sum(tl.where(own, each, 0.0), axis=1)  # at most one term: a sample has one group
        advantage = tl.where(scored != 0, advantage, 0.0)
        unknown = mask_s & ((group_id < 0) | (group_id >= num_groups))
        advantage = tl.where(unknown, float("nan"), advantage)
        # 1 where this program writes. Without an order every program meets the unknown ids, and the first one writes.
        written = tl.max(own.to(tl.int32), axis=1)
        writes_unknown = 1 if SORTED else (pid_g == 0).to(tl.int32)
        written += unknown.to(tl.int32) * writes_unknown
        advantage = advantage.to(advantages_ptr.dtype.element_ty)
        tl.store(advantages_ptr + index * stride_as, advantage, mask=mask_s & (written > 0))


def group_advantages_fwd(
    rewards: torch.Tensor,
    group_id: torch.Tensor,
    num_groups: int,
    weights: torch.Tensor | None,
    *,
    normalize: str,
    eps: float,
    separate: bool,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launches the kernel once.

    Returns advantages [S], count [n] int64, mean [n], variance [n] of the weighted sum of the columns; with `separate`
    advantages [S, M] and [M, n] each, of every column by itself.
    """
    num_samples = rewards.shape[0]
    num_columns = 1 if rewards.dim() == 1 else rewards.shape[1]
    stride_rm = 0 if rewards.dim() == 1 else rewards.stride(1)
    problems = num_columns if separate else 1
    device = rewards.device
    advantages = torch.empty(num_samples, problems, dtype=dtype, device=device)
    count = torch.empty(problems, num_groups, dtype=torch.int64, device=device)
    mean = torch.empty(problems, num_groups, dtype=dtype, device=device)
    variance = torch.empty(problems, num_groups, dtype=dtype, device=device)
    sort, config = _config(num_samples, num_groups)
    order = start = group_id
    if sort:
        ids, order = torch.sort(group_id, stable=True)
        start = torch.searchsorted(ids, torch.arange(num_groups + 1, dtype=ids.dtype, device=device))
    weigh = None if separate else weights
    # Every length, stride and eps runs through do_not_specialize: one binary for all of them.
    grid = (problems * max(1, triton.cdiv(num_groups, config["BLOCK_G"])),)
    group_advantages_fwd_kernel[grid](
        rewards, group_id, rewards if weigh is None else weigh, order, start, advantages, count, mean, variance,
        rewards.stride(0), stride_rm, group_id.stride(0), 0 if weigh is None else weigh.stride(0),
        advantages.stride(0), advantages.stride(1),
        num_samples, 1 if separate else num_columns, num_groups, eps,
        NORMALIZE=normalize, HAS_WEIGHTS=weigh is not None, SORTED=sort, enable_fp_fusion=True, **config,
    )  # fmt: skip
    if separate:
        return advantages, count, mean, variance
    return advantages[:, 0], count[0], mean[0], variance[0]
