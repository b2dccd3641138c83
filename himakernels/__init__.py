"""himakernels: fused kernels for hierarchical multi-agent GRPO."""
