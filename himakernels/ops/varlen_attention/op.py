"""Varlen attention: the boundaries of the sequences as a forest of chains, the choice of library, the public function."""

import torch

from himakernels.checks import INTS, check_choice, check_device, check_dtype, check_shape
from himakernels.library import define_op
from himakernels.ops.tree_attention.op import check_attention, tree_attention
from himakernels.ops.varlen_attention.backends import BACKENDS, Call


def _check_bounds(cu_seqlens: torch.Tensor, tokens: int) -> None:
    """ValueError unless the boundaries rise from 0 to T. Reads the values: for CPU tensors only."""
    first, last = int(cu_seqlens[0]), int(cu_seqlens[-1])
    if first != 0 or last != tokens:
        raise ValueError(f"cu_seqlens: expected boundaries from 0 to {tokens}, got {first} to {last}")
    falls = cu_seqlens.diff() < 0
    if bool(falls.any()):
        at = int(falls.nonzero()[0, 0]) + 1
        raise ValueError(f"cu_seqlens: expected no boundary below the one before, got {int(cu_seqlens[at])} at index {at}")


def _chains(cu_seqlens: torch.Tensor, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    if cu_seqlens.device.type == "cpu":
        _check_bounds(cu_seqlens, tokens)
    at = torch.arange(tokens, dtype=torch.int32, device=cu_seqlens.device)
    bounds = cu_seqlens.to(torch.int32)
    begins, ends = bounds[:-1], bounds[1:].contiguous()
    # The last boundary not above the token; on a GPU boundaries that end early leave the rest to the last sequence.
    sequence = torch.searchsorted(ends, at, right=True).clamp(max=max(len(ends) - 1, 0))
    return ends[sequence], at - begins[sequence]


def _chains_fake(cu_seqlens: torch.Tensor, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    return cu_seqlens.new_empty(tokens, dtype=torch.int32), cu_seqlens.new_empty(tokens, dtype=torch.int32)


_op = define_op("varlen_chains(Tensor cu_seqlens, SymInt tokens) -> (Tensor, Tensor)", _chains, _chains_fake)


def _check_backend(backend: str, q: torch.Tensor, options: dict[str, object]) -> None:
    """NotImplementedError for what the library can't do."""
    can = BACKENDS[backend]
    for name, value in options.items():
        if value is not None and name not in can.options:
            got = "a tensor" if isinstance(value, torch.Tensor) else repr(value)
            raise NotImplementedError(f"{name}: expected None with backend={backend!r}, got {got}")
    if q.dtype not in can.dtypes:
        want = " or ".join(str(d).removeprefix("torch.") for d in can.dtypes)
        got = str(q.dtype).removeprefix("torch.")
        raise NotImplementedError(f"q: expected dtype {want} with backend={backend!r}, got {got}")
    if q.device.type not in can.devices:
        want = " or ".join(can.devices)
        raise NotImplementedError(f"q: expected device {want} with backend={backend!r}, got {q.device}")


def varlen_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    *,
    backend: str = "himakernels",
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Causal attention within each of the sequences that are packed one after the other.

    `tree_attention` on a forest of chains, or, where asked for, another library's kernel for the same thing. Token i of the
    sequence [b, e) sees j iff b <= j <= i and, with a window, i - j < window; else as in `tree_attention`.

    Args:
        q, k, v, scale, window, softcap, sinks: as in `tree_attention`.
        cu_seqlens: [N + 1] int32 or int64: where each sequence begins, and T. Empty sequences are allowed.
        backend: "himakernels"; "flash_attn" (its flash_attn_varlen_func); "xformers" (memory_efficient_attention with a
            BlockDiagonalCausalMask; grouped key heads are repeated); "torch" (torch.nn.attention.varlen.varlen_attn).

    Returns:
        out [T, Hq, D] in q's dtype.

    Numerics: those of `tree_attention`, without a synchronisation with the host. The other libraries have their own, and are
    told the longest length (xformers: all lengths), which waits for the device.

    Raises:
        ValueError, TypeError: an argument that does not fit; on the CPU also boundaries that don't rise from 0 to T.
        NotImplementedError: device, dtype or option that the library doesn't have: all but ours need a GPU and have no sinks;
            only xformers takes fp32; only flash_attn a softcap.
        ModuleNotFoundError: the library is not installed.

    Source: the definition; the libraries' documentation for their arguments.
    """
    check_choice("backend", backend, ("himakernels", *BACKENDS))
    check_shape("cu_seqlens", cu_seqlens, ("N + 1",))
    check_dtype("cu_seqlens", cu_seqlens, INTS)
    # All that does not depend on the forest, whose two vectors come from cu_seqlens.
    check_attention(q, k, v, scale=scale, window=window, softcap=softcap, sinks=sinks)
    check_device("cu_seqlens", cu_seqlens, q.device)
    if cu_seqlens.shape[0] < min(q.shape[0], 1) + 1:
        raise ValueError(f"cu_seqlens: expected at least {min(q.shape[0], 1) + 1} boundaries, got {cu_seqlens.shape[0]}")
    if backend != "himakernels":
        _check_backend(backend, q, {"window": window, "softcap": softcap, "sinks": sinks})
        if q.shape[0] == 0:
            return q * 1  # connected, and nothing for the library to find the longest of
        with torch.cuda.device_of(q):
            return BACKENDS[backend].run(
                Call(q=q, k=k, v=v, cu_seqlens=cu_seqlens.to(torch.int32), scale=scale, window=window, softcap=softcap)
            )
    subtree_end, position_ids = _op(cu_seqlens, q.shape[0])
    return tree_attention(
        q, k, v, subtree_end, position_ids=position_ids, scale=scale, window=window, softcap=softcap, sinks=sinks
    )  # fmt: skip
