"""The policy loss over logits in one kernel, and sums over samples.

policy_logits_fwd: a program owns a row. It reads the logits once from memory for the statistics, computes the row's loss and
coefficient from its log-probability, and reads the row again, now out of the second-level cache, to write dlogits: 4 V bytes
a row in bf16, the least that logits -> loss + dlogits can move. All sums are fp32, in a fixed order; a row's values depend on
nothing but the row. Clip bounds, coefficients and the temperature are run-time arguments; only the kind of loss and which
inputs exist are compiled in.

segment_sum: one program a sample adds the sample's rows in their order, in fp64: no atomics, so bitwise reproducible.

The algebra is that of rows.py, which has it in eager torch; reference.py names the papers.
"""

import torch
import triton
import triton.language as tl

from himakernels.lm_head.logits_kernels import row_config
from himakernels.lm_head.types import IGNORE_INDEX, RowStats
from himakernels.ops.vrgrpo_loss.options import PPO_LOSS_TYPES, PolicyOptions
from himakernels.ops.vrgrpo_loss.rows import Rows, RowTerms
from himakernels.tl_math import tl_expm1, tl_expm1_minus, tl_sigmoid
from himakernels.tl_rows import row_grad, row_stats, row_zero

_IGNORE_INDEX = tl.constexpr(IGNORE_INDEX)
_KINDS = {**dict.fromkeys(PPO_LOSS_TYPES, 0), "cispo": 1, "sapo": 2}
_PPO, _CISPO = tl.constexpr(0), tl.constexpr(1)
_KL = {"k1": 1, "k2": 2, "k3": 3}  # 0: no KL term
_MAX_LOG_RATIO = tl.constexpr(40.0)


