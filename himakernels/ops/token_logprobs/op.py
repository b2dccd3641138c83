"""Token log-probabilities and entropy, from hidden states or from logits: schema, autograd, public functions."""

from typing import Any, NamedTuple

import torch

from himakernels.library import define_op, refuse_second_derivative
from himakernels.lm_head.arguments import check_head, check_label_values, check_logits, row_major
from himakernels.lm_head.head import fake_grads, head_backward, head_stats, op_grads, route
from himakernels.lm_head.types import Head, Needs, RowStats, accumulator_dtype

Optional = torch.Tensor | None


class TokenLogprobs(NamedTuple):
    """`logprobs` [R] and, where asked for, `entropy` [R] in nats; fp32 (fp64 for fp64 inputs), both differentiable."""

    logprobs: torch.Tensor
    entropy: torch.Tensor | None


def _stats_like(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(rows.new_empty(rows.shape[0], dtype=accumulator_dtype(rows)) for _ in range(3))


def _fwd(
    hidden: torch.Tensor, weight: torch.Tensor, bias: Optional, labels: torch.Tensor, temperature: float, softcap: float
) -> tuple[torch.Tensor, ...]:
    check_label_values(labels, weight.shape[0])
    return tuple(head_stats(Head(hidden, weight, bias, labels, temperature, softcap or None)))


def _fwd_fake(
    hidden: torch.Tensor, weight: torch.Tensor, bias: Optional, labels: torch.Tensor, temperature: float, softcap: float
) -> tuple[torch.Tensor, ...]:
    return _stats_like(hidden)


def _bwd(
    dlogprobs: torch.Tensor,
    dentropy: Optional,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: Optional,
    labels: torch.Tensor,
    logprobs: torch.Tensor,
    lse: torch.Tensor,
    entropy: torch.Tensor,
    temperature: float,
    softcap: float,
    needs: list[bool],
) -> tuple[torch.Tensor, ...]:
    head = Head(hidden, weight, bias, labels, temperature, softcap or None)
    grads = head_backward(head, RowStats(logprobs, lse, entropy), dlogprobs, dentropy, Needs(*needs))
    return op_grads(grads, hidden)


def _bwd_fake(
    dlogprobs: torch.Tensor, dentropy: Optional, hidden: torch.Tensor, weight: torch.Tensor, bias: Optional, *rest: Any
) -> tuple[torch.Tensor, ...]:
    return fake_grads(hidden, weight, bias, rest[-1])


_HEAD = "Tensor hidden, Tensor weight, Tensor? bias, Tensor labels"
_ROWS = "Tensor logprobs, Tensor lse, Tensor entropy, float temperature, float softcap"
_op = define_op(f"token_logprobs({_HEAD}, float temperature, float softcap) -> (Tensor, Tensor, Tensor)", _fwd, _fwd_fake)
_op_bwd = define_op(
    f"token_logprobs_bwd(Tensor dlogprobs, Tensor? dentropy, {_HEAD}, {_ROWS}, bool[] needs) -> (Tensor, Tensor, Tensor)",
    _bwd,
    _bwd_fake,
)


def _logits_fwd(logits: torch.Tensor, labels: torch.Tensor, temperature: float, softcap: float) -> tuple[torch.Tensor, ...]:
    check_label_values(labels, logits.shape[1])
    return tuple(route(logits).logits_stats(logits, labels, temperature, softcap or None))


def _logits_fwd_fake(
    logits: torch.Tensor, labels: torch.Tensor, temperature: float, softcap: float
) -> tuple[torch.Tensor, ...]:
    return _stats_like(logits)


def _logits_bwd(
    dlogprobs: torch.Tensor,
    dentropy: Optional,
    logits: torch.Tensor,
    labels: torch.Tensor,
    logprobs: torch.Tensor,
    lse: torch.Tensor,
    entropy: torch.Tensor,
    temperature: float,
    softcap: float,
) -> torch.Tensor:
    dlogits = torch.empty_like(logits, memory_format=torch.contiguous_format)
    stats = RowStats(logprobs, lse, entropy)
    route(logits).logits_grad_rows(logits, dlogits, labels, stats, dlogprobs, dentropy, temperature, softcap or None)
    return dlogits


def _logits_bwd_fake(dlogprobs: torch.Tensor, dentropy: Optional, logits: torch.Tensor, *rest: Any) -> torch.Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


_op_logits = define_op(
    "token_logprobs_from_logits(Tensor logits, Tensor labels, float temperature, float softcap) -> (Tensor, Tensor, Tensor)",
    _logits_fwd,
    _logits_fwd_fake,
)
_op_logits_bwd = define_op(
    f"token_logprobs_from_logits_bwd(Tensor dlogprobs, Tensor? dentropy, Tensor logits, Tensor labels, {_ROWS}) -> Tensor",
    _logits_bwd,
    _logits_bwd_fake,
)


def _outputs(ctx: Any, logprobs: torch.Tensor, entropy: torch.Tensor, return_entropy: bool) -> Any:
    """What a forward returns: an output that nobody asked for, or nobody used, has no gradient to compute."""
    ctx.set_materialize_grads(False)
    return (logprobs, entropy) if return_entropy else logprobs


def _upstream(ctx: Any, dlogprobs: Optional, dentropy: Optional) -> tuple[torch.Tensor, Optional]:
    refuse_second_derivative()
    if dlogprobs is None:
        dlogprobs = torch.zeros_like(ctx.saved_tensors[-1])
    return dlogprobs.contiguous(), None if dentropy is None else dentropy.contiguous()


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: Optional,
        labels: torch.Tensor,
        temperature: float,
        softcap: float,
        return_entropy: bool,
    ) -> Any:
        logprobs, lse, entropy = _op(hidden, weight, bias, labels, temperature, softcap)
        ctx.save_for_backward(hidden, weight, bias, labels, logprobs, lse, entropy)
        ctx.transform = (temperature, softcap)
        return _outputs(ctx, logprobs, entropy, return_entropy)

    @staticmethod
    def backward(ctx: Any, dlogprobs: Optional, dentropy: Optional = None) -> Any:
        needs = list(ctx.needs_input_grad[:3])
        grads = _op_bwd(*_upstream(ctx, dlogprobs, dentropy), *ctx.saved_tensors, *ctx.transform, needs)
        return *(g if need else None for g, need in zip(grads, needs, strict=True)), None, None, None, None


