"""What the kernels of attention do that its other routes don't: rounding without conversions, runs of blocks."""

import os
from collections.abc import Callable

import pytest
import torch
import triton
import triton.language as tl

from himakernels import tree_attention, tree_attention_reference
from himakernels.ops.tree_attention.attention_config import AttentionConfig
from himakernels.ops.tree_attention.block_kernels import rounded
from himakernels.ops.tree_attention.bwd_kernels import tree_attention_bwd
from himakernels.ops.tree_attention.fwd_kernels import tree_attention_fwd
from himakernels.testing import assert_gate, forest_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1",
    reason="Triton runs on a GPU, or anywhere with TRITON_INTERPRET=1",
)


@triton.jit
def rounded_kernel(x_ptr, like_ptr, y_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y_ptr + at, rounded(tl.load(x_ptr + at), tl.load(like_ptr + at)))


def round_all(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    y = torch.empty_like(x)
    rounded_kernel[(1,)](x, torch.zeros_like(x, dtype=dtype), y, N=x.numel())
    return y


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_are_rounded_to_nearest(dtype: torch.dtype) -> None:
    x = torch.exp2(-24 * torch.rand(4096, generator=torch.Generator().manual_seed(0))).to(DEVICE)
    x[:3] = torch.tensor([0.0, 1.0, 2.0**-24])
    x = x[torch.frexp(x).mantissa < 1 - 2.0**-16][:2048]  # below that: the next test
    y, nearest = round_all(x, dtype), x.to(dtype).float()
    assert torch.equal(y, y.to(dtype).float())
    assert torch.equal((y - x).abs(), (nearest - x).abs())  # of two equally near numbers it may be either


def test_nan_stays() -> None:
    x = torch.full([16], float("nan"), device=DEVICE)
    assert bool(round_all(x, torch.bfloat16).isnan().all())


def test_just_below_a_power_of_two_it_is_a_neighbour() -> None:
    """The one exception: the number before the power of two in place of it, which is a number of bf16, too."""
    x = (1 - torch.arange(1024) * 2.0**-24).to(DEVICE)
    y = round_all(x, torch.bfloat16)
    assert torch.equal(y, y.to(torch.bfloat16).float())
    assert set(y.tolist()) == {1.0, 1 - 2.0**-8}
    assert bool((y[x < 1 - 2.0**-16] == 1.0).all())


def test_nothing_outside_the_tensors_is_read() -> None:
    """On GPU subtree_end is trusted, but where it points beyond the tokens there is memory of somebody else's."""
    T = 40
    wide = torch.full((4 * T, 4, 16), float("nan"), device=DEVICE)
    wide[:T] = torch.randn(T, 4, 16)
    q, k, v, dout = (wide[:T, i : i + 1] for i in range(4))
    tokens = torch.full([4 * T], 4 * T, dtype=torch.int32, device=DEVICE)
    numbers = {"scale": 0.25, "window": None, "softcap": None}
    saved = tree_attention_fwd(q, k, v, tokens[:T], None, None, **numbers, with_rest=False)
    grads = tree_attention_bwd(dout, q, k, v, *saved, tokens[:T], None, None, **numbers)
    for tensor in (saved[0], *grads[:3]):
        assert tensor is not None
        assert bool(tensor.isfinite().all())


def test_scores_near_the_end_of_fp32() -> None:
    """What is left out of the softmax is -inf, not merely far below what scores usually are."""
    T, best = 64, 31  # in the last block of keys that all of the later queries see whole
    k = torch.full((T, 1, 16), 3e17, device=DEVICE)
    k[best] = 6e17
    v = torch.randn(T, 1, 16, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    out = tree_attention(torch.full_like(k, 1e19), k, v, torch.full([T], T, dtype=torch.int32, device=DEVICE))
    assert torch.equal(out[best + 1 :], v[best].expand(T - best - 1, 1, 16))


def test_runs_of_more_blocks_than_a_warp_has_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a long chain is seen by the tokens behind it, and none of the siblings before them."""
    blocks = (AttentionConfig(64, 16, 4, 1, ahead=True),) * 3
    for kernels in ("fwd_kernels", "bwd_kernels"):
        monkeypatch.setattr(f"himakernels.ops.tree_attention.{kernels}.attention_configs", lambda q: blocks)
    subtree_end, _ = forest_of([*range(36 * 16), *[*range(4, 20)] * 36])
    T, g = len(subtree_end), torch.Generator().manual_seed(0)
    operands = [torch.randn(T, 1, 16, generator=g, dtype=torch.float64) for _ in range(4)]

    def run(attention: Callable[..., torch.Tensor], dtype: torch.dtype, device: str) -> list[torch.Tensor]:
        *leaves, dout = (t.to(device, dtype) for t in operands)
        leaves = [t.requires_grad_() for t in leaves]
        out = attention(*leaves, subtree_end.to(device))
        return [out.detach(), *torch.autograd.grad(out, leaves, dout)]

    got = run(tree_attention, torch.float32, DEVICE)
    truth, eager = (run(tree_attention_reference, dtype, "cpu") for dtype in (torch.float64, torch.float32))
    for name, a, b, c in zip(("out", "dq", "dk", "dv"), got, truth, eager, strict=True):
        assert_gate(name, a, b, c, n=T * 16)
