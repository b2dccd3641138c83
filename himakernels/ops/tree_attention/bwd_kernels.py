# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""The backward of tree attention on Triton: scores are made anew from lse; one kernel owns queries, one owns keys.

    p = exp(s - lse),  dp = dout v^T,  delta = sum_d dout out = sum_k p dp,  ds = p (dp - delta) (1 - tanh^2)
    dq = scale ds k,  dk = scale ds^T q,  dv = p^T dout,  dsink = -sum_q exp(sink - lse) delta

The row term delta cancels against terms of its own size, so it must be that of the very p that ds is made from. Out was made
from 16-bit weights: ds takes the same (`weights` in block_kernels.py), and out comes with what its rounding took away. Seven
products a visible pair of blocks, against five with atomics on dq. A key block owns its sums over the queries of all query
heads that read it, so grouped heads need neither atomics nor a second pass: the same bits twice. Sums are fp32; of 16-bit
operands p and ds are rounded to 16 bits for their products.

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
    block_ranges,
    cap_scores,
    narrow,
    next_run,
    product,
    sees,
    weights,
)
from himakernels.tl_math import LOG2E, round_to

Optional = torch.Tensor | None


@triton.jit
def _add_dq(
    dq, delta, q, dout, level, offs_q, position_q, k_ptr, v_ptr, end_ptr, position_ptr, first, last, T, scale, window, softcap,
    stride_kt, stride_vt, WITH_MASK: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """dq, in units of the rows' levels and without the scale, after blocks of keys [first, last) of one kind."""
    offs_d = tl.arange(0, BLOCK_D)
    for block in range(first, last):
        offs_k = block * BLOCK_K + tl.arange(0, BLOCK_K)
        mask_k = (offs_d < HEAD_D)[None, :] & (offs_k < T)[:, None] if WITH_MASK else (offs_d < HEAD_D)[None, :]
        at = offs_k.to(tl.int64)[:, None]
        k = tl.load(k_ptr + at * stride_kt + offs_d[None, :], mask=mask_k, other=0.0)
        v = tl.load(v_ptr + at * stride_vt + offs_d[None, :], mask=mask_k, other=0.0)
        s, slope = cap_scores(product(q, tl.trans(k), UPCAST_DOT), scale, softcap, HAS_SOFTCAP)
        p = narrow(weights(s, level[:, None]), k).to(tl.float32)
        ds = p * (product(dout, tl.trans(v), UPCAST_DOT) - delta[:, None]) * slope
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
    dout_ptr, q_ptr, k_ptr, v_ptr, out_ptr, rest_ptr, lse_ptr, end_ptr, position_ptr, begin_ptr, max_end_ptr, min_end_ptr,
    deepest_ptr, delta_ptr, dq_ptr, T, group, scale, window, softcap,
    stride_dt, stride_dh, stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_ot, stride_oh, stride_gt,
    stride_gh, HAS_REST: tl.constexpr, WITH_DQ: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
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
    tl.store(delta_ptr + wide * T + offs_q, delta, mask=offs_q < T)
    if WITH_DQ:
        q = tl.load(q_ptr + wide * stride_qh + row * stride_qt + offs_d[None, :], mask=mask_q, other=0.0)
        lse = tl.load(lse_ptr + wide * T + offs_q, mask=offs_q < T, other=0.0) * LOG2E
        level = tl.ceil(lse)
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
                    dq, delta, q, dout, level, offs_q, position_q, k_ptr, v_ptr, end_ptr, position_ptr, first, last, T, scale,
                    window, softcap, stride_kt, stride_vt, False, HAS_WINDOW, HAS_SOFTCAP, UPCAST_DOT, HEAD_D, BLOCK_D, BLOCK_K,
                )  # fmt: skip
            elif kind != INVISIBLE:
                dq = _add_dq(
                    dq, delta, q, dout, level, offs_q, position_q, k_ptr, v_ptr, end_ptr, position_ptr, first, last, T, scale,
                    window, softcap, stride_kt, stride_vt, True, HAS_WINDOW, HAS_SOFTCAP, UPCAST_DOT, HEAD_D, BLOCK_D, BLOCK_K,
                )  # fmt: skip
            first = last
        dq *= (tl.exp2(level - lse) * scale)[:, None]
        at = wide * stride_gh + row * stride_gt + offs_d[None, :]
        tl.store(dq_ptr + at, round_to(dq, dq_ptr.dtype.element_ty), mask=mask_q)


