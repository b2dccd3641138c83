"""The backward of every op on an LM head: what it does not compute, and that it is not differentiated itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import himakernels as hk
from himakernels.ops.token_logprobs import op as logprobs_op
from himakernels.testing import PolicyBatch, policy_batch


def losses(b: PolicyBatch) -> dict[str, tuple[Callable[..., torch.Tensor], list[torch.Tensor]]]:
    """(a scalar, its leaves) of each differentiable op."""
    heads, logits = [b.hidden, b.weight], [b.logits]
    policy = {"sample_id": b.sample_id, "advantages": b.advantages}
    return {
        "token_logprobs": (lambda h, w: hk.token_logprobs(h, w, b.labels).logprobs.sum(), heads),
        "token_logprobs_from_logits": (lambda x: hk.token_logprobs_from_logits(x, b.labels).logprobs.sum(), logits),
        "token_cross_entropy": (lambda h, w: hk.token_cross_entropy(h, w, b.labels).loss, heads),
        "vrgrpo_loss": (lambda h, w: hk.vrgrpo_loss(h, w, b.labels, **policy).loss, heads),
        "vrgrpo_loss_from_logits": (lambda x: hk.vrgrpo_loss_from_logits(x, b.labels, **policy).loss, logits),
    }


@pytest.mark.parametrize("name", losses(policy_batch(rows=2)))
def test_second_derivatives_are_refused(name: str, device: torch.device) -> None:
    """A gradient penalty would take our gradients for constants: an error, not a zero."""
    loss, tensors = losses(policy_batch(rows=6, device=device))[name]
    leaves = [t.clone().requires_grad_() for t in tensors]
    with pytest.raises(RuntimeError, match=r"create_graph: expected False .*second derivatives.* got True"):
        torch.autograd.grad(loss(*leaves), leaves, create_graph=True)


@pytest.mark.parametrize("used", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("form", ["linear", "logits"])
def test_only_the_outputs_that_are_used_have_a_gradient(
    form: str, used: tuple[bool, bool], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entropy's gradient is not computed for nothing: neither where it was not asked for, nor where nobody used it."""
    b = policy_batch(rows=6, device=device)
    seen: list[tuple[bool, bool]] = []
    name = "_op_bwd" if form == "linear" else "_op_logits_bwd"
    plain = getattr(logprobs_op, name)

    def recorded(dlogprobs: torch.Tensor, dentropy: Any, *rest: Any) -> Any:
        seen.append((bool(dlogprobs.any()), dentropy is not None))
        return plain(dlogprobs, dentropy, *rest)

    monkeypatch.setattr(logprobs_op, name, recorded)
    grads = []
    for return_entropy in (True, used[1]):
        leaf = (b.hidden if form == "linear" else b.logits).clone().requires_grad_()
        if form == "linear":
            out = hk.token_logprobs(leaf, b.weight, b.labels, return_entropy=return_entropy)
        else:
            out = hk.token_logprobs_from_logits(leaf, b.labels, return_entropy=return_entropy)
        assert (out.entropy is not None) == return_entropy
        sum(t.sum() for t, use in zip(out, used, strict=True) if use and t is not None).backward()
        grads.append(leaf.grad)
    assert seen == [used] * 2
    assert torch.equal(*grads)
