"""The numerical gate and what tests and benches share."""

import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from himakernels.ops.token_logprobs.reference import token_logprobs_reference
from himakernels.ops.vrgrpo_loss.options import PolicyOptions
from himakernels.ops.vrgrpo_loss.reference import vrgrpo_loss_reference

INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"


def assert_gate(
    name: str,
    actual: torch.Tensor,
    truth: torch.Tensor,
    eager: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    n: int = 1,
    roundings: int = 1,
    scale: float = 0.0,
) -> None:
    """Elementwise |actual - truth| <= |eager - truth| + slack: as near to fp64 as same-dtype eager torch, or nearer.

    Args:
        actual: what is judged.
        truth: the fp64 reference on the same, already quantised inputs.
        eager: the reference run in the inputs' dtype.
        dtype: the precision in which products are rounded (the inputs' dtype); default is that of `actual`.
        n: the number of terms summed in fp32 into one element.
        roundings: how many times what becomes one element is rounded to `dtype` on its way: 1 for an operation, which rounds
            its result; many for a network, which rounds between any two operations, forward and backward.
        scale: the size of the terms of which elements are differences, where that is more than rms(truth).

    With s = max(rms(truth), scale):

    slack = 2 eps(dtype) sqrt(roundings) (|truth| + s) + 4 eps(fp32) sqrt(n) s: an element on which eager
    happens to be exact may still be off by roundings of its own, and by those of the sum that it ends. Independent errors
    add up as the square root of their number.
    """
    assert actual.shape == truth.shape == eager.shape, f"{name}: {actual.shape}, {truth.shape}, {eager.shape}"
    actual64, truth64, eager64 = (t.detach().double().cpu() for t in (actual, truth, eager))
    assert torch.equal(actual64.isnan(), truth64.isnan()), f"{name}: NaN where the truth has none, or the reverse"
    ok = ~truth64.isnan()
    if not bool(ok.any()):
        return
    rms = max(float(truth64[ok].square().mean().sqrt()), scale)
    eps = torch.finfo(dtype or actual.dtype).eps
    slack = 2 * eps * math.sqrt(roundings) * (truth64.abs() + rms) + 4 * torch.finfo(torch.float32).eps * math.sqrt(n) * rms
    error = (actual64 - truth64).abs()
    bound = (eager64 - truth64).abs() + slack
    wrong = ok & ~((error <= bound) | (actual64 == truth64))
    if bool(wrong.any()):
        worst = int(torch.where(wrong, error / bound, torch.zeros_like(error)).argmax())
        raise AssertionError(
            f"{name}: {int(wrong.sum())} of {wrong.numel()} elements outside the gate; worst at flat index {worst}: "
            f"got {actual64.flatten()[worst]:.9g}, truth {truth64.flatten()[worst]:.9g}, "
            f"eager {eager64.flatten()[worst]:.9g}, bound {bound.flatten()[worst]:.3g}"
        )


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float, *, floor: float = 0.0) -> None:
    """The largest error is at most `tolerance` times the largest expected value (at least `floor`)."""
    assert actual.shape == expected.shape
    error = (actual.double() - expected.double()).abs().max().item()
    scale = max(expected.abs().max().item(), floor)
    assert error <= tolerance * scale, f"error {error:.3g} at scale {scale:.3g}"


def assert_same(
    ours: tuple[torch.Tensor, list[torch.Tensor]], theirs: tuple[torch.Tensor, list[torch.Tensor]], tolerance: float
) -> None:
    """Loss and every gradient, each within `assert_near`."""
    assert_near(ours[0], theirs[0], tolerance, floor=1.0)
    for actual, expected in zip(ours[1], theirs[1], strict=True):
        assert_near(actual, expected, tolerance)


class PolicyBatch(NamedTuple):
    """Inputs of the policy loss: R rows of S samples in any order, some of them ignored, some samples without rows."""

    hidden: torch.Tensor  # [R, H]
    weight: torch.Tensor  # [V, H]
    bias: torch.Tensor  # [V]
    labels: torch.Tensor  # [R]
    sample_id: torch.Tensor  # [R]
    agent_id: torch.Tensor  # [S]
    group_id: torch.Tensor  # [S]
    rewards: torch.Tensor  # [S]
    advantages: torch.Tensor  # [S]
    token_advantages: torch.Tensor  # [R]
    old_logprobs: torch.Tensor  # [R]
    ref_logprobs: torch.Tensor  # [R]
    rollout_logprobs: torch.Tensor  # [R]

    @property
    def logits(self) -> torch.Tensor:
        """hidden @ weight.T + bias, in their dtype."""
        return torch.addmm(self.bias.double(), self.hidden.double(), self.weight.double().t()).to(self.hidden.dtype)


