"""Generation over token ids: what every engine promises (base), and the engine on the trainer's own parameters (local)."""

from trainer.engine.base import ContinuousEngine, Engine, EngineStats, SamplingParams

__all__ = ["ContinuousEngine", "Engine", "EngineStats", "SamplingParams"]
