"""The operations, one folder each: reference, kernels, op."""
