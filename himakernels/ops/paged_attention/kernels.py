# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Paged attention on Triton: one program owns a run of neighbouring queries, all query heads of one key head.

Fused: the walk through block tables, scores, cap, mask, softmax, sink, product with the values. Where all of a program's
queries belong to sequences whose tables begin alike, it reads the shared keys once for all of them; then it goes on through
what each sequence has for itself, with the queries of the others masked, in the same softmax. Bytes moved: q and out once, keys
and values once a program that sees them. Sums and softmax are fp32; 16-bit operands go through tensor cores with the weights
rounded to 16 bits, fp32 operands are multiplied in IEEE fp32. No atomics: the same bits twice. A row's last bits depend on the
program it falls into. A long context is walked by one program: contexts are not split among programs.

Source: PagedAttention, arXiv 2309.06180; FlashAttention-2, arXiv 2307.08691. The blocks have not been tuned on a GPU.
"""

import torch
import triton
import triton.language as tl

from himakernels import arch
from himakernels.lm_head.gemm_config import upcast_dot
from himakernels.once import once
from himakernels.ops.tree_attention.attention_config import AttentionConfig
from himakernels.ops.tree_attention.block_kernels import cap_scores, narrow, product
from himakernels.tl_math import LOG2E, round_to, unfused_product

_LOWEST = tl.constexpr(-1.0e30)

# By padded head dimension: (where sequences decode, where they prefill); block_own are query heads of tokens. What `bench.aot`
# compiles for each of its targets without a spill; Hopper and Blackwell prefill in larger blocks. A GPU has not chosen.
_HALF = {
    64: (AttentionConfig(32, 64, 4, 2), AttentionConfig(128, 64, 8, 2)),
    128: (AttentionConfig(32, 64, 4, 2), AttentionConfig(64, 32, 8, 2)),
    256: (AttentionConfig(32, 32, 4, 2), AttentionConfig(32, 32, 8, 1)),
}
_FLOAT = {
    64: (AttentionConfig(32, 32, 4, 2), AttentionConfig(32, 32, 8, 1)),
    128: (AttentionConfig(16, 32, 8, 1), AttentionConfig(16, 32, 8, 1)),
    256: (AttentionConfig(16, 16, 2, 1), AttentionConfig(32, 16, 8, 1)),
}
_LARGER_PREFILL = {("sm_90", 128): AttentionConfig(128, 64, 8, 2), ("sm_100", 128): AttentionConfig(128, 32, 8, 2)}
_INTERPRETER = (AttentionConfig(16, 16, 4, 1), AttentionConfig(32, 16, 4, 1))


@triton.jit
def _walk(
    acc, total, most, q, mine, position_q, k_ptr, v_ptr, table_ptr, first, last, scale, window, softcap,
    stride_kb, stride_kt, stride_vb, stride_vt, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    UPCAST_DOT: tl.constexpr, HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    """The queries that are `mine` [BLOCK_Q] with the keys [first, last) of one block table."""
    offs_d = tl.arange(0, BLOCK_D)
    most_k = tl.where(mine, tl.minimum(position_q, last - 1), -1)  # the last key that a query sees: one comparison an element
    for begin in range(first, last, BLOCK_K):
        offs_k = begin + tl.arange(0, BLOCK_K)
        mask_k = offs_k < last
        page = tl.load(table_ptr + offs_k // PAGE, mask=mask_k, other=0).to(tl.int64)[:, None]
        inside = (offs_k % PAGE)[:, None]
        mask_kd = mask_k[:, None] & (offs_d < HEAD_D)[None, :]
        k = tl.load(k_ptr + page * stride_kb + inside * stride_kt + offs_d[None, :], mask=mask_kd, other=0.0)
        v = tl.load(v_ptr + page * stride_vb + inside * stride_vt + offs_d[None, :], mask=mask_kd, other=0.0)
        s, _ = cap_scores(product(q, tl.trans(k), UPCAST_DOT), scale, softcap, HAS_SOFTCAP)
        visible = offs_k[None, :] <= most_k[:, None]
        if HAS_WINDOW:
            visible = visible & (position_q[:, None] - offs_k[None, :] < window)
        s = tl.where(visible, s, float("-inf"))
        now = tl.maximum(most, tl.max(s, axis=1))
        keep = tl.exp2(most - now)
        p = tl.exp2(s - now[:, None])  # both are rounded numbers: at most 1
        total = total * keep + tl.sum(p, axis=1)
        acc = acc * keep[:, None] + product(narrow(p, v), v, UPCAST_DOT)
        most = now
    return acc, total, most


@triton.jit(do_not_specialize=["T", "window", "stride_table"])  # a table grows while the engine runs
def paged_attention_fwd_kernel(
    q_ptr, k_ptr, v_ptr, table_ptr, row_ptr, position_ptr, shared_ptr, sinks_ptr, out_ptr, T, group, scale, window, softcap,
    stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh, stride_table, stride_ot, stride_oh,
    HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_SINKS: tl.constexpr, UPCAST_DOT: tl.constexpr,
    HEAD_D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_H: tl.constexpr,
    PAGE: tl.constexpr,
):  # fmt: skip
    t_begin = tl.program_id(0) * (BLOCK_Q // BLOCK_H)
    key_head = tl.program_id(1)
    lane = tl.arange(0, BLOCK_Q)
    offs_t = t_begin + lane // BLOCK_H
    offs_h = key_head * group + lane % BLOCK_H
    mask_q = (offs_t < T) & (lane % BLOCK_H < group)
    offs_d = tl.arange(0, BLOCK_D)
    mask_qd = mask_q[:, None] & (offs_d < HEAD_D)[None, :]
    at_q = offs_t.to(tl.int64)[:, None] * stride_qt + offs_h.to(tl.int64)[:, None] * stride_qh + offs_d[None, :]
    q = tl.load(q_ptr + at_q, mask=mask_qd, other=0.0)
    row_q = tl.load(row_ptr + offs_t, mask=mask_q, other=-1)
    position_q = tl.load(position_ptr + offs_t, mask=mask_q, other=-1)
    k_ptr += key_head.to(tl.int64) * stride_kh
    v_ptr += key_head.to(tl.int64) * stride_vh

    acc = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    most = tl.full([BLOCK_Q], _LOWEST, tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    if HAS_SINKS:
        sink = unfused_product(tl.load(sinks_ptr + offs_h, mask=mask_q, other=0.0).to(tl.float32), LOG2E)
        most = tl.maximum(sink, _LOWEST)
        total = tl.exp2(sink - most)

    # What the sequences of all queries here begin with: nothing where there is one sequence, which then walks alone.
    row_first = tl.load(row_ptr + t_begin)
    row_last = tl.max(row_q, axis=0)
    table_ptr += row_first.to(tl.int64) * stride_table
    shared = 0
    if row_first < row_last:
        shared = 2147483647
        for row in range(row_first + 1, row_last + 1):
            shared = tl.minimum(shared, tl.load(shared_ptr + row))
        begin = 0
        if HAS_WINDOW:
            begin = tl.maximum(tl.min(tl.where(mask_q, position_q, 2147483647), axis=0) + 1 - window, 0)
        acc, total, most = _walk(
            acc, total, most, q, mask_q, position_q, k_ptr, v_ptr, table_ptr, begin, shared, scale, window,
            softcap, stride_kb, stride_kt, stride_vb, stride_vt, HAS_WINDOW, HAS_SOFTCAP, UPCAST_DOT,
            HEAD_D, BLOCK_D, BLOCK_K, PAGE,
        )  # fmt: skip
    for row in range(row_first, row_last + 1):
        mine = mask_q & (row_q == row)
        end = tl.max(tl.where(mine, position_q, -1), axis=0) + 1
        begin = shared
        if HAS_WINDOW:
            begin = tl.maximum(begin, tl.min(tl.where(mine, position_q, 2147483646), axis=0) + 1 - window)
        acc, total, most = _walk(
            acc, total, most, q, mine, position_q, k_ptr, v_ptr, table_ptr, begin, end, scale, window,
            softcap, stride_kb, stride_kt, stride_vb, stride_vt, HAS_WINDOW, HAS_SOFTCAP, UPCAST_DOT, HEAD_D, BLOCK_D,
            BLOCK_K, PAGE,
        )  # fmt: skip
        table_ptr += stride_table

    total = tl.where(mask_q, total, 1.0)  # lanes without a query
    out = acc / total[:, None]
    at_out = offs_t.to(tl.int64)[:, None] * stride_ot + offs_h.to(tl.int64)[:, None] * stride_oh + offs_d[None, :]
    tl.store(out_ptr + at_out, round_to(out, out_ptr.dtype.element_ty), mask=mask_qd)


def _config(q: torch.Tensor, sequences: int, heads: int) -> AttentionConfig:
    """Few queries a program where sequences decode, so that there are many programs; as many as fit where they prefill."""
    where = arch.arch_of(q)
    if where == "interpreter":
        decode, prefill = _INTERPRETER
    else:
        table = _FLOAT if q.dtype == torch.float32 else _HALF
        size = min(size for size in table if size >= q.shape[2])
        decode, prefill = table[size]
        if table is _HALF:
            prefill = _LARGER_PREFILL.get((where, size), prefill)
    config = decode if q.shape[0] <= 2 * sequences else prefill
    return config._replace(block_own=max(config.block_own, heads))


@once
def _rows_of(
    cu_seqlens: torch.Tensor, seq_lens: torch.Tensor, block_table: torch.Tensor, T: int, block_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """int32: sequence and position of a token [T], the tokens in full blocks that a sequence shares with the one before [N]."""
    at = torch.arange(T, dtype=torch.int32, device=cu_seqlens.device)
    row = torch.searchsorted(cu_seqlens[1:], at, right=True).to(torch.int32)
    position = (seq_lens - cu_seqlens[1:])[row] + at
    same = (block_table[1:] == block_table[:-1]).to(torch.int32).cumprod(1).sum(1)
    full = torch.minimum(seq_lens[1:], seq_lens[:-1]) // block_size
    return row, position, torch.nn.functional.pad(torch.minimum(same, full) * block_size, (1, 0)).to(torch.int32)


def paged_attention_fwd(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block_table: torch.Tensor,
    cu_seqlens: torch.Tensor,
    seq_lens: torch.Tensor,
    sinks: torch.Tensor | None,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """out [T, Hq, D]. No host synchronisation."""
    T, Hq, D = q.shape
    block_size, Hk = keys.shape[1:3]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out
    row, position, shared = _rows_of(cu_seqlens, seq_lens, block_table, T, block_size)
    heads = triton.next_power_of_2(Hq // Hk)
    config = _config(q, len(seq_lens), heads)
    paged_attention_fwd_kernel[(triton.cdiv(T, config.block_own // heads), Hk)](
        q, keys, values, block_table, row, position, shared, sinks, out, T, Hq // Hk, scale, window or 0, softcap or 1.0,
        q.stride(0), q.stride(1), *keys.stride()[:3], *values.stride()[:3], block_table.stride(0), out.stride(0), out.stride(1),
        HAS_WINDOW=window is not None, HAS_SOFTCAP=softcap is not None, HAS_SINKS=sinks is not None, UPCAST_DOT=upcast_dot(q),
        HEAD_D=D, BLOCK_D=triton.next_power_of_2(D), BLOCK_Q=config.block_own, BLOCK_K=config.block_other, BLOCK_H=heads,
        PAGE=block_size, num_warps=config.num_warps, num_stages=config.num_stages, enable_fp_fusion=True,
    )  # fmt: skip
    return out
