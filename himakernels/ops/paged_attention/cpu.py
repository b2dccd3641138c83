"""The CPU route of paged attention: csrc/paged_attention.h for fp32, bf16 and fp16, the reference for fp64."""

import torch

from himakernels import _core
from himakernels.arrays import array_of, dtype_name
from himakernels.ops.paged_attention.reference import paged_attention_reference


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
    """out [T, Hq, D] in q's dtype."""
    if q.dtype == torch.float64:
        tables = (block_table, cu_seqlens, seq_lens)
        return paged_attention_reference(q, keys, values, *tables, scale=scale, window=window, softcap=softcap, sinks=sinks)
    out = torch.empty(q.shape, dtype=q.dtype)
    _core.paged_attention(
        array_of(q),
        array_of(keys),
        array_of(values),
        dtype_name(q.dtype),
        array_of(block_table),
        array_of(cu_seqlens),
        array_of(seq_lens),
        None if sinks is None else array_of(sinks.float()),
        scale,
        window or 0,
        softcap or 0.0,
        array_of(out),
        threads=torch.get_num_threads(),
    )
    return out
