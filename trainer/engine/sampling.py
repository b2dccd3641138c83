"""From a row of logits and a uniform number to a token: pure functions on [B, V]."""

import torch

from trainer.engine.base import SamplingParams

_BELOW_ONE = 1 - 2**-50


def uniforms(n: int, params: SamplingParams, seed: int) -> torch.Tensor:
    """The random numbers of a request: [n, max_new_tokens] fp64 in [0, 1), on the CPU, the same for every device."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(n, params.max_new_tokens, dtype=torch.float64, generator=generator)
    return drawn.mul_(_BELOW_ONE)  # u total < total in fp64 too, so that a search for it ends at a token


def support(scores: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The scores [B, V] (logits / temperature, and any constant) with -inf for what top_k, top_p and min_p leave out.

    `scores` itself where they leave out nothing.
    """
    if 0 < params.top_k < scores.shape[-1]:
        smallest = scores.topk(params.top_k).values[:, -1:]
        scores = scores.masked_fill(scores < smallest, -torch.inf)
    if params.top_p < 1:
        probabilities, order = scores.softmax(-1, dtype=torch.float64).sort(stable=True, dim=-1, descending=True)
        before = probabilities.cumsum(-1) - probabilities  # the mass of likelier tokens
        dropped = torch.empty_like(before, dtype=torch.bool).scatter_(-1, order, before >= params.top_p)
        scores = scores.masked_fill(dropped, -torch.inf)
    if params.min_p > 0:
        smallest = scores.amax(-1, keepdim=True) + torch.tensor(params.min_p, dtype=torch.float64).log().to(scores)
        scores = scores.masked_fill(scores < smallest, -torch.inf)
    return scores


def next_tokens(logits: torch.Tensor, params: SamplingParams, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row, by inversion: the first whose cumulative probability exceeds u.

    A row's token depends on its logits and its u alone.

    Args: logits [B, V] of any floating dtype; u [B] fp64 in [0, 1), not read at temperature 0.
    Returns: tokens [B] int64; logprobs [B] fp32 of them, before any filter (at temperature 0: of temperature 1).
    """
    scores = logits.float()
    if params.temperature not in (0, 1):
        scores = scores / params.temperature
    # Less the largest, so that a likely token's log-probability isn't a difference of two large numbers.
    scores = scores - scores.amax(-1, keepdim=True)
    if params.temperature == 0:
        tokens = scores.argmax(-1, keepdim=True)
        total = scores.exp().sum(-1, keepdim=True, dtype=torch.float64)
    else:
        kept = support(scores, params)
        cumulative = kept.exp().cumsum(-1, dtype=torch.float64)
        tokens = torch.searchsorted(cumulative, cumulative[:, -1:] * u[:, None], right=True)
        tokens.clamp_(max=scores.shape[-1] - 1)  # NaN has no place in the order; its log-probability tells
        total = cumulative[:, -1:] if kept is scores else scores.exp().sum(-1, keepdim=True, dtype=torch.float64)
    return tokens[:, 0], (scores.gather(-1, tokens) - total.log()).float()[:, 0]
