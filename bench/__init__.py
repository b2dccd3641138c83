"""Benchmarks and the tools that look at kernels without running them."""

import himakernels  # noqa: F401  (before torch, so that OpenMP waits as it does for a user)
