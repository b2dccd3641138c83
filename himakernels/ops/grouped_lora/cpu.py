"""The CPU route of grouped_lora: eager torch, two thin products an adapter in the forward, four in the backward.

bf16 adapters on a CPU that multiplies bf16 fast stay bf16 (oneDNN, fp32 sums). Other 16-bit operands are widened a segment
at a time, once, in memory that all segments share: fp32 products, one rounding at the end.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch

from himakernels import _core

_BF16_PRODUCTS = _core.bf16_products_pay()


def _product_dtype(x: torch.Tensor, adapter: torch.Tensor) -> torch.dtype:
    """What the operands of a product are: their own dtype where they agree and the CPU is fast at it, else fp32."""
    if x.dtype == torch.float64:
        return torch.float64
    native = x.dtype == adapter.dtype == torch.bfloat16 and _BF16_PRODUCTS
    return torch.bfloat16 if native else torch.float32


class _Wide:
    """Rows of a matrix in another dtype, in one buffer for all segments."""

    def __init__(self, matrix: torch.Tensor, dtype: torch.dtype, rows: int) -> None:
        self.matrix = matrix
        self.buffer = None if matrix.dtype == dtype else matrix.new_empty(rows, matrix.shape[1], dtype=dtype)

    def rows(self, begin: int, end: int) -> torch.Tensor:
        """Rows [begin, end), valid until the next call: the matrix itself where its dtype is right."""
        rows = self.matrix[begin:end]
        return rows if self.buffer is None else self.buffer[: end - begin].copy_(rows)


def _parts(segments: torch.Tensor, tokens: int) -> list[tuple[int, int, int]]:
    """(adapter, begin, end) of the adapters that have tokens; ValueError where segments are no partition of them."""
    starts: list[int] = segments.tolist()
    if starts[0] != 0 or starts[-1] != tokens or any(b > e for b, e in pairwise(starts)):
        raise ValueError(f"segments: expected ascending values from 0 to T = {tokens}, got {starts}")
    return [(i, b, e) for i, (b, e) in enumerate(pairwise(starts)) if e > b]


def _longest(parts: Sequence[tuple[int, int, int]]) -> int:
    return max((e - b for _, b, e in parts), default=0)


def _flat_blocks(flat: torch.Tensor, like: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Consecutive pieces of `flat` in the shapes of `like`."""
    sizes = [t.numel() for t in like]
    return (piece.view(t.shape) for piece, t in zip(flat.split(sizes), like, strict=True))


def grouped_lora_fwd(
    x: torch.Tensor,
    base: torch.Tensor | None,
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    segments: torch.Tensor,
    scaling: Sequence[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """(y [T, H_out], h [T, r_max] with h[t, :r_i] = x[t] @ a_i.T and zeros behind)."""
    tokens = x.shape[0]
    parts = _parts(segments, tokens)
    dtype = _product_dtype(x, a[0])
    ranks = [t.shape[0] for t in a]
    h = x.new_zeros(tokens, max(ranks), dtype=a[0].dtype)
    y = x.new_empty(tokens, b[0].shape[0])
    x_wide = _Wide(x, dtype, _longest(parts))
    y_wide = _Wide(y, dtype, _longest(parts))
    for i, begin, end in parts:
        out = y[begin:end]
        if ranks[i] == 0:
            _ = out.zero_() if base is None else out.copy_(base[begin:end])
            continue
        h_i = h[begin:end, : ranks[i]]
        if h.dtype == dtype:
            shrunk = torch.mm(x_wide.rows(begin, end), a[i].t(), out=h_i)
        else:
            shrunk = torch.mm(x_wide.rows(begin, end), a[i].to(dtype).t())
            h_i.copy_(shrunk)
        b_i = b[i].to(dtype).t()
        summed = out if y_wide.buffer is None else y_wide.buffer[: end - begin]
        if base is None:
            _mm_into(summed, shrunk, b_i, scaling[i])
        else:
            summed.copy_(base[begin:end]).addmm_(shrunk, b_i, alpha=scaling[i])
        if summed is not out:
            out.copy_(summed)
    return y, h


def grouped_lora_bwd(
    dy: torch.Tensor,
    x: torch.Tensor,
    h: torch.Tensor,
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    segments: torch.Tensor,
    scaling: Sequence[float],
    needs: Sequence[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """dx [T, H_in], and da and db of all adapters one after the other in flat memory; `needs` is [x, *a, *b].

    Adapters that need no gradient keep zeros.
    """
    need_x, need_a, need_b = needs[0], needs[1 : 1 + len(a)], needs[1 + len(a) :]
    parts = _parts(segments, x.shape[0])
    dtype = _product_dtype(x, a[0])
    dx = torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else None
    da = a[0].new_zeros(sum(t.numel() for t in a)) if any(need_a) else None
    db = b[0].new_zeros(sum(t.numel() for t in b)) if any(need_b) else None
    da_blocks = None if da is None else list(_flat_blocks(da, a))
    db_blocks = None if db is None else list(_flat_blocks(db, b))
    x_wide, dy_wide = _Wide(x, dtype, _longest(parts)), _Wide(dy, dtype, _longest(parts))
    dx_wide = None if dx is None else _Wide(dx, dtype, _longest(parts))
    for i, begin, end in parts:
        rank = a[i].shape[0]
        if rank == 0:
            if dx is not None:
                dx[begin:end].zero_()
            continue
        dy_i = dy_wide.rows(begin, end)
        if db_blocks is not None and need_b[i]:
            _mm_into(db_blocks[i], dy_i.t(), h[begin:end, :rank].to(dtype), scaling[i])
        if dx is None and not need_a[i]:
            continue
        # g = scaling * dy @ b, the gradient of h
        g = dy_i.new_empty(end - begin, rank)
        _mm_into(g, dy_i, b[i].to(dtype), scaling[i])
        if da_blocks is not None and need_a[i]:
            _mm_into(da_blocks[i], g.t(), x_wide.rows(begin, end), 1.0)
        if dx is not None and dx_wide is not None:
            out = dx[begin:end] if dx_wide.buffer is None else dx_wide.buffer[: end - begin]
            torch.mm(g, a[i].to(dtype), out=out)
            if dx_wide.buffer is not None:
                dx[begin:end].copy_(out)
    return dx, da, db


def _mm_into(out: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
    """out = scale * left @ right, summed and scaled in at least fp32, rounded once to the dtype of `out`."""
    if out.dtype == left.dtype:
        torch.addmm(out, left, right, beta=0, alpha=scale, out=out)
    else:
        out.copy_(torch.mm(left, right).mul_(scale))
