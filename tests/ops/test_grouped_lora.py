"""grouped_lora: the gate against the reference in fp64, properties, contracts.

Runs three ways: plain (eager torch), TRITON_INTERPRET=1 (the kernels on CPU tensors), and on a GPU.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from himakernels.ops.grouped_lora import grouped_lora, grouped_lora_reference
from himakernels.testing import INTERPRET, assert_gate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
# The dtype of x and that of the adapters; PEFT keeps adapters of a 16-bit model in fp32.
DTYPES = {"fp32": (FP32, FP32), "bf16": (BF16, BF16), "fp16": (FP16, FP16), "mixed": (BF16, FP32), "mixed16": (FP16, FP32)}


class Batch(NamedTuple):
    """Inputs of one call, and dy."""

    x: torch.Tensor
    base: torch.Tensor
    a: list[torch.Tensor]
    b: list[torch.Tensor]
    segments: torch.Tensor
    scaling: list[float]
    dy: torch.Tensor

    @property
    def leaves(self) -> list[torch.Tensor]:
        return [self.x, self.base, *self.a, *self.b]

    def to(self, dtype: torch.dtype | None) -> "Batch":
        """The same values on the CPU, in another dtype or each in its own."""
        x, base, dy = (t.detach().cpu().to(dtype or t.dtype) for t in (self.x, self.base, self.dy))
        a, b = ([t.detach().cpu().to(dtype or t.dtype) for t in ts] for ts in (self.a, self.b))
        return Batch(x, base, a, b, self.segments.cpu(), self.scaling, dy)

    def requires_grad_(self) -> "Batch":
        for t in self.leaves:
            t.requires_grad_()
        return self


def make(
    lengths: Sequence[int],
    ranks: Sequence[int],
    dtypes: tuple[torch.dtype, torch.dtype] = (FP32, FP32),
    *,
    h_in: int = 24,
    h_out: int = 40,
    seed: int = 0,
) -> Batch:
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(shape, generator=g, dtype=FP64).to(dtype).to(DEVICE)

    tokens = sum(lengths)
    segments = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32, device=DEVICE)
    return Batch(
        randn(tokens, h_in, dtype=dtypes[0]),
        randn(tokens, h_out, dtype=dtypes[0]),
        [randn(r, h_in, dtype=dtypes[1]) for r in ranks],
        [randn(h_out, r, dtype=dtypes[1]) for r in ranks],
        segments,
        [0.5 + 0.75 * i for i in range(len(ranks))],
        randn(tokens, h_out, dtype=dtypes[0]),
    )


Run = Callable[..., torch.Tensor]


def results(run: Run, batch: Batch, *, base: bool = True) -> dict[str, torch.Tensor]:
    """y and every gradient."""
    batch.requires_grad_()
    leaves = [t for t in batch.leaves if base or t is not batch.base]
    y = run(batch.x, batch.a, batch.b, batch.segments, batch.scaling, base=batch.base if base else None)
    grads = torch.autograd.grad(y, leaves, batch.dy)
    count = range(len(batch.a))
    names = ["dx", *(["dbase"] if base else []), *(f"da[{i}]" for i in count), *(f"db[{i}]" for i in count)]
    return {"y": y.detach(), **dict(zip(names, grads, strict=True))}


def check(batch: Batch, run: Run = grouped_lora, **options: bool) -> None:
    got = results(run, batch, **options)
    truth = results(grouped_lora_reference, batch.to(FP64), **options)
    eager = results(grouped_lora_reference, batch.to(None), **options)
    longest = max(batch.segments.diff().max().item(), batch.x.shape[1] + max(a.shape[0] for a in batch.a), batch.dy.shape[1])
    for name, value in got.items():
        assert_gate(name, value, truth[name], eager[name], n=int(longest))


CASES: dict[str, Callable[[tuple[torch.dtype, torch.dtype]], Batch]] = {
    "ragged": lambda d: make([10, 2, 25], [4, 8, 3], d),  # every number odd: masks everywhere
    "even": lambda d: make([32, 16], [16, 16], d, h_in=64, h_out=64),  # whole blocks
    "high_rank": lambda d: make([9, 20], [40, 17], d, h_in=40),  # several blocks of the rank, some that one does not reach
    "no_tokens": lambda d: make([0, 12, 0, 0, 7, 0], [4, 2, 8, 1, 3, 5], d),  # adapters whose agents have nothing
    "rank_0": lambda d: make([5, 9, 4], [0, 6, 0], d),  # agents without an adapter here
    "long": lambda d: make([150, 3], [5, 9], d),  # tokens are summed in several parts
    "one_adapter": lambda d: make([19], [8], d),  # plain LoRA
    "one_token": lambda d: make([0, 1], [4, 8], d),
}


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("poison")
def test_gate(case: str, dtypes: str) -> None:
    check(CASES[case](DTYPES[dtypes]))


@pytest.mark.parametrize("dtypes", ["fp32", "mixed"])
def test_gate_without_base(dtypes: str) -> None:
    check(make([10, 2, 25, 3], [4, 8, 3, 0], DTYPES[dtypes]), base=False)


def scaling_of_the_neighbour(x, a, b, segments, scaling, *, base):
    return grouped_lora(x, a, b, segments, [*scaling[1:], scaling[0]], base=base)


def one_token_late(x, a, b, segments, scaling, *, base):
    moved = segments.clone()
    moved[1] += 1
    return grouped_lora(x, a, b, moved, scaling, base=base)


def adapters_in_bf16(x, a, b, segments, scaling, *, base):
    return grouped_lora(x, [t.to(x.dtype) for t in a], [t.to(x.dtype) for t in b], segments, scaling, base=base)


@pytest.mark.parametrize("wrong", [scaling_of_the_neighbour, one_token_late, adapters_in_bf16])
def test_the_gate_rejects(wrong: Run) -> None:
    with pytest.raises(AssertionError, match="outside the gate"):
        check(make([10, 2, 25], [4, 8, 3], (BF16, FP32)), run=wrong)


@pytest.mark.once
@pytest.mark.parametrize("run", [grouped_lora, grouped_lora_reference])
def test_gradcheck(run: Run) -> None:
    if DEVICE.type == "cuda":
        pytest.skip("fp64 is for the CPU")
    batch = make([3, 0, 4], [2, 1, 3], (FP64, FP64), h_in=5, h_out=4).requires_grad_()

    def call(x: torch.Tensor, base: torch.Tensor, *adapters: torch.Tensor) -> torch.Tensor:
        return run(x, adapters[:3], adapters[3:], batch.segments, batch.scaling, base=base)

    assert torch.autograd.gradcheck(call, batch.leaves)


@pytest.mark.parametrize("dtypes", ["fp32", "bf16", "mixed"])
def test_only_requested_gradients(dtypes: str) -> None:
    """Each leaf alone: the same bits as all together, and nothing for the others."""
    batch = make([10, 2, 9], [4, 0, 3], DTYPES[dtypes])
    whole = list(results(grouped_lora, batch).values())[1:]
    for i, leaf in enumerate(batch.leaves):
        for t in batch.leaves:
            t.requires_grad_(t is leaf)
            t.grad = None
        grouped_lora(batch.x, batch.a, batch.b, batch.segments, batch.scaling, base=batch.base).backward(batch.dy)
        assert [t.grad is not None for t in batch.leaves] == [t is leaf for t in batch.leaves]
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, whole[i])
        assert leaf.grad.is_contiguous()
    with torch.no_grad():
        assert not grouped_lora(batch.x, batch.a, batch.b, batch.segments, batch.scaling).requires_grad


@pytest.mark.parametrize(("lengths", "ranks"), [((0, 0), (4, 8)), ((0, 0), (0, 0)), ((3, 2), (0, 0))])
def test_nothing_to_do(lengths: tuple[int, int], ranks: tuple[int, int]) -> None:
    """No tokens, or no rank anywhere: base, and gradients that are zero, in the right shapes."""
    batch = make(lengths, ranks)
    got = results(grouped_lora, batch)
    assert torch.equal(got["y"], batch.base)
    assert not any(got[name].any() for name in ("dx", "da[0]", "da[1]", "db[0]", "db[1]"))


def test_strides() -> None:
    """Rows apart, columns apart, transposed adapters: the same values as from copies."""
    batch = make([6, 7], [4, 3])
    wide = torch.zeros(13, 2 * 24, device=DEVICE)
    wide[:, ::2] = batch.x
    rows = torch.zeros(26, 24 + 8, device=DEVICE)
    rows[::2, :24] = batch.x
    b = [t.t().contiguous().t() for t in batch.b]
    base, dy = (t.t().contiguous().t() for t in (batch.base, batch.dy))
    want = list(results(grouped_lora, batch).values())
    for x in (wide[:, ::2], rows[::2, :24]):
        got = results(grouped_lora, batch._replace(x=x.detach(), b=[t.detach() for t in b], base=base.detach(), dy=dy))
        for g, w in zip(got.values(), want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize("dtypes", ["fp32", "bf16", "mixed"])
def test_same_bits_twice(dtypes: str) -> None:
    batch = make([70, 2, 25], [4, 8, 3], DTYPES[dtypes])
    first, second = results(grouped_lora, batch), results(grouped_lora, batch)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtypes", ["fp32", "bf16", "mixed"])
def test_other_adapters_do_not_matter(dtypes: str) -> None:
    """Bitwise: what belongs to adapter 1, whatever the others hold (here also NaN)."""
    batch = make([8, 16, 9], [4, 8, 3], DTYPES[dtypes])
    want = results(grouped_lora, batch)
    for t in (batch.x[:8], batch.x[24:], batch.a[0], batch.a[2], batch.b[0], batch.b[2], batch.dy[:8], batch.dy[24:]):
        t.data.fill_(float("nan"))
    got = results(grouped_lora, batch)
    for name in ("y", "dx"):
        assert torch.equal(got[name][8:24], want[name][8:24])
        assert got[name][:8].isnan().all()
    for name in ("da[1]", "db[1]"):
        assert torch.equal(got[name], want[name])


@pytest.mark.parametrize("dtypes", ["fp32", "bf16", "mixed"])
def test_batch_invariance(dtypes: str, triton_route: bool) -> None:
    """Bitwise: a token alone, among others, at another place."""
    if not triton_route:
        pytest.skip("the CPU's products are a library's: no promise")
    batch = make([13, 40], [4, 20], DTYPES[dtypes])
    whole = results(grouped_lora, batch)
    for t in (0, 12, 13, 30, 52):
        i = int(t >= 13)
        cut = {name: getattr(batch, name)[t : t + 1].detach() for name in ("x", "base", "dy")}
        lengths = torch.tensor([0, 1 - i, 1], dtype=torch.int32, device=DEVICE)
        alone = results(grouped_lora, batch._replace(**cut, segments=lengths))
        assert torch.equal(alone["y"][0], whole["y"][t])
        assert torch.equal(alone["dx"][0], whole["dx"][t])


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("starts", [[2, 7, 30], [0, 7, 20], [0, 9, 4], [-5, 40, 90], [50, 60, 70]])
def test_segments_that_are_no_partition(starts: list[int], triton_route: bool) -> None:
    """On Triton every row is written once, tokens that no adapter has get none, nothing outside is touched."""
    batch = make([7, 23], [4, 8])
    segments = torch.tensor(starts, dtype=torch.int32, device=DEVICE)
    if not triton_route:
        with pytest.raises(ValueError, match=r"segments: expected ascending values from 0 to T = 30, got"):
            grouped_lora(batch.x, batch.a, batch.b, segments, batch.scaling)
        return
    low = [min(max(s, 0), 30) for s in starts]
    ascending = [low[0], max(low[:2]), max(low)]
    got = results(grouped_lora, batch._replace(segments=segments))
    none = [t.detach()[:0] for t in batch.a[:1]], [t.detach()[:, :0] for t in batch.b[:1]]
    want = results(
        grouped_lora,
        batch._replace(
            a=[none[0][0], *batch.a, none[0][0].clone()],
            b=[none[1][0], *batch.b, none[1][0].clone()],
            segments=torch.tensor([0, *ascending, 30], dtype=torch.int32, device=DEVICE),
            scaling=[1.0, *batch.scaling, 1.0],
        ),
    )
    assert torch.equal(got["y"], want["y"])
    assert torch.equal(got["dx"], want["dx"])
    assert all(torch.equal(got[f"{g}[{i}]"], want[f"{g}[{i + 1}]"]) for g in ("da", "db") for i in range(2))


@settings(max_examples=8 if INTERPRET else 60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), min_size=1, max_size=7), st.integers(0, 3))
def test_any_segments_and_ranks(parts: list[tuple[int, int]], seed: int) -> None:
    lengths, ranks = zip(*parts, strict=True)
    check(make(lengths, ranks, h_in=17, h_out=9, seed=seed))


@settings(max_examples=5 if INTERPRET else 30, deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_adapters_does_not_matter(order: list[int]) -> None:
    """Segments in another order: the same y and gradients, in that order."""
    lengths, ranks = [5, 0, 12, 9], [4, 2, 8, 1]
    batch = make(lengths, ranks)
    ends = torch.tensor(lengths).cumsum(0).tolist()
    pick = torch.tensor([t for i in order for t in range(ends[i] - lengths[i], ends[i])], device=DEVICE)
    want = results(grouped_lora, batch)
    moved = make([lengths[i] for i in order], [ranks[i] for i in order])._replace(
        x=batch.x.detach()[pick],
        base=batch.base.detach()[pick],
        dy=batch.dy[pick],
        a=[batch.a[i] for i in order],
        b=[batch.b[i] for i in order],
        scaling=[batch.scaling[i] for i in order],
    )
    got = results(grouped_lora, moved)
    for name in ("y", "dx"):
        torch.testing.assert_close(got[name], want[name][pick])
    for at, i in enumerate(order):
        torch.testing.assert_close(got[f"da[{at}]"], want[f"da[{i}]"])
        torch.testing.assert_close(got[f"db[{at}]"], want[f"db[{i}]"])
