"""One whole step of HiMA-R1 at the small size, each idea switched off in turn; `bench.whole_step` has the full one."""

from argparse import Namespace
from typing import Any

import pytest

from bench.whole_step import WAYS, gate, measure


def bench_gate() -> None:
    """The ways to update give the same gradients."""
    gate()


@pytest.mark.parametrize("way", WAYS)
def bench_whole_step(benchmark: Any, way: str) -> None:
    small = benchmark.disabled
    args = Namespace(size="4m", queries=1 if small else 4, nodes=5, siblings=2 if small else 8, action=16, observation=16)
    benchmark.group = "one whole step of HiMA-R1, 4.2 M parameters"
    found = benchmark.pedantic(measure, (way, args), rounds=1 if small else 3, warmup_rounds=0)
    benchmark.extra_info.update(found)
