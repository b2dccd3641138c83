"""The argument checks that every op on an LM head shares: shapes and dtypes on every device, values on the CPU."""

import torch

from himakernels.checks import (
    FLOATS,
    INTS,
    check_device,
    check_dtype,
    check_positive,
    check_range,
    check_shape,
    check_tensor,
)
from himakernels.lm_head.types import IGNORE_INDEX


def check_head(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    bias: torch.Tensor | None,
    temperature: float,
    softcap: float | None,
) -> None:
    """hidden [R, H] and weight [V, H] of one dtype and device, labels [R], bias [V]."""
    check_shape("hidden", hidden, ("R", "H"))
    check_dtype("hidden", hidden, FLOATS)
    check_shape("weight", weight, ("V", hidden.shape[1]))
    check_dtype("weight", weight, (hidden.dtype,))
    check_device("weight", weight, hidden.device)
    if bias is not None:
        check_shape("bias", bias, (weight.shape[0],))
        check_dtype("bias", bias, (hidden.dtype,))
        check_device("bias", bias, hidden.device)
    _check_rows(hidden, weight.shape[0], labels, temperature, softcap)


def row_major(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix itself where its rows are contiguous, however far apart; else a copy: the routes read whole rows."""
    return matrix if matrix.stride(1) == 1 or matrix.shape[1] <= 1 else matrix.contiguous()


def check_logits(logits: torch.Tensor, labels: torch.Tensor, temperature: float, softcap: float | None) -> None:
    """logits [R, V] with contiguous rows, labels [R]."""
    check_shape("logits", logits, ("R", "V"))
    check_dtype("logits", logits, FLOATS)
    if logits.shape[1] > 1 and logits.stride(1) != 1:
        raise ValueError(f"logits: expected stride 1 along the vocabulary, got strides {tuple(logits.stride())}")
    _check_rows(logits, logits.shape[1], labels, temperature, softcap)


def _check_rows(rows: torch.Tensor, vocab: int, labels: torch.Tensor, temperature: float, softcap: float | None) -> None:
    if vocab == 0:
        raise ValueError("weight or logits: expected a vocabulary of at least one token, got 0")
    if rows.is_cuda and rows.dtype == torch.float64:
        raise TypeError("hidden or logits: expected float32, bfloat16 or float16 on CUDA, got float64 (CPU only)")
    check_shape("labels", labels, (rows.shape[0],))
    check_dtype("labels", labels, INTS)
    check_device("labels", labels, rows.device)
    check_positive("temperature", temperature)
    if softcap is not None:
        check_positive("softcap", softcap)


def check_row_vector(name: str, value: torch.Tensor | None, like: torch.Tensor) -> None:
    """None, or floating point of shape [R] on the rows' device."""
    if value is None:
        return
    check_tensor(name, value)
    check_shape(name, value, (like.shape[0],))
    check_dtype(name, value, FLOATS)
    check_device(name, value, like.device)


def check_label_values(labels: torch.Tensor, vocab: int) -> None:
    """Labels in [0, vocab) or IGNORE_INDEX: read on the CPU, where the kernels trust them; on GPU a bad one gives NaN."""
    if labels.device.type == "cpu":
        check_range("labels", labels, vocab, ignore=IGNORE_INDEX)


def number_tensor(name: str, value: torch.Tensor | float | None, agents: int | None, like: torch.Tensor) -> torch.Tensor | None:
    """A number or tensor [] (or [A]) as a tensor, without a host synchronisation."""
    if value is None:
        return None
    if not isinstance(value, torch.Tensor):
        check_positive(name, value)
        value = torch.full((), float(value), dtype=torch.float64, device=like.device)
    check_device(name, value, like.device)
    if value.dim() != 0 or agents is not None:
        check_shape(name, value, () if agents is None else (agents,))
    return value.detach()


def check_grad_scale(value: torch.Tensor | float | None, like: torch.Tensor) -> torch.Tensor | None:
    """`grad_scale`, a number or tensor [], as fp32 [] on the device: loss scalers hold theirs so."""
    if value is not None and not isinstance(value, torch.Tensor):
        check_positive("grad_scale", value)
        if not torch.finfo(torch.float32).tiny <= value <= torch.finfo(torch.float32).max:
            raise ValueError(f"grad_scale: expected a number that fp32 holds, got {value!r}")
    scale = number_tensor("grad_scale", value, None, like)
    return None if scale is None else scale.float()
