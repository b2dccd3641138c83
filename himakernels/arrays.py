"""Tensors as the extension takes them: numpy views of their memory, and the names of their dtypes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from himakernels.checks import INTS, check_device, check_dtype

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


def vector_of(name: str, value: object, dtypes: tuple[torch.dtype, ...] = INTS) -> npt.NDArray[Any]:
    """A vector of the caller's (CPU tensor, array or list) as a 1-D array; tensors and arrays are not copied."""
    if isinstance(value, torch.Tensor):
        check_device(name, value, torch.device("cpu"))
        check_dtype(name, value, dtypes)
        array = value.numpy()
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"{name}: expected 1 dimension, got a {type(value).__name__} whose entries differ in shape"
            ) from error
        names = [str(d).removeprefix("torch.") for d in dtypes]
        if array.size == 0 and not isinstance(value, np.ndarray):
            array = array.astype(names[0])  # an empty list has no type
        if str(array.dtype) not in names:
            raise TypeError(f"{name}: expected dtype {' or '.join(names)}, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, got shape {list(array.shape)}")
    return array
