# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""What the kernels of grouped_lora share: which tokens a tile has, which adapter they belong to.

A program compares its number with the running sum of tiles over `segments`, as one vector; no tile spans two adapters.
Segments are clamped to a partition of [0, T) first (tokens that no adapter has form segments of their own, of rank 0), so
every row belongs to exactly one tile and nothing outside is touched, whatever `segments` holds.
"""

import triton
import triton.language as tl


@triton.jit
def _larger(x, y):
    return tl.maximum(x, y)


@triton.jit
def segments_partition(segments_ptr, T, A, BLOCK_A: tl.constexpr):
    """(start, stop) [BLOCK_A] of the tokens before the adapters, of each adapter, of those behind: a partition of [0, T)."""
    offs = tl.arange(0, BLOCK_A)
    start = tl.load(segments_ptr + offs - 1, mask=(offs > 0) & (offs <= A + 1), other=0)
    start = tl.where(offs <= A + 1, tl.minimum(tl.maximum(start, 0), T), T)
    start = tl.associative_scan(start, 0, _larger)
    stop = tl.load(segments_ptr + offs, mask=offs <= A, other=0)
    stop = tl.where(offs <= A, tl.minimum(tl.maximum(stop, 0), T), T)
    return start, tl.maximum(start, stop)


@triton.jit
def segment_tile(pid, segments_ptr, T, A, BLOCK_A: tl.constexpr, BLOCK_T: tl.constexpr):
    """(adapter, begin, end) of tile `pid`: rows [begin, end), none beyond the last tile; adapter -1 or A is no adapter."""
    start, stop = segments_partition(segments_ptr, T, A, BLOCK_A)
    tiles = (stop - start + BLOCK_T - 1) // BLOCK_T
    last = tl.cumsum(tiles, 0)
    mine = (pid >= last - tiles) & (pid < last)
    adapter = tl.sum(tl.where(mine, tl.arange(0, BLOCK_A) - 1, 0), 0)
    begin = tl.sum(tl.where(mine, start + (pid - (last - tiles)) * BLOCK_T, 0), 0)
    end = tl.sum(tl.where(mine, stop, 0), 0)
    return adapter, begin, tl.minimum(begin + BLOCK_T, end)


@triton.jit
def adapter_rows(adapter, starts_ptr, A):
    """(first row, rank) of an adapter; rank 0 where there is none."""
    known = (adapter >= 0) & (adapter < A)
    first = tl.load(starts_ptr + adapter, mask=known, other=0)
    behind = tl.load(starts_ptr + adapter + 1, mask=known, other=0)
    return first.to(tl.int64), behind - first
