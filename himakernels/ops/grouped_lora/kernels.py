# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""grouped_lora on Triton: three kernels, each one launch for all adapters, whatever their ranks and numbers of tokens.

    shrink  h[t, r]  =           sum_k x[t, k] a_i[r, k]      and, in the backward,  g = scaling_i dy @ b_i
    expand  y[t, n]  = base + scaling_i sum_r h[t, r] b_i[n, r]                 and dx = g @ a_i
    wgrad   da_i[r, k] = sum_t g[t, r] x[t, k]                                   and db_i = scaling_i dy^T @ h

Fused: the gather of each adapter's tokens, the scaling, the add of base; no [T, H_out] intermediate. Bytes a token:
forward x and base read, y written; backward x once, dy twice, dx written; h and g are r_max wide.

Which adapter a tile belongs to is found on the device (tile_kernels.py). Adapters reach the kernels as one flat copy each
of all A and all B matrices (one launch of torch.cat, O(adapters) bytes). A table of pointers would save the copy but hide
their alignment from the compiler, so that every load became scalar, and would have to be sent to the device whenever a
parameter moves. Ranks and scalings are sent once for each set of them.

Sums are fp32, in ascending order, no atomics; wgrad sums parts of an adapter's tokens and then the parts, in order. Blocks
come from dtypes, ranks and device: y and dx of a token do not depend on other tokens. Operands of a product have the
adapters' dtype: 16 bits on tensor cores, or IEEE fp32.

