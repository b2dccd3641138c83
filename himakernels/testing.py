"""The numerical gate and what tests and benches share."""

import math

import torch


def assert_gate(
    name: str,
    actual: torch.Tensor,
    truth: torch.Tensor,
    eager: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    n: int = 1,
) -> None:
    """Elementwise |actual - truth| <= |eager - truth| + slack: as near to fp64 as same-dtype eager torch, or nearer.

    Args:
        actual: what is judged.
        truth: the fp64 reference on the same, already quantised inputs.
        eager: the reference run in the inputs' dtype.
        dtype: the precision in which products are rounded (the inputs' dtype); default is that of `actual`.
        n: the number of terms summed in fp32 into one element.

    slack = 2 eps(dtype) (|truth| + rms(truth)) + 4 eps(fp32) sqrt(n) rms(truth): an element on which eager happens to be
    exact may still be off by a rounding of its own, and by a rounding of the sum that it ends.
    """
    assert actual.shape == truth.shape == eager.shape, f"{name}: {actual.shape}, {truth.shape}, {eager.shape}"
    actual64, truth64, eager64 = (t.detach().double().cpu() for t in (actual, truth, eager))
    assert torch.equal(actual64.isnan(), truth64.isnan()), f"{name}: NaN where the truth has none, or the reverse"
    ok = ~truth64.isnan()
    if not bool(ok.any()):
        return
    rms = float(truth64[ok].square().mean().sqrt())
    eps = torch.finfo(dtype or actual.dtype).eps
    slack = 2 * eps * (truth64.abs() + rms) + 4 * torch.finfo(torch.float32).eps * math.sqrt(n) * rms
    error = (actual64 - truth64).abs()
    bound = (eager64 - truth64).abs() + slack
    wrong = ok & ~((error <= bound) | (actual64 == truth64))
    if bool(wrong.any()):
        worst = int(torch.where(wrong, error / bound, torch.zeros_like(error)).argmax())
        raise AssertionError(
            f"{name}: {int(wrong.sum())} of {wrong.numel()} elements outside the gate; worst at flat index {worst}: "
            f"got {actual64.flatten()[worst]:.9g}, truth {truth64.flatten()[worst]:.9g}, "
            f"eager {eager64.flatten()[worst]:.9g}, bound {bound.flatten()[worst]:.3g}"
        )
