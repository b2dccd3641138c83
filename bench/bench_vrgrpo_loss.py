"""The loss with its gradients beside the peers and beside the bare matrix products: `pytest bench/bench_vrgrpo_loss.py`.

`extra_info` holds tokens/s, TFLOP/s, the fraction of the bare products' time (1 is the limit), peak memory beside inputs
and gradients, the fraction of the stated GPU limit, device and versions. How memory is measured: `bench.measure.peak_of`.
pytest-benchmark runs one contender after the other; `python -m bench.compare` takes turns and prints one table.
"""

from collections.abc import Callable

import pytest
import torch

from bench.compare import BARE, against_limit, gemm_flop, peak_bytes
from bench.contenders import (
    DTYPES,
    FORMS,
    OURS,
    Contender,
    bare_gemms,
    batch_for,
    forward_only,
    fp32_dweight_bytes,
    step,
    warm_up,
)
from bench.measure import MIB, ROUNDS, WARM_UP, Timing, seconds_of, synchronized
from bench.shapes import Shape, limits_for

pytestmark = pytest.mark.usefixtures("passed_gate")

_bare: dict[tuple[Shape, str, str], float] = {}


def bare_seconds(shape: Shape, dtype: str, form: str) -> float:
    """The median of the bare products, measured once for each batch."""
    key = (shape, dtype, form)
    if key not in _bare:
        call = bare_gemms(batch_for(shape, DTYPES[dtype], form), frozen=form == "frozen")
        call()
        _bare[key] = Timing.of([seconds_of(call) for _ in range(3)]).median
    return _bare[key]


def run(benchmark, call: Callable[[], object], group: str, *, slow: bool = False) -> float | None:
    """Times one call, the device's work included, under pytest-benchmark; its median in seconds, or None without timing."""
    benchmark.group = group
    rounds, warm_up = (1, 0) if slow else (ROUNDS, WARM_UP)
    benchmark.pedantic(synchronized(call), rounds=rounds, iterations=1, warmup_rounds=warm_up)
    return benchmark.stats.stats.median if benchmark.stats is not None else None


def contend(benchmark, settings: dict, contender: Contender, name: str, shape: Shape, dtype: str, form: str) -> None:
    if not contender.installed:
        pytest.skip(f"{contender.needs} is not installed")
    batch = batch_for(shape, DTYPES[dtype], form)
    if contender.slow:
        warm_up(contender, batch, DTYPES[dtype], form)()
    median = run(benchmark, step(contender.loss, batch), f"{form} {shape.name} {dtype}", slow=contender.slow)
    info = benchmark.extra_info
    info.update(settings, contender=name, rows=shape.rows, hidden=shape.hidden, vocab=shape.vocab)
    if median is None:
        return
    info["tokens_per_s"] = shape.rows / median
    if form != "logits":
        info["tflops"] = gemm_flop(shape, form) / median / 1e12
        info["fraction_of_bare_products"] = bare_seconds(shape, dtype, form) / median
    peak = peak_bytes(name, shape, dtype, form)
    info["peak_mib"] = peak["peak"] / MIB
    info["peak_mib_beside_gradients"] = (peak["peak"] - peak["outputs"]) / MIB
    if name == OURS and form == "linear":
        info["fp32_dweight_mib"] = fp32_dweight_bytes(batch) / MIB
    print({k: v for k, v in info.items() if isinstance(v, float)})
    if name == OURS and torch.cuda.is_available():
        for limit in limits_for(shape, form, dtype):
            info[f"fraction_of_{limit.device}_limit"] = limit.milliseconds / (median * 1e3)
            print(against_limit(limit, median, peak["peak"] - peak["outputs"]))


def bench_bare_products(benchmark, settings: dict, shape: Shape, dtype: str) -> None:
    benchmark.extra_info.update(settings, contender=BARE)
    call = bare_gemms(batch_for(shape, DTYPES[dtype], "linear"))
    median = run(benchmark, call, f"linear {shape.name} {dtype}")
    if median is not None:
        benchmark.extra_info["tflops"] = gemm_flop(shape, "linear") / median / 1e12


@pytest.mark.parametrize("name", FORMS["linear"])
def bench_linear(benchmark, settings: dict, shape: Shape, dtype: str, name: str) -> None:
    contend(benchmark, settings, FORMS["linear"][name], name, shape, dtype, "linear")


@pytest.mark.parametrize("name", [OURS, "F.linear_cross_entropy"])
def bench_frozen_head(benchmark, settings: dict, shape: Shape, dtype: str, name: str) -> None:
    contend(benchmark, settings, FORMS["frozen"][name], name, shape, dtype, "frozen")


@pytest.mark.parametrize("name", FORMS["logits"])
def bench_from_logits(benchmark, settings: dict, logits_shape: Shape, dtype: str, name: str) -> None:
    contend(benchmark, settings, FORMS["logits"][name], name, logits_shape, dtype, "logits")


@pytest.mark.parametrize("inactive", [0.0, 0.5, None], ids=["all-active", "half-inactive", "no-gradients"])
def bench_inactive_rows(benchmark, settings: dict, shape: Shape, dtype: str, inactive: float | None) -> None:
    """The backward's time is a step's less that of a call without gradients, as gradients are computed in the forward."""
    benchmark.extra_info.update(settings)
    loss = FORMS["linear"][OURS].loss
    batch = batch_for(shape, DTYPES[dtype], "linear", inactive=inactive or 0.0)
    run(benchmark, forward_only(loss, batch) if inactive is None else step(loss, batch), f"inactive {shape.name} {dtype}")
