"""What the tests of the ops share: the device, the mode they run in, uninitialised memory that shows."""

from collections.abc import Iterator

import pytest
import torch

from himakernels.lm_head import cpu
from himakernels.testing import INTERPRET


@pytest.fixture
def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def triton_route(device: torch.device) -> bool:
    """Whether fp32, fp16 and bf16 tensors take the Triton kernels in this run."""
    return INTERPRET or device.type == "cuda"


@pytest.fixture
def poison() -> Iterator[None]:
    """torch.empty is filled with NaN: an element that nobody writes shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    cpu._kept.clear()  # memory of an earlier call would be finite
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.fixture
def many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 rows of logits in memory at a time, the least there is."""
    monkeypatch.setattr("himakernels.lm_head.cpu._CHUNK_BYTES", 1)
    if INTERPRET or torch.cuda.is_available():
        monkeypatch.setattr("himakernels.lm_head.triton_route._CHUNK_BYTES", 1)
