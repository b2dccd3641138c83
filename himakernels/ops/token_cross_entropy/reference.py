"""The specification of the token cross-entropy."""

import torch

from himakernels.ops.token_logprobs.reference import token_logprobs_reference


def token_cross_entropy_reference(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    num_tokens: torch.Tensor | float | None = None,
) -> torch.Tensor:
    """-sum of the labels' log-probabilities / num_tokens [], the counted rows by default; differentiable in `logits`."""
    logprobs, _ = token_logprobs_reference(logits, labels, temperature=temperature, softcap=softcap)
    return -logprobs.sum() / (max(int((labels != -100).sum()), 1) if num_tokens is None else num_tokens)
