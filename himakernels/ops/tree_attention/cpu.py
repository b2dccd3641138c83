"""The CPU route of tree attention: csrc/tree_attention.h for fp32, bf16 and fp16, torch by blocks of queries for fp64.

The same functions as in fwd_kernels.py and bwd_kernels.py. No scores of T x T are in memory. In C++ every sum is one chain in
packed order to which invisible tokens add nothing, so a query's output has the same bits in a forest, in its tree and on its
path alone, and all gradients are the same for any number of threads.
"""

from collections.abc import Sequence

import torch

from himakernels import _core
from himakernels.arrays import Array, array_of, dtype_name
from himakernels.ops.tree_attention import double

Optional = torch.Tensor | None


def _optional(tensor: Optional) -> Array | None:
    return None if tensor is None else array_of(tensor)


def tree_attention_fwd(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    subtree_end: torch.Tensor,
    position_ids: Optional,
    sinks: Optional,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """out [T, Hq, D] in q's dtype and softmax [2, Hq, T] fp32: of each row the level and the share (csrc/tree_attention.h).

    For fp64 softmax is empty: the backward makes it anew.
    """
    if q.dtype == torch.float64:
        return double.forward(q, k, v, subtree_end, position_ids, sinks, scale, window, softcap), q.new_empty(0)
    out = torch.empty(q.shape, dtype=q.dtype)
    softmax = torch.empty(2, q.shape[1], q.shape[0], dtype=torch.float32)
    _core.tree_attention_fwd(
        array_of(q),
        array_of(k),
        array_of(v),
        dtype_name(q.dtype),
        array_of(subtree_end),
        _optional(position_ids),
        None if sinks is None else array_of(sinks.float()),
        scale,
        window or 0,
        softcap or 0.0,
        array_of(out),
        array_of(softmax),
        threads=torch.get_num_threads(),
    )
    return out, softmax


def tree_attention_bwd(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    softmax: torch.Tensor,
    subtree_end: torch.Tensor,
    position_ids: Optional,
    sinks: Optional,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
    needs: Sequence[bool] = (True, True, True, True),
) -> tuple[Optional, Optional, Optional, Optional]:
    """dq, dk, dv and dsinks, each in the dtype of what it belongs to; None for what is not needed or not there.

    `out` is not read for half precision and fp32: sum of dout * out over the head dimension would carry its rounding, which
    cancels badly in dq and dk (measured: it fails the gate). The same number is summed from the probabilities.
    """
    if q.dtype == torch.float64:
        grads = double.backward(dout, q, k, v, out, subtree_end, position_ids, sinks, scale, window, softcap)
        dq, dk, dv, dsinks = (grad if need else None for grad, need in zip(grads, needs, strict=True))
        return dq, dk, dv, dsinks
    dq, dk, dv = (torch.empty(t.shape, dtype=t.dtype) if need else None for t, need in zip((q, k, v), needs[:3], strict=True))
    dsinks = torch.empty(q.shape[1], dtype=torch.float32) if needs[3] and sinks is not None else None
    _core.tree_attention_bwd(
        array_of(dout),
        array_of(q),
        array_of(k),
        array_of(v),
        array_of(softmax),
        dtype_name(q.dtype),
        array_of(subtree_end),
        _optional(position_ids),
        None if sinks is None else array_of(sinks.float()),
        scale,
        window or 0,
        softcap or 0.0,
        _optional(dq),
        _optional(dk),
        _optional(dv),
        _optional(dsinks),
        threads=torch.get_num_threads(),
    )
    return dq, dk, dv, None if dsinks is None or sinks is None else dsinks.to(sinks.dtype)
