"""Gradients computed in the forward, scaled by the upstream derivative in the backward without a host synchronisation."""

from collections.abc import Sequence

import torch

from himakernels.backend import use_triton
from himakernels.library import bump_version, define_op


def _run(grad: torch.Tensor, scale: torch.Tensor) -> None:
    bump_version(grad)
    if grad.numel() == 0:
        return
    if use_triton(grad) and not grad.is_contiguous():  # logits with strided rows, overwritten in place
        grad *= scale
    elif use_triton(grad):
        from himakernels.lm_head.row_kernels import scale_

        scale_(grad, scale)
    elif float(scale) != 1:
        grad *= scale


def _fake(grad: torch.Tensor, scale: torch.Tensor) -> None:
    return None


_scale = define_op("scale_grad_(Tensor(a!) grad, Tensor scale) -> ()", _run, _fake)


def scaled_grads(
    needs: Sequence[bool], grads: Sequence[torch.Tensor], dloss: torch.Tensor, grad_scale: torch.Tensor | None
) -> list[torch.Tensor | None]:
    """The gradients themselves, multiplied in place by the scalar `dloss`; untouched where that is 1. None where not needed.

    With `grad_scale` they carry that factor already, and what is left to multiply by is dloss / grad_scale: 1 where
    grad_scale is the loss scaler's factor, so fp16 gradients are rounded once, after scaling.

    In place, because dweight is the largest tensor of the step. A second backward through the same graph is therefore
    refused by autograd ("modified by an inplace operation").
    """
    if grad_scale is not None:
        dloss = (dloss / grad_scale).to(dloss.dtype)
    for grad, need in zip(grads, needs, strict=True):
        if need:
            _scale(grad, dloss)
    return [grad if need else None for grad, need in zip(grads, needs, strict=True)]
