"""Attention at scores of any size: the gate where they are large, and what a compiler may fuse where they are huge."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from himakernels import (
    paged_attention,
    token_logprobs_from_logits,
    tree_attention,
    tree_attention_reference,
    varlen_attention,
    varlen_attention_reference,
)
from himakernels.ops.tree_attention import block_kernels
from himakernels.testing import INTERPRET, assert_gate, forest_of, random_depths

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy, inside the interpreter


@triton.jit
def fusable_product(x: tl.tensor, y: tl.tensor):
    return x * y


# heads: query heads, key heads. `size` is what q is multiplied by: scores are some 1 to 4 times that.
CASES: dict[str, dict[str, Any]] = {
    "forest": {"depths": random_depths(113, seed=1), "heads": (4, 4), "D": 96, "size": 50},
    "hundreds": {"depths": random_depths(90, seed=2), "heads": (2, 1), "D": 96, "size": 200},
    "tens": {"depths": random_depths(70, seed=3), "heads": (4, 2), "D": 40, "size": 10},
    # As large as the scores: some take nearly all, some nearly nothing, some a part.
    "sinks": {"depths": random_depths(90, seed=4), "heads": (4, 2), "D": 32, "size": 50, "sinks": 100.0},
    "window": {"depths": random_depths(90, seed=5, new_tree=0.01), "heads": (2, 1), "D": 32, "size": 50, "window": 9},
    "softcap": {"depths": random_depths(113, seed=0), "heads": (4, 4), "D": 96, "size": 50, "softcap": 50.0},
}


def run(attention: Callable[..., torch.Tensor], operands: list[torch.Tensor], dtype: torch.dtype, **rest: Any) -> list[Any]:
    """out and the gradients of q, k, v and sinks, where there are any."""
    *leaves, dout = (t.to(dtype) for t in operands)
    leaves = [t.requires_grad_() for t in leaves]
    out = attention(*leaves[:3], sinks=leaves[3] if len(leaves) > 3 else None, **rest)
    return [out.detach(), *torch.autograd.grad(out, leaves, dout)]


# On GPU the row term comes from out: where one key has nearly all of the weight, some elements in a thousand miss the gate.
CPU_ONLY = pytest.mark.skipif(INTERPRET or torch.cuda.is_available(), reason="the CPU route sums the row term from p and dp")


@CPU_ONLY
@pytest.mark.parametrize("name", CASES)
def test_gate(name: str, device: torch.device) -> None:
    """The probabilities of the backward add up to 1: they are the forward's weights times the share that it made out with."""
    case, g = CASES[name], torch.Generator().manual_seed(0)
    (query_heads, key_heads), D, T = case["heads"], case["D"], len(case["depths"])
    q, k, v, dout = (torch.randn(T, h, D, generator=g) for h in (query_heads, key_heads, key_heads, query_heads))
    sinks = [torch.randn(query_heads, generator=g) * case["sinks"]] if "sinks" in case else []
    operands = [q * case["size"], k, v, *sinks, dout]
    subtree_end, position_ids = forest_of(case["depths"])
    options = {option: case[option] for option in ("window", "softcap") if option in case}
    options |= {"subtree_end": subtree_end, "position_ids": position_ids}
    truth, eager = (run(tree_attention_reference, operands, dtype, **options) for dtype in (torch.float64, torch.float32))
    options |= {"subtree_end": subtree_end.to(device), "position_ids": position_ids.to(device)}
    got = run(tree_attention, [t.to(device) for t in operands], torch.float32, **options)
    for what, a, b, c in zip(("out", "dq", "dk", "dv", "dsinks"), got, truth, eager, strict=False):
        assert_gate(what, a, b, c, n=T * D)


