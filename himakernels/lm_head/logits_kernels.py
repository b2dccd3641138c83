"""Logits -> log-probability, log-sum-exp and entropy of every row, and the way back.

Forward: one read of the logits, 3 floats written a row. Backward: one read and one write of the logits' size, in place
where wanted. One program owns a row and all its sums are fp32 in a fixed order: batch-invariant, bitwise reproducible.
The arithmetic stands in himakernels.tl_rows, which the fused policy kernel uses as well.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from himakernels import arch
from himakernels.lm_head.types import IGNORE_INDEX
from himakernels.tl_rows import row_grad, row_stats, row_zero

_IGNORE_INDEX = tl.constexpr(IGNORE_INDEX)


class RowConfig(NamedTuple):
    """Block width, warps and load stages of a kernel that walks over rows of logits."""

    block_v: int
    num_warps: int
    num_stages: int


def row_config(tensor: torch.Tensor, *, reread: bool = False, capped: bool = False) -> RowConfig:
    """The pinned table: 16 elements of 2 bytes, or 8 of 4, for every thread and block; loads run two blocks ahead.

    `reread` is for a program that walks over its row twice: it fills a whole multiprocessor, so that as few rows are under
    way as there are multiprocessors and all of them fit in the second-level cache (300 KB x 132 = 40 of 50 MB on Hopper). On
    NVIDIA its loads run four blocks ahead, not for speed: the shared memory which that takes keeps a second program out.
    A soft cap needs more registers (`capped`), and so do rows that are read element by element because they are unaligned.
    """
    where = arch.arch_of(tensor)
    if where == "interpreter":
        return RowConfig(block_v=128, num_warps=4, num_stages=1)
    warps = 4 if where == "gfx942" else 8  # of 64 threads there, of 32 elsewhere
    block_v, stages = 8192 // tensor.element_size(), 2 if where in ("gfx942", "small") else 3
    aligned = tensor.stride(0) % 16 == 0 and tensor.shape[1] % 16 == 0
    if reread and aligned and where != "small":
        return RowConfig(block_v=block_v * (2 if capped else 4), num_warps=4 * warps, num_stages=5 if stages == 3 else stages)
    return RowConfig(block_v=block_v, num_warps=warps, num_stages=stages)


@triton.jit(do_not_specialize=["R"])
def logits_stats_fwd_kernel(
    x_ptr,
    labels_ptr,
    logprobs_ptr,
    lse_ptr,
    entropy_ptr,
    R,
    V,
    stride_xr,
    inv_temperature,
    softcap,
    HAS_SOFTCAP: tl.constexpr,
    BLOCK_V: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels_ptr + row).to(tl.int64)
    if label == _IGNORE_INDEX:
        tl.store(logprobs_ptr + row, 0.0)
        tl.store(lse_ptr + row, 0.0)
        tl.store(entropy_ptr + row, 0.0)
    else:
        _, _, logprob, lse, entropy = row_stats(
            x_ptr + row * stride_xr, label, V, inv_temperature, softcap, HAS_SOFTCAP, BLOCK_V, NUM_STAGES, False
        )
        tl.store(logprobs_ptr + row, logprob)
        tl.store(lse_ptr + row, lse)
        tl.store(entropy_ptr + row, entropy)


def logits_stats_fwd(
    logits: torch.Tensor, labels: torch.Tensor, *, temperature: float = 1.0, softcap: float | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(logprobs, lse, entropy), [R] fp32 each, of logits [R, V] (rows strided, bf16, fp16 or fp32) and labels [R].

    A row whose label is -100 gives 0, 0, 0; a label outside [0, V) gives a logprob of NaN and reads nothing outside.
    """
    R, V = logits.shape
    assert logits.stride(1) == 1 or V <= 1
    assert labels.is_contiguous()
    logprobs, lse, entropy = (torch.empty(R, dtype=torch.float32, device=logits.device) for _ in range(3))
    if R == 0:
        return logprobs, lse, entropy
    block_v, num_warps, num_stages = row_config(logits)
    logits_stats_fwd_kernel[(R,)](
        logits,
        labels,
        logprobs,
        lse,
        entropy,
        R,
        V,
        logits.stride(0),
        1.0 / temperature,
        1.0 if softcap is None else softcap,
        HAS_SOFTCAP=softcap is not None,
        BLOCK_V=block_v,
        NUM_STAGES=num_stages,
        num_warps=num_warps,
        enable_fp_fusion=True,
    )
    return logprobs, lse, entropy


