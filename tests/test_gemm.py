"""The matrix product of the extension against numpy in fp64."""

import numpy as np
import pytest

from himakernels import _core


# 41 to 79 panels of rows: the last block has fewer panels than the one before it, so threads change panels between blocks.
@pytest.mark.parametrize("rows", [1, 14, 560, 574, 800, 1105], ids=lambda rows: f"{rows}-rows")
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_gemm(rows: int, threads: int) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((rows, 256)).astype(np.float32)
    b = rng.standard_normal((256, 4096)).astype(np.float32)
    c = np.empty((rows, 4096), dtype=np.float32)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    for _ in range(3):
        _core.gemm(a, "float32", b, "float32", c, "float32", False, threads)
        assert np.abs(c - expected).max() < 1e-4 * np.sqrt(256)
