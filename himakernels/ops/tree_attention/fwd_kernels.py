# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""The forward of tree attention on Triton: one program owns a block of queries of one head and walks over visible keys.

Fused: scores, cap, mask, softmax, sink, product with the values; scores never leave the registers. Bytes moved: q and out
once, the visible keys and values once a block of queries (from L2 for the most part). Sums and softmax are fp32; 16-bit
operands go through tensor cores with the weights rounded to 16 bits, and the softmax's denominator is the sum of what they
are rounded to; fp32 operands are multiplied in IEEE fp32. For the backward, what a 16-bit out lacks of its fp32 value is
written as well, in 16 bits. No atomics: the same bits twice. Rows don't mix; but where block boundaries fall within a row's
keys depends on its place in the forest, so its last bits do too (the CPU route promises more).

Source: FlashAttention-2, arXiv 2307.08691. The blocks have not been tuned on a GPU.
"""

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
)
from himakernels.tl_math import LOG2E, round_to, unfused_product

_LOWEST = tl.constexpr(-1.0e30)


@triton.jit
def _softmax(s, total, level, like):
    """(rounded weights, what a sum so far is worth, denominator, level) after scores s [BLOCK_Q, BLOCK_K].

    No score is above the new level, so the weights are at most 1: both are rounded numbers.
    """
    now = tl.maximum(level, tl.ceil(tl.max(s, axis=1)))
    keep = tl.exp2(level - now)
    p = rounded(tl.exp2(s - now[:, None]), like)
    return p, keep, total * keep + tl.sum(p, axis=1), now


@triton.jit
def _attend(
    acc, total, level, q, offs_q, position_q, k_ptr, v_ptr, end_ptr, position_ptr, first, last, T, scale, window, softcap,
    stride_kt, WITH_MASK: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr, UPCAST_DOT: tl.constexpr,
    HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Blocks of keys [first, last) of one kind."""
    offs_d = tl.arange(0, BLOCK_D)
    inside = tl.arange(0, BLOCK_K)[:, None] * stride_kt + offs_d[None, :]
    for block in range(first, last):
        offs_k = block * BLOCK_K + tl.arange(0, BLOCK_K)
        mask_k = (offs_d < HEAD_D)[None, :] & (offs_k < T)[:, None] if WITH_MASK else (offs_d < HEAD_D)[None, :]
        at = tl.cast(block * BLOCK_K, tl.int64) * stride_kt
        k = tl.load(k_ptr + at + inside, mask=mask_k, other=0.0)
        v = tl.load(v_ptr + at + inside, mask=mask_k, other=0.0)
        s, _ = cap_scores(product(q, tl.trans(k), UPCAST_DOT), scale, softcap, HAS_SOFTCAP)
        if WITH_MASK:
            end_k = tl.load(end_ptr + offs_k, mask=offs_k < T, other=0)
            position_k = offs_k
            if HAS_WINDOW:
                position_k = tl.load(position_ptr + offs_k, mask=offs_k < T, other=0)
            visible = sees(
                offs_q[:, None], offs_k[None, :], end_k[None, :], position_q[:, None], position_k[None, :], window, HAS_WINDOW
            )
            s = tl.where(visible, s, float("-inf"))
        p, keep, total, level = _softmax(s, total, level, v)
        acc = acc * keep[:, None] + product(narrow(p, v), v, UPCAST_DOT)
    return acc, total, level


