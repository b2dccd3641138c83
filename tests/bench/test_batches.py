"""The way between packed rows and padded batches, and the instruments of the benches."""

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from bench import bench_vrgrpo_loss, measure
from bench.batches import Padding, make_batch
from bench.cases import CASES
from bench.measure import MIB, Timing, peak_of, run_json, time_in_turns
from bench.opponents import eager_loss, loss_and_grads, reference_loss
from bench.shapes import SMOKE, Shape

SHAPE = Shape("packed", 40, 8, 50, 8)


def test_padding_is_what_a_loop_makes() -> None:
    batch = make_batch(SHAPE, shuffled=True, ignored=0.2)
    padding = Padding.of(batch)
    padded = padding.pad(batch.labels)
    for s in range(SHAPE.samples):
        rows = [r for r in range(SHAPE.rows) if batch.sample_id[r] == s and batch.labels[r] != -100]
        assert int(padding.mask[s].sum()) == len(rows)
        assert padded[s, : len(rows)].tolist() == batch.labels[rows].tolist()
        assert (padded[s, len(rows) :] == 0).all()
    hidden = batch.hidden.detach()
    back = padding.unpad(padding.pad(hidden), SHAPE.rows)
    assert torch.equal(back, hidden * (batch.labels != -100)[:, None])


def test_agents_partition_the_batch() -> None:
    batch = make_batch(Shape("agents", 120, 8, 50, 40), shuffled=True, agents=5)
    parts = [batch.of_agent(a) for a in range(5)]
    assert sum(len(p.labels) for p in parts) == 120
    assert sum(len(p.advantages) for p in parts) == 40
    for part in parts:
        assert part.sample_id.max() < len(part.advantages)


@pytest.mark.parametrize("name", ["grpo", "kl"])
def test_loss_around_is_the_reference(name: str) -> None:
    batch = make_batch(SHAPE, shuffled=True, ignored=0.2).to(torch.float64)
    actual, grads = loss_and_grads(eager_loss, batch, CASES[name])
    expected, truth = loss_and_grads(reference_loss, batch, CASES[name])
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(grads, truth, rtol=1e-10, atol=1e-12)


def test_loss_around_refuses_what_it_does_not_compute() -> None:
    with pytest.raises(NotImplementedError, match="loss_around"):
        eager_loss(make_batch(SMOKE), CASES["sapo"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif(torch.cuda.is_available(), reason="on CUDA the peak is torch's own statistic")
def test_peak_memory_of_a_known_allocation() -> None:
    def allocate() -> torch.Tensor:
        return torch.ones(64 * MIB // 4)

    assert abs(peak_of(allocate, lambda: torch.ones(10)) / MIB - 64) < 8


def test_time_in_turns() -> None:
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    timings = time_in_turns(calls, 3, slow=frozenset("c"))
    assert "".join(order) == "ab" + "abc" + "ba" + "ab"
    assert [t.rounds for t in timings.values()] == [3, 3, 1]
    sleep = time_in_turns({"sleep": lambda: time.sleep(0.01)}, 2)["sleep"]
    assert 0.01 <= sleep.median < 0.2
    assert Timing.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Timing(3.0, 2.0, 5)


def test_a_bench_waits_for_the_device_within_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-benchmark's clock knows nothing of a GPU: what it calls ends when the device has done the work."""
    events: list[str] = []

    def pedantic(call: Callable[[], object], **_: object) -> None:
        events.append("clock")
        call()
        events.append("clock")

    monkeypatch.setattr(measure, "synchronize", lambda: events.append("synchronize"))
    benchmark = SimpleNamespace(pedantic=pedantic, stats=None)
    assert bench_vrgrpo_loss.run(benchmark, lambda: events.append("launch"), "a group") is None
    assert events == ["clock", "launch", "synchronize", "clock"]


def test_failing_process_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"bench\.contenders nobody"):
        run_json("bench.contenders", "nobody", "--shape", "smoke", "--dtype", "float32", "--form", "linear")
