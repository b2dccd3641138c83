"""From a row of logits and a uniform number to a token: pure functions on [B, V]."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.engine.base import SamplingParams

_BELOW_ONE = 1 - 2**-50


def uniforms(n: int, tokens: int, seed: int) -> torch.Tensor:
    """The random numbers of a request: [n, tokens] fp64 in [0, 1), on the CPU, the same for every device."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(n, tokens, dtype=torch.float64, generator=generator)
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
        smallest = scores.amax(-1, keepdim=True) + math.log(params.min_p)
        scores = scores.masked_fill(scores < smallest, -torch.inf)
    return scores


class Drawn(NamedTuple):
    """A token a row, and its log-probabilities: before any filter, and among what the filters left."""

    tokens: torch.Tensor  # [B] int64
    logprobs: torch.Tensor  # [B] fp32; at temperature 0 those of temperature 1
    sampling_logprobs: torch.Tensor  # [B] fp32; at temperature 0 zeros


def next_tokens(logits: torch.Tensor, params: SamplingParams, u: torch.Tensor) -> Drawn:
    """One token a row, by inversion: the first whose cumulative probability exceeds u.

    A row's token depends on its logits and its u alone.

    Args: logits [B, V] of any floating dtype; u [B] fp64 in [0, 1), not read at temperature 0.
    """
    scores = logits.float()
    # Less the largest, so that a likely token's log-probability isn't a difference of two large numbers.
    scores = scores - scores.amax(-1, keepdim=True)
    if params.temperature not in (0, 1):
        scores = scores / params.temperature
    if params.temperature == 0:
        tokens = scores.argmax(-1, keepdim=True)
        total = scores.exp().sum(-1, keepdim=True, dtype=torch.float64)
        logprobs = (scores.gather(-1, tokens) - total.log()).float()[:, 0]
        return Drawn(tokens[:, 0], logprobs, torch.zeros_like(logprobs))
    kept = support(scores, params)
    cumulative = kept.exp().cumsum(-1, dtype=torch.float64)
    among = cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, among * u[:, None], right=True)
    tokens.clamp_(max=scores.shape[-1] - 1)  # NaN has no place in the order; its log-probability tells
    score = scores.gather(-1, tokens)
    sampling = (score - among.log()).float()[:, 0]
    if kept is scores:
        return Drawn(tokens[:, 0], sampling, sampling)
    total = scores.exp().sum(-1, keepdim=True, dtype=torch.float64)
    return Drawn(tokens[:, 0], (score - total.log()).float()[:, 0], sampling)


class Styles:
    """The params that open requests have asked for, by number: what each draws from, and where it stops."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nobody uses a number."""
        self.params: list[SamplingParams] = []
        self._numbers: dict[SamplingParams, int] = {}
        self._stops = np.full((0, 1), -1, np.int64)
        self._kinds = np.zeros(0, np.int64)  # of each number: the first that draws from the same distribution

    def number(self, params: SamplingParams) -> int:
        """Params that differ in max_new_tokens alone have one number."""
        params = replace(params, max_new_tokens=1)
        if params not in self._numbers:
            known = [*self.params, params]
            stops = np.full((len(known), max(1, *(len(p.stop_token_ids) for p in known))), -1, np.int64)
            for row, one in zip(stops, known, strict=True):
                row[: len(one.stop_token_ids)] = one.stop_token_ids
            kinds = [_draws_from(one) for one in known]
            self.params, self._stops = known, stops
            self._kinds = np.array([kinds.index(kind) for kind in kinds])
            self._numbers[params] = len(known) - 1
        return self._numbers[params]

    def draw(self, logits: torch.Tensor, numbers: NDArray[np.int64], u: NDArray[np.float64]) -> Drawn:
        """`next_tokens`, each row with its own params; on the CPU, which one wait for the device brings there."""
        kinds = self._kinds[numbers]
        draws = torch.from_numpy(u).to(logits.device, non_blocking=True)
        first = int(kinds[0])
        if (kinds == first).all():
            return _on_cpu(next_tokens(logits, self.params[first], draws))
        order = torch.from_numpy(np.argsort(kinds, kind="stable"))
        rows = order.to(logits.device, non_blocking=True)
        present, counts = np.unique(kinds, return_counts=True)
        parts = [
            next_tokens(logits[at], self.params[kind], draws[at])
            for kind, at in zip(present.tolist(), rows.split(counts.tolist()), strict=True)
        ]
        found = _on_cpu(Drawn(*(torch.cat(column) for column in zip(*parts, strict=True))))
        return Drawn(*(torch.empty_like(column).index_copy_(0, order, column) for column in found))

    def stops(self, tokens: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each token ends its sample."""
        ended: NDArray[np.bool_] = (tokens[:, None] == self._stops[numbers]).any(1)
        return ended


def _on_cpu(found: Drawn) -> Drawn:
    """In one copy: fp64 holds all three exactly."""
    if found.tokens.device.type == "cpu":
        return found
    tokens, logprobs, sampling = torch.stack([column.double() for column in found]).cpu()
    return Drawn(tokens.long(), logprobs.float(), sampling.float())


def _draws_from(params: SamplingParams) -> tuple[float, ...]:
    return params.temperature, params.top_k, params.top_p, params.min_p
