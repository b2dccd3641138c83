"""token_logprobs and token_logprobs_from_logits: the gate, gradients asked for one by one, edges, errors, invariance."""

import pytest
import torch

from himakernels import (
    token_cross_entropy,
    token_logprobs,
    token_logprobs_from_logits,
    token_logprobs_reference,
    vrgrpo_loss,
)
from himakernels.backend import use_triton
from himakernels.lm_head.arguments import row_major
from himakernels.testing import assert_gate, policy_batch

pytestmark = [
    pytest.mark.usefixtures("poison"),
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),  # numpy, inside the interpreter, on NaN and inf
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
INF, NAN = float("inf"), float("nan")
ON_TRITON = use_triton(torch.zeros(0)) or torch.cuda.is_available()
# Collapsed policies have large logits, and Triton's route holds logits in the operands' dtype, as eager torch does. In half
# precision it can't be held to what eager's other roundings happen to give.
SKIP = "logits rounded to half precision: elementwise nearer to or farther from the truth than eager's by chance"
CASES = {
    "plain": {},
    "entropy": {"entropy": True},  # both outputs have an upstream gradient
    "sampling_temperature": {"temperature": 0.7, "entropy": True},
    "softcap": {"softcap": 5.0, "entropy": True, "scale": 1.0},
    "collapsed": {"scale": 4.0},  # confident tokens: most rows have one probability near 1
    "no_bias": {"bias": False},
    "chunks": {"chunks": True, "entropy": True, "rows": 50},  # the logits of 16 rows at a time
    "one_token_vocabulary": {"vocab": 1, "rows": 3},
}


def outputs(logits: torch.Tensor, labels: torch.Tensor, case: dict[str, object]) -> list[torch.Tensor]:
    options = {k: v for k, v in case.items() if k in ("temperature", "softcap")}
    return list(token_logprobs_reference(logits, labels, **options))


def upstream(n: int, entropy: bool) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(99)
    coefs = [torch.randn(n, generator=g), torch.randn(n, generator=g) * 0.3]
    return coefs if entropy else coefs[:1]


