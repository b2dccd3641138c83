"""The specification of paged attention: one sequence after another, with its keys and values gathered from their blocks."""

import torch


def paged_attention_reference(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block_table: torch.Tensor,
    cu_seqlens: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """out [T, Hq, D] for q [T, Hq, D] and keys, values [blocks, block_size, Hk, D]; see `paged_attention`."""
    (_, Hq, D), (block_size, Hk) = q.shape, keys.shape[1:3]
    out = torch.empty_like(q)
    for n, length in enumerate(seq_lens.tolist()):
        begin, end = cu_seqlens[n : n + 2].tolist()
        at = torch.arange(length, device=q.device)
        blocks = block_table[n, at // block_size].long()
        k, v = (pool[blocks, at % block_size].repeat_interleave(Hq // Hk, dim=1) for pool in (keys, values))  # [L, Hq, D]
        scores = torch.einsum("qhd,khd->hqk", q[begin:end], k) * (D**-0.5 if scale is None else scale)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        position = at[length - (end - begin) :, None]  # the queries are the newest tokens
        visible = at <= position
        if window is not None:
            visible &= position - at < window
        scores = scores.masked_fill(~visible, -torch.inf)
        if sinks is not None:  # one more key a head, with no value: it only takes probability away
            scores = torch.cat([scores, sinks[:, None, None].to(scores.dtype).expand(Hq, end - begin, 1)], dim=-1)
        out[begin:end] = torch.einsum("hqk,khd->qhd", torch.softmax(scores, dim=-1)[..., :length], v)
    return out
