"""Threads of a product on the CPU: none disturbs another, whoever is ahead, and callers at the same time share them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from himakernels import _core

PRODUCTS = [False, pytest.param(True, marks=pytest.mark.skipif(not _core.has_bf16_products(), reason="no bf16 products here"))]


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def product(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, threads: int, *, bf16: bool = False) -> torch.Tensor:
    """start + a @ b."""
    c = start.clone()
    operands = [x for t in (a, b, c) for x in (t.numpy(), "float32")]
    _core.gemm(*operands, True, threads=threads, bf16_products=bf16)
    return c


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_a_thread_that_is_ahead_disturbs_no_other(threads: int) -> None:
    """More rows than one block of A holds, and a last block with fewer panels than threads would share evenly."""
    m, n = 14 * 64 * 3 + 42, 128
    a, b, start = randn(m, 16, seed=9), randn(16, n, seed=10), torch.zeros(m, n)
    alone = product(a, b, start, 1)
    assert all(torch.equal(product(a, b, start, threads), alone) for _ in range(100))


@pytest.mark.parametrize("bf16", PRODUCTS)
@pytest.mark.parametrize(("m", "k", "n"), [(64, 20_000, 30), (700, 9_000, 20), (30, 9_000, 700)])
def test_stages_follow_each_other(m: int, k: int, n: int, bf16: bool) -> None:
    """A long K, several blocks of N, few rows and many: a stage begins while others are not done."""
    a, b, start = randn(m, k, seed=1), randn(k, n, seed=2), randn(m, n, seed=3)
    alone = product(a, b, start, 1, bf16=bf16)
    truth = start.double() + a.double() @ b.double()
    torch.testing.assert_close(alone.double(), truth, rtol=0, atol=0.02 * k**0.5 if bf16 else 1e-3)
    for threads in (2, 5, 2, 9):
        assert torch.equal(product(a, b, start, threads, bf16=bf16), alone)


def test_callers_at_the_same_time() -> None:
    """They share the workers, and each gets its own result."""
    pairs = [(randn(90 + 7 * i, 3_000, seed=i), randn(3_000, 40, seed=20 + i)) for i in range(6)]
    starts = [torch.zeros(len(a), 40) for a, _ in pairs]
    want = [product(a, b, start, 1) for (a, b), start in zip(pairs, starts, strict=True)]

    def run(i: int) -> bool:
        return all(torch.equal(product(*pairs[i], starts[i], 4), want[i]) for _ in range(20))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(run, range(6)))
