"""Which pinned table a device takes, asked of devices that are not here."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from himakernels.arch import SHARED_LIMIT, arch_of

TENSOR: Any = SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0))


@pytest.mark.parametrize(
    ("name", "want"),
    [("gfx942:sramecc+:xnack-", "gfx942"), ("gfx942", "gfx942"), ("gfx90a:sramecc+:xnack-", "small"), ("gfx1100", "small")],
)
def test_amd_by_architecture(monkeypatch: pytest.MonkeyPatch, name: str, want: str) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(gcnArchName=name))
    assert arch_of(TENSOR) == want
    assert want in SHARED_LIMIT


@pytest.mark.parametrize(
    ("capability", "want"), [((8, 0), "sm_80"), ((9, 0), "sm_90"), ((10, 0), "sm_100"), ((10, 3), "sm_100"), ((8, 9), "small")]
)
def test_nvidia_by_capability(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], want: str) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert arch_of(TENSOR) == want


def test_without_a_gpu_kernels_are_interpreted() -> None:
    assert arch_of(torch.zeros(1)) == "interpreter"
