"""Tensors as the extension takes them: numpy views of their memory, and the names of their dtypes."""

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.generic]


def array_of(tensor: torch.Tensor) -> Array:
    """The tensor's memory as numpy sees it: half precision as int16."""
    tensor = tensor.detach()
    half = tensor.dtype in (torch.bfloat16, torch.float16)
    array: Array = (tensor.view(torch.int16) if half else tensor).numpy()
    return array


def dtype_name(dtype: torch.dtype) -> str:
    """ "bfloat16" for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")
