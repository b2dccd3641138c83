"""The GPU architecture of a tensor: the key into the pinned tables of block sizes."""

import os
from typing import Literal

import torch

Arch = Literal["sm_80", "sm_90", "sm_100", "gfx942", "small", "interpreter"]

# Shared memory (LDS) that one program may use, in bytes. "small" is every other GPU: 64 KiB is legal on all of them.
SHARED_LIMIT: dict[str, int] = {
    "sm_80": 163 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    "gfx942": 64 * 1024,
    "small": 64 * 1024,
}


def arch_of(tensor: torch.Tensor) -> Arch:
    """The table key for the device of `tensor`; "interpreter" under TRITON_INTERPRET=1."""
    if os.environ.get("TRITON_INTERPRET") == "1" or not tensor.is_cuda:
        return "interpreter"
    if torch.version.hip is not None:
        name = torch.cuda.get_device_properties(tensor.device).gcnArchName  # as "gfx942:sramecc+:xnack-"
        return "gfx942" if name.split(":", 1)[0] == "gfx942" else "small"
    by_capability: dict[tuple[int, int], Arch] = {
        (8, 0): "sm_80",
        (9, 0): "sm_90",
        (10, 0): "sm_100",
        (10, 3): "sm_100",
    }
    return by_capability.get(torch.cuda.get_device_capability(tensor.device), "small")
