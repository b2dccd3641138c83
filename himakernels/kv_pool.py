"""The tensors behind `himakernels.prefix_cache`: keys and values of a model's layers, in blocks of tokens."""

import numpy as np
import torch
from numpy.typing import NDArray

from himakernels.checks import FLOATS, check_device, check_dtype, check_shape
from himakernels.prefix_cache import BlockCopies

__all__ = ["KVPool", "slot_mapping"]


def slot_mapping(block_table: NDArray[np.int32], start: int, end: int, block_size: int) -> NDArray[np.int64]:
    """block_table[t // block_size] * block_size + t % block_size for t in [start, end): where a sequence's tokens stand.

    Args:
        block_table: [blocks], of the sequence, at least ceil(end / block_size).

    Returns:
        [end - start].

    Raises:
        ValueError: a range that is none, or goes beyond the table.
    """
    if not 0 <= start <= end <= len(block_table) * block_size:
        raise ValueError(
            f"start, end: expected 0 <= start <= end <= {len(block_table) * block_size}, the tokens of {len(block_table)} "
            f"blocks of {block_size}, got {start} and {end}"
        )
    at = np.arange(start, end)
    return block_table[at // block_size].astype(np.int64) * block_size + at % block_size


class KVPool:
    """Keys [layers, blocks, block_size, Hk, D] and values [layers, blocks, block_size, Hk, Dv] of one model, zero at first.

    Policies that are adapters of one model share a pool; the cache keeps their blocks apart. A block that is allocated anew
    still holds what its last owner wrote: who reads must know how far a sequence is written, and mask the rest, also where
    its weight is 0 (0 * NaN is NaN).

    Args:
        num_layers, num_blocks, block_size, num_kv_heads, head_dim: at least 1.
        value_head_dim: Dv; None: D.
        dtype: float32, bfloat16, float16 or float64.
        device: None: torch's default.

    Raises:
        ValueError, TypeError: sizes below 1, another dtype.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        value_head_dim: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        value_head_dim = head_dim if value_head_dim is None else value_head_dim
        sizes = {"num_layers": num_layers, "num_blocks": num_blocks, "block_size": block_size, "num_kv_heads": num_kv_heads}
        for name, size in {**sizes, "head_dim": head_dim, "value_head_dim": value_head_dim}.items():
            if not isinstance(size, int) or isinstance(size, bool):
                raise TypeError(f"{name}: expected int, got {type(size).__name__}")
            if size < 1:
                raise ValueError(f"{name}: expected a number >= 1, got {size}")
        if dtype not in FLOATS:
            raise TypeError(f"dtype: expected a floating dtype of torch, got {dtype}")
        self.num_blocks, self.block_size = num_blocks, block_size
        self.keys = torch.zeros(*sizes.values(), head_dim, dtype=dtype, device=device)
        self.values = torch.zeros(*sizes.values(), value_head_dim, dtype=dtype, device=device)

    @property
    def nbytes(self) -> int:
        """Of keys and values together."""
        return self.keys.nbytes + self.values.nbytes

    def write(
        self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts the keys and values of T tokens of one layer where they belong.

        Args:
            slots: [T] int64 on the pool's device, block * block_size + place in the block: each at most once. They are read
                by the device, not checked.
            keys, values: [T, Hk, D] and [T, Hk, Dv], of the pool's dtype.

        Returns:
            All keys [blocks, block_size, Hk, D] and values of the layer: views of the pool.

        Raises:
            ValueError, TypeError: another shape, dtype or device.
        """
        check_shape("slots", slots, ("T",))
        check_dtype("slots", slots, (torch.int64,))
        check_device("slots", slots, self.keys.device)
        for name, given, pool in (("keys", keys, self.keys), ("values", values, self.values)):
            check_shape(name, given, (slots.shape[0], *pool.shape[3:]))
            check_dtype(name, given, (pool.dtype,))
            check_device(name, given, pool.device)
            pool[layer].view(-1, *pool.shape[3:]).index_copy_(0, slots, given)
        return self.keys[layer], self.values[layer]

    def copy(self, *copies: BlockCopies) -> None:
        """Does the copies that `PrefixCache.fork` asks for, all at once, in all layers.

        Whole blocks are copied: what stands behind a copy's num_tokens tokens is overwritten before it is read.

        Raises:
            ValueError: blocks out of range.
        """
        ends = {
            "sources": np.concatenate([np.empty(0, np.int64), *(c.sources for c in copies)]),
            "targets": np.concatenate([np.empty(0, np.int64), *(c.targets for c in copies)]),
        }
        for name, blocks in ends.items():
            if blocks.size and not 0 <= blocks.min() <= blocks.max() < self.num_blocks:
                raise ValueError(f"{name}: expected blocks in [0, {self.num_blocks}), got {blocks.min()} to {blocks.max()}")
        sources, targets = (torch.from_numpy(blocks).to(self.keys.device, non_blocking=True) for blocks in ends.values())
        if sources.numel():
            for pool in (self.keys, self.values):
                pool.index_copy_(1, targets, pool.index_select(1, sources))