def value(outs: list[torch.Tensor], coefs: list[torch.Tensor]) -> torch.Tensor:
    pairs = zip(outs, coefs, strict=False)
    return torch.stack([(o * c.to(o)).sum() for o, c in pairs]).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_linear_gate(name: str, dtype: torch.dtype, device: torch.device, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    if name == "collapsed" and ON_TRITON and dtype != torch.float32:
        pytest.skip(SKIP)
    if case.get("chunks"):
        request.getfixturevalue("many_chunks")
    shape = {k: case[k] for k in ("rows", "vocab", "scale") if k in case}
    b = policy_batch(dtype=dtype, device=device, **{"rows": 21, **shape})
    heads = [b.hidden, b.weight] + ([b.bias] if case.get("bias", True) else [])
    coefs = upstream(len(b.labels), bool(case.get("entropy")))

    def reference(dt: torch.dtype) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
        leaves = [t.detach().cpu().to(dt).requires_grad_() for t in heads]
        logits = leaves[0] @ leaves[1].T + (leaves[2] if len(leaves) > 2 else 0)
        outs = outputs(logits, b.labels.cpu(), case)
        return outs, torch.autograd.grad(value(outs, coefs), leaves)

    leaves = [t.clone().requires_grad_() for t in heads]
    options = {k: v for k, v in case.items() if k in ("temperature", "softcap")}
    got = token_logprobs(
        *leaves[:2], b.labels, bias=leaves[2] if len(leaves) > 2 else None, return_entropy=bool(case.get("entropy")), **options
    )
    assert got.logprobs.dtype == torch.float32
    assert (got.entropy is None) == (not case.get("entropy"))
    grads = torch.autograd.grad(value([t for t in got if t is not None], coefs), leaves)
    (truth, dtruth), (eager, deager) = reference(torch.float64), reference(dtype)
    n = max(b.weight.shape)
    for out, got_out, want, easy in zip(("logprobs", "entropy"), got, truth, eager, strict=True):
        if got_out is not None:
            assert_gate(out, got_out, want, easy, dtype=dtype, n=n)
    for leaf, grad, want, easy in zip(("dhidden", "dweight", "dbias"), grads, dtruth, deager, strict=False):
        assert grad.dtype == dtype
        assert_gate(leaf, grad, want, easy, n=n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["entropy", "softcap", "collapsed"])
def test_logits_gate(name: str, dtype: torch.dtype, device: torch.device) -> None:
    case = CASES[name]
    b = policy_batch(dtype=dtype, device=device, rows=21, scale=float(case.get("scale", 0.4)))
    coefs = upstream(len(b.labels), bool(case.get("entropy")))
    options = {k: v for k, v in case.items() if k in ("temperature", "softcap")}
    leaf = b.logits.requires_grad_()
    got = token_logprobs_from_logits(leaf, b.labels, return_entropy=bool(case.get("entropy")), **options)
    (grad,) = torch.autograd.grad(value([t for t in got if t is not None], coefs), leaf)
    results = []
    # What is held in fp32 is judged as fp32: only dlogits is rounded.
    for dt in (torch.float64, torch.float32):
        x = leaf.detach().cpu().to(dt).requires_grad_()
        outs = outputs(x, b.labels.cpu(), case)
        results.append((outs, torch.autograd.grad(value(outs, coefs), x)[0]))
    (truth, dtruth), (eager, deager) = results
    for out, got_out, want, easy in zip(("logprobs", "entropy"), got, truth, eager, strict=True):
        if got_out is not None:
            assert_gate(out, got_out, want, easy, n=53)
    assert_gate("dlogits", grad, dtruth, deager.to(dtype), n=53)


@pytest.mark.once
def test_gradcheck() -> None:
    b = policy_batch(rows=7, vocab=9, hidden_size=4, dtype=torch.float64)
    heads = [t.clone().requires_grad_() for t in (b.hidden, b.weight, b.bias)]
    options = {"temperature": 0.8, "softcap": 6.0}

    def ours(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(token_logprobs(hidden, weight, b.labels, bias=bias, return_entropy=True, **options))

    def from_logits(logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(token_logprobs_from_logits(logits, b.labels, return_entropy=True, **options))

    assert torch.autograd.gradcheck(ours, heads)
    assert torch.autograd.gradcheck(from_logits, b.logits.requires_grad_())
    assert torch.autograd.gradcheck(lambda x: token_logprobs_reference(x, b.labels, **options), b.logits.requires_grad_())


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)])
def test_only_what_is_asked_for(wanted: tuple[bool, ...], device: torch.device) -> None:
    b = policy_batch(device=device, rows=18)
    every = [t.clone().requires_grad_() for t in (b.hidden, b.weight, b.bias)]
    some = [t.clone().requires_grad_(want) for t, want in zip((b.hidden, b.weight, b.bias), wanted, strict=True)]
    for leaves in (every, some):
        token_logprobs(*leaves[:2], b.labels, bias=leaves[2]).logprobs.sum().backward()
    for all_leaf, leaf, want in zip(every, some, wanted, strict=True):
        assert (leaf.grad is not None) == want
        if want:
            assert torch.equal(leaf.grad, all_leaf.grad)
    with torch.no_grad():
        assert not token_logprobs(*every[:2], b.labels, bias=every[2]).logprobs.requires_grad


