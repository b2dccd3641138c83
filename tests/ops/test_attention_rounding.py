"""How attention's kernels round weights to 16 bits without a conversion there and back."""

import os

import pytest
import torch
import triton
import triton.language as tl

from himakernels.ops.tree_attention.block_kernels import rounded

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
