# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""What the kernels of tree attention share: which blocks meet, which of their pairs see each other, and the scores.

A forest is cut into blocks of neighbours. Of each block of keys two numbers are enough to skip it, or to skip its mask: the
largest and the smallest subtree_end in it (with a window also the largest depth). A program that owns queries walks over runs
of blocks of one kind, so that the loops that multiply have no branches inside and are pipelined.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from himakernels.once import once
from himakernels.tl_math import LOG2E, round_to, tl_tanh, unfused_product

INVISIBLE = tl.constexpr(0)
MASKED = tl.constexpr(1)
FULL = tl.constexpr(2)


class BlockRanges(NamedTuple):
    """Of each block [n] int32: where the tree of its first token begins, its subtree_end's extremes, its largest depth."""

    begin: torch.Tensor
    max_end: torch.Tensor
    min_end: torch.Tensor
    max_position: torch.Tensor


@once
def block_ranges(subtree_end: torch.Tensor, position_ids: torch.Tensor | None, block: int) -> BlockRanges:
    """O(T) work and memory, without a host synchronisation. Without position_ids (no window) max_position is not read."""
    T = subtree_end.shape[0]
    padding = (0, -T % block)
    at = torch.arange(T, dtype=torch.int32, device=subtree_end.device)
    covered = torch.nn.functional.pad(subtree_end.cummax(0).values[:-1], (1, 0))
    begin = torch.where(covered <= at, at, 0).cummax(0).values[::block].contiguous()
    max_end = torch.nn.functional.pad(subtree_end, padding).view(-1, block).amax(1)
    min_end = torch.nn.functional.pad(subtree_end, padding, value=2**31 - 1).view(-1, block).amin(1)
    if position_ids is None:
        return BlockRanges(begin, max_end, min_end, max_end)
    return BlockRanges(begin, max_end, min_end, torch.nn.functional.pad(position_ids, padding).view(-1, block).amax(1))


def near(x: torch.Tensor) -> torch.Tensor:
    """x [T, H, D], copied where its tokens lie so far apart that an offset within a block would not fit 32 bits."""
    return x if x.stride(0) < 2**24 else x.contiguous()


def alike(k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """k and v [T, Hk, D], copied where tokens don't lie equally far apart in both: the kernels keep one set of addresses."""
    k, v = near(k), near(v)
    return (k, v) if k.stride(0) == v.stride(0) else (k.contiguous(), v.contiguous())


@triton.jit
def kind_of(
    block, blocks, q_begin, q_end, shallowest, max_end_ptr, min_end_ptr, deepest_ptr, window,
    HAS_WINDOW: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """How the queries [q_begin, q_end) see one or more blocks of keys: INVISIBLE to all, MASKED, or FULL: all see all of it."""
    there = block < blocks
    visible = tl.load(max_end_ptr + block, mask=there, other=0) > q_begin
    if HAS_WINDOW:
        visible = visible & (shallowest - tl.load(deepest_ptr + block, mask=there, other=0) < window)
        kind = visible.to(tl.int32)
    else:
        min_end = tl.load(min_end_ptr + block, mask=there, other=0)
        kind = visible.to(tl.int32) + (visible & (min_end >= q_end) & ((block + 1) * BLOCK_K <= q_begin + 1)).to(tl.int32)
    return kind


@triton.jit
def next_run(
    first, blocks, q_begin, q_end, shallowest, max_end_ptr, min_end_ptr, deepest_ptr, window,
    HAS_WINDOW: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """(kind, last): the blocks of keys [first, last), last <= blocks, are of one kind, and the next one is not."""
    kind = kind_of(
        first, blocks, q_begin, q_end, shallowest, max_end_ptr, min_end_ptr, deepest_ptr, window, HAS_WINDOW, BLOCK_K
    )
    last = first + 1
    more = last < blocks
    # As many at once as a warp has lanes: thousands of blocks may lie between a token and what it sees.
    while more:
        at = last + tl.arange(0, 32)
        other = kind_of(
            at, blocks, q_begin, q_end, shallowest, max_end_ptr, min_end_ptr, deepest_ptr, window, HAS_WINDOW, BLOCK_K
        )
        end = tl.min(tl.where((other != kind) | (at >= blocks), at, last + 32), axis=0)
        more = end == last + 32
        last = end
    return kind, last


@triton.jit
def sees(offs_q, offs_k, end_k, position_q, position_k, window, HAS_WINDOW: tl.constexpr):
    """The rule, broadcast: k <= q < subtree_end[k], and with a window depth(q) - depth(k) < window.

    One comparison instead of two, since unsigned numbers have no negative ones: 0 <= q - k < subtree_end[k] - k.
    """
    visible = (offs_q - offs_k).to(tl.uint32, bitcast=True) < (end_k - offs_k).to(tl.uint32, bitcast=True)
    if HAS_WINDOW:
        visible = visible & (position_q - position_k < window)
    return visible


@triton.jit
def cap_scores(x, scale, softcap, HAS_SOFTCAP: tl.constexpr):
    """(scores in units of log 2, the cap's derivative) of products x; one multiplication an element where there is no cap.

    The scores are rounded: fused into the difference from their maximum, which is rounded, a product may lie above it, and the
    largest of them far below it.
    """
    if HAS_SOFTCAP:
        t = tl_tanh(x * (scale * (1.0 / softcap)))
        s = unfused_product(t, softcap * LOG2E)
        slope = 1.0 - t * t
    else:
        s = unfused_product(x, scale * LOG2E)
        slope = 1.0
    return s, slope


@triton.jit
def weights(s, level):
    """exp2(s - level), at most 1, with the level that the forward ended with; a whole number.

    The backward makes its products in other blocks than the forward. On tensor cores their last bits may differ, and where
    scores are so large that these are worth more than 1, a score may lie above the level. Weights of another level are these
    times a power of two, also once they are rounded to 16 bits (in fp16 down to 2^-14): the backward meets the rounded weights
    that the forward made out from.
    """
    return tl.exp2(tl.minimum(s - level, 0.0, propagate_nan=tl.PropagateNan.ALL))


@triton.jit
def rounded(x, like):
    """fp32 x as `like`'s dtype holds it, in fp32.

    To bf16 by arithmetic (Veltkamp's splitting: x + 2^16 x keeps 8 bits of x): a conversion there and back takes a unit that
    is as slow as that of exp2, which attention has no time to spare for. Of two equally near numbers it may be either; within
    2^-16 below a power of two it may be the number before that. The sum must be rounded before the difference is taken: a
    compiler that is free to fuse a difference of two products fuses the wrong one, and gives x.
    """
    if like.dtype == tl.bfloat16:
        y = tl.fma(x, -65536.0, x * 65537.0)
    else:
        y = narrow(x, like).to(tl.float32)
    return y


@triton.jit
def product(a, b, UPCAST_DOT: tl.constexpr):
    """a @ b in fp32; both have one dtype, or, in the interpreter, become fp32."""
    if UPCAST_DOT:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def narrow(x, like):
    """fp32 x as an operand beside `like`: rounded to its dtype."""
    return round_to(x, like.dtype)
