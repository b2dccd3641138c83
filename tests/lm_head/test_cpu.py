"""The C++ route of the LM head: products, rows of logits, conversions, compaction; against fp64, and with bad arguments."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from himakernels import _core
from himakernels.lm_head import cpu
from himakernels.lm_head.types import RowStats
from himakernels.testing import assert_gate

INF, NAN = float("inf"), float("nan")
HALVES = [torch.bfloat16, torch.float16]
DTYPES = [torch.float32, *HALVES]


def randn(*shape: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


# How two operands may be multiplied: fp32 products everywhere, bf16 ones where the CPU has instructions for them.
PRODUCTS = [False, pytest.param(True, marks=pytest.mark.skipif(not _core.has_bf16_products(), reason="no bf16 products here"))]


def gemm(
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    *,
    accumulate: bool = False,
    threads: int = 2,
    bf16_products: bool = False,
) -> torch.Tensor:
    names = [str(t.dtype).removeprefix("torch.") for t in (a, b, c)]
    arrays = [(t.view(torch.int16) if t.dtype in HALVES else t).numpy() for t in (a, b, c)]
    pairs = [x for pair in zip(arrays, names, strict=True) for x in pair]
    _core.gemm(*pairs, accumulate, threads=threads, bf16_products=bf16_products)
    return c


def operands(m: int, k: int, n: int, bf16_products: bool, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """a and b; where they will be rounded to bf16, values that are bf16 already."""
    made = [randn(m, k, seed=2, dtype=dtype), randn(k, n, seed=3, dtype=dtype)]
    return [t.bfloat16().to(dtype) for t in made] if bf16_products else made


def laid_out(t: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in other memory: transposed, or every third element of something larger."""
    if layout == "transposed":
        return t.t().contiguous().t()
    if layout == "strided":
        wide = torch.full((t.shape[0] * 2, t.shape[1] * 3), NAN, dtype=t.dtype)
        wide[::2, ::3] = t
        return wide[::2, ::3]
    return t


# ------------------------------------------------------------------------------------------------------- products


@pytest.mark.parametrize("bf16_products", PRODUCTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a_layout", ["plain", "transposed", "strided"])
@pytest.mark.parametrize("b_layout", ["plain", "transposed", "strided"])
def test_products_of_every_layout(dtype: torch.dtype, a_layout: str, b_layout: str, bf16_products: bool) -> None:
    a, b = operands(37, 61, 75, bf16_products, dtype)
    c = torch.full((37, 75), NAN)
    gemm(laid_out(a, a_layout), laid_out(b, b_layout), c, bf16_products=bf16_products)
    assert_gate("c", c, a.double() @ b.double(), a.float() @ b.float(), n=61)


@pytest.mark.parametrize("bf16_products", PRODUCTS)
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [
        (1, 1, 1),
        (14, 384, 32),  # whole tiles of the widest fp32 kernel, one whole block of K
        (64, 1024, 64),  # and of that of bf16
        (15, 385, 33),  # one more of everything
        (29, 1000, 1057),  # several blocks of K and of N, the last ones ragged
        (33, 2100, 31),
        (1400, 24, 40),  # more rows than one block of A holds
        (9_300, 30, 5),  # long enough to be sliced, and the other way
        (5, 30, 9_300),
        (5, 0, 7),  # an empty sum is zero
        (0, 5, 7),
        (5, 7, 0),
    ],
)
def test_ragged_products_and_accumulation(m: int, k: int, n: int, bf16_products: bool) -> None:
    (a, b), start = operands(m, k, n, bf16_products), randn(m, n, seed=4)
    truth, eager = a.double() @ b.double(), a @ b
    assert_gate("c", gemm(a, b, torch.full((m, n), NAN), bf16_products=bf16_products), truth, eager, n=max(k, 1))
    more = gemm(a, b, start.clone(), accumulate=True, bf16_products=bf16_products)
    assert_gate("c accumulated", more, truth + start.double(), eager + start, n=k + 1)
    # A row stride beyond the width: nothing beside the view is written.
    wide = torch.full((m, n + 9), 7.0)
    gemm(a, b, wide[:, 4 : 4 + n], bf16_products=bf16_products)
    assert_gate("c strided", wide[:, 4 : 4 + n], truth, eager, n=max(k, 1))
    wide[:, 4 : 4 + n] = 7
    assert bool((wide == 7).all())


@pytest.mark.parametrize("bf16_products", PRODUCTS)
def test_product_rounded_once_to_bfloat16(bf16_products: bool) -> None:
    a, b = randn(37, 1024, seed=5, dtype=torch.bfloat16), randn(1024, 75, seed=6, dtype=torch.bfloat16)
    truth = a.double() @ b.double()
    c = gemm(a, b, torch.empty(37, 75, dtype=torch.bfloat16), bf16_products=bf16_products)
    # Half a bf16 ulp of the value, and the fp32 sum's own error.
    bound = truth.abs() * 2**-8 + 4 * torch.finfo(torch.float32).eps * math.sqrt(1024) * truth.square().mean().sqrt()
    assert bool(((c.double() - truth).abs() <= bound).all())