class _LogitsLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, labels: torch.Tensor, temperature: float, softcap: float, return_entropy: bool
    ) -> Any:
        logprobs, lse, entropy = _op_logits(logits, labels, temperature, softcap)
        ctx.save_for_backward(logits, labels, logprobs, lse, entropy)
        ctx.transform = (temperature, softcap)
        return _outputs(ctx, logprobs, entropy, return_entropy)

    @staticmethod
    def backward(ctx: Any, dlogprobs: Optional, dentropy: Optional = None) -> Any:
        dlogits = _op_logits_bwd(*_upstream(ctx, dlogprobs, dentropy), *ctx.saved_tensors, *ctx.transform)
        return dlogits, None, None, None, None


def token_logprobs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    return_entropy: bool = False,
) -> TokenLogprobs:
    r"""log p(label) of each row, and the entropy of its distribution, without the logits in memory.

    With x = hidden @ weight.T + bias and z = softcap tanh(x / softcap) / temperature:
    logprobs_r = z_{r, label} - logsumexp_j z_{r, j},  entropy_r = -sum_j p_{r, j} log p_{r, j}.

    Args:
        hidden: [R, H] fp32, bf16, fp16 (or fp64 on the CPU); differentiable.
        weight: [V, H] of the same dtype; differentiable. Rows of both may be any distance apart; if H is not the contiguous
            dimension, the matrix is copied.
        labels: [R] int64 or int32, already shifted: row r predicts labels[r]. -100 marks a row to ignore (0 is returned).
        bias: [V] of the same dtype; differentiable.
        temperature: divides the (capped) logits.
        softcap: Gemma 2's logit cap; None for none.
        return_entropy: also return the entropy.

    Returns:
        TokenLogprobs(logprobs [R], entropy [R] or None), fp32 (fp64 for fp64).

    Numerics: log p = -softplus(lse_others - z_label), with lse_others over all tokens but the label, so a confident token
    keeps its value and its gradient (1 - p is never a difference). A row's bits do not depend on the other rows. Forward one
    matrix product, backward three (the logits are formed again), one chunk of logits in memory; dweight is summed in fp32.

    Raises:
        ValueError, TypeError: shape, dtype or device that does not fit; on the CPU also a label outside [0, V). On GPU such a
        label gives NaN and nothing outside the tensors is read.

    Source: the definition of the softmax; docs/numerics.md for the form it is computed in.
    """
    check_head(hidden, weight, labels, bias, temperature, softcap)
    rest = (labels.long().contiguous(), float(temperature), softcap or 0.0, return_entropy)
    out = _TokenLogprobs.apply(row_major(hidden), row_major(weight), bias, *rest)
    return TokenLogprobs(*out) if return_entropy else TokenLogprobs(out, None)


def token_logprobs_from_logits(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    return_entropy: bool = False,
) -> TokenLogprobs:
    r"""`token_logprobs` for logits that exist already: x = logits [R, V], differentiable, rows contiguous.

    The backward reads the logits once and writes dlogits once, in the logits' dtype. Everything else as in
    `token_logprobs`.
    """
    check_logits(logits, labels, temperature, softcap)
    out = _LogitsLogprobs.apply(logits, labels.long().contiguous(), float(temperature), softcap or 0.0, return_entropy)
    return TokenLogprobs(*out) if return_entropy else TokenLogprobs(out, None)
