"""The host's code of the Triton route, on a GPU that nobody has (tests/pretended_gpu), in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CASES = Path(__file__).parent / "pretended_gpu" / "cases.py"
WRONG = {
    "wrong: read": "waited at",
    "wrong: copy": "waited at",
    "wrong: two devices": "FakeTensorDeviceMismatchError",
    "wrong: launch": "AssertionError: logits_stats_fwd_kernel: launched with tensors on",
    "wrong: promise": "AssertionError: group_advantages: its fake gives",
}
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
]


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What became of each case."""
    environment = {**os.environ, "PYTHONPATH": str(CASES.parents[2])}
    run = subprocess.run([sys.executable, str(CASES)], capture_output=True, text=True, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    return dict(line.split("\t") for line in run.stdout.splitlines() if "\t" in line)


def test_one_device_no_waiting_and_true_promises(said: dict[str, str]) -> None:
    good = {name: end for name, end in said.items() if name not in WRONG}
    assert len(good) == 35
    assert {name: end for name, end in good.items() if end != "fine"} == {}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_noticed(said: dict[str, str], name: str) -> None:
    assert said[name].startswith(WRONG[name])
