"""The VR-GRPO loss from hidden states or from logits: schemas, device functions, fakes, autograd."""

from typing import Any, NamedTuple

import torch

from himakernels.backend import use_triton
from himakernels.library import bump_version, define_op, refuse_second_derivative
from himakernels.lm_head.arguments import check_label_values
from himakernels.lm_head.head import fake_grads, head_fused, op_grads, route
from himakernels.lm_head.scale import scaled_grads
from himakernels.lm_head.types import Head, Needs, RowStats, accumulator_dtype
from himakernels.ops.vrgrpo_loss.batch import Batch, make_batch
from himakernels.ops.vrgrpo_loss.metrics import PolicyMetrics, policy_metrics
from himakernels.ops.vrgrpo_loss.options import PolicyOptions
from himakernels.ops.vrgrpo_loss.rows import Optional, Rows, RowTerms, row_terms

_N_METRICS = len(PolicyMetrics._fields)


class Inputs(NamedTuple):
    """The part of the operators' arguments that is the same for hidden states and for logits, in the schema's order."""

    labels: torch.Tensor
    sample_id: torch.Tensor
    advantages: torch.Tensor
    keep: Optional
    agent_id: Optional
    old_logprobs: Optional
    ref_logprobs: Optional
    rollout_logprobs: Optional
    num_samples: Optional
    num_tokens: Optional
    grad_scale: Optional
    num_agents: int
    by_token: bool
    choices: list[str]
    numbers: list[float]
    temperature: float
    softcap: float


_INPUTS = (
    "Tensor labels, Tensor sample_id, Tensor advantages, Tensor? keep, Tensor? agent_id, Tensor? old_logprobs, "
    "Tensor? ref_logprobs, Tensor? rollout_logprobs, Tensor? num_samples, Tensor? num_tokens, Tensor? grad_scale, "
    "int num_agents, bool by_token, str[] choices, float[] numbers, float temperature, float softcap"
)


class _Policy:
    """The loss as the head's loop calls it: rows and their statistics in, coefficients out; keeps what it saw."""

    def __init__(self, o: PolicyOptions, rows: Rows, grad_scale: Optional) -> None:
        self.o, self.rows, self.grad_scale = o, rows, grad_scale
        self.losses: list[torch.Tensor] = []
        self.active: list[torch.Tensor] = []

    def __call__(self, begin: int, end: int, stats: RowStats) -> tuple[torch.Tensor, Optional]:
        whole = begin == 0 and end == self.rows.weight.shape[0]
        rows = self.rows if whole else self.rows.slice(begin, end)
        terms = row_terms(self.o, rows, stats.logprobs, stats.entropy)
        self.keep(terms)
        coef, coef_entropy = terms.coef, terms.coef_entropy if self.o.entropy_coef != 0 else None
        if self.grad_scale is None:
            return coef, coef_entropy
        return coef * self.grad_scale, None if coef_entropy is None else coef_entropy * self.grad_scale

    def keep(self, terms: RowTerms) -> None:
        """Remembers what the loss and the metrics need of these rows."""
        self.losses.append(terms.loss)
        self.active.append((terms.coef != 0) | (terms.coef_entropy != 0))


def _prepare(x: Inputs, vocab: int, dtype: torch.dtype) -> tuple[PolicyOptions, Batch]:
    check_label_values(x.labels, vocab)
    o = PolicyOptions.from_flat(x.choices, x.numbers)
    batch = make_batch(
        o, x.labels, x.sample_id, x.advantages, x.keep, x.agent_id, x.num_agents, x.old_logprobs, x.ref_logprobs,
        x.rollout_logprobs, x.num_samples, x.num_tokens, x.by_token, dtype,
    )  # fmt: skip
    return o, batch


def _finish(o: PolicyOptions, batch: Batch, policy: _Policy, stats: RowStats) -> tuple[torch.Tensor, ...]:
    loss = torch.cat(policy.losses).double().sum().to(stats.logprobs.dtype)
    return loss, stats.logprobs, policy_metrics(o, batch, stats.logprobs, stats.entropy, torch.cat(policy.active))


def _linear(hidden: torch.Tensor, weight: torch.Tensor, bias: Optional, *args: Any) -> tuple[torch.Tensor, ...]:
    needs, x = Needs(*args[-1]), Inputs(*args[:-1])
    o, batch = _prepare(x, weight.shape[0], accumulator_dtype(hidden))
    policy = _Policy(o, batch.rows, x.grad_scale)
    head = Head(hidden, weight, bias, x.labels, x.temperature, x.softcap or None)
    stats, grads = head_fused(head, policy, needs, whole_samples=o.needs_whole_samples)
    return *_finish(o, batch, policy, stats), *op_grads(grads, hidden)


