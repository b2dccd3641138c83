"""LoRA of several adapters over one packed batch."""

from himakernels.ops.grouped_lora.op import grouped_lora
from himakernels.ops.grouped_lora.reference import grouped_lora_reference

__all__ = ["grouped_lora", "grouped_lora_reference"]