@pytest.mark.parametrize("bf16_products", PRODUCTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "k", "columns"), [(200, 40, 70), (200, 1100, 70), (9_300, 40, 70), (70, 40, 9_300)])
def test_bits_of_a_row_depend_on_nothing_else(dtype: torch.dtype, rows: int, k: int, columns: int, bf16_products: bool) -> None:
    a, b = randn(rows, k, seed=7, dtype=dtype), randn(k, columns, seed=8, dtype=dtype)
    start = randn(rows, columns, seed=9)

    def of(begin: int, end: int, threads: int, *, accumulate: bool = False) -> torch.Tensor:
        out = start[begin:end].clone()
        return gemm(a[begin:end], b, out, accumulate=accumulate, threads=threads, bf16_products=bf16_products)

    whole, more = of(0, rows, 1), of(0, rows, 1, accumulate=True)
    for threads in (1, 2, 3):
        assert torch.equal(of(0, rows, threads), whole)
        for count in (1, 3, 8, 17, 40):
            for begin in (0, 5, rows - count):
                end = begin + count
                assert torch.equal(of(begin, end, threads), whole[begin:end]), (threads, count, begin)
        assert torch.equal(of(5, 8, threads, accumulate=True), more[5:8])
        assert torch.equal(of(0, rows, threads, accumulate=True), more)


@pytest.mark.parametrize("bf16_products", PRODUCTS)
def test_nan_and_infinity_go_through_a_product(bf16_products: bool) -> None:
    a, b = torch.zeros(20, 30), torch.ones(30, 40)
    a[3, 29], a[7, 0] = NAN, INF
    c = gemm(a, b, torch.empty(20, 40), bf16_products=bf16_products)
    assert bool(c[3].isnan().all())
    assert bool((c[7] == INF).all())
    assert bool((c[[0, 1, 2, 19]] == 0).all())


# ---------------------------------------------------------------------------------------------------- conversions


@pytest.mark.parametrize("dtype", HALVES)
def test_every_half_widens_exactly(dtype: torch.dtype) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    wide = gemm(every[:, None], torch.ones(1, 1), torch.empty(2**16, 1))[:, 0]
    want = every.float()
    assert torch.equal(wide.isnan(), want.isnan())
    ok = ~want.isnan()
    assert torch.equal(wide[ok], want[ok])


def awkward_floats() -> torch.Tensor:
    """Every half-precision value, every tie between two of them, and their fp32 neighbours; fp32 subnormals; NaN, inf."""
    values = []
    for dtype in HALVES:
        halves = torch.arange(0, 2**15, dtype=torch.int16).view(dtype).float()
        halves = halves[halves.isfinite()]
        ties = (halves[1:].double() + halves[:-1].double()).div(2).float()
        values += [halves, ties]
    base = torch.cat([*values, torch.tensor([65504.0, 65519.9, 65520.0, 65536.0, 3.4e38, 1e-45, 2.0**-149, 2.0**-127])])
    base = torch.cat([base, torch.nextafter(base, torch.tensor(INF)), torch.nextafter(base, torch.tensor(0.0))])
    return torch.cat([base, -base, torch.tensor([NAN, -NAN, INF, -INF])])


@pytest.mark.parametrize("dtype", HALVES)
def test_narrowing_rounds_to_nearest_even(dtype: torch.dtype) -> None:
    """Through the gradient of a row: dlogits of the label is coef * (1 - p), and here 1 - p = 1 exactly."""
    x = awkward_floats()
    x = x[x != 0]  # a coefficient of zero is an inactive row
    n = len(x)
    logits = torch.zeros(n, 2, dtype=dtype)
    far = torch.full((n,), -INF)
    stats = RowStats(far, torch.zeros(n), torch.zeros(n))
    out = torch.empty_like(logits)
    cpu.logits_grad_rows(logits, out, torch.zeros(n, dtype=torch.int64), stats, x, None, 1.0, None)
    want = x.to(dtype)
    assert torch.equal(out[:, 0].isnan(), want.isnan())
    ok = ~want.isnan()
    assert torch.equal(out[ok, 0], want[ok])


# ------------------------------------------------------------------------------------------------- bad arguments


def gemm_arguments(**changes: object) -> list[object]:
    f32 = np.zeros((4, 4), np.float32)
    order = {"a": f32, "a_dtype": "float32", "b": f32, "b_dtype": "float32", "c": f32.copy(), "c_dtype": "float32"}
    return [*{**order, "accumulate": False, "threads": 1, **changes}.values()]


