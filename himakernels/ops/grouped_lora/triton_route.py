"""The Triton route of grouped_lora: two launches forward, up to four backward, and a flat copy of the adapters."""

from collections.abc import Sequence

import torch

from himakernels.ops.grouped_lora.kernels import grouped_lora_expand, grouped_lora_shrink, grouped_lora_wgrad
from himakernels.ops.grouped_lora.launch import Adapters, device_table, flatten


def _flat_adapters(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor], scaling: Sequence[float]) -> tuple[Adapters, Adapters]:
    ranks = tuple(t.shape[0] for t in a)
    table = device_table(ranks, tuple(scaling), a[0].device)
    return Adapters(flatten(a), *table, max(ranks)), Adapters(flatten(b), *table, max(ranks))


def grouped_lora_fwd(
    x: torch.Tensor,
    base: torch.Tensor | None,
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    segments: torch.Tensor,
    scaling: Sequence[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """(y [T, H_out], h [T, r_max] with h[t, :r_i] = x[t] @ a_i.T and zeros behind)."""
    all_a, all_b = _flat_adapters(a, b, scaling)
    h = x.new_empty(x.shape[0], all_a.max_rank, dtype=a[0].dtype)
    y = x.new_empty(x.shape[0], b[0].shape[0])
    grouped_lora_shrink(x, all_a, segments, h, is_b=False)
    grouped_lora_expand(h, all_b, base, segments, y, is_b=True)
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
    """dx [T, H_in], and da and db of all adapters one after the other in flat memory; `needs` is [x, *a, *b]."""
    need_x, need_a, need_b = needs[0], any(needs[1 : 1 + len(a)]), any(needs[1 + len(a) :])
    all_a, all_b = _flat_adapters(a, b, scaling)
    dx = da = db = None
    if need_b:
        db = grouped_lora_wgrad(dy, h, all_b, segments, is_b=True)
    if need_x or need_a:
        g = torch.empty_like(h)
        grouped_lora_shrink(dy, all_b, segments, g, is_b=True)
        if need_a:
            da = grouped_lora_wgrad(x, g, all_a, segments, is_b=False)
        if need_x:
            dx = torch.empty_like(x, memory_format=torch.contiguous_format)
            grouped_lora_expand(g, all_a, None, segments, dx, is_b=False)
    return dx, da, db
