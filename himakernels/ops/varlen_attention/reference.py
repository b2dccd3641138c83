"""The specification of varlen attention: one sequence after the other, each a chain of its own."""

from itertools import pairwise

import torch

from himakernels.ops.tree_attention.reference import tree_attention_reference


def varlen_attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """out [T, Hq, D] for q [T, Hq, D], k and v [T, Hk, D] and the boundaries cu_seqlens [N + 1]."""
    outs = []
    for begin, end in pairwise(cu_seqlens.tolist()):
        at = torch.arange(end - begin, device=q.device)
        outs.append(
            tree_attention_reference(
                q[begin:end], k[begin:end], v[begin:end], torch.full_like(at, end - begin), position_ids=at,
                scale=scale, window=window, softcap=softcap, sinks=sinks,
            )
        )  # fmt: skip
    return torch.cat(outs) if outs else q * 1
