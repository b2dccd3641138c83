"""vrgrpo_loss equals Liger 0.8.5's two GRPO losses where they equal TRL's, and differs where they are wrong.

Tolerances as in test_trl.py: the largest error over the largest element, 5e-6 in fp32.

Where Liger and TRL differ from each other, ours is TRL's:
- luspo. TRL sums each sample's tokens and averages over samples. Liger multiplies every token by its sample's length and
  averages over the padded [B, L]. With sequence ratios `LigerFusedLinearGRPOLoss` means the same as TRL; with token ratios
  it does so only without padding, and `triton_grpo_loss` always divides by L (equal where every sample has L tokens).
  Its backward moreover gives token l of sample b the factor of sample b + l, beyond the last sample what lies in memory.
- delta below 1 + clip_high with a negative advantage: the minimum is the clipped term, which inside its bounds has a
  gradient. `triton_grpo_loss` takes it as clipped and gives 0; TRL, `LigerFusedLinearGRPOLoss` and ours do not.
"""

import inspect
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from bench.batches import PackedBatch, make_batch
from bench.cases import CASES, liger_supports
from bench.interpreted import Case, Results, liger_triton
from bench.opponents import liger_fused_loss, loss_and_grads, our_loss, reference_loss, trl_loss
from bench.shapes import Shape
from himakernels.ops.vrgrpo_loss.options import PolicyOptions
from himakernels.testing import assert_near, assert_same

pytest.importorskip("liger_kernel")

SHAPE = Shape("peers", 60, 32, 300, 16)
FP32 = 5e-6
TEMPERATURE = 0.8

_SUPPORTED = [name for name in CASES if liger_supports(CASES[name])]
# luspo in the settings in which Liger's reduction is TRL's.
FUSED = [name for name in _SUPPORTED if name not in ("luspo", "kl-corrected-luspo-sequence")]
TRITON = [name for name in _SUPPORTED if "luspo" not in name and name != "delta-sequence"]


def one_token(margin: float, old_logprob: float | None, advantage: float) -> PackedBatch:
    """One sample of one row; token 7 stands `margin` nats above all the others together."""
    zero = torch.zeros(1, dtype=torch.int64)
    weight = torch.zeros(1024, 1)
    weight[7] = margin + torch.tensor(1023.0).log()
    return PackedBatch(
        hidden=torch.ones(1, 1, requires_grad=True),
        weight=weight.requires_grad_(),
        labels=torch.tensor([7]),
        sample_id=zero,
        agent_id=zero,
        group_id=zero,
        rewards=torch.zeros(1),
        advantages=torch.tensor([advantage]),
        old_logprobs=None if old_logprob is None else torch.tensor([old_logprob]),
    )


OVERFLOW = one_token(1.0, -200.0, 1.0)
CONFIDENT = {margin: one_token(margin, None, -1.0) for margin in (18.0, 30.0)}


@pytest.fixture(scope="module")
def batch() -> PackedBatch:
    """Ragged samples whose rows lie in random order, a tenth of them ignored, off-policy so that clipping happens."""
    return make_batch(SHAPE, shuffled=True, ignored=0.1)


@pytest.fixture(scope="module")
def even() -> PackedBatch:
    """Samples of four tokens each: nothing is padded."""
    return make_batch(Shape("even", 64, 32, 64, 16), ragged=False)


@pytest.fixture(scope="module")
def small() -> PackedBatch:
    """The interpreter is slow: 24 rows."""
    return make_batch(Shape("small", 24, 16, 64, 8), shuffled=True, ignored=0.1).from_logits()


@pytest.fixture(scope="module")
def triton_results(small: PackedBatch, even: PackedBatch) -> tuple[dict[str, tuple], Results]:
    """Everything that is asked of the interpreter, in one process of it."""
    cases = {name: Case(small, CASES[name], TEMPERATURE) for name in TRITON}
    cases["luspo"] = Case(small, CASES["luspo"], TEMPERATURE)
    cases["delta-sequence"] = Case(small, CASES["delta-sequence"], TEMPERATURE)
    cases["luspo, even"] = Case(even.from_logits(), CASES["luspo"], TEMPERATURE)
    cases["overflow"] = Case(OVERFLOW.from_logits(), PolicyOptions())
    cases |= {f"confident {m}": Case(b.from_logits(), PolicyOptions()) for m, b in CONFIDENT.items()}
    results = liger_triton(list(cases.values()))
    pairs = zip(results.losses, ([d] for d in results.dlogits), strict=True)
    return dict(zip(cases, pairs, strict=True)), results


