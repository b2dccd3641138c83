"""Attention over a shared prefix with branches, forward and backward, beside what runs on the same samples.

Ours on the packed tree; eager torch with the dense mask of the tree; FlexAttention on the same mask (compiled; on the CPU it
has no backward); torch's SDPA on the padded batch, each sample with its own copy of the prefix, and on it the same for plain
packing: `varlen_attention` with every backend that runs here. `extra_info` holds GFLOP/s and the fraction of the rate of a
bare matrix product (fp32 on the CPU, else the bench's dtype). Chains of 16,384 tokens run on a GPU only. The FLOP of all are
those of the visible pairs of the tree (4 D a pair and query head forward, 10 D backward), so that GFLOP/s compare times for
the same samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bench.bench_vrgrpo_loss import run
from bench.contenders import DTYPES
from bench.measure import Timing, seconds_of
from himakernels import tree_attention, tree_attention_reference, varlen_attention
from himakernels.testing import assert_gate, forest_of

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Tree:
    """`branches` continuations of one prefix; the heads of a small Qwen."""

    name: str
    prefix: int
    branches: int
    length: int
    head_dim: int
    query_heads: int = 14
    key_heads: int = 2

    @property
    def tokens(self) -> int:
        return self.prefix + self.branches * self.length

    @property
    def depths(self) -> list[int]:
        return [*range(self.prefix), *[*range(self.prefix, self.prefix + self.length)] * self.branches]

    @property
    def pairs(self) -> int:
        """Visible pairs of a query and a key."""
        return sum(depth + 1 for depth in self.depths)


TREES = (
    Tree("siblings-64", 768, 8, 64, 64),
    Tree("siblings-128", 768, 8, 64, 128),
    Tree("twigs-64", 256, 2_000, 2, 64),  # thousands of branches of two tokens
    Tree("chains-64", 0, 1, 16_384, 64, 32, 8),
    Tree("chains-128", 0, 1, 16_384, 128, 32, 8),
)
SMOKE = (Tree("smoke", 20, 3, 4, 16, 4, 2),)


class Operands:
    """q, k, v and dout of the tree, and of the padded batch of its samples."""

    def __init__(self, tree: Tree, dtype: torch.dtype) -> None:
        g = torch.Generator(DEVICE).manual_seed(0)
        heads = (tree.query_heads, tree.key_heads, tree.key_heads, tree.query_heads)
        self.tree = tree
        self.packed = [torch.randn(tree.tokens, h, tree.head_dim, generator=g, device=DEVICE).to(dtype) for h in heads]
        self.subtree_end, self.position_ids = forest_of(tree.depths, DEVICE)
        prefix = torch.arange(tree.prefix).expand(tree.branches, tree.prefix)
        own = tree.prefix + torch.arange(tree.branches * tree.length).view(tree.branches, tree.length)
        self.paths = torch.cat([prefix, own], dim=1).to(DEVICE)  # [branches, prefix + length]

    def padded(self) -> list[torch.Tensor]:
        """Each [branches, heads, prefix + length, D]."""
        return [t[self.paths].transpose(1, 2).contiguous() for t in self.packed]

    def separate(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The samples one after the other, each [branches * (prefix + length), heads, D], and their boundaries."""
        size = self.paths.shape[1]
        bounds = torch.arange(self.tree.branches + 1, dtype=torch.int32, device=DEVICE) * size
        return [t[self.paths.flatten()] for t in self.packed], bounds


def ours(x: Operands) -> tuple[list[torch.Tensor], Callable[..., torch.Tensor]]:
    return x.packed, lambda q, k, v: tree_attention(q, k, v, x.subtree_end)


def eager(x: Operands) -> tuple[list[torch.Tensor], Callable[..., torch.Tensor]]:
    return x.packed, lambda q, k, v: tree_attention_reference(q, k, v, x.subtree_end)


