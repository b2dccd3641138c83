"""The pinned tables of tree attention's blocks, by head dimension, dtype and architecture; never by length."""

from typing import NamedTuple

import torch

from himakernels import arch


class AttentionConfig(NamedTuple):
    """Tokens that own a program's sums (`block_own`), tokens that they meet in one step (`block_other`), and how it runs.

    `ahead`, for the forward: products with values run beside the next block's softmax.
    """

    block_own: int
    block_other: int
    num_warps: int
    num_stages: int
    ahead: bool = False


_Configs = tuple[AttentionConfig, AttentionConfig, AttentionConfig]

# By padded head dimension: (forward, dq, dk and dv). Registers bound them: sums and operands stay there. Each entry is the
# first of a list, from large to small, that compiles without a spill, with and without window, softcap and sinks (what
# `bench.aot` compiles, and the exceptions that it allows); a GPU has not chosen among them.
_HALF: dict[str, dict[int, _Configs]] = {
    "sm_80": {
        32: (AttentionConfig(128, 64, 4, 2), AttentionConfig(64, 64, 4, 2), AttentionConfig(64, 32, 8, 2)),
        64: (AttentionConfig(128, 64, 8, 2), AttentionConfig(128, 64, 8, 2), AttentionConfig(128, 32, 8, 2)),
        128: (AttentionConfig(128, 64, 8, 3), AttentionConfig(128, 32, 8, 3), AttentionConfig(64, 64, 8, 2)),
        256: (AttentionConfig(64, 32, 8, 2), AttentionConfig(32, 16, 8, 1), AttentionConfig(32, 32, 8, 1)),
    },
    "sm_90": {
        64: (AttentionConfig(128, 64, 8, 3, ahead=True), AttentionConfig(128, 64, 8, 3), AttentionConfig(128, 64, 8, 3)),
        128: (AttentionConfig(128, 64, 8, 3, ahead=True), AttentionConfig(128, 64, 8, 3), AttentionConfig(128, 32, 8, 3)),
        256: (AttentionConfig(64, 32, 8, 2), AttentionConfig(32, 32, 8, 1), AttentionConfig(32, 32, 8, 1)),
    },
    "sm_100": {
        32: (AttentionConfig(128, 64, 8, 3), AttentionConfig(64, 64, 8, 3), AttentionConfig(64, 64, 8, 2)),
        64: (AttentionConfig(128, 64, 8, 3), AttentionConfig(128, 64, 8, 3), AttentionConfig(64, 64, 8, 2)),
        128: (AttentionConfig(128, 64, 8, 3), AttentionConfig(128, 32, 8, 3), AttentionConfig(64, 32, 4, 2)),
        256: (AttentionConfig(64, 32, 8, 2), AttentionConfig(64, 32, 8, 1), AttentionConfig(32, 32, 8, 1)),
    },
    "gfx942": {
        32: (AttentionConfig(128, 64, 4, 2), AttentionConfig(64, 64, 4, 2), AttentionConfig(64, 16, 4, 2)),
        64: (AttentionConfig(128, 32, 8, 2), AttentionConfig(64, 32, 4, 2), AttentionConfig(64, 32, 4, 2)),
        128: (AttentionConfig(64, 32, 8, 2), AttentionConfig(64, 32, 4, 2), AttentionConfig(64, 16, 4, 2)),
        256: (AttentionConfig(32, 32, 8, 1), AttentionConfig(32, 16, 8, 1), AttentionConfig(32, 16, 8, 1)),
    },
}
_FLOAT: dict[str, dict[int, _Configs]] = {
    "sm_80": {
        64: (AttentionConfig(32, 32, 8, 1), AttentionConfig(32, 32, 8, 1), AttentionConfig(16, 32, 4, 1)),
        128: (AttentionConfig(32, 32, 4, 1), AttentionConfig(16, 16, 8, 1), AttentionConfig(32, 16, 4, 1)),
        256: (AttentionConfig(16, 16, 8, 1), AttentionConfig(16, 16, 8, 1), AttentionConfig(16, 32, 8, 1)),
    },
    "sm_90": {
        64: (AttentionConfig(16, 32, 8, 1), AttentionConfig(32, 32, 8, 1), AttentionConfig(32, 32, 8, 1)),
        128: (AttentionConfig(32, 16, 8, 1), AttentionConfig(16, 16, 8, 1), AttentionConfig(32, 16, 4, 1)),
        256: (AttentionConfig(32, 16, 8, 1), AttentionConfig(16, 16, 8, 1), AttentionConfig(16, 16, 8, 1)),
    },
    "sm_100": {
        64: (AttentionConfig(16, 32, 4, 1), AttentionConfig(32, 32, 8, 1), AttentionConfig(32, 32, 8, 1)),
        128: (AttentionConfig(16, 32, 8, 1), AttentionConfig(16, 16, 8, 1), AttentionConfig(32, 16, 4, 1)),
        256: (AttentionConfig(32, 16, 8, 1), AttentionConfig(16, 16, 8, 1), AttentionConfig(16, 16, 8, 1)),
    },
    "gfx942": {
        64: (AttentionConfig(64, 32, 8, 2), AttentionConfig(32, 32, 4, 1), AttentionConfig(32, 32, 4, 1)),
        128: (AttentionConfig(32, 32, 8, 1), AttentionConfig(16, 16, 8, 1), AttentionConfig(32, 16, 4, 1)),
        256: (AttentionConfig(16, 16, 8, 1), AttentionConfig(16, 16, 4, 1), AttentionConfig(16, 16, 4, 1)),
    },
}
# 64 KiB of shared memory are legal on every GPU, as on this one; dk and dv of fp32 take 2 KiB more at 256.
_HALF["small"] = _HALF["gfx942"]
_FLOAT["small"] = _FLOAT["gfx942"] | {256: (*_FLOAT["sm_80"][256][:2], AttentionConfig(16, 16, 8, 1))}
# Several blocks in a short forest, and, as on a GPU, tokens that own and tokens that are met in blocks of different sizes.
_INTERPRETER = (AttentionConfig(32, 16, 4, 1, ahead=True), AttentionConfig(16, 32, 4, 1), AttentionConfig(32, 16, 4, 1))


def attention_configs(q: torch.Tensor) -> tuple[AttentionConfig, AttentionConfig, AttentionConfig]:
    """(forward, dq, dk and dv) for q [T, Hq, D]."""
    where = arch.arch_of(q)
    if where == "interpreter":
        return _INTERPRETER
    table = (_FLOAT if q.dtype == torch.float32 else _HALF)[where]
    return table[min(size for size in table if size >= q.shape[2])]
