"""vrgrpo_loss and vrgrpo_loss_from_logits against the reference: the gate in three dtypes, saturation, what it rejects."""

from typing import Any

import pytest
import torch

from himakernels import PolicyOptions, vrgrpo_loss, vrgrpo_loss_from_logits
from himakernels.testing import PolicyBatch, assert_gate, policy_arguments, policy_batch, policy_reference

pytestmark = pytest.mark.usefixtures("poison")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
CASES: dict[str, dict[str, Any]] = {
    # Off policy by 0.3 nats: both sides of the clip range are met, and delta.
    "clipped": {"clip_low": 0.1, "clip_high": 0.2, "delta": 1.5},
    # Everything that adds to a row's coefficient at once.
    "kl_and_entropy": {"kl_coef": 0.1, "kl_ratio_correction": True, "entropy_coef": 0.02, "importance": "token_mask"},
    # Three agents, each with its own normalisers.
    "agents": {"loss_type": "dapo", "agents": True, "kl_coef": 0.05, "kl_estimator": "k1"},
    "per_token_advantages": {"loss_type": "cispo", "clip_high": 1.2, "advantage_level": "token"},
    # Samples of zero-variance and unselected groups leave.
    "rewards": {"rewards": True, "top_k": 2, "loss_type": "bnpo"},
    "softcap": {"softcap": 6.0, "temperature": 0.8, "loss_type": "sapo"},
    # GSPO over several chunks: samples cross chunks, so the logits are formed twice.
    "sequence_in_chunks": {"ratio_level": "sequence", "chunks": True, "clip_low": 0.05, "importance": "sequence_truncate"},
    "vespo_in_chunks": {"loss_type": "vespo", "chunks": True, "agents": True},
}


def arguments(b: PolicyBatch, case: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return policy_arguments(b, {k: v for k, v in case.items() if k != "chunks"})


def run(b: PolicyBatch, case: dict[str, Any], *, logits: torch.Tensor | None = None, **more: Any) -> dict[str, torch.Tensor]:
    shared, options = arguments(b, case)
    if logits is None:
        leaves = [t.clone().requires_grad_() for t in (b.hidden, b.weight, b.bias)]
        out = vrgrpo_loss(*leaves[:2], b.labels, bias=leaves[2], sample_id=b.sample_id, **shared, **options, **more)
        names = ("dhidden", "dweight", "dbias")
    else:
        leaves = [logits.clone().requires_grad_()]
        out = vrgrpo_loss_from_logits(leaves[0], b.labels, sample_id=b.sample_id, **shared, **options, **more)
        names = ("dlogits",)
    grads = torch.autograd.grad(out.loss, leaves)
    return {"loss": out.loss.detach(), "logprobs": out.logprobs, **dict(zip(names, grads, strict=True))}


def reference(b: PolicyBatch, case: dict[str, Any], dtype: torch.dtype, logits: torch.Tensor | None) -> dict[str, torch.Tensor]:
    shared, options = arguments(b, case)
    return policy_reference(b, dtype, PolicyOptions.of(options), from_logits=logits, **shared)


def size_of_loss(b: PolicyBatch, case: dict[str, Any], logits: torch.Tensor | None) -> float:
    """What a loss whose rows cancel is a difference of: their mean if all advantages had one sign, and the errors of that many
    rows were independent.
    """
    one_sign = b._replace(advantages=b.advantages.abs(), token_advantages=b.token_advantages.abs())
    loss = reference(one_sign, case, torch.float64, logits)["loss"]
    return abs(float(loss)) / len(b.labels) ** 0.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["linear", "logits"])
@pytest.mark.parametrize("name", CASES)
def test_gate(
    name: str, form: str, dtype: torch.dtype, device: torch.device, triton_route: bool, request: pytest.FixtureRequest
) -> None:
    case = CASES[name]
    if name == "vespo_in_chunks" and dtype == torch.bfloat16 and triton_route:
        pytest.skip("exp of a sample's sum of logprobs from bf16 logits: nearer or farther than eager's by chance")
    if case.get("chunks"):
        if form == "logits":
            pytest.skip("there are no chunks where the logits exist already")
        request.getfixturevalue("many_chunks")
    b = policy_batch(rows=40 if case.get("chunks") else 24, dtype=dtype, device=device)
    logits = b.logits if form == "logits" else None
    truth = reference(b, case, torch.float64, logits)
    # No row of these batches is so near a clip bound that a precision decides on which side it falls.
    eager = reference(b, case, dtype, logits)
    got = run(b, case, logits=logits)
    assert got["loss"].dtype == torch.float32
    for key, value in got.items():
        if key.startswith("d"):
            assert value.dtype == dtype
        scale = size_of_loss(b, case, logits) if key == "loss" else 0.0
        assert_gate(key, value, truth[key], eager[key], dtype=dtype, n=53, scale=scale)


