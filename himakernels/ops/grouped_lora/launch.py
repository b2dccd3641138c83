"""The pinned table of the kernels of grouped_lora, and the adapters as the kernels take them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from himakernels import arch

PROGRAMS = 512  # what wgrad splits the tokens for, where adapters and width alone give fewer


class Adapters(NamedTuple):
    """All adapters' A or B matrices, or gradients, one after the other in flat memory."""

    flat: torch.Tensor
    starts: torch.Tensor  # [A + 1] int32: adapter i has rows [starts[i], starts[i + 1]) of the sum of ranks
    scaling: torch.Tensor  # [A] fp32
    max_rank: int


class LoraConfig(NamedTuple):
    """The blocks of a kernel, and how it is run."""

    block_t: int  # tokens
    block_r: int  # of the rank
    block_n: int  # of the wide dimension
    split_t: int  # the fewest tokens that wgrad makes a part of
    num_warps: int
    num_stages: int
    upcast_dot: bool = False

    def launch_options(self, num_adapters: int) -> dict[str, int | bool]:
        """What every launch passes beside its own arguments."""
        return {
            "UPCAST_DOT": self.upcast_dot,
            "BLOCK_A": 1 << (num_adapters + 1).bit_length(),  # the next power of two from num_adapters + 2 on
            "BLOCK_T": self.block_t,
            "BLOCK_R": self.block_r,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,
        }


def lora_config(wide: torch.Tensor, adapters: Adapters, *, wide_rank: bool = True) -> LoraConfig:
    """The pinned table: blocks from device, the adapters' dtype and largest rank, the alignment of `wide` [T, K or N].

    Without `wide_rank` a block of the rank stays small: where the rank is summed over, a longer one only costs registers.
    """
    where = arch.arch_of(wide)
    if where == "interpreter":
        return LoraConfig(16, 16, 32, 32, 4, 1, upcast_dot=True)
    block_r = 32 if wide_rank and adapters.max_rank > 16 else 16
    if adapters.flat.dtype == torch.float32:
        return LoraConfig(32, block_r, 64, 512, 4, 2 if where == "gfx942" else 3)
    if wide.stride(0) % 16 != 0 or wide.shape[1] % 16 != 0:
        # Rows that do not start on 16 elements are read element by element: a pointer each.
        return LoraConfig(32, 16, 32, 512, 4, 2)
    return LoraConfig(64, block_r, 128, 512, 4, 2 if where == "gfx942" else 3)


@lru_cache(maxsize=256)
def device_table(ranks: tuple[int, ...], scaling: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(starts, scaling) on the device, sent there once for each set of ranks and scalings, without waiting for it."""
    starts = [0]
    for rank in ranks:
        starts.append(starts[-1] + rank)
    # On the CPU whatever torch.set_default_device says: what is pinned is the host's memory.
    tables = (
        torch.tensor(starts, dtype=torch.int32, device="cpu"),
        torch.tensor(scaling, dtype=torch.float32, device="cpu"),
    )
    if device.type == "cuda":
        tables = tables[0].pin_memory(), tables[1].pin_memory()
    return tables[0].to(device, non_blocking=True), tables[1].to(device, non_blocking=True)


def flatten(matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    flat = [m.view(-1) for m in matrices]
    return flat[0] if len(flat) == 1 else torch.cat(flat)
