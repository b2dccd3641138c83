"""Token log-probabilities and entropy."""

from himakernels.ops.token_logprobs.op import TokenLogprobs, token_logprobs, token_logprobs_from_logits
from himakernels.ops.token_logprobs.reference import token_logprobs_reference

__all__ = ["TokenLogprobs", "token_logprobs", "token_logprobs_from_logits", "token_logprobs_reference"]
