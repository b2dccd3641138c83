"""Paged attention: schema, argument checks, the public function. For generation only: there is no gradient."""

from typing import Any

import torch

from himakernels.backend import use_triton
from himakernels.checks import FLOATS, check_device, check_dtype, check_finite, check_positive, check_shape
from himakernels.library import define_op
from himakernels.ops.paged_attention import cpu

_MAX_WINDOW = 2**31 - 1  # positions are int32: no window is wider


def _run(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block_table: torch.Tensor,
    cu_seqlens: torch.Tensor,
    seq_lens: torch.Tensor,
    sinks: torch.Tensor | None,
    scale: float,
    window: int,
    softcap: float,
) -> torch.Tensor:
    options: dict[str, Any] = {"scale": scale, "window": window or None, "softcap": softcap or None}
    operands = (q, keys, values, block_table, cu_seqlens, seq_lens, sinks)
    if use_triton(q):
        from himakernels.ops.paged_attention.kernels import paged_attention_fwd

        return paged_attention_fwd(*operands, **options)
    return cpu.paged_attention_fwd(*operands, **options)


def _fake(q: torch.Tensor, *rest: Any) -> torch.Tensor:
    return q.new_empty(q.shape)


_op = define_op(
    "paged_attention(Tensor q, Tensor keys, Tensor values, Tensor block_table, Tensor cu_seqlens, Tensor seq_lens, "
    "Tensor? sinks, float scale, int window, float softcap) -> Tensor",
    _run,
    _fake,
)


def _check_operands(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
    check_shape("q", q, ("T", "Hq", "D"))
    check_dtype("q", q, FLOATS)
    _, query_heads, D = q.shape
    if not 16 <= D <= 256 or D % 8 != 0:
        raise ValueError(f"q: expected a head dimension of 16 to 256 that is a multiple of 8, got {D}")
    check_shape("keys", keys, ("blocks", "block_size", "Hk", D))
    blocks, block_size, key_heads, _ = keys.shape
    if key_heads == 0 or query_heads == 0 or query_heads % key_heads != 0:
        raise ValueError(f"keys: expected a number of heads that divides that of q ({query_heads}), got {key_heads}")
    if block_size == 0:
        raise ValueError("keys: expected blocks of at least one token, got none")
    check_shape("values", values, (blocks, block_size, key_heads, D))
    for name, tensor in (("q", q), ("keys", keys), ("values", values)):
        check_dtype(name, tensor, (q.dtype,))
        check_device(name, tensor, q.device)
        if tensor.numel() and tensor.stride(-1) != 1:
            raise ValueError(f"{name}: expected stride 1 along the head dimension, got strides {list(tensor.stride())}")
        if tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{name}: expected a tensor that needs no gradient (there is none), got one that does")


def paged_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block_table: torch.Tensor,
    cu_seqlens: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Causal attention of the newest tokens of N sequences, whose keys and values stand in blocks.

    Sequence n has seq_lens[n] tokens. Its last cu_seqlens[n + 1] - cu_seqlens[n] are queries: one where it decodes, more where
    it is prefilled, on a cached prefix or from its beginning. The keys and values of all its tokens, the queries' own included,
    are in place: token t in block block_table[n, t // block_size], at t % block_size. The query at position i sees the keys
    j <= i, and with a window those with i - j < window; else as in `tree_attention`.

    Neighbouring sequences whose tables begin with the same blocks meet these keys once, all their queries together; each query
    has one softmax over what it shares and what is its own. So sequences of one prefix should stand side by side.

    Args:
        q: [T, Hq, D] fp32, bf16, fp16 (or fp64: the reference); D a multiple of 8 from 16 to 256.
        keys, values: [blocks, block_size, Hk, D] of the same dtype, one layer of `himakernels.kv_pool.KVPool`; Hk divides Hq.
            q, keys and values may have any strides as long as the head dimension is contiguous; they are not copied.
        block_table: [N, M] int32; of row n only what seq_lens[n] tokens need is read.
        cu_seqlens: [N + 1] int32, rising from 0 to T.
        seq_lens: [N] int32, at least the sequence's queries.
        scale: default D ** -0.5.
        window: how many tokens a query sees, itself included; None for all.
        softcap: Gemma 2's cap of the scores; None for none.
        sinks: [Hq] in q's dtype or fp32: a score a head that takes probability and gives no value.

    Returns:
        out [T, Hq, D] in q's dtype, contiguous.

    Numerics: products, softmax and sums in fp32; only what is returned is rounded. On the CPU, with finite inputs, a query's
    bits depend on nothing but what it sees, whatever is shared with whom, however a prompt was cut, wherever blocks lie, for
    any block size and number of threads: they are those of `tree_attention` on the same path. On GPU the last bits depend on
    where the boundaries of shared prefixes and blocks of queries fall. What stands in a block behind a sequence's end is not
    read.

    Raises:
        ValueError, TypeError: shape, dtype, device, head count, stride or option that does not fit, or an operand that needs
        a gradient; on the CPU also lengths and blocks out of range. On GPU their values are trusted.

    Source: PagedAttention (arXiv 2309.06180) for blocks; Hydragen (arXiv 2402.05099) for shared prefixes, without its second
    softmax.
    """
    _check_operands(q, keys, values)
    N = cu_seqlens.shape[0] - 1 if cu_seqlens.dim() == 1 else -1
    if N < 0:
        raise ValueError(f"cu_seqlens: expected shape [N + 1], got {list(cu_seqlens.shape)}")
    check_shape("block_table", block_table, (N, "M"))
    check_shape("seq_lens", seq_lens, (N,))
    for name, tensor in (("block_table", block_table), ("cu_seqlens", cu_seqlens), ("seq_lens", seq_lens)):
        check_dtype(name, tensor, (torch.int32,))
        check_device(name, tensor, q.device)
    if sinks is not None:
        check_shape("sinks", sinks, (q.shape[1],))
        check_dtype("sinks", sinks, (q.dtype,) if q.dtype in (torch.float32, torch.float64) else (q.dtype, torch.float32))
        check_device("sinks", sinks, q.device)
    if scale is not None:
        check_finite("scale", scale)
    if softcap is not None:
        check_positive("softcap", softcap)
    if window is not None and (not isinstance(window, int) or isinstance(window, bool)):
        raise TypeError(f"window: expected an int, got {type(window).__name__}")
    if window is not None and window <= 0:
        raise ValueError(f"window: expected a number > 0, got {window}")
    return _op(  # type: ignore[no-any-return]
        q,
        keys,
        values,
        block_table.contiguous(),
        cu_seqlens.contiguous(),
        seq_lens.contiguous(),
        None if sinks is None else sinks.contiguous(),
        float(q.shape[2] ** -0.5 if scale is None else scale),
        0 if window is None else min(window, _MAX_WINDOW),
        float(softcap or 0.0),
    )
