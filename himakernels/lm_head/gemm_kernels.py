"""The matrix products around the LM head: logits, the gradient of hidden, the gradients of weight and bias.

    logits  [r, V] = hidden [r, H] @ weight [V, H]^T + bias
    dhidden [r, H] = dlogits [r, V] @ weight [V, H]
    dweight [V, H] += dlogits [r, V]^T @ hidden [r, H]

The two backward products run over the active rows only: compact_rows lists them on the device, their number is read
there, and tiles beyond it exit at once; nothing waits for the host. Sums are fp32, in order, by one program an element,
in blocks that never depend on the rows: logits and dhidden are batch-invariant, everything is bitwise reproducible.
16-bit operands go through tensor cores. fp32 operands are multiplied in IEEE fp32, never in tf32.
"""

import torch
import triton
import triton.language as tl

from himakernels.lm_head.gemm_config import gemm_config, upcast_dot
from himakernels.tl_math import round_to


@triton.jit
def tile_of(pid, num_m, num_n, GROUP_M: tl.constexpr):
    """(pid_m, pid_n): groups of GROUP_M tiles along M share the tiles along N."""
    group = pid // (GROUP_M * num_n)
    first_m = group * GROUP_M
    size_m = min(num_m - first_m, GROUP_M)
    inner = pid % (GROUP_M * num_n)
    return first_m + inner % size_m, inner // size_m


@triton.jit
def dot_step(a, b, acc, UPCAST_DOT: tl.constexpr):
    """acc + a @ b in fp32."""
    if UPCAST_DOT:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit(do_not_specialize=["r"])