def test_ignored_rows_have_no_gradient(device: torch.device) -> None:
    """Whatever flows into an ignored row from above, and whatever its hidden state holds."""
    b = policy_batch(device=device, rows=18)
    ignored = b.labels == -100
    assert bool(ignored.any())
    hidden = b.hidden.masked_fill(ignored[:, None], NAN).requires_grad_()
    weight = b.weight.clone().requires_grad_()
    out = token_logprobs(hidden, weight, b.labels, return_entropy=True)
    assert bool((torch.stack(out)[:, ignored] == 0).all())
    (out.logprobs.sum() + out.entropy.sum()).backward()
    assert bool((hidden.grad[ignored] == 0).all())
    want = weight.grad.clone()
    weight.grad = None
    out = token_logprobs(hidden.detach()[~ignored], weight, b.labels[~ignored], return_entropy=True)
    (out.logprobs.sum() + out.entropy.sum()).backward()
    torch.testing.assert_close(weight.grad, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_and_one_token(rows: int, device: torch.device) -> None:
    b = policy_batch(device=device, rows=rows)
    leaves = [t.clone().requires_grad_() for t in (b.hidden, b.weight, b.bias)]
    logits = b.logits.requires_grad_()
    linear = token_logprobs(*leaves[:2], b.labels, bias=leaves[2], return_entropy=True)
    direct = token_logprobs_from_logits(logits, b.labels, return_entropy=True)
    assert all(t.shape == (rows,) for t in (*linear, *direct))
    torch.testing.assert_close(torch.stack(linear), torch.stack(direct), rtol=1e-5, atol=1e-6)
    (linear.logprobs.sum() + direct.logprobs.sum()).backward()
    assert all(t.grad is not None and t.grad.shape == t.shape for t in (*leaves, logits))
    assert rows or all(bool((t.grad == 0).all()) for t in leaves)


def test_rows_far_apart_are_read_where_they_are(device: torch.device, many_chunks: None) -> None:
    """Hidden states and weight inside wider matrices: the same bits, nothing copied, nothing read beside the rows."""
    b = policy_batch(device=device, rows=40, hidden_size=16)

    def inside(matrix: torch.Tensor) -> torch.Tensor:
        wide = torch.full((len(matrix), 48), NAN, device=device)
        wide[:, 16:32] = matrix
        return wide[:, 16:32]

    results = []
    for hidden, weight in ((b.hidden, b.weight), (inside(b.hidden), inside(b.weight))):
        assert row_major(hidden) is hidden
        leaves = [hidden.detach().requires_grad_(), weight.detach().requires_grad_()]
        out = token_logprobs(*leaves, b.labels, return_entropy=True)
        loss = vrgrpo_loss(*leaves, b.labels, sample_id=b.sample_id, advantages=b.advantages).loss
        total = out.logprobs.sum() + out.entropy.sum() + loss + token_cross_entropy(*leaves, b.labels).loss
        results.append([*out, loss, *torch.autograd.grad(total, leaves)])
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))
    turned = b.hidden.t().contiguous().t()
    assert row_major(turned).is_contiguous()


