"""The Triton kernels of the LM head against eager torch in fp64: in the interpreter, or on a GPU where there is one."""

import os
from collections.abc import Iterator

import pytest
import torch

from himakernels.lm_head import gemm_kernels, logits_kernels, row_kernels
from himakernels.ops.token_logprobs.reference import token_logprobs_reference
from himakernels.testing import assert_gate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [
    pytest.mark.skipif(
        DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1",
        reason="Triton runs on a GPU, or anywhere with TRITON_INTERPRET=1",
    ),
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),  # numpy, inside the interpreter, on NaN and inf
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
INF, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def _poison() -> Iterator[None]:
    """torch.empty is filled with NaN (integers with their maximum): an element that no kernel writes shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


def randn(*shape: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * scale).to(dtype).to(DEVICE)


def randint(high: int, n: int, *, seed: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.randint(high, (n,), generator=torch.Generator().manual_seed(seed), dtype=dtype).to(DEVICE)


def logits_reference(
    logits: torch.Tensor, labels: torch.Tensor, coef: torch.Tensor, coef_entropy: torch.Tensor, **options: float | None
) -> tuple[torch.Tensor, ...]:
    """(logprobs, entropy, dlogits) by autograd, in the dtype of `logits`."""
    x = logits.detach().requires_grad_()
    logprobs, entropy = token_logprobs_reference(x, labels, **options)
    value = (logprobs * coef.to(x.dtype) + entropy * coef_entropy.to(x.dtype)).sum()
    return logprobs.detach(), entropy.detach(), torch.autograd.grad(value, x)[0]


def eager_dlogits(
    logits: torch.Tensor, labels: torch.Tensor, coef: torch.Tensor, coef_entropy: torch.Tensor, **options: float | None
) -> torch.Tensor:
    """fp32 eager's gradient, from p = exp(z - logsumexp(z)) as TRL writes it, and from log_softmax at the labels.

    The backward starts from lse in fp32, whose rounding is eager's in the first form and not in the second. At the
    label 1 - p is no subtraction for us, so there we are held to the better of the two.
    """
    whole = logits_reference(logits.float(), labels, coef, coef_entropy, **options)[2]
    x = logits.float().detach().requires_grad_()
    temperature, softcap = options.get("temperature", 1.0), options.get("softcap")
    z = (x if softcap is None else softcap * torch.tanh(x / softcap)) / temperature
    log_p = z - torch.logsumexp(z, 1, keepdim=True)
    value = (log_p.gather(1, labels[:, None].long())[:, 0] * coef).sum() - ((log_p.exp() * log_p).sum(1) * coef_entropy).sum()
    return torch.autograd.grad(value, x)[0].scatter(1, labels[:, None].long(), whole.gather(1, labels[:, None].long()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "vocab", "options"),
    [
        (5, 1000, {}),  # several blocks, the last one ragged
        (3, 128, {"temperature": 0.7}),  # exactly one block
        (4, 517, {"temperature": 1.3, "softcap": 5.0}),
        (2, 1, {}),  # the label is all there is
        (4, 3, {"softcap": 30.0}),
    ],
)
def test_logits_forward_and_backward(dtype: torch.dtype, rows: int, vocab: int, options: dict[str, float]) -> None:
    logits = randn(rows, vocab, seed=0, scale=4.0, dtype=dtype)
    labels = randint(vocab, rows, seed=1)
    coef, coef_entropy = randn(rows, seed=2), randn(rows, seed=3, scale=0.3)
    logprobs, lse, entropy = logits_kernels.logits_stats_fwd(logits, labels, **options)
    dlogits = torch.empty_like(logits)
    logits_kernels.logits_bwd(logits, labels, logprobs, lse, entropy, coef, coef_entropy, dlogits, **options)
    truth = logits_reference(logits.double(), labels, coef, coef_entropy, **options)
    eager = logits_reference(logits.float(), labels, coef, coef_entropy, **options)
    # Forward results are fp32 whatever the dtype of the logits, so they are held to fp32.
    assert_gate("logprobs", logprobs, truth[0], eager[0], n=vocab)
    assert_gate("entropy", entropy, truth[1], eager[1], n=vocab)
    expected = eager_dlogits(logits, labels, coef, coef_entropy, **options).to(dtype)
    assert_gate("dlogits", dlogits, truth[2], expected, n=vocab)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_logprobs_alone_in_place_and_strided(dtype: torch.dtype) -> None:
    memory = randn(6, 400, seed=4, scale=3.0, dtype=dtype)
    before = memory.clone()
    logits = memory[1:6, 16:316]
    labels, coef = randint(300, 5, seed=5, dtype=torch.int32), randn(5, seed=6)
    truth = logits_reference(logits.double(), labels, coef, torch.zeros_like(coef))
    eager = eager_dlogits(logits, labels, coef, torch.zeros_like(coef)).to(dtype)
    stats = logits_kernels.logits_stats_fwd(logits, labels)
    logits_kernels.logits_bwd(logits, labels, *stats, coef, None, logits)
    assert_gate("dlogits", logits, truth[2], eager, n=300)
    # Nothing around the view was written.
    memory[1:6, 16:316] = before[1:6, 16:316]
    assert torch.equal(memory, before)


def test_masked_tokens() -> None:
    """-inf has p = 0 and gradient 0, for single tokens, whole blocks, the label; with all masked the row is NaN."""
    logits = randn(4, 700, seed=7)
    labels = torch.tensor([3, 650, 699, 5], device=DEVICE)
    logits[0, 100:650] = -INF
    logits[1, :650] = -INF
    logits[2, 699] = -INF
    logits[3] = -INF
    coef, coef_entropy = randn(4, seed=8), randn(4, seed=9)
    logprobs, lse, entropy = logits_kernels.logits_stats_fwd(logits, labels)
    dlogits = torch.empty_like(logits)
    logits_kernels.logits_bwd(logits, labels, logprobs, lse, entropy, coef, coef_entropy, dlogits)
    truth = logits_reference(logits[:2].double(), labels[:2], coef[:2], coef_entropy[:2])
    eager = logits_reference(logits[:2], labels[:2], coef[:2], coef_entropy[:2])
    assert_gate("logprobs", logprobs[:2], truth[0], eager[0], n=700)
    # fp64 autograd has 0 * -inf in the entropy's gradient at masked tokens: what it gives elsewhere is the truth.
    finite = logits[:2] > -INF
    plain = logits[:2].double().masked_fill(~finite, -1e4)
    truth = logits_reference(plain, labels[:2], coef[:2], coef_entropy[:2])
    eager = logits_reference(plain.float(), labels[:2], coef[:2], coef_entropy[:2])
    assert_gate("entropy", entropy[:2], truth[1], eager[1], n=700)
    expected = eager_dlogits(plain, labels[:2], coef[:2], coef_entropy[:2])
    assert_gate("dlogits", dlogits[:2], truth[2], expected, n=700)
    assert bool((dlogits[:2][~finite] == 0).all())
    assert logprobs[2] == -INF
    others = torch.softmax(logits[2, :699].double(), 0)
    assert abs(float(entropy[2]) + float((others * others.log()).sum())) < 1e-5
    assert all(bool(t[3].isnan()) for t in (logprobs, entropy))


@pytest.mark.parametrize("softcap", [None, 20.0])
@pytest.mark.parametrize(("value", "column"), [(NAN, 5), (NAN, 299), (INF, 5), (INF, 299)])
def test_nan_and_overflow_show(value: float, column: int, softcap: float | None) -> None:
    logits = randn(2, 300, seed=10)
    labels = torch.tensor([299, 7], device=DEVICE)
    logits[0, column] = value
    logprobs, lse, entropy = logits_kernels.logits_stats_fwd(logits, labels, softcap=softcap)
    assert bool(logprobs[0].isnan())
    assert bool(entropy[0].isnan())
    assert bool(torch.isfinite(torch.stack([logprobs[1], entropy[1]])).all())
    dlogits = torch.empty_like(logits)
    one = torch.ones(2, device=DEVICE)
    logits_kernels.logits_bwd(logits, labels, logprobs, lse, entropy, one, None, dlogits, softcap=softcap)
    assert bool(dlogits[0].isnan().any())
    assert bool(dlogits[1].isfinite().all())


def test_ignored_and_bad_labels() -> None:
    logits = randn(5, 200, seed=11)
    labels = torch.tensor([-100, 200, -1, 2**40 + 3, 7], device=DEVICE)
    logprobs, lse, entropy = logits_kernels.logits_stats_fwd(logits, labels)
    assert [float(t[0]) for t in (logprobs, lse, entropy)] == [0, 0, 0]
    assert bool(logprobs[1:4].isnan().all())
    assert bool(logprobs[4].isfinite())
    one = torch.ones(5, device=DEVICE)
    dlogits = torch.empty_like(logits)
    logits_kernels.logits_bwd(logits, labels, logprobs, lse, entropy, one, one, dlogits)
    assert bool((dlogits[0] == 0).all())
    assert bool(dlogits[1:4].isnan().all())
    assert bool(dlogits[4].isfinite().all())


@pytest.mark.parametrize("margin", [18.0, 30.0, 60.0])
@pytest.mark.parametrize("vocab", [2, 512])
def test_confident_tokens_keep_their_gradient(margin: float, vocab: int) -> None:
    """Elementwise relative error below 1e-5 where x - lse in fp32 has lost 1 % (18 nats) or everything (30)."""
    logits = randn(4, vocab, seed=12) * 0.5
    labels = randint(vocab, 4, seed=13)
    logits[torch.arange(4), labels] = logits.amax(1) + margin
    coef, coef_entropy = randn(4, seed=14), randn(4, seed=15)
    logprobs, lse, entropy = logits_kernels.logits_stats_fwd(logits, labels)
    for use_entropy in (False, True):
        dlogits = torch.empty_like(logits)
        extra = coef_entropy if use_entropy else None
        logits_kernels.logits_bwd(logits, labels, logprobs, lse, entropy, coef, extra, dlogits)
        # The truth in closed form: in fp64 as well, 1 - p by subtraction loses everything at 60 nats.
        z = logits.double()
        others = z.scatter(1, labels[:, None], -INF)
        label = z.gather(1, labels[:, None])
        delta = torch.logsumexp(others, 1, keepdim=True) - label
        nll, q = torch.nn.functional.softplus(delta, threshold=1e9), torch.sigmoid(delta)
        nll = torch.where(delta < -30, delta.exp(), nll)
        p = (z - label - nll).exp().scatter(1, labels[:, None], 0)
        want_entropy = (1 - q) * nll + (p * (label + nll - z)).sum(1, keepdim=True)
        dz = -coef.double()[:, None] * p
        dz_label = coef.double()[:, None] * q
        if use_entropy:
            dz -= coef_entropy.double()[:, None] * p * (z - label - nll + want_entropy)
            dz_label -= coef_entropy.double()[:, None] * (1 - q) * (want_entropy - nll)
        dz = dz.scatter(1, labels[:, None], dz_label)
        for name, got, want in [
            ("logprobs", logprobs[:, None], -nll),
            ("entropy", entropy[:, None], want_entropy),
            ("dlogits", dlogits, dz),
        ]:
            error = ((got.double() - want) / want).abs().max()
            assert float(error) < 1e-5, (name, use_entropy, float(error))


def test_rows_without_coefficient() -> None:
    logits = randn(4, 300, seed=16)
    labels = torch.tensor([1, 2, -100, 3], device=DEVICE)
    coef = torch.tensor([0.0, 0.0, 1.0, 2.0], device=DEVICE)
    coef_entropy = torch.tensor([0.0, 0.5, 0.0, 0.0], device=DEVICE)
    stats = logits_kernels.logits_stats_fwd(logits, labels)
    written, skipped = torch.empty_like(logits), torch.full_like(logits, 7.0)
    logits_kernels.logits_bwd(logits, labels, *stats, coef, coef_entropy, written)
    logits_kernels.logits_bwd(logits, labels, *stats, coef, coef_entropy, skipped, write_zeros=False)
    assert bool((written[[0, 2]] == 0).all())
    assert bool((skipped[0] == 7).all())
    # An ignored row with a coefficient is in the list of active rows, so it is written.
    assert bool((skipped[2] == 0).all())
    assert torch.equal(written[[1, 3]], skipped[[1, 3]])
    assert bool((written[[1, 3]] != 0).any(1).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("r", "vocab", "width"),
    [
        (40, 96, 64),  # whole tiles
        (37, 83, 45),  # every dimension ragged
        (1, 5, 3),
    ],
)
def test_products(dtype: torch.dtype, density: float, r: int, vocab: int, width: int) -> None:
    hidden, weight = randn(r, width, seed=20, dtype=dtype), randn(vocab, width, seed=21, scale=0.2, dtype=dtype)
    bias, dlogits = randn(vocab, seed=22, dtype=dtype), randn(r, vocab, seed=23, dtype=dtype)

    out = torch.empty(r, vocab, dtype=dtype, device=DEVICE)
    gemm_kernels.head_logits_fwd(hidden, weight, bias, out)
    truth = hidden.double() @ weight.double().T + bias.double()
    assert_gate("logits", out, truth, torch.addmm(bias, hidden, weight.T), n=width)
    wide = torch.empty(r, vocab, dtype=torch.float32, device=DEVICE)
    gemm_kernels.head_logits_fwd(hidden, weight, None, wide)
    assert_gate("fp32 logits", wide, truth - bias.double(), hidden.float() @ weight.float().T, n=width)

    active = randn(r, seed=24) < {0.0: -INF, 0.5: 0.0, 1.0: INF}[density]
    rows, num_active = row_kernels.compact_rows(active)
    dhidden = torch.full((r, width), 7.0, dtype=dtype, device=DEVICE)
    gemm_kernels.head_dhidden_bwd(dlogits, weight, rows, num_active, dhidden)
    assert bool((dhidden[~active] == 7).all())
    truth = (dlogits.double() @ weight.double())[active]
    assert_gate("dhidden", dhidden[active], truth, (dlogits @ weight)[active], n=vocab)

    # Inactive rows may hold anything.
    poisoned = dlogits.masked_fill(~active[:, None], NAN)
    dweight, start = torch.empty(vocab, width, device=DEVICE), randn(vocab, width, seed=25)
    more = start.clone()
    gemm_kernels.head_dweight_bwd(poisoned, hidden, rows, num_active, dweight, accumulate=False)
    gemm_kernels.head_dweight_bwd(poisoned, hidden, rows, num_active, more, accumulate=True)
    truth = dlogits.double()[active].T @ hidden.double()[active]
    eager = dlogits.float()[active].T @ hidden.float()[active]
    assert_gate("dweight", dweight, truth, eager, n=r)
    assert_gate("dweight accumulated", more, truth + start.double(), eager + start, n=r + 1)

    dbias, start = torch.empty(vocab, device=DEVICE), randn(vocab, seed=26)
    more = start.clone()
    row_kernels.head_dbias_bwd(poisoned, rows, num_active, dbias, accumulate=False)
    row_kernels.head_dbias_bwd(poisoned, rows, num_active, more, accumulate=True)
    truth, eager = dlogits.double()[active].sum(0), dlogits.float()[active].sum(0)
    assert_gate("dbias", dbias, truth, eager, n=r)
    assert_gate("dbias accumulated", more, truth + start.double(), eager + start, n=r + 1)
    if density == 1.0:
        every = torch.empty_like(dhidden), torch.empty_like(dweight), torch.empty_like(dbias)
        gemm_kernels.head_dhidden_bwd(dlogits, weight, None, None, every[0])
        gemm_kernels.head_dweight_bwd(dlogits, hidden, None, None, every[1], accumulate=False)
        row_kernels.head_dbias_bwd(dlogits, None, None, every[2], accumulate=False)
        assert all(torch.equal(a, b) for a, b in zip(every, (dhidden, dweight, dbias), strict=True))


@pytest.mark.parametrize("r", [0, 1, 63, 64, 65, 200])
def test_compact_rows(r: int) -> None:
    active = randn(r, seed=r) < 0.3
    rows, num_active = row_kernels.compact_rows(active)
    want = active.nonzero()[:, 0].int()
    assert num_active.tolist() == [len(want)]
    assert rows.tolist() == want.tolist() + [-1] * (r - len(want))
    if r:
        assert row_kernels.compact_rows(active.to(torch.uint8) * 5)[0].tolist() == rows.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_do_not_depend_on_their_neighbours(dtype: torch.dtype) -> None:
    """Bitwise: 64 rows at once, and the same rows in batches of 1, 3 and 17; and twice the same thing."""
    r, vocab, width = 64, 80, 40
    hidden, weight = randn(r, width, seed=30, dtype=dtype), randn(vocab, width, seed=31, dtype=dtype)
    labels, coef = randint(vocab, r, seed=32), randn(r, seed=33)

    def run(begin: int, end: int, drop: int | None = None) -> list[torch.Tensor]:
        part = slice(begin, end)
        n = end - begin
        logits = torch.empty(n, vocab, dtype=dtype, device=DEVICE)
        gemm_kernels.head_logits_fwd(hidden[part], weight, None, logits)
        stats = logits_kernels.logits_stats_fwd(logits, labels[part])
        dlogits = torch.empty_like(logits)
        logits_kernels.logits_bwd(logits, labels[part], *stats, coef[part], coef[part], dlogits)
        active = torch.ones(n, dtype=torch.bool, device=DEVICE)
        if drop is not None:
            active[drop] = False
        dhidden = torch.zeros(n, width, dtype=dtype, device=DEVICE)
        gemm_kernels.head_dhidden_bwd(dlogits, weight, *row_kernels.compact_rows(active), dhidden)
        return [logits, *stats, dlogits, dhidden]

    whole = run(0, r)
    assert all(torch.equal(a, b) for a, b in zip(whole, run(0, r), strict=True))
    for size in (1, 3, 17):
        for begin in (0, 40)[size == 1 :]:
            part = run(begin, begin + size)
            assert all(torch.equal(a[begin : begin + size], b) for a, b in zip(whole, part, strict=True)), (size, begin)
    # A row that leaves moves the others to other places of their tiles.
    dropped = run(0, r, drop=2)
    keep = torch.arange(r) != 2
    assert torch.equal(dropped[-1][keep], whole[-1][keep])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("numel", [1, 256, 1000])
def test_scale(dtype: torch.dtype, numel: int) -> None:
    tensor = randn(numel, seed=40, dtype=dtype)
    want = (tensor.float() * 0.3).to(dtype)
    same = tensor.clone()
    row_kernels.scale_(same, torch.ones((), device=DEVICE))
    assert torch.equal(same, tensor)
    row_kernels.scale_(tensor, torch.full((), 0.3, device=DEVICE))
    assert torch.equal(tensor, want)
    row_kernels.scale_(tensor, torch.full((), NAN, device=DEVICE))
    assert bool(tensor.isnan().all())


def test_empty() -> None:
    logits, labels = randn(0, 8, seed=50), randint(8, 0, seed=51)
    stats = logits_kernels.logits_stats_fwd(logits, labels)
    assert [t.shape for t in stats] == [(0,)] * 3
    logits_kernels.logits_bwd(logits, labels, *stats, stats[0], None, logits)
    hidden, weight = randn(0, 4, seed=52), randn(8, 4, seed=53)
    gemm_kernels.head_logits_fwd(hidden, weight, None, logits)
    rows, num_active = row_kernels.compact_rows(labels.bool())
    gemm_kernels.head_dhidden_bwd(logits, weight, rows, num_active, hidden)
    dweight = torch.empty(8, 4, device=DEVICE)
    gemm_kernels.head_dweight_bwd(logits, hidden, rows, num_active, dweight, accumulate=False)
    assert bool((dweight == 0).all())


def test_addresses_beyond_32_bits() -> None:
    """Row 2 starts 2^31 + 32 elements after row 0. The memory between is never touched: on a CPU it costs nothing."""
    torch.utils.deterministic.fill_uninitialized_memory = False
    stride, vocab, width = 2**30 + 16, 40, 20
    memory = torch.empty(2 * stride + vocab, dtype=torch.float16, device=DEVICE)
    logits = memory.as_strided((3, vocab), (stride, 1))
    hidden, weight = randn(3, width, seed=70, dtype=torch.float16), randn(vocab, width, seed=71, dtype=torch.float16)
    labels, one = randint(vocab, 3, seed=72), torch.ones(3, device=DEVICE)
    rows, num_active = row_kernels.compact_rows(one.bool())

    def run(logits: torch.Tensor) -> list[torch.Tensor]:
        dhidden, dweight = torch.zeros_like(hidden), torch.zeros(vocab, width, device=DEVICE)
        dbias = torch.zeros(vocab, device=DEVICE)
        gemm_kernels.head_logits_fwd(hidden, weight, None, logits)
        stats = logits_kernels.logits_stats_fwd(logits, labels)
        logits_kernels.logits_bwd(logits, labels, *stats, one, None, logits)
        gemm_kernels.head_dhidden_bwd(logits, weight, rows, num_active, dhidden)
        gemm_kernels.head_dweight_bwd(logits, hidden, rows, num_active, dweight, accumulate=False)
        row_kernels.head_dbias_bwd(logits, rows, num_active, dbias, accumulate=False)
        return [logits, *stats, dhidden, dweight, dbias]

    near = torch.zeros(3, vocab, dtype=torch.float16, device=DEVICE)
    assert all(torch.equal(a, b) for a, b in zip(run(logits), run(near), strict=True))


def test_the_gate_rejects_a_wrong_gradient() -> None:
    """Without the label's own term, or with the temperature forgotten, the gate fails."""
    logits, labels, coef = randn(4, 200, seed=60), randint(200, 4, seed=61), torch.ones(4, device=DEVICE)
    zero = torch.zeros_like(coef)
    truth = logits_reference(logits.double(), labels, coef, zero, temperature=0.9)[2]
    eager = logits_reference(logits, labels, coef, zero, temperature=0.9)[2]
    stats = logits_kernels.logits_stats_fwd(logits, labels, temperature=0.9)
    dlogits = torch.empty_like(logits)
    logits_kernels.logits_bwd(logits, labels, *stats, coef, None, dlogits, temperature=0.9)
    assert_gate("dlogits", dlogits, truth, eager, n=200)
    for wrong in (dlogits * 0.9, dlogits - torch.nn.functional.one_hot(labels, 200) / 0.9):
        with pytest.raises(AssertionError, match="outside the gate"):
            assert_gate("dlogits", wrong, truth, eager, n=200)