@triton.jit(do_not_specialize=["R"])
def logits_bwd_kernel(
    x_ptr,
    labels_ptr,
    logprobs_ptr,
    lse_ptr,
    entropy_ptr,
    coef_ptr,
    coef_entropy_ptr,
    dx_ptr,
    R,
    V,
    stride_xr,
    stride_dxr,
    inv_temperature,
    softcap,
    HAS_SOFTCAP: tl.constexpr,
    HAS_ENTROPY: tl.constexpr,
    WRITE_ZEROS: tl.constexpr,
    BLOCK_V: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels_ptr + row).to(tl.int64)
    coef = tl.load(coef_ptr + row).to(tl.float32)
    coef_entropy = 0.0
    active = coef != 0.0  # NaN is active
    if HAS_ENTROPY:
        coef_entropy = tl.load(coef_entropy_ptr + row).to(tl.float32)
        active = active | (coef_entropy != 0.0)
    if active & (label != _IGNORE_INDEX):
        row_grad(
            x_ptr + row * stride_xr,
            dx_ptr + row * stride_dxr,
            label,
            V,
            tl.load(logprobs_ptr + row),
            tl.load(lse_ptr + row),
            tl.load(entropy_ptr + row),
            coef,
            coef_entropy,
            inv_temperature,
            softcap,
            HAS_SOFTCAP,
            HAS_ENTROPY,
            BLOCK_V,
            NUM_STAGES,
        )
    elif active | WRITE_ZEROS:  # an ignored row with a coefficient is on the list of active rows, so it is written
        row_zero(dx_ptr + row * stride_dxr, V, BLOCK_V)


def logits_bwd(
    logits: torch.Tensor,
    labels: torch.Tensor,
    logprobs: torch.Tensor,
    lse: torch.Tensor,
    entropy: torch.Tensor,
    coef: torch.Tensor,
    coef_entropy: torch.Tensor | None,
    dlogits: torch.Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    write_zeros: bool = True,
) -> None:
    """Writes dlogits [R, V] (its own dtype; may be `logits` itself) from coef = dL/dlogprobs [R] and dL/dentropy [R].

    `logprobs`, `lse` and `entropy` are those of logits_stats_fwd. A row whose coefficients are exactly 0
    is written with zeros, or left untouched without `write_zeros`. A label of -100 gives zeros, one outside [0, V) NaN.
    """
    R, V = logits.shape
    assert dlogits.shape == logits.shape
    assert V <= 1 or (logits.stride(1) == 1 and dlogits.stride(1) == 1)
    vectors = (labels, logprobs, lse, entropy, coef, *(() if coef_entropy is None else (coef_entropy,)))
    assert all(v.shape == (R,) and v.is_contiguous() for v in vectors)
    if R == 0:
        return
    block_v, num_warps, num_stages = row_config(logits)
    logits_bwd_kernel[(R,)](
        logits,
        labels,
        logprobs,
        lse,
        entropy,
        coef,
        coef_entropy,
        dlogits,
        R,
        V,
        logits.stride(0),
        dlogits.stride(0),
        1.0 / temperature,
        1.0 if softcap is None else softcap,
        HAS_SOFTCAP=softcap is not None,
        HAS_ENTROPY=coef_entropy is not None,
        WRITE_ZEROS=write_zeros,
        BLOCK_V=block_v,
        NUM_STAGES=num_stages,
        num_warps=num_warps,
        enable_fp_fusion=True,
    )
