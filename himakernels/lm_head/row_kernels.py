"""Small kernels around the LM head's products: the list of active rows, the bias gradient, a device-side scaling.

All of them are bitwise reproducible and wait for nothing on the host.
"""

import torch
import triton
import triton.language as tl

from himakernels import arch
from himakernels.tl_math import round_to


@triton.jit(do_not_specialize=["r"])
def compact_rows_kernel(active_ptr, rows_ptr, num_active_ptr, r, BLOCK_R: tl.constexpr):
    # One program walks over the rows in order: a carried prefix sum gives every active row its place.
    offs = tl.arange(0, BLOCK_R)
    count = 0
    for start in range(0, r, BLOCK_R):
        row = start + offs
        active = (tl.load(active_ptr + row, mask=row < r, other=0) != 0).to(tl.int32)
        place = count + tl.cumsum(active, axis=0) - active
        tl.store(rows_ptr + place, row, mask=active != 0)
        count += tl.sum(active, axis=0)
    for start in range(0, r, BLOCK_R):
        place = start + offs
        tl.store(rows_ptr + place, tl.full([BLOCK_R], -1, tl.int32), mask=(place >= count) & (place < r))
    tl.store(num_active_ptr, count)


def compact_rows(active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows [r] int32, num_active [1] int32): the indices where active [r] (bool, uint8) is set, in order, then -1."""
    assert active.dim() == 1
    assert active.is_contiguous()
    r = active.shape[0]
    rows = torch.empty(r, dtype=torch.int32, device=active.device)
    num_active = torch.empty(1, dtype=torch.int32, device=active.device)
    block_r = 64 if arch.arch_of(active) == "interpreter" else 1024
    compact_rows_kernel[(1,)](
        active.view(torch.uint8), rows, num_active, r, BLOCK_R=block_r, num_warps=4, enable_fp_fusion=True
    )
    return rows, num_active


@triton.jit(do_not_specialize=["r"])
def head_dbias_bwd_kernel(
    dlogits_ptr,
    rows_ptr,
    num_active_ptr,
    dbias_ptr,
    r,
    V,
    stride_dlr,
    HAS_ROWS: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    count = r
    if HAS_ROWS:
        count = tl.load(num_active_ptr)
    offs_v = tl.program_id(0) * BLOCK_V + tl.arange(0, BLOCK_V)
    offs_i = tl.arange(0, BLOCK_R)
    mask_v = offs_v < V
    acc = tl.zeros([BLOCK_R, BLOCK_V], tl.float32)
    for i in range(0, count, BLOCK_R):
        mask_i = offs_i < count - i
        row = i + offs_i
        if HAS_ROWS:
            row = tl.load(rows_ptr + row, mask=mask_i, other=0)
        ptrs = dlogits_ptr + row.to(tl.int64)[:, None] * stride_dlr + offs_v[None, :]
        acc += tl.load(ptrs, mask=mask_i[:, None] & mask_v[None, :], other=0.0).to(tl.float32)
    dbias = tl.sum(acc, axis=0)
    if ACCUMULATE:
        dbias += tl.load(dbias_ptr + offs_v, mask=mask_v, other=0.0)
    tl.store(dbias_ptr + offs_v, dbias, mask=mask_v)


def head_dbias_bwd(
    dlogits: torch.Tensor,
    rows: torch.Tensor | None,
    num_active: torch.Tensor | None,
    dbias: torch.Tensor,
    *,
    accumulate: bool,
) -> None:
    """dbias [V] fp32 (+)= sum over the active rows of dlogits [r, V]; without `accumulate` it is overwritten."""
    r, V = dlogits.shape
    assert dbias.shape == (V,)
    assert dbias.dtype == torch.float32
    assert dbias.is_contiguous()
    assert dlogits.stride(1) == 1 or V <= 1
    assert (rows is None) == (num_active is None)
    if V == 0:
        return
    block_r, block_v = (8, 64) if arch.arch_of(dlogits) == "interpreter" else (16, 256)
    head_dbias_bwd_kernel[(triton.cdiv(V, block_v),)](
        dlogits,
        rows,
        num_active,
        dbias,
        r,
        V,
        dlogits.stride(0),
        HAS_ROWS=rows is not None,
        ACCUMULATE=accumulate,
        BLOCK_R=block_r,
        BLOCK_V=block_v,
        num_warps=4,
        enable_fp_fusion=True,
    )


@triton.jit(do_not_specialize=["numel"])
def scale_kernel(x_ptr, scale_ptr, numel, BLOCK: tl.constexpr):
    scale = tl.load(scale_ptr).to(tl.float32)
    if scale == 1.0:
        return
    start = tl.program_id(0).to(tl.int64) * BLOCK
    offs = start + tl.arange(0, BLOCK)
    # Whole blocks carry no mask: numel is not specialised, so a mask would keep loads and stores from being vectors.
    if start + BLOCK <= numel:
        x = tl.load(x_ptr + offs).to(tl.float32)
        tl.store(x_ptr + offs, round_to(x * scale, x_ptr.dtype.element_ty))
    else:
        x = tl.load(x_ptr + offs, mask=offs < numel, other=0.0).to(tl.float32)
        tl.store(x_ptr + offs, round_to(x * scale, x_ptr.dtype.element_ty), mask=offs < numel)


def scale_(tensor: torch.Tensor, scale: torch.Tensor) -> None:
    """tensor *= scale, a scalar on the device; nothing is read or written where it is exactly 1."""
    assert tensor.is_contiguous()
    assert scale.numel() == 1
    if tensor.numel() == 0:
        return
    block = 256 if arch.arch_of(tensor) == "interpreter" else 4096
    scale_kernel[(triton.cdiv(tensor.numel(), block),)](
        tensor, scale, tensor.numel(), BLOCK=block, num_warps=4, enable_fp_fusion=True
    )