READ_ONLY = np.zeros((4, 4), np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("error", "match", "changes"),
    [
        (TypeError, "a: expected float32, bfloat16 or float16, got float64", {"a_dtype": "float64"}),
        (TypeError, "b: expected an array of float32, got float64", {"b": np.zeros((4, 4))}),
        (TypeError, "a: expected an array of int16, got float32", {"a_dtype": "bfloat16"}),
        (ValueError, "a: expected 2 dimensions, got 1", {"a": np.zeros(4, np.float32)}),
        (ValueError, "shapes of a, b and c do not fit", {"a": np.zeros((4, 5), np.float32)}),
        (ValueError, "c: expected contiguous rows", {"c": np.zeros((4, 8), np.float32)[:, ::2]}),
        (ValueError, "half C needs one block", {"c": np.zeros((4, 4), np.int16), "c_dtype": "bfloat16", "accumulate": True}),
        (TypeError, "c: expected float32 or bfloat16, got float16", {"c": np.zeros((4, 4), np.int16), "c_dtype": "float16"}),
        (ValueError, "c: expected a writeable array", {"c": READ_ONLY}),
        (ValueError, "threads: expected a number >= 1, got 0", {"threads": 0}),
        (ValueError, "threads: expected a number >= 1, got -3", {"threads": -3}),
    ],
)
def test_bad_products_raise(error: type[Exception], match: str, changes: dict[str, object]) -> None:
    with pytest.raises(error, match=match):
        _core.gemm(*gemm_arguments(**changes))


def test_a_long_sum_into_bfloat16_raises() -> None:
    long = np.zeros((4, 1025), np.float32)
    c = np.zeros((4, 4), np.int16)
    with pytest.raises(ValueError, match="half C needs one block"):
        _core.gemm(*gemm_arguments(a=long, b=long.T, c=c, c_dtype="bfloat16"))


def row_arguments(**changes: object) -> SimpleNamespace:
    ids, zeros = np.arange(3), np.zeros(3, np.float32)
    a = {"logits": np.zeros((3, 5), np.float32), "dlogits": np.zeros((3, 5), np.float32), "source": ids, "target": ids}
    a |= {"labels": ids, "logprobs": zeros, "lse": zeros, "entropy": zeros, "coef": zeros, "coef_entropy": zeros, "threads": 1}
    return SimpleNamespace(**{**a, **changes})


def run_stats(a: SimpleNamespace) -> None:
    _core.logits_stats_float32(a.logits, a.labels, 1.0, 0.0, a.logprobs, a.lse, a.entropy, a.threads)


def run_grad(a: SimpleNamespace) -> None:
    rows = (a.source, a.target, a.labels, 1.0, 0.0, a.logprobs, a.lse, a.entropy, a.coef, a.coef_entropy, a.threads)
    _core.logits_grad_float32(a.logits, a.dlogits, *rows)


BAD_ROWS = [
    (ValueError, "logits: expected 2 dimensions", {"logits": np.zeros(5, np.float32)}),
    (TypeError, "logits: element size", {"logits": np.zeros((3, 5))}),
    (ValueError, "logits: expected contiguous rows", {"logits": np.zeros((3, 10), np.float32)[:, ::2]}),
    (ValueError, r"labels: expected shape \[3\]", {"labels": np.arange(4)}),
    (ValueError, r"labels: expected values in \[0, 5\), got 5 at index 1", {"labels": np.array([0, 5, 0])}),
    (ValueError, r"labels: expected values in \[0, 5\), got -1 at index 2", {"labels": np.array([0, -100, -1])}),
    (TypeError, "incompatible function arguments", {"labels": np.arange(3, dtype=np.int32)}),
    (TypeError, "incompatible function arguments", {"entropy": np.zeros(3)}),
    (ValueError, "threads: expected a number >= 1", {"threads": 0}),
]
BAD_GRADS = [
    (ValueError, r"source: expected values in \[0, 3\), got 3 at index 0", {"source": np.array([3, 0, 1])}),
    (ValueError, r"target: expected values in \[0, 3\), got -1 at index 2", {"target": np.array([0, 1, -1])}),
    (ValueError, r"target: expected shape \[3\]", {"target": np.arange(2)}),
    (ValueError, "dlogits: expected as many columns", {"dlogits": np.zeros((3, 4), np.float32)}),
    (ValueError, r"target: expected values in \[0, 2\)", {"dlogits": np.zeros((2, 5), np.float32)}),
    (ValueError, r"source: expected values in \[0, 0\)", {"logits": np.zeros((0, 5), np.float32)}),
    (ValueError, "dlogits: expected a writeable array", {"dlogits": READ_ONLY[:3, :4], "logits": READ_ONLY[:3, :4]}),
]


@pytest.mark.parametrize(("error", "match", "changes"), BAD_ROWS)
def test_bad_rows_raise(error: type[Exception], match: str, changes: dict[str, object]) -> None:
    for run in (run_stats, run_grad):
        with pytest.raises(error, match=match):
            run(row_arguments(**changes))


@pytest.mark.parametrize(("error", "match", "changes"), BAD_GRADS)
def test_bad_gradients_raise(error: type[Exception], match: str, changes: dict[str, object]) -> None:
    with pytest.raises(error, match=match):
        run_grad(row_arguments(**changes))