Source: LoRA, arXiv 2106.09685; the grouping of S-LoRA, arXiv 2311.03285, and Punica, arXiv 2310.18547, with gradients.
"""

import torch
import triton
import triton.language as tl

from himakernels.lm_head.gemm_kernels import dot_step
from himakernels.ops.grouped_lora.launch import PROGRAMS, Adapters, lora_config
from himakernels.ops.grouped_lora.tile_kernels import adapter_rows, segment_tile, segments_partition
from himakernels.tl_math import round_to


@triton.jit(do_not_specialize=["T", "A"], do_not_specialize_on_alignment=["segments_ptr"])
def grouped_lora_shrink_kernel(
    x_ptr,  # [T, K]
    w_ptr,  # all a_i [r_i, K], or all b_i [K, r_i], flat
    out_ptr,  # [T, r_max]
    segments_ptr,
    starts_ptr,
    scaling_ptr,
    T,
    A,
    K,
    r_max,
    stride_xt,
    IS_B: tl.constexpr,  # w is b, and the product is scaled
    EVEN_K: tl.constexpr,
    UPCAST_DOT: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    blocks_r = tl.cdiv(r_max, BLOCK_R)
    pid = tl.program_id(0)
    adapter, begin, end = segment_tile(pid // blocks_r, segments_ptr, T, A, BLOCK_A, BLOCK_T)
    if begin >= end:
        return
    first, rank = adapter_rows(adapter, starts_ptr, A)
    offs_t = begin + tl.arange(0, BLOCK_T)
    offs_r = (pid % blocks_r) * BLOCK_R + tl.arange(0, BLOCK_R)
    offs_k = tl.arange(0, BLOCK_K)
    mask_r = offs_r < rank
    # Rows beyond the end read a row that exists; what they give is not stored.
    row = tl.where(offs_t < end, offs_t, begin).to(tl.int64)
    x_ptrs = x_ptr + row[:, None] * stride_xt + offs_k[None, :]
    if IS_B:
        w_ptrs = w_ptr + first * K + offs_k.to(tl.int64)[:, None] * rank + offs_r[None, :]
        step_w = BLOCK_K * rank
    else:
        w_ptrs = w_ptr + first * K + offs_r.to(tl.int64)[None, :] * K + offs_k[:, None]
        step_w = BLOCK_K
    acc = tl.zeros([BLOCK_T, BLOCK_R], tl.float32)
    # A block of the rank that this adapter does not reach is zeros, without a product.
    width = tl.where((pid % blocks_r) * BLOCK_R < rank, K, 0)
    for k in range(0, width, BLOCK_K):
        if EVEN_K:
            x = tl.load(x_ptrs)
            w = tl.load(w_ptrs, mask=mask_r[None, :], other=0.0)
        else:
            x = tl.load(x_ptrs, mask=(offs_k < K - k)[None, :], other=0.0)
            w = tl.load(w_ptrs, mask=(offs_k < K - k)[:, None] & mask_r[None, :], other=0.0)
        acc = dot_step(x.to(w.dtype), w, acc, UPCAST_DOT)
        x_ptrs += BLOCK_K
        w_ptrs += step_w
    if IS_B:
        acc *= tl.load(scaling_ptr + adapter, mask=(adapter >= 0) & (adapter < A), other=0.0)
    out_ptrs = out_ptr + offs_t.to(tl.int64)[:, None] * r_max + offs_r[None, :]
    mask = (offs_t < end)[:, None] & (offs_r < r_max)[None, :]
    tl.store(out_ptrs, round_to(acc, out_ptr.dtype.element_ty), mask=mask)


def grouped_lora_shrink(x: torch.Tensor, adapters: Adapters, segments: torch.Tensor, out: torch.Tensor, *, is_b: bool) -> None:
    """out [T, r_max] = x[t] @ a_i^T, or with `is_b` scaling_i x[t] @ b_i; zeros behind rank r_i."""
    T, K = x.shape
    if out.numel() == 0:
        return
    A = segments.shape[0] - 1
    config = lora_config(x, adapters)
    tiles = T // config.block_t + A + 2
    grouped_lora_shrink_kernel[(tiles * triton.cdiv(adapters.max_rank, config.block_r),)](
        x,
        adapters.flat,
        out,
        segments,
        adapters.starts,
        adapters.scaling,
        T,
        A,
        K,
        adapters.max_rank,
        x.stride(0),
        IS_B=is_b,
        EVEN_K=K % config.block_n == 0,
        BLOCK_K=config.block_n,
        **config.launch_options(A),
    )


@triton.jit(do_not_specialize=["T", "A"], do_not_specialize_on_alignment=["segments_ptr"])
def grouped_lora_expand_kernel(
    h_ptr,  # [T, r_max]
    w_ptr,  # all b_i [N, r_i], or all a_i [r_i, N], flat
    base_ptr,  # [T, N], or unused
    out_ptr,  # [T, N]
    segments_ptr,
    starts_ptr,
    scaling_ptr,
    T,
    A,
    N,
    r_max,
    stride_bt,
    IS_B: tl.constexpr,  # w is b, and the product is scaled
    HAS_BASE: tl.constexpr,
    UPCAST_DOT: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    blocks_n = tl.cdiv(N, BLOCK_N)
    pid = tl.program_id(0)
    adapter, begin, end = segment_tile(pid // blocks_n, segments_ptr, T, A, BLOCK_A, BLOCK_T)
    if begin >= end:
        return
    first, rank = adapter_rows(adapter, starts_ptr, A)
    offs_t = begin + tl.arange(0, BLOCK_T)
    offs_n = (pid % blocks_n) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_t = (offs_t < end)[:, None]
    mask_n = (offs_n < N)[None, :]
    row = offs_t.to(tl.int64)
    w_ptr += first * N
    acc = tl.zeros([BLOCK_T, BLOCK_N], tl.float32)
    for r in range(0, rank, BLOCK_R):
        offs_r = r + tl.arange(0, BLOCK_R)
        mask_r = offs_r < rank
        h = tl.load(h_ptr + row[:, None] * r_max + offs_r[None, :], mask=mask_t & mask_r[None, :], other=0.0)
        if IS_B:
            w_ptrs = w_ptr + offs_n.to(tl.int64)[None, :] * rank + offs_r[:, None]
        else:
            w_ptrs = w_ptr + offs_r.to(tl.int64)[:, None] * N + offs_n[None, :]
        w = tl.load(w_ptrs, mask=mask_r[:, None] & mask_n, other=0.0)
        acc = dot_step(h, w, acc, UPCAST_DOT)
    if IS_B:
        acc *= tl.load(scaling_ptr + adapter, mask=(adapter >= 0) & (adapter < A), other=0.0)
    if HAS_BASE:
        base = tl.load(base_ptr + row[:, None] * stride_bt + offs_n[None, :], mask=mask_t & mask_n, other=0.0)
        acc += base.to(tl.float32)
    out_ptrs = out_ptr + row[:, None] * N + offs_n[None, :]
    tl.store(out_ptrs, round_to(acc, out_ptr.dtype.element_ty), mask=mask_t & mask_n)


def grouped_lora_expand(
    h: torch.Tensor,
    adapters: Adapters,
    base: torch.Tensor | None,
    segments: torch.Tensor,
    out: torch.Tensor,
    *,
    is_b: bool,
) -> None:
    """out [T, N] = base + h[t, :r_i] @ a_i, or with `is_b` base + scaling_i h[t, :r_i] @ b_i^T."""
    T, N = out.shape
    if out.numel() == 0:
        return
    A = segments.shape[0] - 1
    config = lora_config(out, adapters, wide_rank=False)
    tiles = T // config.block_t + A + 2
    grouped_lora_expand_kernel[(tiles * triton.cdiv(N, config.block_n),)](
        h,
        adapters.flat,
        base,
        out,
        segments,
        adapters.starts,
        adapters.scaling,
        T,
        A,
        N,
        adapters.max_rank,
        0 if base is None else base.stride(0),
        IS_B=is_b,
        HAS_BASE=base is not None,
        BLOCK_N=config.block_n,
        **config.launch_options(A),
    )


@triton.jit(do_not_specialize=["T", "A", "splits", "size"], do_not_specialize_on_alignment=["segments_ptr"])
def grouped_lora_wgrad_kernel(
    x_ptr,  # [T, N]
    h_ptr,  # [T, r_max]
    out_ptr,  # [splits, size], each all da_i [r_i, N] or all db_i [N, r_i], flat
    segments_ptr,
    starts_ptr,
    scaling_ptr,
    T,
    A,
    N,
    r_max,
    splits,
    size,
    stride_xt,
    IS_B: tl.constexpr,  # out is db, and scaled
    UPCAST_DOT: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    blocks_n, blocks_r = tl.cdiv(N, BLOCK_N), tl.cdiv(r_max, BLOCK_R)
    pid = tl.program_id(0)
    pid_r = pid % blocks_r
    pid_n = (pid // blocks_r) % blocks_n
    pid_s = (pid // (blocks_r * blocks_n)) % splits
    adapter = pid // (blocks_r * blocks_n * splits)
    first, rank = adapter_rows(adapter, starts_ptr, A)
    if pid_r * BLOCK_R >= rank:
        return
    start, stop = segments_partition(segments_ptr, T, A, BLOCK_A)
    mine = tl.arange(0, BLOCK_A) == adapter + 1
    begin = tl.sum(tl.where(mine, start, 0), 0)
    end = tl.sum(tl.where(mine, stop, 0), 0)
    # An adapter's tokens in `splits` parts of whole blocks.
    part = tl.cdiv(tl.cdiv(end - begin, splits), BLOCK_T) * BLOCK_T
    begin = begin + pid_s * part
    end = tl.minimum(end, begin + part)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_r = pid_r * BLOCK_R + tl.arange(0, BLOCK_R)
    mask_n, mask_r = offs_n < N, offs_r < rank
    acc = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    for t in range(begin, end, BLOCK_T):
        offs_t = t + tl.arange(0, BLOCK_T)
        mask_t = offs_t < end
        row = offs_t.to(tl.int64)
        x = tl.load(x_ptr + row[None, :] * stride_xt + offs_n[:, None], mask=mask_t[None, :] & mask_n[:, None], other=0.0)
        h = tl.load(h_ptr + row[:, None] * r_max + offs_r[None, :], mask=mask_t[:, None] & mask_r[None, :], other=0.0)
        acc = dot_step(x.to(h.dtype), h, acc, UPCAST_DOT)
    if IS_B:
        acc *= tl.load(scaling_ptr + adapter)
    out_ptr += pid_s.to(tl.int64) * size + first * N
    if IS_B:
        out_ptrs = out_ptr + offs_n.to(tl.int64)[:, None] * rank + offs_r[None, :]
    else:
        out_ptrs = out_ptr + offs_r.to(tl.int64)[None, :] * N + offs_n[:, None]
    tl.store(out_ptrs, round_to(acc, out_ptr.dtype.element_ty), mask=mask_n[:, None] & mask_r[None, :])


def grouped_lora_wgrad(x: torch.Tensor, h: torch.Tensor, like: Adapters, segments: torch.Tensor, *, is_b: bool) -> torch.Tensor:
    """da_i [r_i, N] = sum of h[t] x[t]^T over its tokens, or with `is_b` db_i [N, r_i] = scaling_i sum of x[t] h[t]^T, flat."""
    T, N = x.shape
    A = segments.shape[0] - 1
    size = like.flat.numel()
    if size == 0:
        return torch.empty_like(like.flat)
    config = lora_config(x, like)
    programs = A * triton.cdiv(N, config.block_n) * triton.cdiv(like.max_rank, config.block_r)
    splits = max(1, min(triton.cdiv(PROGRAMS, programs), T // config.split_t))
    dtype = like.flat.dtype if splits == 1 else torch.float32
    out = x.new_empty(splits, size, dtype=dtype)
    grouped_lora_wgrad_kernel[(programs * splits,)](
        x,
        h,
        out,
        segments,
        like.starts,
        like.scaling,
        T,
        A,
        N,
        like.max_rank,
        splits,
        size,
        x.stride(0),
        IS_B=is_b,
        BLOCK_N=config.block_n,
        **config.launch_options(A),
    )
    return out[0] if splits == 1 else out.sum(0).to(like.flat.dtype)
