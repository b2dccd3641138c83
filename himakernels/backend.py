"""Which route a tensor takes: Triton kernels, or the CPU route."""

import os

import torch


def use_triton(tensor: torch.Tensor) -> bool:
    """True for a CUDA tensor, or for any tensor under TRITON_INTERPRET=1 (the kernels then run on the CPU, for tests).

    fp64 never takes the Triton route: it is the CPU route's precision for gradcheck.
    """
    if tensor.dtype == torch.float64:
        return False
    return tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
