"""himakernels: fused kernels for hierarchical multi-agent GRPO."""

from himakernels import openmp as _openmp  # noqa: F401  (before torch)
from himakernels.kv_pool import KVPool
from himakernels.ops.group_advantages import GroupAdvantages, group_advantages, group_advantages_reference
from himakernels.ops.grouped_lora import grouped_lora, grouped_lora_reference
from himakernels.ops.paged_attention import paged_attention, paged_attention_reference
from himakernels.ops.select_groups import select_groups, select_groups_reference
from himakernels.ops.token_cross_entropy import TokenCrossEntropy, token_cross_entropy, token_cross_entropy_reference
from himakernels.ops.token_logprobs import (
    TokenLogprobs,
    token_logprobs,
    token_logprobs_from_logits,
    token_logprobs_reference,
)
from himakernels.ops.tree_attention import tree_attention, tree_attention_reference
from himakernels.ops.varlen_attention import varlen_attention, varlen_attention_reference
from himakernels.ops.vrgrpo_loss import (
    PolicyMetrics,
    PolicyOptions,
    VRGRPOLoss,
    vrgrpo_loss,
    vrgrpo_loss_from_logits,
    vrgrpo_loss_reference,
)
from himakernels.packing import PackedTree, Packing, pack
from himakernels.prefix_cache import OutOfBlocksError, PrefixCache

__all__ = [
    "GroupAdvantages",
    "KVPool",
    "OutOfBlocksError",
    "PackedTree",
    "Packing",
    "PolicyMetrics",
    "PolicyOptions",
    "PrefixCache",
    "TokenCrossEntropy",
    "TokenLogprobs",
    "VRGRPOLoss",
    "group_advantages",
    "group_advantages_reference",
    "grouped_lora",
    "grouped_lora_reference",
    "pack",
    "paged_attention",
    "paged_attention_reference",
    "select_groups",
    "select_groups_reference",
    "token_cross_entropy",
    "token_cross_entropy_reference",
    "token_logprobs",
    "token_logprobs_from_logits",
    "token_logprobs_reference",
    "tree_attention",
    "tree_attention_reference",
    "varlen_attention",
    "varlen_attention_reference",
    "vrgrpo_loss",
    "vrgrpo_loss_from_logits",
    "vrgrpo_loss_reference",
]
