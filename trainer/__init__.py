"""The HiMA-R1 trainer: agents, rewards, memory and the training loop on top of `himakernels`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.trainer import VRGRPOTrainer

__all__ = ["TrainConfig", "VRGRPOTrainer"]


def __getattr__(name: str) -> Any:
    """What needs torch, transformers and PEFT is imported when it is asked for."""
    if name == "VRGRPOTrainer":
        from trainer.trainer import VRGRPOTrainer

        return VRGRPOTrainer
    if name == "TrainConfig":
        from trainer.config import TrainConfig

        return TrainConfig
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")
