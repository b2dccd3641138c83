"""Gradients computed in the forward, scaled by the upstream derivative in the backward without a host synchronisation."""

import torch

from himakernels.backend import use_triton
from himakernels.library import define_op


def _run(grad: torch.Tensor, scale: torch.Tensor) -> None:
    if grad.numel() == 0:
        return
    if use_triton(grad):
        from himakernels.lm_head.row_kernels import scale_

        scale_(grad, scale)
    elif float(scale) != 1:
        grad *= scale


def _fake(grad: torch.Tensor, scale: torch.Tensor) -> None:
    return None


_scale = define_op("scale_grad_(Tensor(a!) grad, Tensor scale) -> ()", _run, _fake)


def scaled(grad: torch.Tensor | None, scale: torch.Tensor) -> torch.Tensor | None:
    """`grad` itself, multiplied in place by the scalar `scale`; untouched where that is 1.

    In place, because dweight is the largest tensor of the step. A second backward through the same graph is therefore
    refused by autograd ("modified by an inplace operation").
    """
    if grad is not None:
        _scale(grad, scale)
    return grad
