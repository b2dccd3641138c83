"""Token cross-entropy for SFT: schema, autograd, public function."""

from typing import Any, NamedTuple

import torch

from himakernels.library import define_op, refuse_second_derivative
from himakernels.lm_head.arguments import check_grad_scale, check_head, check_label_values, number_tensor, row_major
from himakernels.lm_head.head import fake_grads, head_fused, op_grads
from himakernels.lm_head.scale import scaled_grads
from himakernels.lm_head.types import IGNORE_INDEX, Head, Needs, RowStats, accumulator_dtype


class TokenCrossEntropy(NamedTuple):
    """`loss` [] (differentiable) and `logprobs` [R] (detached); fp32 (fp64 for fp64)."""

    loss: torch.Tensor
    logprobs: torch.Tensor


def _fwd(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    num_tokens: torch.Tensor | None,
    grad_scale: torch.Tensor | None,
    temperature: float,
    softcap: float,
    needs: list[bool],
) -> tuple[torch.Tensor, ...]:
    check_label_values(labels, weight.shape[0])
    counted = labels != IGNORE_INDEX
    total = counted.sum().clamp(min=1) if num_tokens is None else num_tokens
    weights = (counted / total.double()).to(accumulator_dtype(hidden))
    coef = -weights if grad_scale is None else -weights * grad_scale

    def policy(begin: int, end: int, stats: RowStats) -> tuple[torch.Tensor, None]:
        return coef[begin:end], None

    head = Head(hidden, weight, bias, labels, temperature, softcap or None)
    stats, grads = head_fused(head, policy, Needs(*needs), whole_samples=False)
    loss = -(stats.logprobs.double() * weights).sum().to(weights.dtype)
    return loss, stats.logprobs, *op_grads(grads, hidden)


def _fake(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> tuple[torch.Tensor, ...]:
    dtype = accumulator_dtype(hidden)
    grads = fake_grads(hidden, weight, bias, rest[-1])
    return hidden.new_empty((), dtype=dtype), hidden.new_empty(hidden.shape[0], dtype=dtype), *grads


_op = define_op(
    "token_cross_entropy(Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, Tensor? num_tokens, Tensor? grad_scale, "
    "float temperature, float softcap, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _fwd,
    _fake,
)


class _TokenCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, needs: list[bool], *rest: Any
    ) -> Any:
        loss, logprobs, *grads = _op(hidden, weight, bias, *rest, needs)
        ctx.save_for_backward(*grads, rest[2])  # grad_scale
        ctx.needs = needs
        ctx.mark_non_differentiable(logprobs)
        return loss, logprobs

    @staticmethod
    def backward(ctx: Any, dloss: torch.Tensor, *unused: torch.Tensor) -> Any:
        refuse_second_derivative()
        *grads, grad_scale = ctx.saved_tensors
        return *scaled_grads(ctx.needs, grads, dloss, grad_scale), *[None] * 6


def token_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    num_tokens: torch.Tensor | float | None = None,
    grad_scale: torch.Tensor | float | None = None,
) -> TokenCrossEntropy:
    """-sum_r log p(labels_r) / num_tokens from hidden states, with its gradients in three matrix products.

    Args:
        hidden, weight, labels, bias, temperature, softcap: as in `token_logprobs`; rows labelled -100 do not count.
        num_tokens: the denominator, over all micro-batches and ranks; default is the number of counted rows here.
        grad_scale: the factor of an fp16 loss scaler, as in `vrgrpo_loss`.

    Returns:
        TokenCrossEntropy(loss [], logprobs [R] detached). An empty batch gives a graph-connected zero.

    Numerics: the gradients are computed in the forward, one chunk of logits at a time, and scaled in the backward, once; a
    frozen head costs two products. Otherwise as in `token_logprobs`.

    Raises:
        ValueError, TypeError: as `token_logprobs`.

    Source: maximum likelihood; docs/numerics.md.
    """
    check_head(hidden, weight, labels, bias, temperature, softcap)
    total = number_tensor("num_tokens", num_tokens, None, hidden)
    needs = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (hidden, weight, bias)]
    grad_scale = check_grad_scale(grad_scale, hidden)
    rest = (labels.long().contiguous(), total, grad_scale, float(temperature), softcap or 0.0)
    return TokenCrossEntropy(*_TokenCrossEntropy.apply(row_major(hidden), row_major(weight), bias, needs, *rest))