def sdpa_padded(x: Operands) -> tuple[list[torch.Tensor], Callable[..., torch.Tensor]]:
    return x.padded(), lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def flex(x: Operands) -> tuple[list[torch.Tensor], Callable[..., torch.Tensor]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    end = x.subtree_end.long()
    mask = create_block_mask(lambda b, h, i, j: (j <= i) & (i < end[j]), None, None, x.tree.tokens, x.tree.tokens, DEVICE)
    torch._dynamo.reset()  # else it runs unfused from the ninth case on: dynamo compiles a function eight times
    compiled = torch.compile(flex_attention, dynamic=False)
    batch = [t.transpose(0, 1)[None].contiguous() for t in x.packed]
    return batch, lambda q, k, v: compiled(q, k, v, block_mask=mask, enable_gqa=True)


def packing_with(backend: str) -> Callable[[Operands], tuple[list[torch.Tensor], Callable[..., torch.Tensor]]]:
    def make(x: Operands) -> tuple[list[torch.Tensor], Callable[..., torch.Tensor]]:
        operands, bounds = x.separate()
        return operands, lambda q, k, v: varlen_attention(q, k, v, bounds, backend=backend)

    return make


CONTENDERS = {
    "himakernels": ours,
    "eager torch": eager,
    "FlexAttention": flex,
    "SDPA, padded": sdpa_padded,
    "packing, himakernels": packing_with("himakernels"),
    "packing, flash_attn": packing_with("flash_attn"),
    "packing, xformers": packing_with("xformers"),
    "packing, torch": packing_with("torch"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    smoke = metafunc.config.getoption("benchmark_disable", default=False)
    metafunc.parametrize("tree", SMOKE if smoke else TREES, ids=lambda tree: tree.name)


def gate(dtype: torch.dtype) -> None:
    """out and gradients of a small tree against fp64."""
    x = Operands(SMOKE[0], dtype)
    results = []
    for attention, precision in (
        (tree_attention, dtype),
        (tree_attention_reference, torch.float64),
        (tree_attention_reference, dtype),
    ):
        leaves = [t.detach().to(precision).requires_grad_() for t in x.packed[:3]]
        out = attention(*leaves, x.subtree_end)
        results.append([out, *torch.autograd.grad(out, leaves, x.packed[3].to(precision))])
    for name, actual, truth, easy in zip(("out", "dq", "dk", "dv"), *results, strict=True):
        assert_gate(name, actual, truth, easy, n=SMOKE[0].tokens * SMOKE[0].head_dim)


_bare: dict[torch.dtype, float] = {}


def bare_gflops(dtype: torch.dtype) -> float:
    """The rate of torch's product of 8,192^3 in `dtype` on a GPU, of 1,024^3 in fp32 on a CPU; measured once."""
    size = 1_024 if DEVICE.type == "cpu" else 8_192
    if dtype not in _bare:
        a, b, c = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(3))
        torch.mm(a, b, out=c)
        _bare[dtype] = 2 * size**3 / Timing.of([seconds_of(lambda: torch.mm(a, b, out=c)) for _ in range(9)]).median / 1e9
    return _bare[dtype]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", CONTENDERS)
def bench_tree_attention(benchmark: Any, settings: dict, tree: Tree, dtype: str, name: str, direction: str) -> None:
    if name == "FlexAttention" and direction == "backward" and DEVICE.type == "cpu":
        pytest.skip("FlexAttention has no backward on the CPU")
    if tree.branches > 100 and name in ("SDPA, padded", "eager torch", "packing, himakernels"):
        pytest.skip("thousands of copies of the prefix, or a dense mask of them")
    if tree.tokens > 10_000 and (DEVICE.type == "cpu" or name == "eager torch"):
        pytest.skip("a long chain on a CPU, or a dense mask of it")
    gate(DTYPES[dtype])
    operands, attention = CONTENDERS[name](Operands(tree, DTYPES[dtype]))
    *inputs, dout = operands
    leaves = [t.detach().requires_grad_(direction == "backward") for t in inputs]
    try:
        out = attention(*leaves)
    except (NotImplementedError, ModuleNotFoundError) as refusal:  # no such library, or not on this device
        pytest.skip(str(refusal))

    def step() -> object:
        if direction == "forward":
            return attention(*leaves)
        return torch.autograd.grad(out, leaves, dout, retain_graph=True)

    median = run(benchmark, step, f"{direction} {tree.name} {dtype}")
    flop = (4 if direction == "forward" else 10) * tree.pairs * tree.head_dim * tree.query_heads
    benchmark.extra_info.update(settings, contender=name, tokens=tree.tokens, samples=tree.branches)
    if median is not None:
        benchmark.extra_info["GFLOP_per_s"] = flop / median / 1e9
        bare = bare_gflops(torch.float32 if DEVICE.type == "cpu" else DTYPES[dtype])
        benchmark.extra_info["fraction_of_bare_product"] = flop / median / 1e9 / bare
