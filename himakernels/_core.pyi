"""Typed signature of the C++ extension. Arrays may be strided where they are inputs; outputs are contiguous."""

import numpy as np
from numpy.typing import NDArray

def group_advantages(
    rewards: NDArray[np.float32] | NDArray[np.float64],
    group_id: NDArray[np.int32] | NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    normalize: str,
    eps: float,
    normalize_then_sum: bool,
    scale_by_batch_std: bool,
    threads: int,
    advantages: NDArray[np.float32] | NDArray[np.float64],
    count: NDArray[np.int64],
    mean: NDArray[np.float32] | NDArray[np.float64],
    variance: NDArray[np.float32] | NDArray[np.float64],
) -> None: ...
