"""select_groups: eager torch on every device. It sorts a few hundred numbers: there is nothing to fuse."""

import torch

from himakernels.checks import FLOATS, INTS, check_device, check_dtype, check_shape


def select_groups(variance: torch.Tensor, *, top_k: int | None, per: torch.Tensor | None = None) -> torch.Tensor:
    """mask_g = variance_g > 0 and fewer than top_k groups of g's key rank above g, by (highest variance, lowest index).

    Args:
        variance: [n] fp32, bf16, fp16 or fp64: the spread of each group's rewards. Zero (nothing to learn) and NaN (no
            spread known) are never selected; +inf ranks first. Not differentiable.
        top_k: how many groups learn at most, a Python int above zero; None is every group with a variance above zero.
        per: [n] int64 or int32 keys of any value, an agent's or a query's id: top_k then counts inside each key. None
            is one key for all.

    Returns:
        mask [n] bool. A mask and not indices, so that its size is known without a synchronisation.

    Numerics: comparisons only: exact and reproducible. Equal variances are taken by lower index.

    Raises:
        ValueError, TypeError: for a wrong shape, dtype, device or top_k.

    Source: variance top-K of VR-GRPO.
    """
    check_dtype("variance", variance, FLOATS)
    check_shape("variance", variance, ("n",))
    if top_k is not None:
        if isinstance(top_k, bool) or not isinstance(top_k, int):
            raise TypeError(f"top_k: expected int or None, got {type(top_k).__name__}")
        if top_k < 1:
            raise ValueError(f"top_k: expected a number > 0 or None, got {top_k}")
    if per is not None:
        check_dtype("per", per, INTS)
        check_shape("per", per, (variance.shape[0],))
        check_device("per", per, variance.device)
    variance = variance.detach()
    eligible = variance > 0  # False for NaN
    if top_k is None:
        return eligible
    # [n] best first; what is not eligible stands behind. The stable sort keeps the lower index first.
    order = torch.where(eligible, variance, 0).sort(descending=True, stable=True).indices
    if per is None:
        taken = order[:top_k]
        return torch.zeros_like(eligible).index_fill(0, taken, True) & eligible
    # A second stable sort, by key, leaves each key's groups best first; rank = distance to the key's first place.
    keys, by_key = per[order].sort(stable=True)
    order = order[by_key]
    rank = torch.arange(order.shape[0], device=order.device) - torch.searchsorted(keys, keys)
    return torch.zeros_like(eligible).index_copy(0, order, rank < top_k) & eligible
