"""The VR-GRPO policy loss."""

from himakernels.ops.vrgrpo_loss.loss import VRGRPOLoss, vrgrpo_loss, vrgrpo_loss_from_logits
from himakernels.ops.vrgrpo_loss.metrics import PolicyMetrics
from himakernels.ops.vrgrpo_loss.options import PolicyOptions
from himakernels.ops.vrgrpo_loss.reference import vrgrpo_loss_reference

__all__ = [
    "PolicyMetrics",
    "PolicyOptions",
    "VRGRPOLoss",
    "vrgrpo_loss",
    "vrgrpo_loss_from_logits",
    "vrgrpo_loss_reference",
]
