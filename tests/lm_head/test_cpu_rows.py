"""Rows of logits on the CPU: confident tokens, masked tokens, NaN and infinity; compaction of inactive rows; memory."""

import pytest
import torch

from himakernels.lm_head import cpu
from himakernels.lm_head.types import Head, Needs
from himakernels.ops.token_logprobs.reference import token_logprobs_reference
from himakernels.testing import assert_gate

INF, NAN = float("inf"), float("nan")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def randn(*shape: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def reference(logits: torch.Tensor, labels: torch.Tensor, coef: torch.Tensor, by_entropy: torch.Tensor, **options: float):
    """(logprobs, entropy, dlogits) by autograd in the dtype of `logits`."""
    x = logits.detach().requires_grad_()
    logprobs, entropy = token_logprobs_reference(x, labels, **options)
    value = (logprobs * coef.to(x.dtype) + entropy * by_entropy.to(x.dtype)).sum()
    return logprobs.detach(), entropy.detach(), torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize(
    ("vocab", "options"),
    [
        (1, {}),  # the label is all there is
        (2, {"temperature": 1.7}),
        (15, {}),  # less than a vector
        (33, {"softcap": 4.0}),  # two vectors and one more
        (4099, {"temperature": 0.6, "softcap": 30.0}),  # several blocks of the fp64 sum
    ],
)
def test_rows_against_fp64(dtype: torch.dtype, vocab: int, options: dict[str, float]) -> None:
    wide = torch.promote_types(dtype, torch.float32)
    logits, labels = randn(9, vocab, seed=0, scale=3, dtype=dtype), torch.arange(9) * 7 % vocab
    coef, by_entropy = randn(9, seed=1).to(wide), randn(9, seed=2, scale=0.3).to(wide)
    args = (labels, coef, by_entropy)
    stats = cpu.logits_stats(logits, labels, options.get("temperature", 1.0), options.get("softcap"))
    dlogits = torch.full_like(logits, NAN)
    cpu.logits_grad_rows(
        logits, dlogits, labels, stats, coef, by_entropy, options.get("temperature", 1.0), options.get("softcap")
    )
    truth, eager = (reference(logits.to(d), *args, **options) for d in (torch.float64, wide))
    assert_gate("logprobs", stats.logprobs, truth[0], eager[0], n=vocab)
    assert_gate("entropy", stats.entropy, truth[1], eager[1], n=vocab)
    assert_gate("dlogits", dlogits, truth[2], eager[2].to(dtype), n=vocab)


@pytest.mark.parametrize("vocab", [2, 777])
@pytest.mark.parametrize("margin", [18.0, 30.0, 60.0, 100.0])
def test_confident_tokens_keep_value_and_gradient(vocab: int, margin: float) -> None:
    """Relative error below 1e-5, where fp32 x - lse has lost 1 % of the gradient at 18 nats and all of it at 30.

    1 - p is held to the truth as long as fp32 can hold it: e^-87 is the smallest normal number.
    """
    logits, labels = randn(6, vocab, seed=3, scale=0.5), torch.arange(6) % vocab
    logits[torch.arange(6), labels] = logits.amax(1) + margin
    stats = cpu.logits_stats(logits, labels, 1.0, None)
    dlogits = torch.empty_like(logits)
    cpu.logits_grad_rows(logits, dlogits, labels, stats, torch.ones(6), None, 1.0, None)
    z = logits.double()
    label_z = z.gather(1, labels[:, None])
    gap = torch.logsumexp(z.scatter(1, labels[:, None], -INF), 1, keepdim=True) - label_z  # in fp64 1 - p is lost at 37 nats
    nll = torch.log1p(gap.exp())
    p = (z - label_z - nll).exp()
    want = torch.where(torch.arange(vocab) == labels[:, None], torch.sigmoid(gap), -p)
    if margin > 87:
        assert bool((stats.logprobs <= 0).all())
        assert bool((stats.logprobs > -1e-37).all())
        assert bool((dlogits.abs() < 1e-37).all())
        return
    assert float(((stats.logprobs.double() + nll[:, 0]) / nll[:, 0]).abs().max()) < 1e-5
    assert float(((dlogits.double() - want) / want).abs().max()) < 1e-5


def test_masked_tokens() -> None:
    """-inf: p = 0 and gradient 0; for all but the label logprob 0; for the label logprob -inf and a finite gradient."""
    logits, labels = randn(4, 70, seed=4), torch.tensor([3, 40, 69, 5])
    logits[0, 10:60] = -INF
    logits[1] = -INF
    logits[1, 40] = 2.5
    logits[2, 69] = -INF
    logits[3] = -INF
    for dtype in (torch.float32, torch.float64):
        x = logits.to(dtype)
        coef, by_entropy = randn(4, seed=5).to(dtype), randn(4, seed=6).to(dtype)
        stats = cpu.logits_stats(x, labels, 1.0, None)
        dlogits = torch.empty_like(x)
        cpu.logits_grad_rows(x, dlogits, labels, stats, coef, by_entropy, 1.0, None)
        # -1e4 has p = 0 as well, and autograd has a gradient there.
        plain = logits.double().clamp(min=-1e4)
        truth, eager = (reference(plain.to(d)[:3], labels[:3], coef[:3], by_entropy[:3]) for d in (torch.float64, dtype))
        assert_gate("logprobs", stats.logprobs[:2], truth[0][:2], eager[0][:2], n=70)
        assert_gate("entropy", stats.entropy[:3], truth[1], eager[1], n=70)
        assert_gate("dlogits", dlogits[:3], truth[2], eager[2], n=70)
        assert [float(stats.logprobs[1]), float(stats.logprobs[2]), float(stats.lse[1])] == [0, -INF, 2.5]
        assert abs(float(stats.lse[2]) - float(torch.logsumexp(logits[2].double(), 0))) < 1e-5
        assert bool((dlogits[0, 10:60] == 0).all())
        assert bool((dlogits[1] == 0).all())
        assert all(bool(s[3].isnan()) for s in stats), "a row of nothing but masked tokens has no distribution"


@pytest.mark.parametrize("softcap", [None, 20.0])
@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("column", [0, 37, 69])  # 37 is the label
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_nan_and_overflow_show(dtype: torch.dtype, column: int, value: float, softcap: float | None) -> None:
    logits, labels = randn(2, 70, seed=7, dtype=dtype), torch.tensor([37, 37])
    logits[0, column] = value
    stats = cpu.logits_stats(logits, labels, 1.0, softcap)
    dlogits = torch.empty_like(logits)
    cpu.logits_grad_rows(logits, dlogits, labels, stats, torch.ones_like(stats.lse), None, 1.0, softcap)
    assert bool(stats.logprobs[0].isnan())
    assert bool(stats.entropy[0].isnan())
    assert bool(dlogits[0].isnan().any())
    assert all(bool(t[1].isfinite().all()) for t in (*stats, dlogits))


def test_ignored_and_inactive_rows_are_written_as_zeros() -> None:
    logits, labels = randn(4, 50, seed=8), torch.tensor([-100, 1, 2, 3])
    logits[0] = NAN
    coef, by_entropy = torch.tensor([1.0, 0, 0, 1]), torch.tensor([1.0, 0, 1, 0])
    stats = cpu.logits_stats(logits, labels, 1.0, None)
    assert [float(s[0]) for s in stats] == [0, 0, 0]
    dlogits = torch.full_like(logits, NAN)
    cpu.logits_grad_rows(logits, dlogits, labels, stats, coef, by_entropy, 1.0, None)
    assert bool((dlogits[:2] == 0).all())
    assert bool((dlogits[2:] != 0).any(1).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_depend_on_nothing_else_and_in_place_is_the_same(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels, coef = randn(50, 1399, seed=9, dtype=dtype), torch.arange(50) * 2, randn(50, seed=10)

    def run(x: torch.Tensor, rows: slice, *, threads: int = 1, inplace: bool = False) -> list[torch.Tensor]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        stats = cpu.logits_stats(x, labels[rows], 0.9, 15.0)
        out = x if inplace else torch.empty_like(x)
        cpu.logits_grad_rows(x, out, labels[rows], stats, coef[rows], coef[rows], 0.9, 15.0)
        return [*stats, out]

    whole = run(logits, slice(0, 50))
    memory = torch.zeros(50, 1411, dtype=dtype)
    strided = memory[:, 5:1404]  # rows that begin anywhere
    strided.copy_(logits)
    for other in (run(logits, slice(0, 50), threads=3), run(logits.clone(), slice(0, 50), threads=2, inplace=True)):
        assert all(torch.equal(a, b) for a, b in zip(whole, other, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole, run(strided, slice(0, 50), threads=2, inplace=True), strict=True))
    assert bool((memory[:, :5] == 0).all())
    assert bool((memory[:, 1404:] == 0).all())
    for part in (slice(0, 1), slice(20, 23), slice(33, 50)):
        alone = run(logits[part], part)
        assert all(torch.equal(a[part], b) for a, b in zip(whole, alone, strict=True))


@pytest.mark.parametrize("active", ["none", "all", "first", "last", "half", "one"])
def test_inactive_rows_never_enter_a_product(active: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Holes are filled from the end: NaN in the hidden states of inactive rows does not reach a gradient."""
    R, H, V = 23, 6, 31
    mask = {
        "none": torch.zeros(R), "all": torch.ones(R), "first": torch.arange(R) < 9, "last": torch.arange(R) >= 9,
        "half": torch.arange(R) % 2, "one": torch.arange(R) == R - 1,
    }[active].bool()  # fmt: skip
    hidden, weight, bias = randn(R, H, seed=11), randn(V, H, seed=12), randn(V, seed=13)
    labels, coef = torch.arange(R) % V, randn(R, seed=14) * mask
    poisoned = hidden.masked_fill(~mask[:, None], NAN)
    counts: list[int] = []
    plain = cpu.gemm

    def spy(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, *, accumulate: bool = False) -> None:
        counts.append(a.shape[0] if a.shape[1] == V else a.shape[1])
        plain(a, b, out, accumulate=accumulate)

    head = Head(poisoned, weight, bias, labels, 1.0, None)
    logits = cpu.head_logits(head, cpu.empty_logits(head, R))
    stats = cpu.logits_stats(logits, labels, 1.0, None)
    monkeypatch.setattr(cpu, "gemm", spy)
    grads = cpu.GradSum(head, Needs(True, True, True), 1)
    grads.add(0, logits, stats, coef, torch.zeros(R))
    out = grads.finish()
    n = int(mask.sum())
    assert counts == ([n, n] if n else [])
    x = hidden.double().requires_grad_(), weight.double().requires_grad_(), bias.double().requires_grad_()
    value = (token_logprobs_reference(x[0] @ x[1].T + x[2], labels)[0] * coef).sum()
    for name, got, want in zip(("dhidden", "dweight", "dbias"), out, torch.autograd.grad(value, x), strict=True):
        assert got is not None
        assert_gate(name, got, want, want.float(), n=V + R)
    assert bool((out.dhidden[~mask] == 0).all())


@pytest.mark.parametrize("vocab", [5, 33, 4099])
def test_gradients_in_bfloat16_take_the_memory_of_fp32_logits(vocab: int) -> None:
    """What CPUs with bf16 products use: the rows of the fp32 gradient, rounded once, over the logits that they come from."""
    logits, labels, every = randn(6, vocab, seed=1, scale=3), torch.arange(6) % vocab, torch.arange(6)
    stats = cpu.logits_stats(logits, labels, 0.7, None)
    coef, by_entropy = randn(6, seed=2), randn(6, seed=3)
    wide = torch.full_like(logits, NAN)
    cpu.logits_grad(logits, wide, labels, stats, coef, by_entropy, 0.7, None, source=every, target=every)
    source = torch.tensor([0, 4, 2, 5])  # rows 1 and 3 are inactive: the last ones move there
    into = logits.view(torch.bfloat16)[:, :vocab]
    cpu.logits_grad(logits, into, labels, stats, coef, by_entropy, 0.7, None, source=source, target=torch.arange(4))
    assert torch.equal(into[:4], wide[source].bfloat16())
