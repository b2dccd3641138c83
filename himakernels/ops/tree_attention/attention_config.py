"""The pinned tables of tree attention's blocks, by head dimension, dtype and architecture; never by length."""

from typing import NamedTuple

import torch

from himakernels import arch


class AttentionConfig(NamedTuple):
    """Tokens that own a program's sums (`block_own`), tokens that they meet in one step (`block_other`), and how it runs."""

    block_own: int
    block_other: int
    num_warps: int
    num_stages: int


# Of 16-bit operands, by padded head dimension: (forward, dq, dk and dv). Registers bound them: accumulators and operands
# stay there; `bench.aot` shows that none spills at 64 and 128.
_HALF: dict[int, tuple[AttentionConfig, AttentionConfig, AttentionConfig]] = {
    64: (AttentionConfig(128, 64, 4, 3), AttentionConfig(128, 64, 8, 2), AttentionConfig(64, 64, 4, 2)),
    128: (AttentionConfig(128, 64, 8, 3), AttentionConfig(64, 64, 8, 2), AttentionConfig(64, 64, 8, 2)),
    256: (AttentionConfig(64, 32, 8, 2), AttentionConfig(64, 32, 8, 1), AttentionConfig(32, 32, 8, 1)),
}
# fp32: IEEE products on the plain units; every operand of a product passes through registers.
_FLOAT: dict[int, tuple[AttentionConfig, AttentionConfig, AttentionConfig]] = {
    64: (AttentionConfig(64, 32, 4, 2), AttentionConfig(32, 32, 4, 1), AttentionConfig(32, 32, 4, 1)),
    128: (AttentionConfig(32, 32, 4, 1), AttentionConfig(32, 16, 4, 1), AttentionConfig(32, 16, 4, 1)),
    256: (AttentionConfig(32, 16, 4, 1), AttentionConfig(16, 16, 4, 1), AttentionConfig(16, 16, 4, 1)),
}
# Several blocks in a short forest.
_INTERPRETER = (AttentionConfig(16, 16, 4, 1), AttentionConfig(16, 16, 4, 1), AttentionConfig(16, 16, 4, 1))


def attention_configs(q: torch.Tensor) -> tuple[AttentionConfig, AttentionConfig, AttentionConfig]:
    """(forward, dq, dk and dv) for q [T, Hq, D]."""
    if arch.arch_of(q) == "interpreter":
        return _INTERPRETER
    table = _FLOAT if q.dtype == torch.float32 else _HALF
    return table[min(size for size in table if size >= q.shape[2])]
