"""Tree attention in fp64: torch, a block of queries at a time; for gradcheck, on any device."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

Optional = torch.Tensor | None

_BLOCK = 128  # queries whose scores are in memory at a time


class _Block(NamedTuple):
    rows: slice
    probabilities: torch.Tensor  # [Hq, B, K] over the K keys up to the block's end; with a sink they sum to less than 1
    slope: torch.Tensor | float  # d score / d (q . k * scale)
    lse: torch.Tensor  # [Hq, B]


def _repeated(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """[T, Hk, D] -> [T, Hq, D]: each query head with its key head."""
    return x.repeat_interleave(q.shape[1] // x.shape[1], dim=1)


def _blocks(
    q: torch.Tensor,
    k: torch.Tensor,
    subtree_end: torch.Tensor,
    position_ids: Optional,
    sinks: Optional,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Iterator[_Block]:
    keys = _repeated(k, q)
    at = torch.arange(q.shape[0], device=q.device)
    for begin in range(0, q.shape[0], _BLOCK):
        end = min(begin + _BLOCK, q.shape[0])
        rows, seen = slice(begin, end), slice(0, end)
        scores = torch.einsum("qhd,khd->hqk", q[rows], keys[seen]) * scale
        slope: torch.Tensor | float = 1.0
        if softcap is not None:
            t = torch.tanh(scores / softcap)
            scores, slope = softcap * t, 1 - t * t
        visible = (at[seen] <= at[rows, None]) & (at[rows, None] < subtree_end[seen])
        if window is not None:
            assert position_ids is not None
            visible &= position_ids[rows, None] - position_ids[seen] < window
        scores = scores.masked_fill(~visible, -torch.inf)
        lse = torch.logsumexp(scores, -1)
        if sinks is not None:
            lse = torch.logaddexp(lse, sinks.to(lse)[:, None])
        yield _Block(rows, torch.exp(scores - lse[..., None]), slope, lse)


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    subtree_end: torch.Tensor,
    position_ids: Optional,
    sinks: Optional,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """out [T, Hq, D]."""
    out = q.new_empty(q.shape)
    values = _repeated(v, q)
    for block in _blocks(q, k, subtree_end, position_ids, sinks, scale, window, softcap):
        out[block.rows] = torch.einsum("hqk,khd->qhd", block.probabilities, values[: block.rows.stop])
    return out


def backward(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    subtree_end: torch.Tensor,
    position_ids: Optional,
    sinks: Optional,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Optional]:
    """dq, dk, dv, dsinks."""
    keys, values = _repeated(k, q), _repeated(v, q)
    dq, dk, dv = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (q, keys, values))
    delta = (dout * out).sum(-1).t()  # [Hq, T]
    dsinks = None if sinks is None else torch.zeros_like(sinks)
    for rows, p, slope, lse in _blocks(q, k, subtree_end, position_ids, sinks, scale, window, softcap):
        seen = slice(0, rows.stop)
        dv[seen] += torch.einsum("hqk,qhd->khd", p, dout[rows])
        dp = torch.einsum("qhd,khd->hqk", dout[rows], values[seen])
        ds = p * (dp - delta[:, rows, None]) * slope * scale
        dq[rows] = torch.einsum("hqk,khd->qhd", ds, keys[seen])
        dk[seen] += torch.einsum("hqk,qhd->khd", ds, q[rows])
        if sinks is not None and dsinks is not None:
            dsinks -= (torch.exp(sinks[:, None] - lse) * delta[:, rows]).sum(1)
    group = (k.shape[0], k.shape[1], q.shape[1] // k.shape[1], k.shape[2])
    return dq, dk.view(group).sum(2), dv.view(group).sum(2), dsinks
