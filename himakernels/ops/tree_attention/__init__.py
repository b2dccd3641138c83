"""Attention over a packed forest of token sequences."""

from himakernels.ops.tree_attention.op import tree_attention
from himakernels.ops.tree_attention.reference import tree_attention_reference

__all__ = ["tree_attention", "tree_attention_reference"]
