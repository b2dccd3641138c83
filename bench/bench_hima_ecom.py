"""The store of HiMA-Ecom: tool calls a second on one core, snapshot + restore, full-text search, making the full store.

Arguments rotate over the store, so that no single row stays warm; every call's answer is checked before anything is timed.
"""

import json
from itertools import cycle
from typing import Any

import pytest

from trainer.hima_ecom import World

CALLS: dict[str, list[dict[str, Any]]] = {
    "get_order": [{"order_id": f"O{i:05d}"} for i in range(1, 401)],  # customer i has order i
    "get_product": [{"product_id": f"P{i:04d}"} for i in range(1, 401)],
    "search_products": [
        {"query": word, "max_price": 100 + i} for i in range(100) for word in ("red jacket", "laptop 16", "耳机")
    ],
    "search_knowledge": [
        {"query": f"{q} {i}"} for i in range(100) for q in ("return opened shampoo", "cancel my order", "warranty")
    ],
    "calculate": [{"expression": f"({i} + 3.5) * 15% - {i} / 7"} for i in range(400)],
}


@pytest.fixture(scope="module")
def world() -> World:
    return World.in_memory(0, "full")


@pytest.mark.parametrize("name", list(CALLS))
def bench_call(benchmark: Any, world: World, name: str) -> None:
    jobs = [(world.session(f"C{i:04d}"), arguments) for i, arguments in enumerate(CALLS[name], 1)]
    assert not any("error" in json.loads(session.call(name, arguments)) for session, arguments in jobs)
    rotating = cycle(jobs)

    def call() -> None:
        session, arguments = next(rotating)
        session.call(name, arguments)

    benchmark(call)
    if benchmark.stats is not None:
        benchmark.extra_info["calls_per_second"] = round(1 / benchmark.stats.stats.median)


@pytest.mark.parametrize("touched", [0, 20, 100])
def bench_snapshot_and_restore(benchmark: Any, world: World, touched: int) -> None:
    session = world.session()
    for i in range(touched):
        session.call("set_reminder", {"text": str(i), "date": "2026-07-01"})
    assert len(session.snapshot().touched) == touched
    benchmark(lambda: session.restore(session.snapshot()))


def bench_session(benchmark: Any, world: World) -> None:
    """A new episode of a customer who is logged in."""
    benchmark(world.session, "C0001")


def bench_create_full(benchmark: Any) -> None:
    benchmark.pedantic(World.in_memory, args=(0, "full"), rounds=3)