def head_logits_fwd_kernel(
    hidden_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    r,
    V,
    H,
    stride_hr,
    stride_wv,
    stride_or,
    HAS_BIAS: tl.constexpr,
    EVEN_K: tl.constexpr,
    UPCAST_DOT: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    pid_r, pid_v = tile_of(tl.program_id(0), tl.cdiv(r, BLOCK_R), tl.cdiv(V, BLOCK_V), GROUP_M)
    offs_r = pid_r * BLOCK_R + tl.arange(0, BLOCK_R)
    offs_v = pid_v * BLOCK_V + tl.arange(0, BLOCK_V)
    offs_h = tl.arange(0, BLOCK_H)
    # Rows beyond the end read row 0; what they give is not stored.
    safe_r = tl.where(offs_r < r, offs_r, 0).to(tl.int64)
    safe_v = tl.where(offs_v < V, offs_v, 0).to(tl.int64)
    hidden_ptrs = hidden_ptr + safe_r[:, None] * stride_hr + offs_h[None, :]
    weight_ptrs = weight_ptr + safe_v[None, :] * stride_wv + offs_h[:, None]
    acc = tl.zeros([BLOCK_R, BLOCK_V], tl.float32)
    for h in range(0, H, BLOCK_H):
        if EVEN_K:
            a = tl.load(hidden_ptrs)
            b = tl.load(weight_ptrs)
        else:
            a = tl.load(hidden_ptrs, mask=(offs_h < H - h)[None, :], other=0.0)
            b = tl.load(weight_ptrs, mask=(offs_h < H - h)[:, None], other=0.0)
        acc = dot_step(a, b, acc, UPCAST_DOT)
        hidden_ptrs += BLOCK_H
        weight_ptrs += BLOCK_H
    if HAS_BIAS:
        acc += tl.load(bias_ptr + safe_v).to(tl.float32)[None, :]
    out_ptrs = out_ptr + offs_r.to(tl.int64)[:, None] * stride_or + offs_v[None, :]
    tl.store(out_ptrs, round_to(acc, out_ptr.dtype.element_ty), mask=(offs_r < r)[:, None] & (offs_v < V)[None, :])


def head_logits_fwd(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor) -> None:
    """out [r, V] (any float dtype) = hidden [r, H] @ weight [V, H]^T + bias [V]; only rows may be strided."""
    r, H = hidden.shape
    V = weight.shape[0]
    assert hidden.dtype == weight.dtype
    assert weight.shape == (V, H)
    assert out.shape == (r, V)
    _check_rows(hidden, weight, out)
    assert bias is None or (bias.shape == (V,) and bias.is_contiguous())
    if out.numel() == 0:
        return
    config = gemm_config("logits", hidden, weight)
    head_logits_fwd_kernel[(triton.cdiv(r, config.block_m) * triton.cdiv(V, config.block_n),)](
        hidden,
        weight,
        bias,
        out,
        r,
        V,
        H,
        hidden.stride(0),
        weight.stride(0),
        out.stride(0),
        HAS_BIAS=bias is not None,
        EVEN_K=H % config.block_k == 0,
        UPCAST_DOT=upcast_dot(weight),
        BLOCK_R=config.block_m,
        BLOCK_V=config.block_n,
        BLOCK_H=config.block_k,
        **config.launch_options(),
    )


@triton.jit(do_not_specialize=["r"])
def head_dhidden_bwd_kernel(
    dlogits_ptr,
    weight_ptr,
    rows_ptr,
    num_active_ptr,
    dhidden_ptr,
    r,
    V,
    H,
    stride_dlr,
    stride_wv,
    stride_dhr,
    HAS_ROWS: tl.constexpr,
    EVEN_K: tl.constexpr,
    UPCAST_DOT: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_V: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    count = r
    if HAS_ROWS:
        count = tl.load(num_active_ptr)
    num_h = tl.cdiv(H, BLOCK_H)
    pid = tl.program_id(0)
    if pid >= tl.cdiv(count, BLOCK_R) * num_h:
        return
    pid_r, pid_h = tile_of(pid, tl.cdiv(count, BLOCK_R), num_h, GROUP_M)
    offs_i = pid_r * BLOCK_R + tl.arange(0, BLOCK_R)
    offs_h = pid_h * BLOCK_H + tl.arange(0, BLOCK_H)
    offs_v = tl.arange(0, BLOCK_V)
    # Rows beyond the count read a row that exists; what they give is not stored.
    row = tl.where(offs_i < count, offs_i, 0)
    if HAS_ROWS:
        row = tl.load(rows_ptr + row)
    row = row.to(tl.int64)
    dlogits_ptrs = dlogits_ptr + row[:, None] * stride_dlr + offs_v[None, :]
    weight_ptrs = weight_ptr + offs_v.to(tl.int64)[:, None] * stride_wv + offs_h[None, :]
    mask_h = (offs_h < H)[None, :]
    acc = tl.zeros([BLOCK_R, BLOCK_H], tl.float32)
    for v in range(0, V, BLOCK_V):
        if EVEN_K:
            a = tl.load(dlogits_ptrs)
            b = tl.load(weight_ptrs, mask=mask_h, other=0.0)
        else:
            a = tl.load(dlogits_ptrs, mask=(offs_v < V - v)[None, :], other=0.0)
            b = tl.load(weight_ptrs, mask=(offs_v < V - v)[:, None] & mask_h, other=0.0)
        acc = dot_step(a, b, acc, UPCAST_DOT)
        dlogits_ptrs += BLOCK_V
        weight_ptrs += BLOCK_V * stride_wv
    dhidden_ptrs = dhidden_ptr + row[:, None] * stride_dhr + offs_h[None, :]
    tl.store(dhidden_ptrs, round_to(acc, dhidden_ptr.dtype.element_ty), mask=(offs_i < count)[:, None] & mask_h)


def head_dhidden_bwd(
    dlogits: torch.Tensor,
    weight: torch.Tensor,
    rows: torch.Tensor | None,
    num_active: torch.Tensor | None,
    dhidden: torch.Tensor,
) -> None:
    """dhidden[rows[i]] = dlogits[rows[i]] @ weight for i < num_active; other rows of dhidden [r, H] stay as they are.

    rows [r] and num_active [1] are those of compact_rows; without them every row is active. dlogits has weight's dtype.
    """
    r, V = dlogits.shape
    H = weight.shape[1]
    assert dlogits.dtype == weight.dtype
    assert weight.shape == (V, H)
    assert dhidden.shape == (r, H)
    assert (rows is None) == (num_active is None)
    _check_rows(dlogits, weight, dhidden)
    if dhidden.numel() == 0:
        return
    config = gemm_config("dhidden", dlogits, weight)
    head_dhidden_bwd_kernel[(triton.cdiv(r, config.block_m) * triton.cdiv(H, config.block_n),)](
        dlogits,
        weight,
        rows,
        num_active,
        dhidden,
        r,
        V,
        H,
        dlogits.stride(0),
        weight.stride(0),
        dhidden.stride(0),
        HAS_ROWS=rows is not None,
        EVEN_K=V % config.block_k == 0,
        UPCAST_DOT=upcast_dot(weight),
        BLOCK_R=config.block_m,
        BLOCK_H=config.block_n,
        BLOCK_V=config.block_k,
        **config.launch_options(),
    )


@triton.jit(do_not_specialize=["r"])
def head_dweight_bwd_kernel(
    dlogits_ptr,
    hidden_ptr,
    rows_ptr,
    num_active_ptr,
    dweight_ptr,
    r,
    V,
    H,
    stride_dlr,
    stride_hr,
    stride_dwv,
    HAS_ROWS: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    EVEN_TILES: tl.constexpr,
    UPCAST_DOT: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_R: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    count = r
    if HAS_ROWS:
        count = tl.load(num_active_ptr)
    if ACCUMULATE:  # noqa: SIM102
        if count == 0:  # the flag is resolved when compiled, this when run
            return
    pid_v, pid_h = tile_of(tl.program_id(0), tl.cdiv(V, BLOCK_V), tl.cdiv(H, BLOCK_H), GROUP_M)
    offs_v = pid_v * BLOCK_V + tl.arange(0, BLOCK_V)
    offs_h = pid_h * BLOCK_H + tl.arange(0, BLOCK_H)
    offs_i = tl.arange(0, BLOCK_R)
    # Masks that are always true would cost the registers that this kernel is short of.
    mask_v = tl.full([BLOCK_V, 1], True, tl.int1) if EVEN_TILES else (offs_v < V)[:, None]
    mask_h = tl.full([1, BLOCK_H], True, tl.int1) if EVEN_TILES else (offs_h < H)[None, :]
    dlogits_ptrs = dlogits_ptr + offs_v[:, None]
    hidden_ptrs = hidden_ptr + offs_h[None, :]
    # Within a tile 32 bits are enough (BLOCK_V rows); its corner is reached with 64.
    dweight_ptr += (pid_v * BLOCK_V).to(tl.int64) * stride_dwv + pid_h * BLOCK_H
    dweight_ptrs = dweight_ptr + tl.arange(0, BLOCK_V)[:, None] * stride_dwv + tl.arange(0, BLOCK_H)[None, :]
    # The sum goes on where it stood: added at the end, the old tile would need as many registers as the new one.
    if ACCUMULATE:
        acc = tl.load(dweight_ptrs, mask=mask_v & mask_h, other=0.0)
    else:
        acc = tl.zeros([BLOCK_V, BLOCK_H], tl.float32)
    row = offs_i
    if HAS_ROWS:
        row = tl.load(rows_ptr + offs_i, mask=offs_i < count, other=0)
    for i in range(0, count, BLOCK_R):
        mask_i = offs_i < count - i
        row64 = row.to(tl.int64)
        a = tl.load(dlogits_ptrs + row64[None, :] * stride_dlr, mask=mask_i[None, :] & mask_v, other=0.0)
        b = tl.load(hidden_ptrs + row64[:, None] * stride_hr, mask=mask_i[:, None] & mask_h, other=0.0)
        # The next rows are fetched one step ahead, so that no load of this step waits for an index.
        row = i + BLOCK_R + offs_i
        if HAS_ROWS:
            row = tl.load(rows_ptr + row, mask=row < count, other=0)
        acc = dot_step(a, b, acc, UPCAST_DOT)
    tl.store(dweight_ptrs, acc, mask=mask_v & mask_h)


def head_dweight_bwd(
    dlogits: torch.Tensor,
    hidden: torch.Tensor,
    rows: torch.Tensor | None,
    num_active: torch.Tensor | None,
    dweight: torch.Tensor,
    *,
    accumulate: bool,
) -> None:
    """dweight [V, H] fp32 (+)= sum over the active rows of dlogits[row]^T hidden[row]; `accumulate` adds to it."""
    r, V = dlogits.shape
    H = hidden.shape[1]
    assert dlogits.dtype == hidden.dtype
    assert hidden.shape == (r, H)
    assert dweight.shape == (V, H)
    assert dweight.dtype == torch.float32
    assert (rows is None) == (num_active is None)
    _check_rows(dlogits, hidden, dweight)
    if dweight.numel() == 0:
        return
    config = gemm_config("dweight", dlogits, hidden)
    head_dweight_bwd_kernel[(triton.cdiv(V, config.block_m) * triton.cdiv(H, config.block_n),)](
        dlogits,
        hidden,
        rows,
        num_active,
        dweight,
        r,
        V,
        H,
        dlogits.stride(0),
        hidden.stride(0),
        dweight.stride(0),
        HAS_ROWS=rows is not None,
        ACCUMULATE=accumulate,
        EVEN_TILES=V % config.block_m == 0 and H % config.block_n == 0,
        UPCAST_DOT=upcast_dot(hidden),
        BLOCK_V=config.block_m,
        BLOCK_H=config.block_n,
        BLOCK_R=config.block_k,
        **config.launch_options(),
    )


def _check_rows(*matrices: torch.Tensor) -> None:
    assert all(m.stride(1) == 1 or m.shape[1] <= 1 for m in matrices), "the last dimension must be contiguous"