def test_strided_inputs_and_int32_labels(device: torch.device) -> None:
    b = policy_batch(device=device, rows=18)
    want = token_logprobs(b.hidden, b.weight, b.labels, bias=b.bias, return_entropy=True)
    wide = torch.stack([b.labels, b.labels + 1], 1)[:, 0]
    bias = torch.stack([b.bias, b.bias], 1)[:, 0]
    got = token_logprobs(b.hidden.t().contiguous().t(), b.weight.t().contiguous().t(), wide, bias=bias, return_entropy=True)
    assert all(torch.equal(x, y) for x, y in zip(want, got, strict=True))
    assert torch.equal(token_logprobs(b.hidden, b.weight, b.labels.int(), bias=b.bias).logprobs, want.logprobs)
    logits = torch.full((18, 70), NAN, device=device)
    logits[:, 3:56] = b.logits
    rows = logits[:, 3:56].requires_grad_()
    want_leaf = b.logits.requires_grad_()
    for x in (rows, want_leaf):
        x.grad = None
        token_logprobs_from_logits(x, wide).logprobs.sum().backward()
    assert torch.equal(rows.grad, want_leaf.grad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_the_others(dtype: torch.dtype, device: torch.device, many_chunks: None) -> None:
    """Bitwise: 40 rows in three chunks; rows alone, at another place, across a chunk's border; and twice the same."""
    b = policy_batch(dtype=dtype, device=device, rows=40)

    def run(rows: torch.Tensor) -> list[torch.Tensor]:
        hidden = b.hidden[rows].requires_grad_()
        out = token_logprobs(hidden, b.weight, b.labels[rows], bias=b.bias, return_entropy=True)
        (out.logprobs * b.token_advantages[rows] + 0.1 * out.entropy).sum().backward()
        return [*(t.detach() for t in out), hidden.grad]

    every = torch.arange(40, device=device)
    whole = run(every)
    for rows in (every, every.flip(0), every[14:19], every[33:34]):
        assert all(torch.equal(a[rows], got) for a, got in zip(whole, run(rows), strict=True)), rows


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("softcap", [None, 10.0])
def test_nan_and_infinity_show(value: float, softcap: float | None, device: torch.device) -> None:
    b = policy_batch(device=device, rows=6)
    hidden = b.hidden.clone()
    hidden[2, 1] = value
    hidden.requires_grad_()
    out = token_logprobs(hidden, b.weight, b.labels, softcap=softcap)
    assert bool(out.logprobs[2].isnan())
    assert bool(out.logprobs[[0, 1, 3]].isfinite().all())
    out.logprobs.sum().backward()
    assert bool(hidden.grad[2].isnan().any())
    assert bool(hidden.grad[[0, 1, 3]].isfinite().all())


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_infinity_shows_behind_a_softcap(value: float, device: torch.device) -> None:
    """Every logit of the row is the same infinity, which the cap makes an ordinary number of: in every op, fused or not."""
    b = policy_batch(device=device, rows=6)
    weight = b.weight.abs() + 0.1
    hidden = b.hidden.clone()
    hidden[2, 1] = value
    policy = {"sample_id": b.sample_id, "advantages": b.advantages}
    for loss in (
        lambda h, w: token_logprobs(h, w, b.labels, softcap=10.0).logprobs.sum(),
        lambda h, w: token_cross_entropy(h, w, b.labels, softcap=10.0).loss,
        lambda h, w: vrgrpo_loss(h, w, b.labels, softcap=10.0, **policy).loss,
        lambda h, w: vrgrpo_loss(h, w, b.labels, softcap=10.0, ratio_level="sequence", **policy).loss,
    ):
        leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        out = loss(*leaves)
        out.backward()
        assert bool(out.isnan())
        assert bool(leaves[0].grad[2].isnan().all())
        assert bool(leaves[1].grad.isnan().any())
        with torch.no_grad():
            assert bool(loss(*leaves).isnan())
    out = token_logprobs(hidden, weight, b.labels.index_fill(0, torch.tensor(2, device=device), -100), softcap=10.0)
    assert bool(out.logprobs.isfinite().all())  # an ignored row may hold anything


@pytest.mark.parametrize("softcap", [None, 10.0])
def test_minus_infinity_masks_a_token(softcap: float | None, device: torch.device) -> None:
    """In a bias or in given logits -inf is a mask, not an accident: p = 0, or with a cap what the cap makes of it."""
    b = policy_batch(device=device, rows=6)
    bias = b.bias.clone()
    bias[(b.labels.max() + 1) % 53] = -INF
    linear = token_logprobs(b.hidden, b.weight, b.labels, bias=bias, softcap=softcap).logprobs
    direct = token_logprobs_from_logits(b._replace(bias=bias).logits, b.labels, softcap=softcap).logprobs
    assert bool(linear.isfinite().all())
    torch.testing.assert_close(linear, direct, rtol=1e-5, atol=1e-6)


def test_inference_mode_leaves_nothing_behind(device: torch.device) -> None:
    """Log-probabilities of the old policy in inference mode, then a training step: the usual order of things."""
    b = policy_batch(device=device, rows=18)
    hidden, bias = b.hidden.clone().requires_grad_(), b.bias.clone().requires_grad_()
    with torch.inference_mode():
        before = token_logprobs(b.hidden, b.weight, b.labels, bias=b.bias).logprobs
    after = token_logprobs(hidden, b.weight, b.labels, bias=bias).logprobs
    after.sum().backward()
    assert torch.equal(before, after.detach())
    assert bool(bias.grad.isfinite().all())