@CPU_ONLY
def test_gate_of_sequences(device: torch.device) -> None:
    g, bounds = torch.Generator().manual_seed(0), torch.tensor([0, 3, 40, 90], dtype=torch.int32)
    operands = [torch.randn(90, 2, 32, generator=g) * size for size in (50, 1, 1, 1)]
    truth, eager = (
        run(varlen_attention_reference, operands, dtype, cu_seqlens=bounds) for dtype in (torch.float64, torch.float32)
    )
    got = run(varlen_attention, [t.to(device) for t in operands], torch.float32, cu_seqlens=bounds.to(device))
    for what, a, b, c in zip(("out", "dq", "dk", "dv"), got, truth, eager, strict=True):
        assert_gate(what, a, b, c, n=90 * 32)


@pytest.mark.parametrize("options", [{}, {"softcap": 400.0}, {"window": 20}])
@pytest.mark.parametrize("size", [10, 50, 300])
def test_the_probabilities_of_the_backward_add_up_to_one(size: int, options: dict[str, Any], device: torch.device) -> None:
    """The gradient of one query's output, all ones, goes to the values by its probabilities. A log-sum-exp in one fp32 number
    leaves a sum that is off by half its last digit, 8e-6 at scores of 150."""
    g, (subtree_end, position_ids) = torch.Generator().manual_seed(0), forest_of([*range(60)], device)
    q, k, v = (torch.randn(60, 1, 32, generator=g).to(device) * factor for factor in (size, 1, 1))
    v.requires_grad_()
    out = tree_attention(q, k, v, subtree_end, position_ids=position_ids, **options)
    for query in range(20, 60, 4):
        dout = torch.zeros_like(out)
        dout[query] = 1
        (dv,) = torch.autograd.grad(out, v, dout, retain_graph=True)
        assert abs(float(dv[:, 0, 0].double().sum()) - 1) < 5e-7


@pytest.mark.parametrize("sink", [-1e9, 1e4, 1e9, float("inf")])
def test_a_sink_far_from_all_scores(sink: float, device: torch.device) -> None:
    """It takes everything or nothing, and nothing is NaN."""
    g, (subtree_end, _) = torch.Generator().manual_seed(0), forest_of(random_depths(40), device)
    q, k, v, dout = (torch.randn(40, 2, 16, generator=g).to(device) for _ in range(4))
    out, *grads = run(
        tree_attention, [q, k, v, torch.full([2], sink, device=device), dout], torch.float32, subtree_end=subtree_end
    )
    plain = tree_attention(q, k, v, subtree_end)
    assert torch.equal(out, plain if sink < 0 else torch.zeros_like(plain))
    assert all(bool(t.isfinite().all()) for t in grads)
    assert float(grads[3].abs().max()) < 1e-30


@pytest.fixture
def fusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the interpreter: fp32 sums and differences of a product are fused with it, as a compiler may do on a GPU.

    The product is taken in fp64, exactly, and the sum is rounded once.
    """
    if not INTERPRET:
        return
    import numpy as np
    from triton.runtime.interpreter import InterpreterBuilder as Builder

    plain = {name: getattr(Builder, name) for name in ("create_fmul", "create_fadd", "create_fsub")}

    def multiply(self: Any, x: Any, y: Any) -> Any:
        product = plain["create_fmul"](self, x, y)
        product.factors = (x.data, y.data)
        return product

    def fused(name: str, sign: int) -> Callable[..., Any]:
        def add(self: Any, x: Any, y: Any) -> Any:
            total = plain[name](self, x, y)
            if total.data.dtype != np.float32:
                return total
            if hasattr(x, "factors"):
                exact = np.multiply(*x.factors, dtype=np.float64) + sign * y.data.astype(np.float64)
            elif hasattr(y, "factors"):
                exact = x.data.astype(np.float64) + sign * np.multiply(*y.factors, dtype=np.float64)
            else:
                return total
            total.data = exact.astype(np.float32)
            return total

        return add

    monkeypatch.setattr(Builder, "create_fmul", multiply)
    monkeypatch.setattr(Builder, "create_fadd", fused("create_fadd", 1))
    monkeypatch.setattr(Builder, "create_fsub", fused("create_fsub", -1))


def huge(size: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k, v [64, 1, 16] with scores of some `size`, and for each token of a chain the key that takes everything."""
    g = torch.Generator().manual_seed(0)
    rank = torch.randperm(64, generator=g) + 65  # whole numbers that bf16 holds; neighbours differ by 1 %
    k = rank.view(64, 1, 1).expand(64, 1, 16).to(dtype)
    q = torch.full((64, 1, 16), size / 1000).to(dtype)
    v = torch.randn(64, 1, 16, generator=g).to(dtype)
    best = (rank if size > 0 else -rank).cummax(0).indices
    return q, k, v, best


