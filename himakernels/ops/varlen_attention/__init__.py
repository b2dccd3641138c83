"""Causal attention over sequences packed one after the other, by our own kernel or by another library's."""

from himakernels.ops.varlen_attention.op import varlen_attention
from himakernels.ops.varlen_attention.reference import varlen_attention_reference

__all__ = ["varlen_attention", "varlen_attention_reference"]
