"""Operators as torch has them registered."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from himakernels.library import define_op


@pytest.mark.once
def test_on_a_gpu_an_operator_runs_on_its_tensors_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current device, which need not be the tensors'."""
    current: list[torch.Tensor] = []

    @contextmanager
    def device_of(tensor: torch.Tensor) -> Iterator[None]:
        current.append(tensor)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    seen: list[bool] = []

    def run(x: torch.Tensor, n: int) -> torch.Tensor:
        seen.append(len(current) == 1 and current[0] is x)
        return x + n

    op = define_op("runs_there(Tensor x, int n) -> Tensor", run, lambda x, n: torch.empty_like(x))
    x = torch.zeros(3)
    # What is registered for GPUs, called with a tensor of the CPU.
    assert op.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA), x, 2).tolist() == [2, 2, 2]
    assert seen == [True]
    assert op(x, 2).tolist() == [2, 2, 2]
    assert seen == [True, False]
