"""Advantages of grouped rewards: ragged groups in any order."""

from himakernels.ops.group_advantages.op import GroupAdvantages, group_advantages
from himakernels.ops.group_advantages.reference import group_advantages_reference

__all__ = ["GroupAdvantages", "group_advantages", "group_advantages_reference"]
