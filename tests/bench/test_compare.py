"""What the bench says of memory, of the stated limits and of who is there; its times are nobody's business here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import compare
from bench.compare import MIB, against_limit, memory_line
from bench.contenders import FORMS, OURS, Contender, batch_for, fp32_dweight_bytes
from bench.shapes import GPU_LIMITS, SMOKE, Shape, limits_for
from himakernels.testing import INTERPRET


def test_a_limit_belongs_to_its_dtype() -> None:
    for limit in GPU_LIMITS:
        assert limits_for(limit.shape, limit.form, "bfloat16") == [limit]
        assert limits_for(limit.shape, limit.form, "float32") == []
    assert limits_for(SMOKE, "linear", "bfloat16") == []
    assert {limit.form for limit in GPU_LIMITS} == {"linear", "frozen", "logits"}


def test_what_is_reached_of_a_limit() -> None:
    (limit,) = (x for x in GPU_LIMITS if x.extra_gib and x.milliseconds == 40.0)
    text = against_limit(limit, 0.05, 1.3 * 1024 * MIB)
    assert "40.0 ms, reached 0.80 of it" in text
    assert "2.6 GiB beside inputs and gradients, reached 2.00 of it (1.30 GiB)" in text
    assert "GiB" not in against_limit(limit, 0.05, None)


@pytest.mark.skipif(INTERPRET or torch.cuda.is_available(), reason="the sums of the CPU route")
def test_what_the_fp32_dweight_costs() -> None:
    """One block of bf16 products is rounded straight to bf16; over more rows the sum is held in fp32."""
    many = Shape("many", 1_040, 64, 500, 8)
    assert fp32_dweight_bytes(batch_for(SMOKE, torch.bfloat16, "linear")) == 0
    assert fp32_dweight_bytes(batch_for(many, torch.bfloat16, "linear")) == 500 * 64 * 4
    assert fp32_dweight_bytes(batch_for(many, torch.float32, "linear")) == 0
    peaks = {OURS: {"peak": 5 * MIB, "outputs": 2 * MIB}, "F.linear_cross_entropy": {"peak": 9 * MIB, "outputs": 2 * MIB}}
    text = memory_line(peaks, 2 * MIB)
    assert "himakernels 3 MiB, F.linear_cross_entropy 7 MiB; 2 MiB of ours is the fp32 dweight" in text
    assert "no dweight beside the gradient itself" in memory_line(peaks, 0)


def test_who_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module, or a name that only some versions of it have: F.linear_cross_entropy comes with torch 2.13."""
    loss = FORMS["linear"][OURS].loss
    assert Contender(loss).installed
    assert Contender(loss, "torch").installed
    assert not Contender(loss, "no_such_module").installed
    assert not Contender(loss, "no_such_module:name").installed
    both = [contender for name, contender in FORMS["linear"].items() if name.startswith("F.linear_cross_entropy")]
    monkeypatch.setattr(torch.nn.functional, "linear_cross_entropy", loss, raising=False)
    assert [c.installed for c in both] == [True, True]
    monkeypatch.delattr(torch.nn.functional, "linear_cross_entropy")
    assert [c.installed for c in both] == [False, False]


def test_an_interrupt_loses_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its times and the memory of ours are there when the process that measures the next one's memory is interrupted."""

    def peak_bytes(name: str, *_: Any) -> dict[str, float]:
        if name != OURS:
            raise KeyboardInterrupt
        return {"peak": 2.0, "outputs": 1.0}

    monkeypatch.setattr(compare, "peak_bytes", peak_bytes)
    arguments = ["compare", "--shape", "smoke", "--dtype", "float32", "--only", "eager torch", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", [*arguments, "--json", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        compare.main()
    (path,) = tmp_path.iterdir()
    (result,) = json.loads(path.read_text())["results"]
    assert set(result["timings"]) == {"bare matrix products", OURS, "eager torch"}
    assert result["peaks"] == {OURS: {"peak": 2.0, "outputs": 1.0}}