@triton.jit
def clamp_nan(x, low, high):
    """x in [low, high]; NaN stays NaN."""
    x = tl.maximum(x, low, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(x, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def policy_row(
    logprob,
    advantage,
    old,
    ref,
    rollout,
    clip_low,
    clip_high,
    delta,
    kl_coef,
    importance_min,
    importance_max,
    tau_pos,
    tau_neg,
    KIND: tl.constexpr,
    KL: tl.constexpr,
    KL_RATIO: tl.constexpr,
    IMPORTANCE: tl.constexpr,
):
    """(loss, d loss / d logprob, ratio) of one row before its weight; token-level options only."""
    log_ratio = logprob - old
    ratio = tl.exp(clamp_nan(log_ratio, -_MAX_LOG_RATIO, _MAX_LOG_RATIO))
    if KIND == _PPO:
        low = 1.0 - clip_low
        high = 1.0 + clip_high
        upper = tl.minimum(ratio, delta, propagate_nan=tl.PropagateNan.ALL)
        first = upper * advantage
        second = clamp_nan(ratio, low, high) * advantage
        takes_first = first <= second
        moves = tl.where(takes_first, upper == ratio, (ratio >= low) & (ratio <= high))
        loss = -tl.where(takes_first, first, second)
        # NaN compares as false: it must not end up as a gradient of zero.
        coef = tl.where(moves | (loss != loss), -advantage * ratio, 0.0)
    elif KIND == _CISPO:
        coef = -tl.minimum(ratio, clip_high, propagate_nan=tl.PropagateNan.ALL) * advantage
        loss = coef * logprob
    else:
        tau = tl.where(advantage > 0.0, tau_pos, tau_neg)
        x = tau * (ratio - 1.0)
        gate = tl_sigmoid(x)
        loss = -4.0 * gate / tau * advantage
        coef = -4.0 * gate * tl_sigmoid(-x) * ratio * advantage
    if IMPORTANCE != "":
        gap = old - rollout
        gap = tl.where(gap != gap, 0.0, gap)  # not scored
        weight = tl.exp(clamp_nan(gap, -_MAX_LOG_RATIO, _MAX_LOG_RATIO))
        if IMPORTANCE == "token_truncate":
            weight = clamp_nan(weight, importance_min, importance_max)
        else:
            weight = tl.where((weight < importance_min) | (weight > importance_max), 0.0, weight)
        loss *= weight
        coef *= weight
    if KL != 0:
        d = ref - logprob
        if KL == 1:
            kl = -d
            dkl = 1.0
        elif KL == 2:
            kl = 0.5 * d * d
            dkl = -d
        else:
            near = clamp_nan(d, -_MAX_LOG_RATIO, _MAX_LOG_RATIO)
            kl = tl_expm1_minus(near) + (near - d)
            dkl = -tl_expm1(near)
        if KL_RATIO:
            dkl = ratio * (dkl + kl)
            kl = ratio * kl
        loss += kl_coef * kl
        coef += kl_coef * dkl
    return loss, coef, ratio


@triton.jit(do_not_specialize=["R"])
def policy_logits_fwd_kernel(
    x_ptr,
    dx_ptr,
    labels_ptr,
    advantages_ptr,
    weight_ptr,
    entropy_weight_ptr,
    old_ptr,
    ref_ptr,
    rollout_ptr,
    grad_scale_ptr,
    logprobs_ptr,
    lse_ptr,
    entropy_ptr,
    loss_ptr,
    coef_ptr,
    ratio_ptr,
    R,
    V,
    stride_xr,
    stride_dxr,
    inv_temperature,
    softcap,
    clip_low,
    clip_high,
    delta,
    kl_coef,
    importance_min,
    importance_max,
    tau_pos,
    tau_neg,
    entropy_coef,
    KIND: tl.constexpr,
    KL: tl.constexpr,
    KL_RATIO: tl.constexpr,
    IMPORTANCE: tl.constexpr,
    HAS_OLD: tl.constexpr,
    HAS_GRAD_SCALE: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_ENTROPY: tl.constexpr,
    BLOCK_V: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels_ptr + row).to(tl.int64)
    logprob = 0.0
    lse = 0.0
    entropy = 0.0
    loss = 0.0
    coef = 0.0
    coef_entropy = 0.0
    ratio = 1.0
    if label != _IGNORE_INDEX:
        _, _, logprob, lse, entropy = row_stats(
            x_ptr + row * stride_xr,
            label,
            V,
            inv_temperature,
            softcap,
            HAS_SOFTCAP,
            BLOCK_V,
            NUM_STAGES,
            True,
        )
        weight = tl.load(weight_ptr + row)
        if weight != 0.0:  # a row that does not count may hold garbage; NaN (an id out of range) counts
            old = logprob
            ref = 0.0
            rollout = 0.0
            if HAS_OLD:
                old = tl.load(old_ptr + row)
            if KL != 0:
                ref = tl.load(ref_ptr + row)
            if IMPORTANCE != "":
                rollout = tl.load(rollout_ptr + row)
            loss, coef, ratio = policy_row(
                logprob,
                tl.load(advantages_ptr + row),
                old,
                ref,
                rollout,
                clip_low,
                clip_high,
                delta,
                kl_coef,
                importance_min,
                importance_max,
                tau_pos,
                tau_neg,
                KIND,
                KL,
                KL_RATIO,
                IMPORTANCE,
            )
            loss *= weight
            coef *= weight
            if HAS_ENTROPY:
                coef_entropy = -entropy_coef * tl.load(entropy_weight_ptr + row)
                loss += coef_entropy * entropy
    tl.store(logprobs_ptr + row, logprob)
    tl.store(lse_ptr + row, lse)
    tl.store(entropy_ptr + row, entropy)
    tl.store(loss_ptr + row, loss)
    tl.store(coef_ptr + row, coef)
    tl.store(ratio_ptr + row, ratio)
    dx_row = dx_ptr + row * stride_dxr
    if (coef != 0.0) | (coef_entropy != 0.0):
        if HAS_GRAD_SCALE:
            grad_scale = tl.load(grad_scale_ptr)
            coef *= grad_scale
            coef_entropy *= grad_scale
        row_grad(
            x_ptr + row * stride_xr, dx_row, label, V, logprob, lse, entropy, coef, coef_entropy, inv_temperature, softcap,
            HAS_SOFTCAP, HAS_ENTROPY, BLOCK_V, NUM_STAGES,
        )  # fmt: skip
    else:
        row_zero(dx_row, V, BLOCK_V)


def policy_logits_fwd(
    logits: torch.Tensor,
    dlogits: torch.Tensor,
    labels: torch.Tensor,
    rows: Rows,
    o: PolicyOptions,
    *,
    temperature: float,
    softcap: float | None,
    grad_scale: torch.Tensor | None = None,
) -> tuple[RowStats, RowTerms]:
    """Statistics and loss of every row, and dlogits [R, V] (may be `logits`); for options that stay within a row.

    dlogits, and nothing else, is multiplied by `grad_scale` [] fp32.
    """
    assert not o.needs_whole_samples
    R, V = logits.shape
    stats = RowStats(*(torch.empty(R, dtype=torch.float32, device=logits.device) for _ in range(3)))
    loss, coef, ratio = (torch.empty(R, dtype=torch.float32, device=logits.device) for _ in range(3))
    coef_entropy = rows.entropy_weight.mul(-o.entropy_coef).masked_fill(rows.weight == 0, 0.0)
    if R:
        config = row_config(logits, reread=True, capped=softcap is not None)
        inf = float("inf")
        policy_logits_fwd_kernel[(R,)](
            logits,
            dlogits,
            labels,
            rows.advantages,
            rows.weight,
            rows.entropy_weight,
            rows.old_logprobs,
            rows.ref_logprobs,
            rows.rollout_logprobs,
            grad_scale,
            *stats,
            loss,
            coef,
            ratio,
            R,
            V,
            logits.stride(0),
            dlogits.stride(0),
            1.0 / temperature,
            1.0 if softcap is None else softcap,
            float(o.clip_low),
            float(o.clip_high),
            inf if o.delta is None else float(o.delta),
            float(o.kl_coef),
            float(o.importance_min),
            float(o.importance_max),
            float(o.sapo_temperature_pos),
            float(o.sapo_temperature_neg),
            float(o.entropy_coef),
            KIND=_KINDS[o.loss_type],
            KL=_KL[o.kl_estimator] if o.kl_coef != 0 else 0,
            KL_RATIO=bool(o.kl_ratio_correction),
            IMPORTANCE=o.importance or "",
            HAS_OLD=rows.old_logprobs is not None,
            HAS_GRAD_SCALE=grad_scale is not None,
            HAS_SOFTCAP=softcap is not None,
            HAS_ENTROPY=o.entropy_coef != 0,
            BLOCK_V=config.block_v,
            NUM_STAGES=config.num_stages,
            num_warps=config.num_warps,
            enable_fp_fusion=True,
        )
    return stats, RowTerms(loss, coef, coef_entropy, ratio)


@triton.jit
def segment_sum_kernel(values_ptr, order_ptr, offsets_ptr, out_ptr, BLOCK: tl.constexpr):
    segment = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets_ptr + segment)
    end = tl.load(offsets_ptr + segment + 1)
    total = tl.zeros([BLOCK], tl.float64)
    for start in range(begin, end, BLOCK):
        at = start + tl.arange(0, BLOCK)
        row = tl.load(order_ptr + at, mask=at < end, other=0)
        total += tl.load(values_ptr + row, mask=at < end, other=0.0).to(tl.float64)
    tl.store(out_ptr + segment, tl.sum(total, axis=0))


def segment_sum_fwd(values: torch.Tensor, order: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """out[s] = sum of values[order[offsets[s] : offsets[s + 1]]], fp64; order and offsets int64."""
    segments = offsets.shape[0] - 1
    out = torch.empty(segments, dtype=torch.float64, device=values.device)
    if segments:
        segment_sum_kernel[(segments,)](values.contiguous(), order, offsets, out, BLOCK=256, num_warps=2, enable_fp_fusion=True)
    return out