def policy_batch(
    *,
    rows: int = 37,
    samples: int = 9,
    agents: int = 3,
    hidden_size: int = 12,
    vocab: int = 53,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    scale: float = 0.4,
    drift: float = 0.3,
) -> PolicyBatch:
    """A batch whose policies are `drift` nats apart; `scale` is that of the head, so of the logits. The same everywhere."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    hidden, weight, bias = (
        x.to(dtype) for x in (randn(rows, hidden_size), randn(vocab, hidden_size) * scale, randn(vocab) * scale)
    )
    logits = torch.addmm(bias.double(), hidden.double(), weight.double().t())
    labels = torch.multinomial(logits.softmax(1), 1, generator=g)[:, 0] if rows else torch.zeros(0, dtype=torch.int64)
    logprobs = token_logprobs_reference(logits, labels)[0]
    labels[5::11] = -100
    narrow = dtype if dtype == torch.float64 else torch.float32
    # The last sample has no rows. Rewards take few values, so that some groups have no variance.
    sample_id = torch.randint(max(samples - 1, 1), (rows,), generator=g)
    policies = [(logprobs + randn(rows) * drift).to(narrow) for _ in range(3)]
    batch = PolicyBatch(
        hidden,
        weight,
        bias,
        labels,
        sample_id,
        torch.randint(agents, (samples,), generator=g),
        torch.randint(max(samples // 3, 1), (samples,), generator=g),
        torch.randint(3, (samples,), generator=g).to(narrow),
        randn(samples).to(narrow),
        randn(rows).to(narrow),
        *policies,
    )
    return PolicyBatch(*(t.to(device) for t in batch))


def policy_arguments(batch: PolicyBatch, case: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what the loss and its reference both take beside the options, the options) of a case.

    A case is options, other arguments of `vrgrpo_loss`, and flags: `agents` (agent_id with 3 agents), `rewards` (instead of
    advantages), `on_policy` (without old_logprobs). Each tensor that it needs is the batch's.
    """
    options = dict(case)
    shared: dict[str, Any] = {"old_logprobs": None if options.pop("on_policy", False) else batch.old_logprobs}
    if options.pop("agents", False):
        shared |= {"agent_id": batch.agent_id, "num_agents": 3}
    if options.pop("rewards", False):
        shared |= {"rewards": batch.rewards, "group_id": batch.group_id, "top_k": options.pop("top_k", None)}
    elif options.get("advantage_level") == "token":
        shared |= {"advantages": batch.token_advantages, "advantage_level": options.pop("advantage_level")}
    else:
        shared["advantages"] = batch.advantages
    if options.get("kl_coef"):
        shared["ref_logprobs"] = batch.ref_logprobs
    if options.get("importance"):
        shared["rollout_logprobs"] = batch.rollout_logprobs
    shared |= {k: options.pop(k) for k in ("temperature", "softcap", "num_samples", "num_tokens") if k in options}
    return shared, options


def policy_reference(
    batch: PolicyBatch,
    dtype: torch.dtype,
    options: PolicyOptions,
    *,
    from_logits: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    bias: bool = True,
    **arguments: Any,
) -> dict[str, torch.Tensor]:
    """Loss, logprobs and gradients of the reference run in `dtype` on the batch's (quantised) values.

    `from_logits` [R, V] replaces the head. `arguments` are tensors of the batch and the rest that `vrgrpo_loss` takes.
    """
    heads = (batch.hidden, batch.weight, batch.bias) if from_logits is None else (from_logits,)
    leaves = [t.detach().cpu().to(dtype).requires_grad_() for t in heads]
    if from_logits is None:
        logits = leaves[0] @ leaves[1].t()
        logits = logits + leaves[2] if bias else logits + 0 * leaves[2].sum()
    else:
        logits = leaves[0]
    labels = batch.labels.cpu()
    logprobs, entropy = token_logprobs_reference(logits, labels, temperature=temperature, softcap=softcap)
    arguments = {k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in arguments.items() if k != "num_agents"}
    loss = vrgrpo_loss_reference(
        logprobs, entropy, sample_id=batch.sample_id.cpu(), options=options, counted=labels != -100, **arguments
    )
    names = ("dhidden", "dweight", "dbias") if from_logits is None else ("dlogits",)
    grads = torch.autograd.grad(loss, leaves)
    return {"loss": loss.detach(), "logprobs": logprobs.detach(), **dict(zip(names, grads, strict=True))}


def forest_of(depths: Sequence[int], device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """subtree_end [T] and position_ids [T] int32 of the forest whose tokens have these depths in depth-first order.

    Any list that begins with 0 and never rises by more than 1 is one: a subtree ends before the next token that is not deeper.
    """
    ends, path = [len(depths)] * len(depths), list[int]()
    for t, depth in enumerate(depths):
        assert 0 <= depth <= len(path), f"depth {depth} at index {t} after {len(path) - 1}"
        for closed in path[depth:]:
            ends[closed] = t
        path[depth:] = [t]
    return (
        torch.tensor(ends, dtype=torch.int32, device=device),
        torch.tensor(list(depths), dtype=torch.int32, device=device),
    )  # fmt: skip


def random_depths(tokens: int, *, seed: int = 0, new_tree: float = 0.04, new_branch: float = 0.12) -> list[int]:
    """Depths of a random forest of `tokens` tokens: runs of deeper and deeper tokens, cut by branches and by new trees."""
    rng = random.Random(seed)
    depths = list[int]()
    for _ in range(tokens):
        draw = rng.random()
        if not depths or draw < new_tree:
            depths.append(0)
        else:
            depths.append(rng.randint(1, depths[-1] + 1) if draw < new_tree + new_branch else depths[-1] + 1)
    return depths


class _Repeatable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in inputs]
            value = loss(*leaves)
            ctx.grads = torch.autograd.grad(value, leaves)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, dvalue: torch.Tensor) -> Any:
        return None, *(dvalue * g for g in ctx.grads)


def repeatable(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`loss` with a backward that may run more than once, as gradcheck wants it: a fused loss gives its gradients once."""
    return lambda *inputs: _Repeatable.apply(loss, *inputs)
