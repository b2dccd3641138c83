"""HiMA-Ecom: a deterministic e-commerce benchmark for hierarchical multi-agent systems."""

from trainer.hima_ecom.session import Session
from trainer.hima_ecom.tools import TOOLS, WRITING_TOOLS, tool_names
from trainer.hima_ecom.world import World

__all__ = ["TOOLS", "WRITING_TOOLS", "Session", "World", "tool_names"]