@pytest.mark.parametrize("loss_type", ["grpo", "cispo", "sapo", "vespo"])
@pytest.mark.parametrize("gap", [-200.0, 1e4, -1e4])
@pytest.mark.parametrize("form", ["linear", "logits"])
def test_saturated_ratios(gap: float, loss_type: str, form: str, device: torch.device) -> None:
    """old_logprobs = -200 and +-1e4: loss and gradient finite, and a clipped token's gradient exactly zero."""
    b = policy_batch(rows=12, samples=3, device=device)
    b = b._replace(
        labels=b.labels.clamp(min=0),
        sample_id=torch.arange(12, device=device) % 2,
        advantages=torch.tensor([1.0, -1.0, 0.0], device=device),
        old_logprobs=torch.full_like(b.old_logprobs, gap),
    )
    case: dict[str, Any] = {"loss_type": loss_type, "kl_coef": 0.1, "kl_ratio_correction": True}
    if loss_type == "cispo":
        case["clip_high"] = 2.0
    logits = b.logits if form == "logits" else None
    grad = "dhidden" if logits is None else "dlogits"
    got = run(b._replace(ref_logprobs=b.old_logprobs), case, logits=logits)
    assert all(bool(v.isfinite().all()) for v in got.values())
    if loss_type == "grpo":
        got = run(b, {"loss_type": "grpo"}, logits=logits)
        clipped = b.sample_id == (0 if gap < 0 else 1)  # ratio above with A > 0, or below with A < 0
        assert bool((got[grad][clipped] == 0).all())
        if gap < 0:  # the minimum is the unclipped term: its gradient is there, saturated
            assert bool((got[grad][~clipped] != 0).any(1).all())
        truth = reference(b, {"loss_type": "grpo"}, torch.float64, logits)
        torch.testing.assert_close(got["loss"].cpu().double(), truth["loss"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["linear", "logits"])
def test_within_forty_nats_the_objective_is_unchanged(form: str, device: torch.device) -> None:
    b = policy_batch(rows=12, device=device)
    b = b._replace(old_logprobs=b.old_logprobs - 30, advantages=-b.advantages.abs())
    logits = b.logits if form == "logits" else None
    got, truth = run(b, {}, logits=logits), reference(b, {}, torch.float64, logits)
    plain = -(b.advantages[b.sample_id].double() * (truth["logprobs"].to(device) - b.old_logprobs).exp())
    rows = torch.where(b.labels != -100, plain, 0.0)
    counts = torch.zeros(9, device=device).index_add(0, b.sample_id, (b.labels != -100).float()).clamp(min=1)
    torch.testing.assert_close(got["loss"].double(), (rows / counts[b.sample_id]).sum() / 9, rtol=1e-5, atol=0)
    key = "dweight" if logits is None else "dlogits"
    torch.testing.assert_close(got[key].cpu().double(), truth[key], rtol=1e-4, atol=1e-4 * float(truth[key].abs().max()))


def test_the_gate_rejects_wrong_versions(device: torch.device) -> None:
    """A forgotten 1/T, x - lse for a confident token, a missing importance weight, a bias of one part in a thousand."""
    b = policy_batch(rows=24, device=device)
    case: dict[str, Any] = {"loss_type": "dapo", "importance": "token_truncate"}
    truth, eager = (reference(b, case, dt, None) for dt in (torch.float64, torch.float32))
    right = run(b, case)
    count = (b.labels != -100).sum()
    unweighted = run(b, {"loss_type": "dapo"})
    ignored_counted = run(b, {**case, "num_tokens": float(len(b.labels))})
    for key in ("loss", "dhidden", "dweight"):
        assert_gate(key, right[key], truth[key], eager[key], n=53)
        for wrong in (right[key] * count, unweighted[key], ignored_counted[key], right[key] * 1.001):
            with pytest.raises(AssertionError, match="outside the gate"):
                assert_gate(key, wrong, truth[key], eager[key], n=53)


def test_the_gate_rejects_a_confident_token_by_subtraction(device: torch.device) -> None:
    """At a margin of 18 nats, held to a reference that does not subtract: x - lse in fp32 is outside, ours inside."""
    logits = torch.randn(8, 53, generator=torch.Generator().manual_seed(1)).to(device)
    labels = torch.arange(8, device=device)
    logits[torch.arange(8), labels] = logits.amax(1) + 18
    leaf = logits.clone().requires_grad_()
    one = torch.ones(1, device=device)
    out = vrgrpo_loss_from_logits(leaf, labels, sample_id=labels * 0, advantages=one)
    (ours,) = torch.autograd.grad(out.loss, leaf)
    picked = logits.double().gather(1, labels[:, None])
    gap = torch.logsumexp(logits.double().scatter(1, labels[:, None], -torch.inf), 1, keepdim=True) - picked
    truth = -torch.sigmoid(gap) / 8
    x = logits.clone().requires_grad_()
    (torch.log_softmax(x, 1).gather(1, labels[:, None]).sum() / -8).backward()
    good, subtracted = (t.gather(1, labels[:, None]) for t in (ours, x.grad))
    assert_gate("dlogits of the label", good, truth, truth.float())
    with pytest.raises(AssertionError, match="outside the gate"):
        assert_gate("dlogits of the label", subtracted, truth, truth.float())
