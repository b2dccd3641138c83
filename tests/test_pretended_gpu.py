"""The host's code of the Triton route, on a GPU that nobody has (tests/pretended_gpu), in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
CASES = ROOT / "tests" / "pretended_gpu" / "cases.py"
WRONG = {
    "read": "waited at",
    "read in a list": "waited at",
    "new values": "waited at",
    "move": "waited at",
    "copy": "waited at",
    "copy back": "waited at",
    "values by a mask": "waited at",
    "index of the CPU": "waited at",
    "values by an index of the CPU": "waited at",
    "too early": "AssertionError: a copy to the CPU with non_blocking",
    "two devices": "FakeTensorDeviceMismatchError",
    "another index": "FakeTensorDeviceMismatchError",
    "launch": "AssertionError: logits_stats_fwd_kernel: launched with tensors on",
    "launch without an argument": "AssertionError: scale_kernel: launched with missing a required argument: 'numel'",
    "launch with another name": "AssertionError: scale_kernel: launched with missing a required argument: 'BLOCK'",
    "launch with a tensor for a number": "AssertionError: scale_kernel: launched with a tensor for numel",
    "launch of no program": "AssertionError: scale_kernel: launched on a grid of (0,)",
    "kernel that nobody expects": "launched also ['group_advantages_fwd_kernel']",
    "promise": "AssertionError: group_advantages: its fake gives",
    "promise of strides": "AssertionError: paged_attention: its fake gives",
}
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
]


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What became of each case, and the kernels of the library."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, str(CASES)], capture_output=True, text=True, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    return dict(line.split("\t") for line in run.stdout.splitlines() if "\t" in line)


def test_one_device_no_waiting_true_promises_and_every_kernel(said: dict[str, str]) -> None:
    good = {name: end for name, end in said.items() if not name.startswith("wrong: ") and name != "kernels"}
    assert len(good) == 47
    assert {name: end for name, end in good.items() if end != "fine"} == {}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_noticed(said: dict[str, str], name: str) -> None:
    assert said[f"wrong: {name}"].startswith(WRONG[name])


def test_docs_name_every_kernel(said: dict[str, str]) -> None:
    text = (ROOT / "docs" / "numerics.md").read_text()
    listed = text.split("## What has never run on a GPU")[1].split("They are tested")[0]
    assert sorted(f"{name}_kernel" for name in re.findall(r"`(\w+)`", listed)) == said["kernels"].split()
