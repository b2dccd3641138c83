"""The specification of select_groups, in plain Python."""

import torch


def select_groups_reference(variance: torch.Tensor, *, top_k: int | None, per: torch.Tensor | None = None) -> torch.Tensor:
    """Mask [n]: inside each key of `per`, the top_k groups by (highest variance, lowest index) with variance > 0."""
    values = variance.tolist()
    keys = [0] * len(values) if per is None else per.tolist()
    mask = torch.zeros(len(values), dtype=torch.bool)
    for key in set(keys):
        learns = [i for i, v in enumerate(values) if keys[i] == key and v > 0]
        ranked = sorted(learns, key=lambda i: (-values[i], i))
        mask[ranked[:top_k]] = True
    return mask.to(variance.device)
