"""Tests of `engine=vllm`, in the environment that `make test-vllm` makes; elsewhere they are skipped.

The folder is not called vllm: tests/ is on the path of some tests, and `import vllm` would then find it.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TRAINER = Path(__file__).resolve().parents[1] / "trainer"
sys.path[:0] = [str(TRAINER), str(TRAINER / "engine")]  # tiny_policies, tiny_run, engines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("vllm") is None:
        reason = "vLLM is not installed here: `make test-vllm` makes an environment that has it"
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))
