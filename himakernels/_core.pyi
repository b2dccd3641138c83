"""Typed signature of the C++ extension. Input arrays may have any strides; what comes back is contiguous."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# rewards [S] or [S, M], float32 or float64; group_id [S], int32 or int64; weights [M], float64.
# Returns advantages [S], count [n] int64, mean [n] and variance [n]; floats in the dtype of rewards.
def group_advantages(
    rewards: NDArray[Any],
    group_id: NDArray[Any],
    num_groups: int,
    weights: NDArray[np.float64] | None,
    normalize: str,
    eps: float,
    normalize_then_sum: bool,
    scale_by_batch_std: bool,
    threads: int,
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any], NDArray[Any]]: ...