@pytest.mark.parametrize("name", FUSED)
def test_fused_linear(batch: PackedBatch, name: str) -> None:
    ours = loss_and_grads(our_loss, batch, CASES[name], temperature=TEMPERATURE)
    assert_same(ours, loss_and_grads(liger_fused_loss, batch, CASES[name], temperature=TEMPERATURE), FP32)


def test_fused_linear_compiled(batch: PackedBatch) -> None:
    ours = loss_and_grads(our_loss, batch, CASES["kl"], temperature=TEMPERATURE)
    theirs = loss_and_grads(liger_fused_loss, batch, CASES["kl"], temperature=TEMPERATURE, compiled=True)
    assert_same(ours, theirs, FP32)


@pytest.mark.parametrize("name", TRITON)
def test_triton(small: PackedBatch, triton_results: tuple[dict, Results], name: str) -> None:
    ours = loss_and_grads(our_loss, small, CASES[name], temperature=TEMPERATURE)
    assert_same(ours, triton_results[0][name], FP32)


def test_luspo_is_trl_where_liger_differs(
    batch: PackedBatch, small: PackedBatch, even: PackedBatch, triton_results: tuple[dict, Results]
) -> None:
    pytest.importorskip("trl")
    luspo = CASES["luspo"]
    ours = loss_and_grads(our_loss, batch, luspo, temperature=TEMPERATURE)
    assert_same(ours, loss_and_grads(trl_loss, batch, luspo, temperature=TEMPERATURE), FP32)
    dhidden = loss_and_grads(liger_fused_loss, batch, luspo, temperature=TEMPERATURE)[1][0]
    assert (dhidden - ours[1][0]).abs().max() > 0.1 * ours[1][0].abs().max()
    dlogits = loss_and_grads(our_loss, small, luspo, temperature=TEMPERATURE)[1][0]
    theirs = triton_results[0]["luspo"][1][0]
    assert (theirs - dlogits).abs().max() > 0.1 * dlogits.abs().max()

    # Without padding the losses agree, and the gradients where Liger's Triton backward reads inside its factors.
    ours = loss_and_grads(our_loss, even, luspo, temperature=TEMPERATURE)
    assert_same(ours, loss_and_grads(liger_fused_loss, even, luspo, temperature=TEMPERATURE), FP32)
    value, (dlogits,) = loss_and_grads(our_loss, even.from_logits(), luspo, temperature=TEMPERATURE)
    their_value, (theirs,) = triton_results[0]["luspo, even"]
    assert_near(value, their_value, FP32, floor=1.0)
    inside = even.sample_id + 3 < 16
    assert_near(dlogits[inside], theirs[inside], FP32)


def test_delta_inside_the_clip_range_is_trl_where_liger_differs(
    small: PackedBatch, triton_results: tuple[dict, Results]
) -> None:
    pytest.importorskip("trl")
    options = CASES["delta-sequence"]
    assert options.delta is not None
    assert options.delta < 1 + options.clip_high
    ours = loss_and_grads(our_loss, small, options, temperature=TEMPERATURE)
    assert_same(ours, loss_and_grads(trl_loss, small, options, temperature=TEMPERATURE), FP32)
    loss, (dlogits,) = triton_results[0]["delta-sequence"]
    assert_near(ours[0], loss, FP32, floor=1.0)
    wrong = (dlogits - ours[1][0]).abs().amax(1) > FP32 * ours[1][0].abs().max()
    assert wrong.any()
    assert (dlogits[wrong] == 0).all()


