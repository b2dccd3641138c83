"""Tree attention: schema, autograd, the public function."""

from typing import Any

import torch

from himakernels.backend import use_triton
from himakernels.checks import (
    FLOATS,
    check_device,
    check_dtype,
    check_finite,
    check_positive,
    check_range,
    check_shape,
    check_subtree_end,
)
from himakernels.library import define_op, refuse_second_derivative
from himakernels.ops.tree_attention import cpu

Optional = torch.Tensor | None

_MAX_WINDOW = 2**31 - 1  # positions are int32: no window is wider


def _options(scale: float, window: int, softcap: float) -> dict[str, Any]:
    """As the routes take them: a schema without optional numbers says 0 for none."""
    return {"scale": scale, "window": window or None, "softcap": softcap or None}


def _fwd(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    subtree_end: torch.Tensor,
    position_ids: Optional,
    sinks: Optional,
    scale: float,
    window: int,
    softcap: float,
    with_rest: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_subtree_end(subtree_end)
    if position_ids is not None and position_ids.device.type == "cpu":
        check_range("position_ids", position_ids, 2**31 - 1)  # depths are not negative: no difference of two overflows
    options = _options(scale, window, softcap)
    if use_triton(q):
        from himakernels.ops.tree_attention.fwd_kernels import tree_attention_fwd

        return tree_attention_fwd(q, k, v, subtree_end, position_ids, sinks, **options, with_rest=with_rest)
    return *cpu.tree_attention_fwd(q, k, v, subtree_end, position_ids, sinks, **options), q.new_empty(0)


def _fwd_fake(q: torch.Tensor, *others: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    T, Hq, _ = q.shape
    softmax = q.new_empty(0) if q.dtype == torch.float64 else q.new_empty(2, Hq, T, dtype=torch.float32)
    with_rest = others[-1] and use_triton(q)
    return q.new_empty(q.shape), softmax, q.new_empty(q.shape if with_rest else 0)


def _bwd(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    softmax: torch.Tensor,
    rest: torch.Tensor,
    subtree_end: torch.Tensor,
    position_ids: Optional,
    sinks: Optional,
    scale: float,
    window: int,
    softcap: float,
    needs: list[bool],
) -> tuple[torch.Tensor, ...]:
    forest = (subtree_end, position_ids, sinks)
    options = _options(scale, window, softcap)
    if use_triton(q):
        from himakernels.ops.tree_attention.bwd_kernels import tree_attention_bwd

        grads = tree_attention_bwd(dout, q, k, v, out, softmax, rest, *forest, **options, needs=needs)
    else:
        grads = cpu.tree_attention_bwd(dout, q, k, v, out, softmax, *forest, **options, needs=needs)
    return tuple(
        grad if need and grad is not None else q.new_empty(0) for grad, need in zip(grads, needs, strict=True)
    )  # fmt: skip


def _bwd_fake(dout: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *others: Any) -> tuple[torch.Tensor, ...]:
    sinks, needs = others[5], others[-1]
    return tuple(
        t.new_empty(t.shape) if need and t is not None else q.new_empty(0)
        for t, need in zip((q, k, v, sinks), needs, strict=True)
    )


_INPUTS = "Tensor subtree_end, Tensor? position_ids, Tensor? sinks, float scale, int window, float softcap"
_op = define_op(
    f"tree_attention(Tensor q, Tensor k, Tensor v, {_INPUTS}, bool with_rest) -> (Tensor, Tensor, Tensor)", _fwd, _fwd_fake
)
_op_bwd = define_op(
    f"tree_attention_bwd(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor softmax, Tensor rest, {_INPUTS}, "
    "bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)",
    _bwd,
    _bwd_fake,
)


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        sinks: Optional,
        subtree_end: torch.Tensor,
        position_ids: Optional,
        scale: float,
        window: int,
        softcap: float,
        with_rest: bool,
    ) -> torch.Tensor:
        out, softmax, rest = _op(q, k, v, subtree_end, position_ids, sinks, scale, window, softcap, with_rest)
        ctx.save_for_backward(q, k, v, out, softmax, rest, subtree_end, position_ids, sinks)
        ctx.numbers = (scale, window, softcap)
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, dout: torch.Tensor) -> Any:
        refuse_second_derivative()
        needs = list(ctx.needs_input_grad[:4])
        grads = _op_bwd(dout.contiguous(), *ctx.saved_tensors, *ctx.numbers, needs)
        return *(grad if need else None for grad, need in zip(grads, needs, strict=True)), *(None,) * 6


