"""The groups that learn: top-K by reward variance."""

from himakernels.ops.select_groups.op import select_groups
from himakernels.ops.select_groups.reference import select_groups_reference

__all__ = ["select_groups", "select_groups_reference"]
