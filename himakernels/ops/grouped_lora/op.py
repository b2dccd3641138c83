"""LoRA of several adapters over one packed batch: schema, autograd, the public function."""

from collections.abc import Sequence
from typing import Any

import torch

from himakernels.backend import use_triton
from himakernels.checks import FLOATS, check_device, check_dtype, check_finite, check_shape
from himakernels.library import define_op, refuse_second_derivative
from himakernels.lm_head.arguments import row_major
from himakernels.ops.grouped_lora import cpu

Optional = torch.Tensor | None


def _fwd(
    x: torch.Tensor,
    base: Optional,
    a: list[torch.Tensor],
    b: list[torch.Tensor],
    segments: torch.Tensor,
    scaling: list[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    if use_triton(x):
        from himakernels.ops.grouped_lora import triton_route

        return triton_route.grouped_lora_fwd(x, base, a, b, segments, scaling)
    return cpu.grouped_lora_fwd(x, base, a, b, segments, scaling)


def _fwd_fake(
    x: torch.Tensor, base: Optional, a: list[torch.Tensor], b: list[torch.Tensor], segments: torch.Tensor, scaling: list[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = x.shape[0]
    return x.new_empty(tokens, b[0].shape[0]), x.new_empty(tokens, max(t.shape[0] for t in a), dtype=a[0].dtype)


def _bwd(
    dy: torch.Tensor,
    x: torch.Tensor,
    h: torch.Tensor,
    a: list[torch.Tensor],
    b: list[torch.Tensor],
    segments: torch.Tensor,
    scaling: list[float],
    needs: list[bool],
) -> tuple[torch.Tensor, ...]:
    if use_triton(x):
        from himakernels.ops.grouped_lora import triton_route

        grads = triton_route.grouped_lora_bwd(dy, x, h, a, b, segments, scaling, needs)
    else:
        grads = cpu.grouped_lora_bwd(dy, x, h, a, b, segments, scaling, needs)
    return tuple(like.new_empty(0) if g is None else g for g, like in zip(grads, (x, a[0], b[0]), strict=True))


def _bwd_fake(
    dy: torch.Tensor,
    x: torch.Tensor,
    h: torch.Tensor,
    a: list[torch.Tensor],
    b: list[torch.Tensor],
    segments: torch.Tensor,
    scaling: list[float],
    needs: list[bool],
) -> tuple[torch.Tensor, ...]:
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format) if needs[0] else x.new_empty(0),
        a[0].new_empty(sum(t.numel() for t in a) if any(needs[1 : 1 + len(a)]) else 0),
        b[0].new_empty(sum(t.numel() for t in b) if any(needs[1 + len(a) :]) else 0),
    )


_op = define_op(
    "grouped_lora(Tensor x, Tensor? base, Tensor[] a, Tensor[] b, Tensor segments, float[] scaling) -> (Tensor, Tensor)",
    _fwd,
    _fwd_fake,
)
_op_bwd = define_op(
    "grouped_lora_bwd(Tensor dy, Tensor x, Tensor h, Tensor[] a, Tensor[] b, Tensor segments, float[] scaling, bool[] needs)"
    " -> (Tensor, Tensor, Tensor)",
    _bwd,
    _bwd_fake,
)


def _blocks(flat: torch.Tensor, like: Sequence[torch.Tensor], needs: Sequence[bool]) -> list[Optional]:
    """The gradients in flat memory as tensors in the shapes of `like`, None for those that nobody asked for."""
    if not any(needs):
        return [None] * len(like)
    pieces = flat.split([t.numel() for t in like])
    return [p.view(t.shape) if need else None for p, t, need in zip(pieces, like, needs, strict=True)]


class _GroupedLora(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, base: Optional, segments: torch.Tensor, scaling: list[float], *adapters: torch.Tensor
    ) -> torch.Tensor:
        half = len(adapters) // 2
        a, b = list(adapters[:half]), list(adapters[half:])
        y, h = _op(x, base, a, b, segments, scaling)
        ctx.save_for_backward(x, h, segments, *adapters)
        ctx.scaling = scaling
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> Any:
        refuse_second_derivative()
        x, h, segments, *adapters = ctx.saved_tensors
        half = len(adapters) // 2
        a, b = adapters[:half], adapters[half:]
        need_x, need_base, _, _, *need_adapters = ctx.needs_input_grad
        dx: Optional = None
        da: list[Optional] = [None] * half
        db: list[Optional] = [None] * half
        if need_x or any(need_adapters):
            needs = [need_x, *need_adapters]
            dx, da_flat, db_flat = _op_bwd(row_major(dy), x, h, a, b, segments, ctx.scaling, needs)
            da, db = _blocks(da_flat, a, need_adapters[:half]), _blocks(db_flat, b, need_adapters[half:])
        return dx if need_x else None, dy if need_base else None, None, None, *da, *db


def _check(
    x: torch.Tensor,
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    segments: torch.Tensor,
    scaling: Sequence[float],
    base: Optional,
) -> None:
    check_shape("x", x, ("T", "H_in"))
    check_dtype("x", x, FLOATS)
    if x.is_cuda and x.dtype == torch.float64:
        raise TypeError("x: expected float32, bfloat16 or float16 on CUDA, got float64 (CPU only)")
    if len(a) == 0:
        raise ValueError("a: expected at least one adapter, got none")
    for name, values in (("b", b), ("scaling", scaling)):
        if len(values) != len(a):
            raise ValueError(f"{name}: expected {len(a)} entries, one for each of a, got {len(values)}")
    # The adapters may be wider than the model (PEFT keeps them in fp32), never narrower.
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    for i, (a_i, b_i, scale) in enumerate(zip(a, b, scaling, strict=True)):
        check_shape(f"a[{i}]", a_i, ("r", x.shape[1]))
        check_shape(f"b[{i}]", b_i, ("H_out" if i == 0 else b[0].shape[0], a_i.shape[0]))
        check_dtype(f"a[{i}]", a_i, {x.dtype: None, wide: None} if i == 0 else (a[0].dtype,))
        check_dtype(f"b[{i}]", b_i, (a[0].dtype,))
        check_device(f"a[{i}]", a_i, x.device)
        check_device(f"b[{i}]", b_i, x.device)
        check_finite(f"scaling[{i}]", scale)
    check_shape("segments", segments, (len(a) + 1,))
    check_dtype("segments", segments, (torch.int32,))
    check_device("segments", segments, x.device)
    if base is not None:
        check_shape("base", base, (x.shape[0], b[0].shape[0]))
        check_dtype("base", base, (x.dtype,))
        check_device("base", base, x.device)


def grouped_lora(
    x: torch.Tensor,
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    segments: torch.Tensor,
    scaling: Sequence[float],
    *,
    base: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""The LoRA of each token's adapter on top of a shared linear layer, for all adapters of a packed batch at once.

    y_t = base_t + scaling_i (x_t @ a_i^T) @ b_i^T for the tokens t in [segments[i], segments[i + 1]).

    Args:
        x: [T, H_in] fp32, bf16, fp16 (or fp64 on the CPU), ordered by adapter; differentiable.
        a: A matrices [r_i, H_in] of one dtype, that of x or fp32; differentiable. Ranks may differ, also be 0: no adapter.
        b: A matrices [H_out, r_i] of the same dtype; differentiable.
        segments: [A + 1] int32, ascending, from 0 to T: where each adapter's tokens start (`PackedTree.segments`, brought to
            the device of x). An adapter may have none.
        scaling: A numbers, alpha / r by custom.
        base: [T, H_out] in the dtype of x, what the shared layer gave; differentiable. None counts as zeros.

    Returns:
        y [T, H_out] in the dtype of x.

    Numerics: sums are fp32. With fp32 adapters on a 16-bit x (PEFT's default) products and x @ a^T are fp32, and y is
    rounded once. With 16-bit adapters x @ a^T and the gradient of it are rounded to that dtype between the products, as in
    eager torch. da and db are summed over an adapter's tokens in fp32 and rounded once. The same bits twice. On GPU a
    token's y and dx do not depend on other tokens; on the CPU the products are the libraries' behind torch, whose bits may
    depend on how many tokens its adapter has, never on other adapters' tokens. Second derivatives are not implemented.

    Raises:
        ValueError, TypeError: shape, dtype or device that does not fit; on the CPU also segments that are not ascending
        from 0 to T. On GPU the values are not read by the host: tokens outside get no adapter, and nothing outside the
        tensors is read.

    Source: LoRA, arXiv 2106.09685; several adapters in one batch as in S-LoRA, arXiv 2311.03285, here with gradients.
    """
    _check(x, a, b, segments, scaling, base)
    adapters = [t.contiguous() for t in (*a, *b)]
    x, base = row_major(x), None if base is None else row_major(base)
    return _GroupedLora.apply(x, base, segments.contiguous(), [float(s) for s in scaling], *adapters)  # type: ignore[no-any-return]
