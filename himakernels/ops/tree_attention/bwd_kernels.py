# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""The backward of tree attention on Triton: scores are made anew; one kernel owns queries, one owns keys.

    p = share 2^(s - level),  dp = dout v^T,  delta = sum_d dout out = sum_k p dp,  ds = p (dp - delta) (1 - tanh^2)
    dq = scale ds k,  dk = scale ds^T q,  dv = p^T dout,  dsink = -sum_q share 2^(sink - level) delta

The forward has left level and share of each row: a log-sum-exp in one fp32 number has too few digits where scores are large,
and the p of a row would not add up to 1. ds is made as 2^(s - level) (share dp - share delta); of each row the first kernel
writes share delta, and delta for the sink, whose share may be all. The row term delta cancels against terms of its own size, so
it must be that of the very p that ds is made from. Out was made from 16-bit weights: ds takes the same (`weights` in
block_kernels.py), and out comes with what its rounding took away. Seven products a visible pair of blocks, against five with
atomics on dq. A key block owns its sums over the queries of all query heads that read it, so grouped heads need neither atomics
nor a second pass: the same bits twice. Sums are fp32; of 16-bit operands p and ds are rounded to 16 bits for their products.

Source: FlashAttention-2, arXiv 2307.08691. The blocks have not been tuned on a GPU.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from himakernels.lm_head.gemm_config import upcast_dot
from himakernels.ops.tree_attention.attention_config import attention_configs
from himakernels.ops.tree_attention.block_kernels import (
    FULL,
    INVISIBLE,
    alike,
    block_ranges,
    cap_scores,
    narrow,
    near,
    next_run,
    product,
    rounded,
    sees,
    weights,
)
from himakernels.tl_math import LOG2E, round_to

Optional = torch.Tensor | None


