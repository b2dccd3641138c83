"""The retail domain of tau-bench, run from its data files: a second e-commerce world, with tools of our own.

Source: sierra-research/tau-bench (MIT): policy, schemas, tasks, criterion. On the gold actions of all 520 tasks our tools
refuse what its tools refuse and leave the same store. They differ where its tools stray from the policy: an order whose payment
was changed and that is then cancelled refunds what is still held, not the refund too; an item id in a list stands for an item
of the order as it was before the call; an empty list of items is refused.
"""

from trainer.tau_retail.data import Retail, Task, load, tool_schemas
from trainer.tau_retail.env import TauRetailEnv

__all__ = ["Retail", "Task", "TauRetailEnv", "load", "tool_schemas"]
