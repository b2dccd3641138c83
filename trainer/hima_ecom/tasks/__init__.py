"""The tasks of the benchmark: families, each with an expert that solves its tasks through the real tools."""

from trainer.hima_ecom.tasks.families import FAMILIES
from trainer.hima_ecom.tasks.generate import make_tasks, stream_tasks
from trainer.hima_ecom.tasks.task import COLUMNS, Task

__all__ = ["COLUMNS", "FAMILIES", "Task", "make_tasks", "stream_tasks"]
