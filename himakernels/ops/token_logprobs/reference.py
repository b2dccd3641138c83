"""The specification of token log-probabilities: log-softmax, a gather, and the entropy, in eager torch."""

import torch


def token_logprobs_reference(
    logits: torch.Tensor, labels: torch.Tensor, *, temperature: float = 1.0, softcap: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(logprobs [R], entropy [R]) of `labels` under softmax(softcap * tanh(logits / softcap) / temperature).

    Rows whose label is -100 give 0 for both. Both are differentiable in `logits` [R, V], in whose dtype all is computed.
    """
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    log_p = torch.log_softmax(logits / temperature, dim=-1)
    counted = labels != -100
    logprobs = log_p.gather(-1, labels.clamp(min=0).long()[:, None])[:, 0]
    # A token that is masked with -inf has p = 0 and adds nothing: 0 * -inf would be NaN.
    entropy = -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0.0)).sum(-1)
    return logprobs.masked_fill(~counted, 0.0), entropy.masked_fill(~counted, 0.0)