def _outputs_like(rows: torch.Tensor, x: Inputs) -> tuple[torch.Tensor, ...]:
    dtype = accumulator_dtype(rows)
    return (
        rows.new_empty((), dtype=dtype),
        rows.new_empty(rows.shape[0], dtype=dtype),
        rows.new_empty(_N_METRICS, x.num_agents, dtype=torch.float32),
    )


def _linear_fake(hidden: torch.Tensor, weight: torch.Tensor, bias: Optional, *args: Any) -> tuple[torch.Tensor, ...]:
    return *_outputs_like(hidden, Inputs(*args[:-1])), *fake_grads(hidden, weight, bias, args[-1])


_linear_op = define_op(
    f"vrgrpo_loss(Tensor hidden, Tensor weight, Tensor? bias, {_INPUTS}, bool[] needs) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _linear,
    _linear_fake,
)


def _logits(logits: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    need, x = args[-1], Inputs(*args[:-1])
    o, batch = _prepare(x, logits.shape[1], accumulator_dtype(logits))
    dlogits = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device) if need else logits.new_empty(0)
    return *_logits_into(logits, dlogits, x, o, batch, need), dlogits


def _logits_inplace(logits: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    x = Inputs(*args)
    o, batch = _prepare(x, logits.shape[1], accumulator_dtype(logits))
    bump_version(logits)
    return _logits_into(logits, logits, x, o, batch, True)


def _logits_into(
    logits: torch.Tensor, dlogits: torch.Tensor, x: Inputs, o: PolicyOptions, batch: Batch, need: bool
) -> tuple[torch.Tensor, ...]:
    policy = _Policy(o, batch.rows, x.grad_scale)
    if need and use_triton(logits) and not o.needs_whole_samples:
        from himakernels.ops.vrgrpo_loss.kernels import policy_logits_fwd

        stats, terms = policy_logits_fwd(
            logits,
            dlogits,
            x.labels,
            batch.rows,
            o,
            temperature=x.temperature,
            softcap=x.softcap or None,
            grad_scale=x.grad_scale,
        )
        policy.keep(terms)
        return _finish(o, batch, policy, stats)
    r = route(logits)
    stats = r.logits_stats(logits, x.labels, x.temperature, x.softcap or None)
    coefs = policy(0, logits.shape[0], stats)
    if need:
        r.logits_grad_rows(logits, dlogits, x.labels, stats, *coefs, x.temperature, x.softcap or None)
    return _finish(o, batch, policy, stats)


def _logits_fake(logits: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    dlogits = logits.new_empty(logits.shape) if args[-1] else logits.new_empty(0)
    return *_outputs_like(logits, Inputs(*args[:-1])), dlogits


def _logits_inplace_fake(logits: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    return _outputs_like(logits, Inputs(*args))


_logits_op = define_op(
    f"vrgrpo_loss_from_logits(Tensor logits, {_INPUTS}, bool need) -> (Tensor, Tensor, Tensor, Tensor)",
    _logits,
    _logits_fake,
)
_logits_inplace_op = define_op(
    f"vrgrpo_loss_from_logits_(Tensor(a!) logits, {_INPUTS}) -> (Tensor, Tensor, Tensor)",
    _logits_inplace,
    _logits_inplace_fake,
)


class LinearLoss(torch.autograd.Function):
    """The gradients come with the forward; the backward only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: Optional, needs: list[bool], *x: Any) -> Any:
        loss, logprobs, metrics, *grads = _linear_op(hidden, weight, bias, *x, needs)
        ctx.save_for_backward(*grads, Inputs(*x).grad_scale)
        ctx.needs = needs
        ctx.mark_non_differentiable(logprobs, metrics)
        return loss, logprobs, metrics

    @staticmethod
    def backward(ctx: Any, dloss: torch.Tensor, *unused: torch.Tensor) -> Any:
        refuse_second_derivative()
        *grads, grad_scale = ctx.saved_tensors
        return *scaled_grads(ctx.needs, grads, dloss, grad_scale), *[None] * (1 + len(Inputs._fields))


class LogitsLoss(torch.autograd.Function):
    """As LinearLoss; with `inplace` the gradient takes the logits' own memory."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, need: bool, inplace: bool, *x: Any) -> Any:
        if inplace and need:
            loss, logprobs, metrics = _logits_inplace_op(logits, *x)
            dlogits = logits
        else:
            loss, logprobs, metrics, dlogits = _logits_op(logits, *x, need)
        ctx.save_for_backward(dlogits, Inputs(*x).grad_scale)
        ctx.mark_non_differentiable(logprobs, metrics)
        return loss, logprobs, metrics

    @staticmethod
    def backward(ctx: Any, dloss: torch.Tensor, *unused: torch.Tensor) -> Any:
        refuse_second_derivative()
        dlogits, grad_scale = ctx.saved_tensors
        return *scaled_grads([True], [dlogits], dloss, grad_scale), *[None] * (2 + len(Inputs._fields))
