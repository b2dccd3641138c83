"""Benchmarks and the tools that look at kernels without running them."""
