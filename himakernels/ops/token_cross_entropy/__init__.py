"""Token cross-entropy."""

from himakernels.ops.token_cross_entropy.op import TokenCrossEntropy, token_cross_entropy
from himakernels.ops.token_cross_entropy.reference import token_cross_entropy_reference

__all__ = ["TokenCrossEntropy", "token_cross_entropy", "token_cross_entropy_reference"]
