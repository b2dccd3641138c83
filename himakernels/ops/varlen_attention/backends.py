"""Other libraries' attention over packed sequences: what each can do, and the call it gets."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch

HALF = (torch.float16, torch.bfloat16)


def _load(package: str, module: str) -> ModuleType:
    """ModuleNotFoundError unless the package is there; whatever else its import raises is its own."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModuleNotFoundError(f"backend: expected {package} to be installed, got no such package", name=package) from error


def _max_seqlen(cu_seqlens: torch.Tensor) -> int:
    return int(cu_seqlens.diff().max())


@dataclass(frozen=True, kw_only=True)
class Call:
    """What every backend is handed; None where the caller left a choice out."""

    q: torch.Tensor  # [T, Hq, D], T > 0
    k: torch.Tensor  # [T, Hk, D]
    v: torch.Tensor  # [T, Hk, D]
    cu_seqlens: torch.Tensor  # [N + 1] int32
    scale: float | None
    window: int | None
    softcap: float | None


def _flash_attn(call: Call) -> torch.Tensor:
    flash_attn = _load("flash_attn", "flash_attn")
    longest = _max_seqlen(call.cu_seqlens)
    out: torch.Tensor = flash_attn.flash_attn_varlen_func(
        call.q,
        call.k,
        call.v,
        cu_seqlens_q=call.cu_seqlens,
        cu_seqlens_k=call.cu_seqlens,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        softmax_scale=call.scale,
        causal=True,
        window_size=(-1, -1) if call.window is None else (call.window - 1, 0),  # keys to the left of the query
        softcap=call.softcap or 0.0,
    )
    return out


def _xformers(call: Call) -> torch.Tensor:
    ops = _load("xformers", "xformers.ops")
    masks = _load("xformers", "xformers.ops.fmha.attn_bias")
    mask = masks.BlockDiagonalCausalMask.from_seqlens(call.cu_seqlens.diff().tolist())
    if call.window is not None:
        mask = mask.make_local_attention(call.window)
    # Its grouped heads (five dimensions) have no backward: each query head gets a copy of its key head.
    group = call.q.shape[1] // call.k.shape[1]
    k, v = (call.k, call.v) if group == 1 else (t.repeat_interleave(group, dim=1) for t in (call.k, call.v))
    out: torch.Tensor = ops.memory_efficient_attention(call.q[None], k[None], v[None], attn_bias=mask, scale=call.scale)
    return out[0]


def _torch(call: Call) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    if "enable_gqa" not in inspect.signature(varlen_attn).parameters:
        raise NotImplementedError(
            f"backend: expected a varlen_attn with enable_gqa (torch 2.13), got torch {torch.__version__}"
        )
    longest = _max_seqlen(call.cu_seqlens)
    out = varlen_attn(
        call.q,
        call.k,
        call.v,
        call.cu_seqlens,
        call.cu_seqlens,
        longest,
        longest,
        scale=call.scale,
        window_size=(-1 if call.window is None else call.window - 1, 0),  # (-1, 0) is causal without a window
        enable_gqa=call.q.shape[1] != call.k.shape[1],
    )
    assert isinstance(out, torch.Tensor)  # a pair only if asked for
    return out


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A library's limits, beyond which NotImplementedError is raised, and its call."""

    run: Callable[[Call], torch.Tensor]
    dtypes: tuple[torch.dtype, ...]
    options: tuple[str, ...]  # beside scale
    devices: tuple[str, ...] = ("cuda",)


BACKENDS = {
    "flash_attn": Backend(run=_flash_attn, dtypes=HALF, options=("window", "softcap")),
    "xformers": Backend(run=_xformers, dtypes=(*HALF, torch.float32), options=("window",)),
    "torch": Backend(run=_torch, dtypes=HALF, options=("window",)),
}
