"""Attention of sequences' newest tokens over keys and values in blocks."""

from himakernels.ops.paged_attention.op import paged_attention
from himakernels.ops.paged_attention.reference import paged_attention_reference

__all__ = ["paged_attention", "paged_attention_reference"]
