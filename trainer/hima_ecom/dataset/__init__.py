"""The benchmark as JSONL files: written from a seed, read back, and checked line by line."""

from trainer.hima_ecom.dataset.read import InvalidDatasetError, read_samples, read_tasks, validate
from trainer.hima_ecom.dataset.write import write_dataset

__all__ = ["InvalidDatasetError", "read_samples", "read_tasks", "validate", "write_dataset"]
