"""Argument checks: every message names the argument, what was expected and what was got."""

from collections.abc import Collection, Sequence
from numbers import Real

import torch

from himakernels import _core


def check_tensor(name: str, value: object) -> torch.Tensor:
    """TypeError unless `value` is a tensor."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    return value


def check_shape(name: str, tensor: torch.Tensor, expected: Sequence[int | str]) -> None:
    """ValueError unless the shape matches; a string in `expected` names a free dimension."""
    check_tensor(name, tensor)
    fits = tensor.dim() == len(expected) and all(
        isinstance(want, str) or got == want for got, want in zip(tensor.shape, expected, strict=True)
    )
    if not fits:
        want = ", ".join(str(e) for e in expected)
        raise ValueError(f"{name}: expected shape [{want}], got {list(tensor.shape)}")


def check_dtype(name: str, tensor: torch.Tensor, expected: Collection[torch.dtype]) -> None:
    """TypeError unless the tensor's dtype is one of `expected`."""
    check_tensor(name, tensor)
    if tensor.dtype not in expected:
        want = " or ".join(str(d).removeprefix("torch.") for d in expected)
        raise TypeError(f"{name}: expected dtype {want}, got {str(tensor.dtype).removeprefix('torch.')}")


def check_device(name: str, tensor: torch.Tensor, expected: torch.device) -> None:
    """ValueError unless the tensor lives on `expected`."""
    check_tensor(name, tensor)
    if tensor.device != expected:
        raise ValueError(f"{name}: expected device {expected}, got {tensor.device}")


def check_choice(name: str, value: object, expected: Collection[object]) -> None:
    """ValueError unless `value` is one of `expected`."""
    if value not in expected:
        want = ", ".join(repr(e) for e in expected)
        raise ValueError(f"{name}: expected one of {want}, got {value!r}")


def check_number(name: str, value: object) -> None:
    """TypeError unless `value` is a number (a tensor is none: reading it would wait for the device); ValueError for NaN."""
    if not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if value != value:
        raise ValueError(f"{name}: expected a number, got nan")


def check_finite(name: str, value: float) -> None:
    """ValueError unless `value` is a finite number."""
    check_number(name, value)
    if not float("-inf") < value < float("inf"):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")


def check_positive(name: str, value: float) -> None:
    """ValueError unless `value` is a finite number above zero."""
    check_number(name, value)
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: expected a finite number > 0, got {value!r}")


def check_non_negative(name: str, value: float) -> None:
    """ValueError unless `value` is a finite number, zero or above."""
    check_number(name, value)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}: expected a finite number >= 0, got {value!r}")


def check_range(name: str, ids: torch.Tensor, size: int, *, ignore: int | None = None) -> None:
    """ValueError unless every id is in [0, size) (or is `ignore`). Reads the values: for CPU tensors only."""
    if ids.numel() == 0:
        return
    bad = (ids < 0) | (ids >= size)
    if ignore is not None:
        bad &= ids != ignore
    if bool(bad.any()):
        at = int(bad.nonzero()[0, 0])
        also = "" if ignore is None else f" or {ignore}"
        raise ValueError(f"{name}: expected values in [0, {size}){also}, got {int(ids[at])} at index {at}")


def check_subtree_end(subtree_end: torch.Tensor) -> None:
    """ValueError unless the ranges [k, subtree_end[k]) are those of a forest in depth-first order; O(T).

    That is: k < subtree_end[k] <= T, and two ranges are disjoint or one contains the other. [T] int32. Reads the values: on
    other devices than the CPU only shape and dtype are looked at.
    """
    check_shape("subtree_end", subtree_end, ("T",))
    check_dtype("subtree_end", subtree_end, (torch.int32,))
    if subtree_end.device.type == "cpu":
        _core.check_subtree_end(subtree_end.contiguous().numpy())


FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTS = (torch.int64, torch.int32)
