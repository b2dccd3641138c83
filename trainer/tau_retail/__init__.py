"""The retail domain of tau-bench, run from its data files: a second e-commerce world, with tools of our own."""

from trainer.tau_retail.data import Retail, Task, load, tool_schemas
from trainer.tau_retail.env import TauRetailEnv

__all__ = ["Retail", "TauRetailEnv", "Task", "load", "tool_schemas"]
