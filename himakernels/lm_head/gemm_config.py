"""The pinned tables of the LM head's matrix products: blocks from dtype, architecture and H, never from the rows."""

from typing import Literal, NamedTuple

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

    def launch_options(self) -> dict[str, int | bool]:
        """What every launch passes beside its own blocks."""
        return {
            "GROUP_M": self.group_m,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,
        }


# 16-bit operands, tensor cores, fp32 accumulators: 128 registers of accumulator a thread on NVIDIA and AMD.
# One stage of 128x256x64 is 48 KiB of shared memory.
_HALF: dict[str, GemmConfig] = {
    "sm_80": GemmConfig(128, 256, 64, 8, 8, 3),
    "sm_90": GemmConfig(128, 256, 64, 8, 8, 3),
    "sm_100": GemmConfig(128, 256, 64, 8, 8, 3),
    "gfx942": GemmConfig(256, 256, 32, 8, 8, 2),
    "small": GemmConfig(128, 128, 32, 8, 8, 3),
}
# dweight starts from the old sum, a second tile of registers on its way to the accumulator: there a large tile spills.
_HALF_DWEIGHT: dict[str, GemmConfig] = {
    **_HALF,
    "sm_80": GemmConfig(128, 128, 64, 8, 8, 3),
    "sm_100": GemmConfig(128, 128, 64, 8, 8, 4),
}
# On Hopper a width that leaves half a tile over (H = 896) is masked, and then only this shape does not spill.
_HALF_DWEIGHT_MASKED: dict[str, GemmConfig] = {**_HALF_DWEIGHT, "sm_90": GemmConfig(256, 128, 64, 8, 8, 3)}
# dhidden of a chunk of 1,024 rows has few tiles where H is small, and each walks over the whole vocabulary: smaller
# tiles use more of the GPU. The choice is by H, never by rows.
_HALF_DHIDDEN_1024 = GemmConfig(64, 128, 64, 8, 4, 4)
_HALF_DHIDDEN_2560 = GemmConfig(128, 128, 64, 8, 8, 4)
# Rows that do not start on 16 elements are read element by element: a pointer each, so a quarter of the tile.
_HALF_UNALIGNED = GemmConfig(64, 64, 32, 8, 4, 2)
# fp32 operands: IEEE products on the plain fp32 units, so registers, not shared memory, bound the tile.
_FLOAT: dict[str, GemmConfig] = dict.fromkeys(("sm_80", "sm_90", "sm_100", "small"), GemmConfig(64, 128, 16, 8, 8, 2))
_FLOAT["gfx942"] = GemmConfig(64, 128, 16, 8, 4, 2)
# Tiles that small test shapes fill several of.
_INTERPRETER = GemmConfig(16, 32, 32, 2, 4, 1)


def gemm_config(product: Literal["logits", "dhidden", "dweight"], *operands: torch.Tensor) -> GemmConfig:
    """The entry for a product of `operands` (the second has H columns), from their dtype, device, alignment and H."""
    where = arch.arch_of(operands[0])
    if where == "interpreter":
        return _INTERPRETER
    if operands[0].dtype == torch.float32:
        return _FLOAT[where]
    if any(size % 16 != 0 for t in operands for size in (t.stride(0), t.shape[1])):
        return _HALF_UNALIGNED
    H = operands[-1].shape[1]
    if product == "dweight":
        return (_HALF_DWEIGHT if H % 256 == 0 else _HALF_DWEIGHT_MASKED)[where]
    if product == "dhidden" and H <= 2560 and where != "small":
        config = _HALF_DHIDDEN_1024 if H <= 1024 else _HALF_DHIDDEN_2560
        return config._replace(num_stages=2) if where == "gfx942" else config
    return _HALF[where]


def upcast_dot(tensor: torch.Tensor) -> bool:
    """Whether tiles become fp32 before tl.dot: under the interpreter, where arithmetic on bf16 is wrong."""
    return arch.arch_of(tensor) == "interpreter"
