"""Typed signature of the C++ extension. Arrays may be strided where they are inputs; outputs are contiguous."""

from typing import Any

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

# c (+)= a @ b for 2-D arrays of any strides (c: contiguous rows). Half precision comes as int16 with its dtype's name.
def gemm(
    a: NDArray[Any],
    a_dtype: str,
    b: NDArray[Any],
    b_dtype: str,
    c: NDArray[Any],
    c_dtype: str,
    accumulate: bool,
    threads: int,
) -> None: ...

# logits_stats_{float32,float64,bfloat16,float16}(logits [R, V], labels [R] int64, inv_temperature, softcap (0 = none),
# logprobs [R], lse [R], entropy [R] (written), threads), and logits_grad_* with dlogits, source and target before labels,
# coef and coef_entropy after entropy: see csrc/logits.h.
def __getattr__(name: str) -> Any: ...