@triton.jit
def _attend_ahead(
    acc, total, level, q, k_ptr, v_ptr, first, last, scale, softcap, stride_kt, HAS_SOFTCAP: tl.constexpr,
    UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Blocks of keys [first, last), first < last, without a mask: a block's product with its values runs while the softmax of
    the next one is made, on a GPU whose matrix products are asynchronous. The last block's scores are made twice: there is no
    next one.
    """
    offs_d = tl.arange(0, BLOCK_D)
    mask = (offs_d < HEAD_D)[None, :]
    inside = tl.arange(0, BLOCK_K)[:, None] * stride_kt + offs_d[None, :]
    k = tl.load(k_ptr + tl.cast(first * BLOCK_K, tl.int64) * stride_kt + inside, mask=mask, other=0.0)
    s, _ = cap_scores(product(q, tl.trans(k), UPCAST_DOT), scale, softcap, HAS_SOFTCAP)
    p, keep, total, level = _softmax(s, total, level, k)
    for block in range(first, last):
        ahead = tl.minimum(block + 1, last - 1)
        k = tl.load(k_ptr + tl.cast(ahead * BLOCK_K, tl.int64) * stride_kt + inside, mask=mask, other=0.0)
        v = tl.load(v_ptr + tl.cast(block * BLOCK_K, tl.int64) * stride_kt + inside, mask=mask, other=0.0)
        x = product(q, tl.trans(k), UPCAST_DOT)
        acc = acc * keep[:, None] + product(narrow(p, v), v, UPCAST_DOT)
        s, _ = cap_scores(x, scale, softcap, HAS_SOFTCAP)
        p, keep, total, level = _softmax(s + tl.where(block + 1 < last, 0.0, float("-inf")), total, level, k)
    return acc, total, level


@triton.jit(do_not_specialize=["T", "window"])
def tree_attention_fwd_kernel(
    q_ptr, k_ptr, v_ptr, end_ptr, position_ptr, sinks_ptr, begin_ptr, max_end_ptr, min_end_ptr, deepest_ptr,
    out_ptr, rest_ptr, softmax_ptr, T, group, scale, window, softcap,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vh, stride_ot, stride_oh,
    WITH_REST: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_SINKS: tl.constexpr,
    UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    AHEAD: tl.constexpr,
):  # fmt: skip
    # The last queries of a tree see the most: they go first.
    q_begin = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_Q
    head = tl.program_id(1)
    q_end = tl.minimum(q_begin + BLOCK_Q, T)
    offs_q = q_begin + tl.arange(0, BLOCK_Q)
    offs_d = tl.arange(0, BLOCK_D)
    mask_q = (offs_q < T)[:, None] & (offs_d < HEAD_D)[None, :]
    q_ptrs = q_ptr + head.to(tl.int64) * stride_qh + offs_q.to(tl.int64)[:, None] * stride_qt + offs_d[None, :]
    q = tl.load(q_ptrs, mask=mask_q, other=0.0)
    k_ptr += (head // group).to(tl.int64) * stride_kh
    v_ptr += (head // group).to(tl.int64) * stride_vh
    position_q, shallowest = offs_q, 0
    if HAS_WINDOW:
        position_q = tl.load(position_ptr + offs_q, mask=offs_q < T, other=2147483647)
        shallowest = tl.min(position_q, axis=0)

    acc = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    level = tl.full([BLOCK_Q], _LOWEST, tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    blocks = tl.cdiv(q_end, BLOCK_K)
    first = tl.load(begin_ptr + q_begin // BLOCK_K) // BLOCK_K
    while first < blocks:
        kind, last = next_run(
            first,
            blocks,
            q_begin,
            q_end,
            shallowest,
            max_end_ptr,
            min_end_ptr,
            deepest_ptr,
            window,
            HAS_WINDOW,
            BLOCK_K,
        )
        if kind == FULL and AHEAD:
            acc, total, level = _attend_ahead(
                acc, total, level, q, k_ptr, v_ptr, first, last, scale, softcap, stride_kt, HAS_SOFTCAP, UPCAST_DOT, HEAD_D,
                BLOCK_D, BLOCK_K,
            )  # fmt: skip
        elif kind == FULL:
            acc, total, level = _attend(
                acc, total, level, q, offs_q, position_q, k_ptr, v_ptr, end_ptr, position_ptr, first, last, T, scale, window,
                softcap, stride_kt, False, HAS_WINDOW, HAS_SOFTCAP, UPCAST_DOT, HEAD_D, BLOCK_D, BLOCK_K,
            )  # fmt: skip
        elif kind != INVISIBLE:
            acc, total, level = _attend(
                acc, total, level, q, offs_q, position_q, k_ptr, v_ptr, end_ptr, position_ptr, first, last, T, scale, window,
                softcap, stride_kt, True, HAS_WINDOW, HAS_SOFTCAP, UPCAST_DOT, HEAD_D, BLOCK_D, BLOCK_K,
            )  # fmt: skip
        first = last

    if HAS_SINKS:  # not in the level: below a large one fp16 would have no digits left for the weights
        total += tl.exp2(unfused_product(tl.load(sinks_ptr + head).to(tl.float32), LOG2E) - level)  # inf: it takes everything
    total = tl.where(offs_q < T, total, 1.0)  # lanes without a query
    out = acc / total[:, None]
    at = head.to(tl.int64) * stride_oh + offs_q.to(tl.int64)[:, None] * stride_ot + offs_d[None, :]
    stored = round_to(out, out_ptr.dtype.element_ty)
    tl.store(out_ptr + at, stored, mask=mask_q)
    if WITH_REST:
        tl.store(rest_ptr + at, round_to(out - stored.to(tl.float32), out_ptr.dtype.element_ty), mask=mask_q)
    softmax_at = softmax_ptr + head.to(tl.int64) * T + offs_q
    tl.store(softmax_at, level, mask=offs_q < T)
    tl.store(softmax_at + tl.num_programs(1).to(tl.int64) * T, 1.0 / total, mask=offs_q < T)


def tree_attention_fwd(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    subtree_end: torch.Tensor,
    position_ids: torch.Tensor | None,
    sinks: torch.Tensor | None,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
    with_rest: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """out [T, Hq, D]; softmax [2, Hq, T] fp32; the rest of out's fp32 value [T, Hq, D], else [0].

    softmax: of each row the level and the share. A key's weight is 2^(score - level), with the score in units of log 2 and a
    whole level; the share makes it a probability: 1 / the sum of weights, the sink's included.
    """
    T, Hq, D = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    softmax = torch.empty(2, Hq, T, dtype=torch.float32, device=q.device)
    rest = torch.empty(q.shape if with_rest else 0, dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out, softmax, rest
    config, _, _ = attention_configs(q)
    q, (k, v) = near(q), alike(k, v)
    has_window = window is not None
    ranges = block_ranges(subtree_end, position_ids if has_window else None, config.block_other)
    tree_attention_fwd_kernel[(triton.cdiv(T, config.block_own), Hq)](
        q, k, v, subtree_end, position_ids, sinks, *ranges, out, rest if rest.numel() else out, softmax, T, Hq // k.shape[1],
        scale, window or 0, softcap or 1.0, q.stride(0), q.stride(1), k.stride(0), k.stride(1), v.stride(1), out.stride(0),
        out.stride(1),
        WITH_REST=rest.numel() > 0, HAS_WINDOW=has_window, HAS_SOFTCAP=softcap is not None, HAS_SINKS=sinks is not None,
        UPCAST_DOT=upcast_dot(q), HEAD_D=D, BLOCK_D=triton.next_power_of_2(D), BLOCK_Q=config.block_own,
        BLOCK_K=config.block_other, AHEAD=config.ahead, num_warps=config.num_warps, num_stages=config.num_stages,
        enable_fp_fusion=True,
    )  # fmt: skip
    return out, softmax, rest
