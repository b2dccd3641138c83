"""Adaptive memory: strategies that each agent retrieves, learnt from the rewards of siblings."""

from trainer.memory.config import MemoryConfig
from trainer.memory.embedder import Embedder, HashingEmbedder, SentenceEmbedder, load_embedder
from trainer.memory.evolution import Evolution, Observation
from trainer.memory.memory import Memory
from trainer.memory.store import Entry

__all__ = [
    "Embedder",
    "Entry",
    "Evolution",
    "HashingEmbedder",
    "Memory",
    "MemoryConfig",
    "Observation",
    "SentenceEmbedder",
    "load_embedder",
]
