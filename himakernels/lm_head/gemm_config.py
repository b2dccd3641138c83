"""The pinned tables of the LM head's matrix products: block sizes from dtype and architecture, never from the number of rows."""

from typing import NamedTuple

import torch

from himakernels import arch


class GemmConfig(NamedTuple):
    """A tile of the output [block_m, block_n], the step of the sum, and how the tile is run.

    group_m tiles along M run next to each other for each tile along N, so that both operands are found in L2.
    """

    block_m: int
    block_n: int
    block_k: int
    group_m: int
    num_warps: int
    num_stages: int


# 16-bit operands, tensor cores, fp32 accumulators: 128 registers of accumulator a thread on NVIDIA and AMD.
# One stage of 128x256x64 is 48 KiB of shared memory.
_HALF: dict[str, GemmConfig] = {
    "sm_80": GemmConfig(128, 256, 32, 8, 8, 4),
    "sm_90": GemmConfig(128, 256, 64, 8, 8, 3),
    "sm_100": GemmConfig(128, 256, 64, 8, 8, 3),
    "gfx942": GemmConfig(256, 256, 32, 8, 8, 2),
    "small": GemmConfig(128, 128, 32, 8, 8, 3),
    "interpreter": GemmConfig(16, 32, 32, 2, 4, 1),
}
# fp32 operands: IEEE products on the plain fp32 units, so registers, not shared memory, bound the tile.
_FLOAT: dict[str, GemmConfig] = {
    "sm_80": GemmConfig(64, 128, 16, 8, 8, 2),
    "sm_90": GemmConfig(64, 128, 16, 8, 8, 2),
    "sm_100": GemmConfig(64, 128, 16, 8, 8, 2),
    "gfx942": GemmConfig(64, 128, 16, 8, 4, 2),
    "small": GemmConfig(64, 128, 16, 8, 8, 2),
    "interpreter": GemmConfig(16, 32, 32, 2, 4, 1),
}


def gemm_config(weight: torch.Tensor) -> GemmConfig:
    """The entry for the operands' dtype and device."""
    table = _FLOAT if weight.dtype == torch.float32 else _HALF
    return table[arch.arch_of(weight)]


def upcast_dot(tensor: torch.Tensor) -> bool:
    """Whether tiles become fp32 before tl.dot: under the interpreter, where arithmetic on bf16 is wrong."""
    return arch.arch_of(tensor) == "interpreter"
