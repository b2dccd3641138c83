"""What the two routes of the LM head share."""

from typing import NamedTuple

import torch

IGNORE_INDEX = -100


def accumulator_dtype(tensor: torch.Tensor) -> torch.dtype:
    """fp32, or fp64 for fp64."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


class RowStats(NamedTuple):
    """Of each row of logits: what the forward needs and what the backward starts from. [R] each, fp32 (fp64 for fp64)."""

    logprobs: torch.Tensor
    lse: torch.Tensor
    entropy: torch.Tensor


class Head(NamedTuple):
    """An LM head and its rows: z = softcap tanh(x / softcap) / temperature, x = hidden @ weight.T + bias."""

    hidden: torch.Tensor  # [R, H]
    weight: torch.Tensor  # [V, H]
    bias: torch.Tensor | None  # [V]
    labels: torch.Tensor  # [R] int64, IGNORE_INDEX where a row does not count
    temperature: float
    softcap: float | None

    def rows(self, begin: int, end: int) -> "Head":
        """The same head over rows [begin, end)."""
        return self._replace(hidden=self.hidden[begin:end], labels=self.labels[begin:end])


class Needs(NamedTuple):
    """Which gradients are asked for."""

    dhidden: bool
    dweight: bool
    dbias: bool


class HeadGrads(NamedTuple):
    """dhidden [R, H], dweight [V, H], dbias [V] in the dtypes of what they belong to; None where not asked for."""

    dhidden: torch.Tensor | None
    dweight: torch.Tensor | None
    dbias: torch.Tensor | None