@triton.jit
def _add_dkv(
    dk, dv, k, v, offs_k, end_k, position_k, q_ptr, dout_ptr, lse_ptr, delta_ptr, position_ptr, first, last, T, scale, window,
    softcap, stride_qt, stride_dt, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """Blocks of queries [first, last) of one query head."""
    offs_d = tl.arange(0, BLOCK_D)
    for block in range(first, last):
        offs_q = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
        there = tl.minimum(offs_q, T - 1)
        at = there.to(tl.int64)[:, None]
        if HEAD_D == BLOCK_D:
            q = tl.load(q_ptr + at * stride_qt + offs_d[None, :])
            dout = tl.load(dout_ptr + at * stride_dt + offs_d[None, :])
        else:
            q = tl.load(q_ptr + at * stride_qt + offs_d[None, :], mask=(offs_d < HEAD_D)[None, :], other=0.0)
            dout = tl.load(dout_ptr + at * stride_dt + offs_d[None, :], mask=(offs_d < HEAD_D)[None, :], other=0.0)
        lse = tl.load(lse_ptr + there) * LOG2E
        delta = tl.load(delta_ptr + there)
        level = tl.ceil(lse)
        share = tl.exp2(level - lse)[None, :]  # of a weight in the softmax
        s, slope = cap_scores(product(k, tl.trans(q), UPCAST_DOT), scale, softcap, HAS_SOFTCAP)  # [BLOCK_K, BLOCK_Q]
        p = weights(s, level[None, :])
        ds = narrow(p, q).to(tl.float32) * share * (product(v, tl.trans(dout), UPCAST_DOT) - delta[None, :]) * slope
        p *= share
        position_q = offs_q
        if HAS_WINDOW:
            position_q = tl.load(position_ptr + there)
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
    dout_ptr, q_ptr, k_ptr, v_ptr, lse_ptr, delta_ptr, end_ptr, position_ptr, dk_ptr, dv_ptr, T, group, scale, window, softcap,
    stride_dt, stride_dh, stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_gt, stride_gh,
    HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr, UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    # The first keys of a tree are seen by the most: they go first.
    k_begin = tl.program_id(0) * BLOCK_K
    key_head = tl.program_id(1)
    offs_k = k_begin + tl.arange(0, BLOCK_K)
    offs_d = tl.arange(0, BLOCK_D)
    mask_k = (offs_k < T)[:, None] & (offs_d < HEAD_D)[None, :]
    row = offs_k.to(tl.int64)[:, None]
    k = tl.load(k_ptr + key_head.to(tl.int64) * stride_kh + row * stride_kt + offs_d[None, :], mask=mask_k, other=0.0)
    v = tl.load(v_ptr + key_head.to(tl.int64) * stride_vh + row * stride_vt + offs_d[None, :], mask=mask_k, other=0.0)
    end_k = tl.load(end_ptr + offs_k, mask=offs_k < T, other=0)
    position_k = offs_k
    if HAS_WINDOW:
        position_k = tl.load(position_ptr + offs_k, mask=offs_k < T, other=0)
    # Queries from the block's own to the last that sees any of its keys. All are masked: a second loop for those that see
    # all of the block would need the registers that this kernel is short of.
    first = k_begin // BLOCK_Q
    last = tl.cdiv(tl.minimum(tl.max(end_k, axis=0), T), BLOCK_Q)
    dk = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    for member in range(group):
        wide = (key_head * group + member).to(tl.int64)
        dk, dv = _add_dkv(
            dk, dv, k, v, offs_k, end_k, position_k, q_ptr + wide * stride_qh, dout_ptr + wide * stride_dh, lse_ptr + wide * T,
            delta_ptr + wide * T, position_ptr, first, last, T, scale, window, softcap, stride_qt, stride_dt, HAS_WINDOW,
            HAS_SOFTCAP, UPCAST_DOT, HEAD_D, BLOCK_D, BLOCK_Q,
        )  # fmt: skip
    at = key_head.to(tl.int64) * stride_gh + row * stride_gt + offs_d[None, :]
    tl.store(dk_ptr + at, round_to(dk * scale, dk_ptr.dtype.element_ty), mask=mask_k)
    tl.store(dv_ptr + at, round_to(dv, dv_ptr.dtype.element_ty), mask=mask_k)


def tree_attention_bwd(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
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

    out, lse and rest are what the forward gave.
    """
    T, Hq, D = q.shape
    Hk = k.shape[1]
    _, own_q, own_k = attention_configs(q)
    dq = torch.empty(q.shape, dtype=q.dtype, device=q.device) if needs[0] else None
    dk, dv = (torch.empty(k.shape, dtype=k.dtype, device=k.device) if needs[1] or needs[2] else None for _ in range(2))
    if q.numel() == 0:
        return dq, dk, dv, torch.zeros_like(sinks) if needs[3] and sinks is not None else None
    delta = torch.empty_like(lse)
    numbers = (T, Hq // Hk, scale, window or 0, softcap or 1.0)
    strides = [t.stride(i) for t in (dout, q, k, v) for i in (0, 1)]
    flags = {
        "HAS_WINDOW": window is not None, "HAS_SOFTCAP": softcap is not None, "UPCAST_DOT": upcast_dot(q), "HEAD_D": D,
        "BLOCK_D": triton.next_power_of_2(D),
    }  # fmt: skip
    ranges = block_ranges(subtree_end, position_ids if window is not None else None, own_q.block_other)
    into = dout if dq is None else dq  # not written without WITH_DQ
    tree_attention_bwd_dq_kernel[(triton.cdiv(T, own_q.block_own), Hq)](
        dout, q, k, v, out, rest if rest.numel() else out, lse, subtree_end, position_ids, *ranges, delta, into, *numbers,
        *strides, out.stride(0), out.stride(1), into.stride(0), into.stride(1),
        HAS_REST=rest.numel() > 0, WITH_DQ=dq is not None, BLOCK_Q=own_q.block_own, BLOCK_K=own_q.block_other,
        num_warps=own_q.num_warps, num_stages=own_q.num_stages, **flags,
    )  # fmt: skip
    if dk is not None and dv is not None:
        tree_attention_bwd_dkv_kernel[(triton.cdiv(T, own_k.block_own), Hk)](
            dout, q, k, v, lse, delta, subtree_end, position_ids, dk, dv, *numbers, *strides, dk.stride(0), dk.stride(1),
            BLOCK_K=own_k.block_own, BLOCK_Q=own_k.block_other, num_warps=own_k.num_warps, num_stages=own_k.num_stages, **flags,
        )  # fmt: skip
    dsinks = None
    if needs[3] and sinks is not None:
        dsinks = -(torch.exp(sinks.float()[:, None] - lse) * delta).sum(1, dtype=torch.float64).to(sinks.dtype)
    return dq, dk, dv, dsinks
