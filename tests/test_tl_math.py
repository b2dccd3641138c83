"""The elementary functions of himakernels.tl_math against float64, each over its whole range."""

import os

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from himakernels import tl_math

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1",
    reason="Triton runs on a GPU, or anywhere with TRITON_INTERPRET=1",
)
BLOCK = 1024
ULP = float(np.finfo(np.float32).eps)


@triton.jit
def apply_kernel(x_ptr, y_ptr, n, FUNCTION: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < n, other=0.0)
    tl.store(y_ptr + offs, FUNCTION(x), mask=offs < n)


def apply(function: object, x: np.ndarray) -> np.ndarray:
    source = torch.from_numpy(x.astype(np.float32)).to(DEVICE)
    result = torch.empty_like(source)
    with np.errstate(all="ignore"):
        apply_kernel[(triton.cdiv(x.size, BLOCK),)](source, result, x.size, FUNCTION=function, BLOCK=BLOCK)
    return result.double().cpu().numpy()


def log_spaced(low: float, high: float) -> np.ndarray:
    """Both signs, every size between, as fp32 values held in float64; a dense band around 1 for the branches."""
    size = np.concatenate([np.geomspace(low, high, 6000), np.linspace(0.2, 2.0, 3000)])
    return np.concatenate([-size[::-1], [0.0], size]).astype(np.float32).astype(np.float64)


def expm1_minus(x: np.ndarray) -> np.ndarray:
    """exp(x) - 1 - x in float64 by its series below 1."""
    term, total = x * x / 2, np.zeros_like(x)
    for n in range(3, 30):
        total, term = total + term, term * x / n
    return np.where(np.abs(x) < 1, total, np.expm1(x) - x)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-softplus(-x))


# name -> (exact function, arguments, ulps allowed). exp of a GPU is off by the rounding of its argument times log2(e),
# which grows with the argument: `+ |x|` ulps where exp of x is the result.
CASES = {
    "tl_tanh": (np.tanh, log_spaced(1e-30, 1e30), 4.0),
    "tl_log1p": (np.log1p, np.abs(log_spaced(1e-30, 1e30)), 4.0),
    "tl_expm1": (np.expm1, log_spaced(1e-30, 80.0), 4.0),
    "tl_expm1_minus": (expm1_minus, log_spaced(1e-15, 80.0), 6.0),
    "tl_softplus": (softplus, log_spaced(1e-30, 80.0), 4.0),
    "tl_sigmoid": (sigmoid, log_spaced(1e-30, 80.0), 4.0),
}


@pytest.mark.parametrize("name", CASES)
def test_relative_error_is_a_few_ulp(name: str) -> None:
    exact, x, ulps = CASES[name]
    want = exact(x)
    got = apply(getattr(tl_math, name), x)
    allowed = ulps * np.ones_like(x)
    if name not in ("tl_tanh", "tl_log1p"):
        allowed += np.abs(x)
    error = np.abs(got - want) / np.maximum(np.abs(want), np.finfo(np.float32).tiny) / ULP
    worst = int(np.argmax(error / allowed))
    assert error[worst] <= allowed[worst], f"x = {x[worst]}: got {got[worst]}, want {want[worst]}, {error[worst]:.1f} ulp"


@pytest.mark.parametrize(
    ("name", "at_minus_inf", "at_inf"),
    [
        ("tl_tanh", -1.0, 1.0),
        ("tl_log1p", None, np.inf),
        ("tl_expm1", -1.0, np.inf),
        ("tl_expm1_minus", np.inf, np.inf),
        ("tl_softplus", 0.0, np.inf),
        ("tl_sigmoid", 0.0, 1.0),
    ],
)
def test_ends_of_the_range_and_nan(name: str, at_minus_inf: float | None, at_inf: float) -> None:
    got = apply(getattr(tl_math, name), np.array([-np.inf, np.inf, np.nan]))
    assert at_minus_inf is None or got[0] == at_minus_inf
    assert got[1] == at_inf
    assert np.isnan(got[2])


@pytest.mark.parametrize("name", ["tl_tanh", "tl_expm1_minus", "tl_softplus", "tl_sigmoid"])
def test_large_finite_arguments_give_no_nan(name: str) -> None:
    x = np.array([-3e38, -1e4, -200.0, 200.0, 1e4, 3e38])
    with np.errstate(all="ignore"):
        want = CASES[name][0](x)
    got = apply(getattr(tl_math, name), x)
    with np.errstate(over="ignore"):
        assert np.array_equal(got.astype(np.float32), want.astype(np.float32))


def test_the_bound_rejects_the_naive_formulas() -> None:
    """The allowed error can fail: exp(x) - 1 in fp32 is far outside it near 0, and so is 1 - 1 / (1 + e)."""
    x = log_spaced(1e-6, 1e-3)
    naive = (np.exp(x.astype(np.float32)) - np.float32(1)).astype(np.float64)
    inside = x != 0
    error = np.abs(naive - np.expm1(x))[inside] / np.abs(np.expm1(x))[inside] / ULP
    assert error.max() > 100
