"""Which sizes a bench runs at: the real ones, or, under --benchmark-disable, one tiny one so that benches do not rot."""

import pytest
import torch

from bench.contenders import gate
from bench.measure import configuration
from bench.shapes import GPU_LIMITS, SHAPES, SMOKE

DTYPES = ("bfloat16", "float32")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`shape`, `logits_shape` and `dtype` are asked for by name; on a GPU the shapes of the stated limits come too."""
    smoke = metafunc.config.getoption("benchmark_disable", default=False)
    for argument, form in (("shape", "linear"), ("logits_shape", "logits")):
        shapes = (SMOKE,) if smoke else SHAPES
        if torch.cuda.is_available() and not smoke:
            shapes += tuple(limit.shape for limit in GPU_LIMITS if limit.form == form)
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, shapes, ids=lambda shape: shape.name)
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", DTYPES)


@pytest.fixture(scope="session")
def passed_gate() -> None:
    """No time before the numbers are right: loss and gradients against fp64, in every form and dtype."""
    for form in ("linear", "frozen", "logits"):
        for dtype in DTYPES:
            gate(getattr(torch, dtype), form)


@pytest.fixture(scope="session")
def settings() -> dict[str, object]:
    """Device, threads, versions, date: what a number is worth nothing without."""
    return configuration()
