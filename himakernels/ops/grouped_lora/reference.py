"""The specification of grouped_lora: one adapter after the other, in eager torch."""

from collections.abc import Sequence

import torch


def grouped_lora_reference(
    x: torch.Tensor,
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    segments: torch.Tensor,
    scaling: Sequence[float],
    *,
    base: torch.Tensor | None = None,
) -> torch.Tensor:
    """y [T, H_out] of `grouped_lora`; products in the adapters' dtype, as PEFT computes them, the result in that of x."""
    starts = segments.tolist()
    deltas = []
    for i in range(len(a)):
        x_i = x[starts[i] : starts[i + 1]].to(a[i].dtype)
        deltas.append(scaling[i] * (x_i @ a[i].t()) @ b[i].t())
    delta = torch.cat(deltas)
    return (delta if base is None else base + delta).to(x.dtype)
