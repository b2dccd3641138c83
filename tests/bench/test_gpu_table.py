"""What bench/gpu.sh makes of its stages' files. Those in gpu_parts/ are of a CPU: attention on siblings, and a small loss."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.contenders import OURS
from bench.gpu_table import describe, lines_of, main, merge, of_pytest_benchmark
from bench.measure import MIB
from bench.shapes import GPU_LIMITS

PARTS = Path(__file__).parent / "gpu_parts"
ROOT = Path(__file__).parents[2]


def parts() -> list[Path]:
    return sorted(PARTS.glob("*.json"))


def attention(group: str, ours: float, flex: float, of_bare: float) -> dict[str, Any]:
    timings = {name: {"median": seconds, "iqr": 0.0, "rounds": 20} for name, seconds in ((OURS, ours), ("FlexAttention", flex))}
    return {"group": group, "timings": timings, "noted": {OURS: {"fraction_of_bare_product": of_bare}}}


def test_the_parts_become_one_file_of_the_known_form() -> None:
    merged = merge(parts())
    assert merged.configuration["device"] == "Intel(R) Xeon(R) Processor"
    assert merged.empty == merged.wrong == []
    forward, backward, loss = merged.results
    assert forward["group"] == "forward siblings-64 float32"
    assert set(forward["timings"]) == {"himakernels", "FlexAttention"}
    assert set(backward["timings"]) == {"himakernels"}  # FlexAttention has no backward on a CPU
    for result in merged.results:
        assert all(set(timing) == {"median", "iqr", "rounds"} for timing in result["timings"].values())
    assert loss["form"] == "linear"
    assert "device" not in forward["noted"][OURS]
    assert forward["noted"][OURS]["tokens"] == 1_280


def test_the_table_of_what_was_recorded() -> None:
    merged = merge(parts())
    text = describe(merged.configuration, merged.results)
    ours, flex = (merged.results[0]["timings"][name]["median"] for name in (OURS, "FlexAttention"))
    assert f"{ours * 1e3:.3f} ms" in text
    assert f"{flex / ours:.2f} x FlexAttention" in text
    assert "loss, linear, R = 48, float32" in text
    assert text.startswith("device Intel(R) Xeon(R) Processor, threads 1")


def test_attention_on_long_chains_has_two_targets() -> None:
    faster, rate = lines_of(attention("forward chains-128 bfloat16", 0.002, 0.003, 0.45))
    assert faster.cells()[-3:] == ["1.50 x FlexAttention", "FlexAttention's time", "yes, 1.50 of it"]
    assert rate.cells()[2:] == ["0.45", "", "60% of the product's rate", "NO, 0.75 of it"]
    (_, backward) = lines_of(attention("backward chains-128 bfloat16", 0.002, 0.003, 0.35))
    assert backward.cells()[-1] == "yes, 1.00 of it"
    (only,) = lines_of(attention("backward twigs-64 bfloat16", 0.003, 0.002, 0.1))
    assert only.cells()[-1] == "NO, 0.67 of it"


def test_a_loss_at_a_limit_is_held_to_its_time_and_memory() -> None:
    limit = GPU_LIMITS[0]
    timings = {OURS: {"median": 0.05}, "bare matrix products": {"median": 0.04}}
    peak = {"peak": (3 + 1.3) * 1024 * MIB, "outputs": 3 * 1024 * MIB}
    result = {"shape": {"name": limit.shape.name}, "dtype": "bfloat16", "form": "linear", "timings": timings}
    time, memory = lines_of({**result, "peaks": {OURS: peak}})
    assert time.cells()[1:] == ["50.000 ms", "0.80", "", "40.0 ms on H200", "NO, 0.80 of it"]
    assert memory.cells()[1:] == ["1.30 GiB", "", "", "2.6 GiB", "yes, 2.00 of it"]
    assert len(list(lines_of({**result, "peaks": {}}))) == 1


def test_a_stage_that_was_stopped_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for part in parts():
        (tmp_path / part.name).write_text(part.read_text())
    (tmp_path / "stopped.json").write_text("")
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["gpu_table", str(tmp_path), "--out", str(out)])
    assert main() == 0
    printed = capsys.readouterr().out
    assert "without numbers" in printed
    assert "stopped.json" in printed
    (path,) = out.iterdir()
    assert path.name == "intel-r-xeon-r-processor-2026-11-28.json"
    assert set(json.loads(path.read_text())) == {"configuration", "results"}


def test_numbers_of_another_machine_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "attention.json").write_text((PARTS / "attention.json").read_text())
    other = json.loads((PARTS / "loss.json").read_text())
    other["configuration"]["device"] = "another"
    (tmp_path / "other.json").write_text(json.dumps(other))
    monkeypatch.setattr("sys.argv", ["gpu_table", str(tmp_path), "--out", str(tmp_path / "out")])
    assert main() == 1
    printed = capsys.readouterr()
    said = "device: expected Intel(R) Xeon(R) Processor everywhere, got another in linear of "
    assert said in printed.out
    assert said in printed.err
    assert "loss, linear, R = 48" in printed.out
    (path,) = (tmp_path / "out").iterdir()
    *others, loss = json.loads(path.read_text())["results"]
    assert loss["differs"] == {"device": "another"}
    assert all("differs" not in result for result in others)


@pytest.mark.parametrize("text", ['{"configuration": {"device"', '{"configuration": {}}', "[]"])
def test_a_part_that_cannot_be_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, text: str
) -> None:
    for part in parts():
        (tmp_path / part.name).write_text(part.read_text())
    (tmp_path / "half.json").write_text(text)
    monkeypatch.setattr("sys.argv", ["gpu_table", str(tmp_path), "--out", str(tmp_path / "out")])
    assert main() == 1
    printed = capsys.readouterr()
    for said in (printed.out, printed.err):
        assert f"left out, as it cannot be read: {tmp_path / 'half.json'}" in said
    assert "loss, linear, R = 48" in printed.out
    (path,) = (tmp_path / "out").iterdir()
    assert len(json.loads(path.read_text())["results"]) == 3


def test_without_any_number_there_is_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.argv", ["gpu_table", str(tmp_path)])
    assert main() == 1
    assert "expected numbers in the folder, got none" in capsys.readouterr().err
    (tmp_path / "half.json").write_text("{")
    assert main() == 1
    assert "got none; left out, as it cannot be read" in capsys.readouterr().err


def test_a_bench_that_was_interrupted_amid_its_rounds_is_left_out() -> None:
    """pytest-benchmark writes the rounds that it has; the bench itself had no time to note anything."""
    found = json.loads((PARTS / "attention.json").read_text())
    found["benchmarks"][1]["extra_info"] = {}  # the backward's
    ((_, forward),) = of_pytest_benchmark(found)
    assert set(forward["timings"]) == {"himakernels", "FlexAttention"}


def test_without_a_gpu_the_script_ends_at_once(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")  # as an interpreter whose torch finds no GPU
    python.chmod(0o755)
    command = ["bash", "bench/gpu.sh", str(tmp_path / "out")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHON": str(python)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "bench/gpu.sh: expected a GPU that torch can use, found none\n"
    assert not (tmp_path / "out").exists()
