"""The backward of the ops: what it does not compute, and that it is not differentiated itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import himakernels as hk
from himakernels.ops.token_logprobs import op as logprobs_op
from himakernels.testing import PolicyBatch, policy_batch


def losses(b: PolicyBatch, **more: Any) -> dict[str, tuple[Callable[..., torch.Tensor], list[torch.Tensor]]]:
    """(a scalar, its leaves) of each differentiable op."""
    heads, logits = [b.hidden, b.weight], [b.logits]
    policy = {"sample_id": b.sample_id, "advantages": b.advantages, **more}
    return {
        "token_logprobs": (lambda h, w: hk.token_logprobs(h, w, b.labels).logprobs.sum(), heads),
        "token_logprobs_from_logits": (lambda x: hk.token_logprobs_from_logits(x, b.labels).logprobs.sum(), logits),
        "token_cross_entropy": (lambda h, w: hk.token_cross_entropy(h, w, b.labels, **more).loss, heads),
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


def test_second_derivatives_of_attention_are_refused() -> None:
    """Also where what follows is linear, so that no upstream gradient asks for a graph."""
    q, k, v = (torch.randn(5, 2, 16, dtype=torch.float64).requires_grad_() for _ in range(3))
    ends = torch.full((5,), 5, dtype=torch.int32)
    out = hk.tree_attention(q, k, v, ends)
    with pytest.raises(RuntimeError, match=r"create_graph: expected False .*second derivatives.* got True"):
        torch.autograd.grad(out.sum(), [q, k, v], create_graph=True)


def test_second_derivatives_of_lora_are_refused(device: torch.device) -> None:
    x, a, b = (torch.randn(*size, device=device).requires_grad_() for size in ((5, 8), (4, 8), (6, 4)))
    segments = torch.tensor([0, 5], dtype=torch.int32, device=device)
    y = hk.grouped_lora(x, [a], [b], segments, [1.0])
    with pytest.raises(RuntimeError, match=r"create_graph: expected False .*second derivatives.* got True"):
        torch.autograd.grad(y.square().sum(), [x, a, b], create_graph=True)


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


FUSED = ["token_cross_entropy", "vrgrpo_loss", "vrgrpo_loss_from_logits"]


def gradients(b: PolicyBatch, name: str, upstream: float, **more: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss and the gradients of `upstream` times it, over a global batch of 1e7 tokens, entropy bonus included."""
    if name != "token_cross_entropy":
        more |= {"loss_type": "dapo", "entropy_coef": 0.1}
    loss, tensors = losses(b, num_tokens=1e7, **more)[name]
    leaves = [t.clone().requires_grad_() for t in tensors]
    value = loss(*leaves)
    return value.detach(), list(torch.autograd.grad(value * upstream, leaves))


@pytest.mark.parametrize("name", FUSED)
def test_grad_scale_keeps_what_fp16_would_lose(name: str, device: torch.device) -> None:
    """With a loss scaler's factor as grad_scale the scaled gradients are those of fp32; without it most of them are zero."""
    factor = 2.0**16
    b = policy_batch(rows=24, dtype=torch.float16, device=device)
    wide = b._replace(hidden=b.hidden.float(), weight=b.weight.float())
    if name == "vrgrpo_loss_from_logits":  # the same quantised logits
        wide = wide._replace(hidden=torch.eye(24, device=device), weight=b.logits.float().T, bias=b.bias.float() * 0)
    value, want = gradients(wide, name, factor)
    for grad_scale in (factor, torch.tensor(factor, device=device)):
        got, grads = gradients(b, name, factor, grad_scale=grad_scale)
        torch.testing.assert_close(got, value, rtol=1e-2, atol=0)  # of the loss itself nothing is scaled
        for grad, truth in zip(grads, want, strict=True):
            assert grad.dtype == torch.float16
            torch.testing.assert_close(grad.float(), truth, rtol=2e-2, atol=2e-3 * float(truth.abs().max()))
    _, lost = gradients(b, name, factor)
    assert all(float((grad == 0).float().mean()) > 0.5 for grad in lost)


@pytest.mark.parametrize("name", FUSED)
def test_grad_scale_is_divided_out(name: str, device: torch.device) -> None:
    """Whatever comes from above: a power of two changes no bit in fp32."""
    b = policy_batch(rows=24, device=device)
    for upstream in (1.0, -0.375):
        (value, want), (got, grads) = gradients(b, name, upstream), gradients(b, name, upstream, grad_scale=2.0**12)
        assert torch.equal(value, got)
        assert all(torch.equal(x, y) for x, y in zip(grads, want, strict=True))


def test_grad_scaler_of_torch(device: torch.device) -> None:
    """The loop that users write, and its compiled form."""
    b = policy_batch(rows=24, dtype=torch.float16, device=device)
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**14)
    scaler.scale(torch.zeros(1, device=device))  # makes the factor's tensor
    hidden = b.hidden.clone().requires_grad_()

    def step(hidden: torch.Tensor, grad_scale: torch.Tensor) -> torch.Tensor:
        options = {"advantages": b.advantages, "loss_type": "dapo", "num_tokens": 1e7}
        return hk.vrgrpo_loss(hidden, b.weight, b.labels, sample_id=b.sample_id, grad_scale=grad_scale, **options).loss

    grads = []
    torch._dynamo.reset()
    for run in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        loss = run(hidden, torch.tensor(scaler.get_scale(), device=device))
        grads += torch.autograd.grad(scaler.scale(loss), hidden)
    assert torch.equal(*grads)
    assert float((grads[0] == 0).all(1).float().mean()) < 0.5