def test_defect_nan_where_the_clipped_gradient_is_zero(triton_results: tuple[dict, Results]) -> None:
    """old_logprob = -200: the token is clipped, so the gradient is 0. Both of Liger's losses give NaN."""
    options = PolicyOptions()
    _, (dlogits,) = triton_results[0]["overflow"]
    assert dlogits.isnan().any()
    _, (dhidden, _) = loss_and_grads(liger_fused_loss, OVERFLOW, options)
    assert dhidden.isnan().any()
    truth, truth_grads = loss_and_grads(reference_loss, OVERFLOW.to(torch.float64), options)
    assert all(torch.equal(g, torch.zeros_like(g)) for g in truth_grads)
    value, grads = loss_and_grads(our_loss, OVERFLOW, options)
    assert_near(value, truth, FP32)
    assert all(torch.equal(g, torch.zeros_like(g)) for g in grads)


@pytest.mark.parametrize("margin", CONFIDENT)
def test_defect_gradient_of_a_confident_token(margin: float, triton_results: tuple[dict, Results]) -> None:
    """dlogits of the label is 1 - p, dweight of its row (1 - p) h: Liger's fp32 x - lse loses it, ours equals fp64."""
    batch, options = CONFIDENT[margin], PolicyOptions()
    logit = (batch.hidden @ batch.weight.T)[0, 7].detach().double()
    expected = torch.sigmoid(torch.tensor(1023.0).double().log() - logit).item()
    theirs = triton_results[0][f"confident {margin}"][1][0][0, 7].item()
    assert abs(theirs / expected - 1) > 0.01
    _, (_, dweight) = loss_and_grads(liger_fused_loss, batch, options)
    assert abs(dweight[7].item() / expected - 1) > 0.01
    _, (dlogits,) = loss_and_grads(our_loss, batch.from_logits(), options)
    assert abs(dlogits[0, 7].item() / expected - 1) < 1e-4
    _, (_, dweight) = loss_and_grads(our_loss, batch, options)
    assert abs(dweight[7].item() / expected - 1) < 1e-4


def test_defect_logits_destroyed_by_default(small: PackedBatch, triton_results: tuple[dict, Results]) -> None:
    """Liger's default writes the gradient over the model's logits. Ours does so only with inplace=True."""
    assert small.logits is not None
    assert not torch.equal(triton_results[1].logits_after, small.logits)
    before = small.logits.detach().clone()
    loss_and_grads(our_loss, small, CASES["grpo"])
    assert torch.equal(small.logits, before)


def _constexprs(module: ModuleType) -> set[str]:
    """The names of everything that a module's Triton kernels are compiled anew for."""
    names = set()
    for kernel in vars(module).values():
        function = getattr(kernel, "fn", None)
        if function is not None and hasattr(kernel, "run"):
            parameters = inspect.signature(function).parameters.values()
            names |= {p.name for p in parameters if "constexpr" in str(p.annotation)}
    return names


def test_defect_compilation_per_length_and_temperature() -> None:
    """Liger's kernels take the padded length, temperature, KL coefficient and clip bounds as constants."""
    from liger_kernel.ops import grpo_loss

    from himakernels.ops.vrgrpo_loss import kernels

    assert {"L", "TEMPERATURE", "BETA", "EPS_LOW", "EPS_HIGH", "DELTA"} <= _constexprs(grpo_loss)
    ours = {name.lower() for name in _constexprs(kernels)}
    assert ours, "no kernel found"
    numbers = ("temperature", "beta", "eps", "clip", "delta", "length", "num_rows", "kl_coef", "entropy_coef", "softcap")
    allowed = ("has_", "use_", "block_", "num_", "group_", "upcast", "inplace", "loss_type", "return_")
    assert not [n for n in ours if any(word in n for word in numbers) and not n.startswith(allowed)]


def test_unsupported_by_liger_raises(batch: PackedBatch) -> None:
    with pytest.raises(NotImplementedError, match="entropy bonus"):
        liger_fused_loss(batch, CASES["entropy"])
    with pytest.raises(ValueError, match="Sequence-level"):
        liger_fused_loss(batch, replace(CASES["sapo"], ratio_level="sequence"))