def check_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    scale: float | None,
    window: int | None,
    softcap: float | None,
    sinks: Optional,
) -> None:
    """ValueError or TypeError for operands and options that don't fit, whatever the forest is."""
    check_shape("q", q, ("T", "Hq", "D"))
    check_dtype("q", q, FLOATS)
    T, query_heads, D = q.shape
    if not 16 <= D <= 256 or D % 8 != 0:
        raise ValueError(f"q: expected a head dimension of 16 to 256 that is a multiple of 8, got {D}")
    check_shape("k", k, (T, "Hk", D))
    key_heads = k.shape[1]
    if key_heads == 0 or query_heads == 0 or query_heads % key_heads != 0:
        raise ValueError(f"k: expected a number of heads that divides that of q ({query_heads}), got {key_heads}")
    check_shape("v", v, (T, key_heads, D))
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        check_dtype(name, tensor, (q.dtype,))
        check_device(name, tensor, q.device)
        if tensor.numel() and tensor.stride(2) != 1:
            raise ValueError(f"{name}: expected stride 1 along the head dimension, got strides {list(tensor.stride())}")
    if sinks is not None:
        check_shape("sinks", sinks, (query_heads,))
        check_dtype("sinks", sinks, (q.dtype,) if q.dtype in (torch.float32, torch.float64) else (q.dtype, torch.float32))
        check_device("sinks", sinks, q.device)
    if scale is not None:
        check_finite("scale", scale)
    if softcap is not None:
        check_positive("softcap", softcap)
    if window is not None and (isinstance(window, bool) or not isinstance(window, int)):
        raise TypeError(f"window: expected an int, got {type(window).__name__}")
    if window is not None and window <= 0:
        raise ValueError(f"window: expected a number > 0, got {window}")


def tree_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    subtree_end: torch.Tensor,
    *,
    position_ids: torch.Tensor | None = None,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Causal attention in which a token sees its ancestors in a packed forest, and itself.

    out_i = sum_{j visible} exp(s_ij) v_j / (sum_{j visible} exp(s_ij) + exp(sink)),  s_ij = cap(scale q_i . k_j), where j is
    visible to i iff j <= i < subtree_end[j] and, with a window, position_ids[i] - position_ids[j] < window; cap(x) =
    softcap tanh(x / softcap). Query head h reads key head h // (Hq / Hk).

    Args:
        q: [T, Hq, D] fp32, bf16, fp16 (or fp64: torch, for gradcheck); D a multiple of 8 from 16 to 256; differentiable.
        k, v: [T, Hk, D] of the same dtype; Hk divides Hq; differentiable. q, k and v may be views with any strides (say, of a
            fused projection) as long as the head dimension is contiguous. They are not copied but, on GPU, where k and v have
            other strides between tokens, or tokens lie 2^24 elements apart.
        subtree_end: [T] int32: where the subtree of each token ends, tokens being in depth-first order.
        position_ids: [T] int32, the depth of each token; read only with a window.
        scale: default D ** -0.5.
        window: how many tokens of its path a query sees, itself included; None for all.
        softcap: Gemma 2's cap of the scores; None for none.
        sinks: [Hq] in q's dtype or fp32: a score a head that takes probability and gives no value; differentiable.

    Returns:
        out [T, Hq, D] in q's dtype, contiguous.

    Numerics: products, softmax and sums in fp32 (fp64 for fp64); on the CPU only what is returned is rounded, on GPU also, of
    16-bit operands, weights and ds to the operands' dtype for their products. No scores of T x T are in memory: blocks that
    no query of a block sees are skipped. No atomics: the same bits twice, on the CPU for any number of threads. On the CPU,
    with finite inputs, out and dq of a token depend on nothing but what it sees (the same bits in the forest, in its tree,
    and on its path alone), dk and dv on nothing but the token's tree. NaN in q shows in out; NaN or inf in one token may
    reach tokens that don't see it, also in gradients. Only the gradients that are asked for are computed on the CPU; a second
    derivative raises.

    Raises:
        ValueError, TypeError: shape, dtype, device, head count, stride or option that does not fit; on the CPU also a
        subtree_end that is not nested, and with a window negative position_ids. On GPU their values are trusted, and nothing
        outside the tensors is read.

    Source: FlashAttention-2 (arXiv 2307.08691) for the recomputing backward; docs/structure.md for the forest.
    """
    check_attention(q, k, v, scale=scale, window=window, softcap=softcap, sinks=sinks)
    vectors = (
        {"subtree_end": subtree_end} if position_ids is None else {"subtree_end": subtree_end, "position_ids": position_ids}
    )
    for name, vector in vectors.items():
        check_shape(name, vector, (q.shape[0],))
        check_dtype(name, vector, (torch.int32,))
        check_device(name, vector, q.device)
    if window is not None and position_ids is None:
        raise ValueError(f"position_ids: expected a tensor with window={window}, got None")
    depths = None if window is None or position_ids is None else position_ids.contiguous()
    return _TreeAttention.apply(  # type: ignore[no-any-return]
        q,
        k,
        v,
        None if sinks is None else sinks.contiguous(),
        subtree_end.contiguous(),
        depths,
        float(q.shape[2] ** -0.5 if scale is None else scale),
        0 if window is None else min(window, _MAX_WINDOW),
        float(softcap or 0.0),
        # What out's rounding takes away is kept where a backward may want it.
        q.dtype.itemsize == 2 and torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (q, k, v, sinks)),
    )
