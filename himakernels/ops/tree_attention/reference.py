"""The specification of tree attention: one dense mask, one softmax, eager torch; the gradient is autograd's."""

import torch


def visible_reference(
    subtree_end: torch.Tensor, *, position_ids: torch.Tensor | None = None, window: int | None = None
) -> torch.Tensor:
    """[T, T] bool: query q sees key k iff k <= q < subtree_end[k], and with a window depth(q) - depth(k) < window."""
    at = torch.arange(subtree_end.shape[0], device=subtree_end.device)
    visible = (at[None, :] <= at[:, None]) & (at[:, None] < subtree_end[None, :])
    if window is not None:
        assert position_ids is not None
        visible &= position_ids[:, None] - position_ids[None, :] < window
    return visible


def tree_attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    subtree_end: torch.Tensor,
    *,
    position_ids: torch.Tensor | None = None,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """out [T, Hq, D] for q [T, Hq, D] and k, v [T, Hk, D]; query head h reads key head h // (Hq / Hk); sinks [Hq]."""
    T, Hq, D = q.shape
    group = Hq // k.shape[1]
    k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * (D**-0.5 if scale is None else scale)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~visible_reference(subtree_end, position_ids=position_ids, window=window), -torch.inf)
    if sinks is not None:  # one more key a head, with no value: it only takes probability away
        scores = torch.cat([scores, sinks[:, None, None].to(scores.dtype).expand(Hq, T, 1)], dim=-1)
    return torch.einsum("hqk,khd->qhd", torch.softmax(scores, dim=-1)[..., :T], v)
