"""Attention of generation over keys and values in blocks: one layer, a step of all sequences.

`himakernels` on sequences whose tables share the prefix's blocks, and on the same where each has a copy of its own (what
sharing buys); torch's SDPA on keys and values that stand in a padded tensor already, a row a sequence, and on the same gathered
from the blocks each time. Decode is one query a sequence, prefill a chunk of a prompt behind its cached prefix. The gate comes
first. `extra_info` has nanoseconds for a pair of a query head and a key. fp32 on the CPU, bf16 on a GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bench.measure import Timing, configuration, seconds_of
from himakernels import paged_attention, paged_attention_reference
from himakernels.testing import assert_gate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
BLOCK = 16
ROUNDS = 15


@dataclass(frozen=True)
class Batch:
    """`rows` sequences of `prefix` shared tokens and `own` more, `queries` of them new; the heads of a small Qwen."""

    name: str
    rows: int
    prefix: int
    own: int
    queries: int = 1
    head_dim: int = 64
    query_heads: int = 14
    key_heads: int = 2

    @property
    def length(self) -> int:
        return self.prefix + self.own

    @property
    def pairs(self) -> int:
        """Visible pairs of a query head and a key."""
        seen = sum(range(self.length - self.queries + 1, self.length + 1))
        return self.rows * self.query_heads * seen


BATCHES = (
    Batch("decode: 64 siblings, 800 shared, 32 own", 64, 800, 32),
    Batch("decode: 64 nodes, 400 shared, 384 own", 64, 400, 384),
    Batch("decode: 1 sequence of 4,096", 1, 0, 4096),
    Batch("prefill: 8 x 64 behind 800 shared", 8, 800, 64, queries=64),
    Batch("prefill: 1,024 from the beginning", 1, 0, 1024, queries=1024),
)
SMOKE = (Batch("smoke", 3, 32, 20, queries=2, head_dim=16, query_heads=4),)


class Operands:
    """Queries; blocks and tables that share the prefix, and others that don't; both say the same."""

    def __init__(self, batch: Batch) -> None:
        g = torch.Generator().manual_seed(0)
        shared, own = batch.prefix // BLOCK, -(-batch.length // BLOCK) - batch.prefix // BLOCK
        blocks = shared + batch.rows * own
        head = (batch.key_heads, batch.head_dim)
        self.batch = batch
        self.pools = [torch.randn(blocks, BLOCK, *head, generator=g).to(DEVICE, DTYPE) for _ in range(2)]
        first = torch.arange(shared).expand(batch.rows, shared)
        rest = shared + torch.arange(batch.rows * own).view(batch.rows, own)
        self.table = torch.cat([first, rest], dim=1).to(torch.int32).to(DEVICE)
        self.copies = [pool[self.table.long()].flatten(0, 1).contiguous() for pool in self.pools]
        self.own_table = torch.arange(self.table.numel(), dtype=torch.int32, device=DEVICE).view_as(self.table)
        tokens = batch.rows * batch.queries
        self.q = torch.randn(tokens, batch.query_heads, batch.head_dim, generator=g).to(DEVICE, DTYPE)
        self.bounds = torch.arange(0, tokens + 1, batch.queries, dtype=torch.int32, device=DEVICE)
        self.lens = torch.full((batch.rows,), batch.length, dtype=torch.int32, device=DEVICE)
        at = torch.arange(batch.length, device=DEVICE)
        self.visible = at <= at[batch.length - batch.queries :, None]

    def ours(self, shared: bool = True, attention: Callable[..., torch.Tensor] = paged_attention) -> torch.Tensor:
        pools, table = (self.pools, self.table) if shared else (self.copies, self.own_table)
        return attention(self.q, *pools, table, self.bounds, self.lens)

    def rows(self) -> list[torch.Tensor]:
        """Keys and values gathered from the blocks, [rows, Hk, length, D] each."""
        return [pool[self.table.long()].flatten(1, 2)[:, : self.batch.length].transpose(1, 2) for pool in self.pools]

    def sdpa(self, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        q = self.q.unflatten(0, (self.batch.rows, self.batch.queries)).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=self.visible, enable_gqa=True)
        return out.transpose(1, 2).flatten(0, 1)


def runs_of(x: Operands) -> dict[str, Callable[[], torch.Tensor]]:
    keys, values = (t.contiguous() for t in x.rows())
    return {
        "himakernels": x.ours,
        "himakernels, a copy of the prefix each": lambda: x.ours(shared=False),
        "sdpa on padded rows": lambda: x.sdpa(keys, values),
        "sdpa on gathered blocks": lambda: x.sdpa(*x.rows()),
    }


RUNS = tuple(runs_of(Operands(SMOKE[0])))


@pytest.fixture(scope="module")
def same_numbers() -> None:
    """No time before the numbers are right."""
    x = Operands(SMOKE[0])
    eager = x.ours(attention=paged_attention_reference)
    x.q, x.pools = x.q.double(), [pool.double() for pool in x.pools]
    truth = x.ours(attention=paged_attention_reference)
    for run in runs_of(Operands(SMOKE[0])).values():
        assert_gate("out", run(), truth.cpu(), eager.cpu(), n=x.batch.length * x.batch.head_dim)


@pytest.mark.usefixtures("same_numbers")
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("batch", [*BATCHES, *SMOKE], ids=lambda batch: batch.name)
def bench_paged_attention(benchmark: Any, request: pytest.FixtureRequest, batch: Batch, name: str) -> None:
    smoke = request.config.getoption("benchmark_disable")
    if smoke != (batch in SMOKE):
        pytest.skip("the small batch is for runs without timing, the others for runs with it")
    run = runs_of(Operands(batch))[name]
    benchmark.group = batch.name
    seconds: list[float] = []
    rounds = 1 if smoke else ROUNDS
    benchmark.pedantic(lambda: seconds.append(seconds_of(run)), rounds=rounds, iterations=1, warmup_rounds=0 if smoke else 2)
    timing = Timing.of(seconds[-rounds:])
    benchmark.extra_info.update(configuration(), contender=name, dtype=str(DTYPE).removeprefix("torch."))
    benchmark.extra_info.update({"median_ms": 1e3 * timing.median, "ns_per_pair": 1e9 * timing.median / batch.pairs})
    print(f"{batch.name:42} {name:42} {1e3 * timing.median:8.2f} ms  {1e9 * timing.median / batch.pairs:6.2f} ns a pair")
