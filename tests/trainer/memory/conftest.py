"""An embedder whose cosines are known: a text that starts with a number of degrees is that direction of the plane."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.memory import Memory, MemoryConfig
from trainer.memory.store import Entry


class Angles:
    """ "60 degrees, and so on" -> (cos 60, sin 60)."""

    name = "angles"
    dimension = 2

    def embed(self, texts):
        angles = [math.radians(float(text.split()[0])) for text in texts]
        return np.array([(math.cos(a), math.sin(a)) for a in angles], dtype=np.float32).reshape(-1, 2)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Memory]]:
    """make(**config, file=..., frozen=...) -> a memory with that embedder; closed at the end."""
    opened = []

    def open_memory(*, file: str = "memory.db", frozen: bool = False, **config: Any) -> Memory:
        # Bounds from the first reward on, unless the test says otherwise.
        settings = {"min_window": 1, **config}
        opened.append(Memory(tmp_path / file, Angles(), config=MemoryConfig(**settings), frozen=frozen))
        return opened[-1]

    yield open_memory
    for memory in opened:
        memory.close()


@pytest.fixture
def put() -> Callable[..., int]:
    """put(memory, agent, key, strategy, **fields) -> id: an entry that is simply there."""

    def insert(memory: Memory, agent: str, key: str, strategy: str = "s", **fields: Any) -> int:
        with memory.store.write():
            identity = memory.store.insert(Entry(0, agent, key, strategy, **fields), memory.embedder.embed([key])[0])
        memory.forget()
        return identity

    return insert
