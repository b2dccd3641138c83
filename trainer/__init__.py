"""The HiMA-R1 trainer: agents, rewards, memory and the training loop on top of `himakernels`."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.trainer import VRGRPOTrainer

__all__ = ["TrainConfig", "VRGRPOTrainer"]

# As in himakernels.openmp, which says why. It can't be imported here: half of the commands need no torch, and start at once.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"}:
    os.environ["OMP_WAIT_POLICY"] = "passive"


def __getattr__(name: str) -> Any:
    """What needs torch, transformers and PEFT is imported when it is asked for."""
    if name == "VRGRPOTrainer":
        from trainer.trainer import VRGRPOTrainer

        return VRGRPOTrainer
    if name == "TrainConfig":
        from trainer.config import TrainConfig

        return TrainConfig
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")