@triton.jit
def _add_dq(
    dq, share, share_delta, q, dout, level, offs_q, position_q, k_ptr, v_ptr, end_ptr, position_ptr, first, last, T, scale,
    window, softcap, stride_kt, WITH_MASK: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """dq without the scale after blocks of keys [first, last) of one kind."""
    offs_d = tl.arange(0, BLOCK_D)
    inside = tl.arange(0, BLOCK_K)[:, None] * stride_kt + offs_d[None, :]
    for block in range(first, last):
        offs_k = block * BLOCK_K + tl.arange(0, BLOCK_K)
        mask_k = (offs_d < HEAD_D)[None, :] & (offs_k < T)[:, None] if WITH_MASK else (offs_d < HEAD_D)[None, :]
        at = tl.cast(block * BLOCK_K, tl.int64) * stride_kt
        k = tl.load(k_ptr + at + inside, mask=mask_k, other=0.0)
        v = tl.load(v_ptr + at + inside, mask=mask_k, other=0.0)
        s, slope = cap_scores(product(q, tl.trans(k), UPCAST_DOT), scale, softcap, HAS_SOFTCAP)
        p = rounded(weights(s, level[:, None]), k)
        ds = p * (product(dout, tl.trans(v), UPCAST_DOT) * share[:, None] - share_delta[:, None]) * slope
        if WITH_MASK:
            end_k = tl.load(end_ptr + offs_k, mask=offs_k < T, other=0)
            position_k = offs_k
            if HAS_WINDOW:
                position_k = tl.load(position_ptr + offs_k, mask=offs_k < T, other=0)
            visible = sees(
                offs_q[:, None], offs_k[None, :], end_k[None, :], position_q[:, None], position_k[None, :], window, HAS_WINDOW
            )
            ds = tl.where(visible, ds, 0.0)
        dq += product(narrow(ds, k), k, UPCAST_DOT)
    return dq


@triton.jit(do_not_specialize=["T", "window"])
def tree_attention_bwd_dq_kernel(
    dout_ptr, q_ptr, k_ptr, v_ptr, out_ptr, rest_ptr, softmax_ptr, end_ptr, position_ptr, begin_ptr, max_end_ptr, min_end_ptr,
    deepest_ptr, rows_ptr, dq_ptr, T, group, scale, window, softcap,
    stride_dt, stride_dh, stride_qt, stride_qh, stride_kt, stride_kh, stride_vh, stride_ot, stride_oh, stride_gt, stride_gh,
    HAS_REST: tl.constexpr, WITH_DQ: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    # The last queries of a tree see the most: they go first.
    q_begin = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_Q
    head = tl.program_id(1)
    q_end = tl.minimum(q_begin + BLOCK_Q, T)
    offs_q = q_begin + tl.arange(0, BLOCK_Q)
    offs_d = tl.arange(0, BLOCK_D)
    mask_q = (offs_q < T)[:, None] & (offs_d < HEAD_D)[None, :]
    row, wide = offs_q.to(tl.int64)[:, None], head.to(tl.int64)
    dout = tl.load(dout_ptr + wide * stride_dh + row * stride_dt + offs_d[None, :], mask=mask_q, other=0.0)
    out = tl.load(out_ptr + wide * stride_oh + row * stride_ot + offs_d[None, :], mask=mask_q, other=0.0).to(tl.float32)
    if HAS_REST:
        out += tl.load(rest_ptr + wide * stride_oh + row * stride_ot + offs_d[None, :], mask=mask_q, other=0.0).to(tl.float32)
    delta = tl.sum(dout.to(tl.float32) * out, axis=1)
    softmax_at, rows = softmax_ptr + wide * T + offs_q, tl.num_programs(1).to(tl.int64) * T
    share = tl.load(softmax_at + rows, mask=offs_q < T, other=0.0)
    share_delta = share * delta
    tl.store(rows_ptr + wide * T + offs_q, share_delta, mask=offs_q < T)
    tl.store(rows_ptr + rows + wide * T + offs_q, delta, mask=offs_q < T)
    if WITH_DQ:
        level = tl.load(softmax_at, mask=offs_q < T, other=0.0)
        q = tl.load(q_ptr + wide * stride_qh + row * stride_qt + offs_d[None, :], mask=mask_q, other=0.0)
        k_ptr += (head // group).to(tl.int64) * stride_kh
        v_ptr += (head // group).to(tl.int64) * stride_vh
        position_q, shallowest = offs_q, 0
        if HAS_WINDOW:
            position_q = tl.load(position_ptr + offs_q, mask=offs_q < T, other=2147483647)
            shallowest = tl.min(position_q, axis=0)
        blocks = tl.cdiv(q_end, BLOCK_K)
        first = tl.load(begin_ptr + q_begin // BLOCK_K) // BLOCK_K
        dq = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
        while first < blocks:
            kind, last = next_run(
                first, blocks, q_begin, q_end, shallowest, max_end_ptr, min_end_ptr, deepest_ptr, window, HAS_WINDOW, BLOCK_K
            )
            if kind == FULL:
                dq = _add_dq(
                    dq, share, share_delta, q, dout, level, offs_q, position_q, k_ptr, v_ptr, end_ptr, position_ptr, first,
                    last, T, scale, window, softcap, stride_kt, False, HAS_WINDOW, HAS_SOFTCAP, UPCAST_DOT, HEAD_D, BLOCK_D,
                    BLOCK_K,
                )  # fmt: skip
            elif kind != INVISIBLE:
                dq = _add_dq(
                    dq, share, share_delta, q, dout, level, offs_q, position_q, k_ptr, v_ptr, end_ptr, position_ptr, first,
                    last, T, scale, window, softcap, stride_kt, True, HAS_WINDOW, HAS_SOFTCAP, UPCAST_DOT, HEAD_D, BLOCK_D,
                    BLOCK_K,
                )  # fmt: skip
            first = last
        dq *= scale
        at = wide * stride_gh + row * stride_gt + offs_d[None, :]
        tl.store(dq_ptr + at, round_to(dq, dq_ptr.dtype.element_ty), mask=mask_q)


@triton.jit
def _add_dkv(
    dk, dv, k, v, offs_k, end_k, position_k, q_ptr, dout_ptr, softmax_ptr, rows, rows_ptr, position_ptr, first, last, T, scale,
    window, softcap, stride_qt, stride_dt, WITH_MASK: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """Blocks of queries [first, last) of one query head."""
    offs_d = tl.arange(0, BLOCK_D)
    inside_q = tl.arange(0, BLOCK_Q)[:, None] * stride_qt + offs_d[None, :]
    inside_dout = tl.arange(0, BLOCK_Q)[:, None] * stride_dt + offs_d[None, :]
    for block in range(first, last):
        begin = tl.cast(block * BLOCK_Q, tl.int64)
        offs_q = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
        there = offs_q < T if WITH_MASK else tl.full([BLOCK_Q], True, tl.int1)
        mask = there[:, None] & (offs_d < HEAD_D)[None, :]
        q = tl.load(q_ptr + begin * stride_qt + inside_q, mask=mask, other=0.0)
        dout = tl.load(dout_ptr + begin * stride_dt + inside_dout, mask=mask, other=0.0)
        level = tl.load(softmax_ptr + offs_q, mask=there, other=0.0)[None, :]
        share = tl.load(softmax_ptr + rows + offs_q, mask=there, other=0.0)[None, :]
        share_delta = tl.load(rows_ptr + offs_q, mask=there, other=0.0)[None, :]
        s, slope = cap_scores(product(k, tl.trans(q), UPCAST_DOT), scale, softcap, HAS_SOFTCAP)  # [BLOCK_K, BLOCK_Q]
        p = weights(s, level)
        ds = rounded(p, q) * (product(v, tl.trans(dout), UPCAST_DOT) * share - share_delta) * slope
        p *= share
        if WITH_MASK:
            position_q = offs_q
            if HAS_WINDOW:
                position_q = tl.load(position_ptr + offs_q, mask=there, other=0)
            visible = sees(
                offs_q[None, :], offs_k[:, None], end_k[:, None], position_q[None, :], position_k[:, None], window, HAS_WINDOW
            )
            p = tl.where(visible, p, 0.0)
            ds = tl.where(visible, ds, 0.0)
        dv += product(narrow(p, dout), dout, UPCAST_DOT)
        dk += product(narrow(ds, q), q, UPCAST_DOT)
    return dk, dv


@triton.jit(do_not_specialize=["T", "window"])
def tree_attention_bwd_dkv_kernel(
    dout_ptr, q_ptr, k_ptr, v_ptr, softmax_ptr, rows_ptr, end_ptr, position_ptr, dk_ptr, dv_ptr, T, group, scale, window,
    softcap,
    stride_dt, stride_dh, stride_qt, stride_qh, stride_kt, stride_kh, stride_vh, stride_gt, stride_gh,
    HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr, UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    # The first keys of a tree are seen by the most: they go first.
    k_begin = tl.program_id(0) * BLOCK_K
    key_head = tl.program_id(1)
    offs_k = k_begin + tl.arange(0, BLOCK_K)
    offs_d = tl.arange(0, BLOCK_D)
    mask_k = (offs_k < T)[:, None] & (offs_d < HEAD_D)[None, :]
    row, wide_begin, wide_head = tl.arange(0, BLOCK_K)[:, None], k_begin.to(tl.int64), key_head.to(tl.int64)
    at = row * stride_kt + offs_d[None, :]
    k = tl.load(k_ptr + wide_head * stride_kh + wide_begin * stride_kt + at, mask=mask_k, other=0.0)
    v = tl.load(v_ptr + wide_head * stride_vh + wide_begin * stride_kt + at, mask=mask_k, other=0.0)
    end_k = tl.load(end_ptr + offs_k, mask=offs_k < T, other=0)
    position_k = offs_k
    if HAS_WINDOW:
        position_k = tl.load(position_ptr + offs_k, mask=offs_k < T, other=0)
    # Queries from the block's own to the last that sees any of its keys. In between are those that see all of them.
    first = k_begin // BLOCK_Q
    last = tl.cdiv(tl.minimum(tl.max(end_k, axis=0), T), BLOCK_Q)
    first_full, last_full = last, last
    if not HAS_WINDOW:
        first_full = tl.minimum(tl.cdiv(k_begin + BLOCK_K - 1, BLOCK_Q), last)
        last_full = tl.maximum(tl.minimum(tl.min(end_k, axis=0), T) // BLOCK_Q, first_full)
    dk = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    rows = (tl.num_programs(1) * group).to(tl.int64) * T
    # On tensor cores there are no registers left for what could be computed ahead of the loops.
    NO_LICM: tl.constexpr = k_ptr.dtype.element_ty.primitive_bitwidth == 16
    for member in tl.range(group, disable_licm=NO_LICM):
        wide = (key_head * group + member).to(tl.int64)
        q_at, dout_at = q_ptr + wide * stride_qh, dout_ptr + wide * stride_dh
        softmax_at, rows_at = softmax_ptr + wide * T, rows_ptr + wide * T
        if not HAS_WINDOW:
            dk, dv = _add_dkv(
                dk, dv, k, v, offs_k, end_k, position_k, q_at, dout_at, softmax_at, rows, rows_at, position_ptr,
                first_full, last_full, T, scale, window, softcap, stride_qt, stride_dt, False, HAS_WINDOW, HAS_SOFTCAP,
                UPCAST_DOT, HEAD_D, BLOCK_D, BLOCK_Q,
            )  # fmt: skip
        begin, end = first, first_full
        for _ in tl.range(2, disable_licm=NO_LICM):
            dk, dv = _add_dkv(
                dk, dv, k, v, offs_k, end_k, position_k, q_at, dout_at, softmax_at, rows, rows_at, position_ptr, begin,
                end, T, scale, window, softcap, stride_qt, stride_dt, True, HAS_WINDOW, HAS_SOFTCAP, UPCAST_DOT, HEAD_D,
                BLOCK_D, BLOCK_Q,
            )  # fmt: skip
            begin, end = last_full, last
    start = wide_head * stride_gh + wide_begin * stride_gt
    at = row * stride_gt + offs_d[None, :]
    tl.store(dk_ptr + start + at, round_to(dk * scale, dk_ptr.dtype.element_ty), mask=mask_k)
    tl.store(dv_ptr + start + at, round_to(dv, dv_ptr.dtype.element_ty), mask=mask_k)


def tree_attention_bwd(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    softmax: torch.Tensor,
    rest: torch.Tensor,
    subtree_end: torch.Tensor,
    position_ids: Optional,
    sinks: Optional,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
    needs: Sequence[bool] = (True, True, True, True),
) -> tuple[Optional, Optional, Optional, Optional]:
    """dq, dk, dv and dsinks, each in the dtype of what it belongs to; None for what is not needed (dk and dv come together).

    out, softmax and rest are what the forward gave.
    """
    T, Hq, D = q.shape
    Hk = k.shape[1]
    _, own_q, own_k = attention_configs(q)
    dq = torch.empty(q.shape, dtype=q.dtype, device=q.device) if needs[0] else None
    dk, dv = (torch.empty(k.shape, dtype=k.dtype, device=k.device) if needs[1] or needs[2] else None for _ in range(2))
    if q.numel() == 0:
        return dq, dk, dv, torch.zeros_like(sinks) if needs[3] and sinks is not None else None
    rows = torch.empty(2, Hq, T, dtype=torch.float32, device=q.device)
    q, (k, v) = near(q), alike(k, v)
    numbers = (T, Hq // Hk, scale, window or 0, softcap or 1.0)
    strides = [*(t.stride(i) for t in (dout, q, k) for i in (0, 1)), v.stride(1)]
    flags = {
        "HAS_WINDOW": window is not None, "HAS_SOFTCAP": softcap is not None, "UPCAST_DOT": upcast_dot(q), "HEAD_D": D,
        "BLOCK_D": triton.next_power_of_2(D), "enable_fp_fusion": True,
    }  # fmt: skip
    ranges = block_ranges(subtree_end, position_ids if window is not None else None, own_q.block_other)
    into = dout if dq is None else dq  # not written without WITH_DQ
    tree_attention_bwd_dq_kernel[(triton.cdiv(T, own_q.block_own), Hq)](
        dout, q, k, v, out, rest if rest.numel() else out, softmax, subtree_end, position_ids, *ranges, rows, into, *numbers,
        *strides, out.stride(0), out.stride(1), into.stride(0), into.stride(1),
        HAS_REST=rest.numel() > 0, WITH_DQ=dq is not None, BLOCK_Q=own_q.block_own, BLOCK_K=own_q.block_other,
        num_warps=own_q.num_warps, num_stages=own_q.num_stages, **flags,
    )  # fmt: skip
    if dk is not None and dv is not None:
        tree_attention_bwd_dkv_kernel[(triton.cdiv(T, own_k.block_own), Hk)](
            dout, q, k, v, softmax, rows, subtree_end, position_ids, dk, dv, *numbers, *strides, dk.stride(0),
            dk.stride(1), BLOCK_K=own_k.block_own, BLOCK_Q=own_k.block_other, num_warps=own_k.num_warps,
            num_stages=own_k.num_stages, **flags,
        )  # fmt: skip
    dsinks = None
    if needs[3] and sinks is not None:
        level, share = softmax
        gap = sinks.float()[:, None] * LOG2E.value - level
        p = torch.where(gap > 100.0, 1.0, torch.exp2(gap) * share)  # beyond, share is at the end of fp32
        dsinks = -(p * rows[1]).sum(1, dtype=torch.float64).to(sinks.dtype)
    return dq, dk, dv, dsinks