SIZES = [1e5, 5.9e9, -5.9e9, 3e15, 1e30]


@pytest.mark.usefixtures("fusing")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_huge_scores(size: float, dtype: torch.dtype, device: torch.device) -> None:
    """The largest score has all of the weight, forward and backward."""
    q, k, v, best = (t.to(device) for t in huge(size, dtype))
    subtree_end = torch.full([64], 64, dtype=torch.int32, device=device)
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    out = tree_attention(*leaves, subtree_end, scale=0.3)
    torch.testing.assert_close(out, v[best], rtol=1e-6, atol=0)
    dq, dk, dv = torch.autograd.grad(out, leaves, torch.ones_like(out))
    torch.testing.assert_close(dv[:, 0, 0].float(), torch.bincount(best, minlength=64).float(), rtol=1e-6, atol=0)
    assert float(dq.abs().max()) <= 1e-2  # a difference of two equal numbers, times keys of 100
    assert bool(dk.isfinite().all())
    pages = [t.view(4, 16, 1, 16) for t in (k, v)]
    table = torch.arange(4, dtype=torch.int32, device=device)[None]
    bounds, lens = (torch.tensor(x, dtype=torch.int32, device=device) for x in ([0, 64], [64]))
    paged = paged_attention(q, *pages, table, bounds, lens, scale=0.3)
    torch.testing.assert_close(paged, v[best], rtol=1e-6, atol=0)


@pytest.mark.skipif(not INTERPRET, reason="what is fused is the interpreter's products")
@pytest.mark.usefixtures("fusing")
def test_a_product_that_is_fused_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above can fail: scores that are not rounded before their maximum is taken away."""
    monkeypatch.setattr(block_kernels, "unfused_product", fusable_product)
    q, k, v, _ = huge(3e15, torch.float32)
    subtree_end = torch.full([64], 64, dtype=torch.int32)
    assert not bool(tree_attention(q, k, v, subtree_end, scale=0.3).isfinite().all())


@pytest.mark.usefixtures("fusing")
@pytest.mark.parametrize("size", [1e4, 1e9, -3e15])
def test_nan_among_huge_scores_stays(size: float, device: torch.device) -> None:
    q, k, v, _ = (t.to(device) for t in huge(size, torch.float32))
    q[40, 0, 3] = torch.nan
    out = tree_attention(q, k, v, torch.full([64], 64, dtype=torch.int32, device=device))
    assert bool(out[40].isnan().all())
    assert bool(out[:40].isfinite().all())


@pytest.mark.usefixtures("fusing")
@pytest.mark.parametrize("softcap", [None, 3e9])
@pytest.mark.parametrize("size", [1e3, 1e9, 1e15])
def test_gradients_of_huge_logits(size: float, softcap: float | None, device: torch.device) -> None:
    """No probability is above 1, whatever the temperature: |dlogits| <= 1 / temperature in a row."""
    g = torch.Generator().manual_seed(0)
    logits = (torch.randn(8, 300, generator=g) * size).to(device).requires_grad_()
    labels = logits.detach().argmax(1).roll(1)
    loss = token_logprobs_from_logits(logits, labels, temperature=0.7, softcap=softcap).logprobs.sum()
    (grad,) = torch.autograd.grad(loss, logits)
    assert bool((grad.abs() <= 1 / 0.7 + 1e-6).all())
