"""A memory that learns from rewards: what the agents retrieve, and how it evolves."""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.memory import evolution, rule
from trainer.memory.config import MemoryConfig
from trainer.memory.embedder import CachedEmbedder, Embedder
from trainer.memory.evolution import Evolution, Observation
from trainer.memory.index import top
from trainer.memory.store import Entry, Store

Floats = NDArray[np.float32]


class _Loaded(NamedTuple):
    """One agent's entries as they are searched."""

    entries: list[Entry]
    scaled: Floats
    """[N, D], each key times sigmoid(weight): the inner product with a query is the entry's score."""


class Memory:
    """Per-agent strategies in one SQLite file, retrieved by cosine * sigmoid(weight), evolved by the rewards of siblings.

    The same calls in the same order leave the same content. Several processes may open one file: each sees what the others
    committed. An object belongs to the thread and the process that made it.

    Args:
        path: the file; made where it is missing.
        embedder: text -> unit vectors; a file keeps to the embedder that made it.
        config: the numbers.
        frozen: for evaluation: the file must exist, is opened for reading only, and `evolve` and `restore` raise RuntimeError.

    Raises:
        FileNotFoundError, ValueError: as `Store`.

    Source: arXiv 2506.19846, section on adaptive memory evolution.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        embedder: Embedder,
        *,
        config: MemoryConfig | None = None,
        frozen: bool = False,
    ) -> None:
        self.config = MemoryConfig() if config is None else config
        self.embedder = CachedEmbedder(embedder)
        self.store = Store(path, embedder=(embedder.name, embedder.dimension), frozen=frozen)
        self._loaded: dict[str, _Loaded] = {}
        self._version = self.store.version

    @property
    def frozen(self) -> bool:
        """Nothing is ever written."""
        return self.store.frozen

    @property
    def step(self) -> int | None:
        """The highest optimiser step that has evolved the memory; None before the first. After a crash it may be one ahead of
        the checkpoint: `restore` the checkpoint's snapshot before going on."""
        return self.store.step

    def retrieve(self, agent: str, query: str, m: int | None = None) -> list[Entry]:
        """The agent's m entries (None: config.m) of the highest cosine(query, key) * sigmoid(weight) >= floor, best first."""
        return self.retrieve_many([agent], [query], m)[0]

    def retrieve_many(self, agents: Sequence[str], queries: Sequence[str], m: int | None = None) -> list[list[Entry]]:
        """`retrieve` for [N] agents and [N] queries at once; the same entries as one by one.

        Raises:
            TypeError, ValueError: lengths that differ, an empty text, an m below 0.
        """
        if len(agents) != len(queries):
            raise ValueError(f"queries: expected {len(agents)}, one for each of agents, got {len(queries)}")
        m = self.config.m if m is None else m
        if isinstance(m, bool) or not isinstance(m, int) or m < 0:
            raise ValueError(f"m: expected an int >= 0, got {m!r}")
        for agent, query in zip(agents, queries, strict=True):
            check_text("agent", agent)
            check_text("query", query)
        version = self.store.version
        if version != self._version:
            self._loaded.clear()
            self._version = version
        vectors = self.embedder.embed(queries)
        found: list[list[Entry]] = [[] for _ in queries]
        for agent in dict.fromkeys(agents):
            rows = [i for i, name in enumerate(agents) if name == agent]
            loaded = self._load(agent)
            for i, hits in zip(rows, top(loaded.scaled, vectors[rows], m), strict=True):
                found[i] = [loaded.entries[row] for row, score in hits if score >= self.config.floor]
        return found

    def forget(self) -> None:
        """What was loaded for retrieval is read again: whoever writes through `store` calls this after it."""
        self._loaded.clear()

    def _load(self, agent: str) -> _Loaded:
        if agent not in self._loaded:
            entries, vectors = self.store.keyed(agent)
            factors = np.array([rule.sigmoid(entry.weight) for entry in entries], dtype=np.float32)
            self._loaded[agent] = _Loaded(entries, vectors * factors[:, None])
        return self._loaded[agent]

    def evolve(self, step: int, observations: Sequence[Observation]) -> Evolution:
        """What the rewards of one optimiser step teach, in one transaction: after a kill at any instant the file holds all of
        it or nothing. Groups whose scorer failed for every sibling teach nothing. See `evolution` for the rule.

        Args:
            step: the optimiser step, >= 0: decay is counted in steps, so that a resumed run continues exactly.
            observations: one for each group of siblings.

        Raises:
            TypeError, ValueError: an observation that cannot be: name, expected, got; nothing was written.
            RuntimeError: the memory is frozen.
        """
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise ValueError(f"step: expected an int >= 0, got {step!r}")
        self.check(observations)
        scored = [o for o in observations if o.scored]
        vectors = self.embedder.embed([o.query for o in scored])  # before the file is locked: a model may be slow
        with self.store.write():
            self._check_used(observations)
            done = evolution.evolve(self.store, step, scored, vectors, self.config)
        self.forget()
        return done

    def check(self, observations: Sequence[Observation]) -> None:
        """Raises: TypeError, ValueError for one that cannot be, as `evolve`."""
        for i, observation in enumerate(observations):
            self._check(f"observations[{i}]", observation)

    def _check(self, name: str, o: Observation) -> None:
        if not isinstance(o, Observation):
            raise TypeError(f"{name}: expected an Observation, got {type(o).__name__}")
        check_text(f"{name}.agent", o.agent)
        check_text(f"{name}.query", o.query)
        check_text(f"{name}.episode", o.episode, empty=True)
        if o.strategy is not None:
            check_text(f"{name}.strategy", o.strategy)
        if not o.rewards:
            raise ValueError(f"{name}.rewards: expected at least one reward, got none")
        low, high = self.config.reward_min, self.config.reward_max
        for reward in o.rewards:
            if isinstance(reward, bool) or not isinstance(reward, (int, float)):
                raise TypeError(f"{name}.rewards: expected numbers, got {reward!r}")
            if not math.isnan(reward) and not low <= reward <= high:
                raise ValueError(
                    f"{name}.rewards: expected numbers in [reward_min, reward_max] = [{low}, {high}] or NaN, got {reward!r}"
                )
        for identity in o.used:
            if isinstance(identity, bool) or not isinstance(identity, int):
                raise TypeError(f"{name}.used: expected ids of entries, got {identity!r}")

    def _check_used(self, observations: Sequence[Observation]) -> None:
        """Ids are never given twice: one that no entry has is a deleted entry's, or was never given."""
        row = self.store.db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchone()
        last = 0 if row is None else int(row[0])
        owners = dict(self.store.db.execute("SELECT id, agent FROM entries"))
        for i, o in enumerate(observations):
            for identity in o.used:
                if not 1 <= identity <= last:
                    raise ValueError(f"observations[{i}].used: expected ids in [1, {last}], got {identity}")
                if owners.get(identity, o.agent) != o.agent:
                    raise ValueError(
                        f"observations[{i}].used: expected entries of {o.agent!r}, got {identity} of {owners[identity]!r}"
                    )

    def entries(self, agent: str | None = None) -> list[Entry]:
        """All entries, or one agent's, in the order in which they came."""
        return self.store.entries(agent)

    def snapshot(self, path: str | os.PathLike[str]) -> None:
        """The whole memory as one plain file, for a checkpoint; see `Store.snapshot`."""
        self.store.snapshot(path)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Back to a snapshot, thresholds' windows included: what follows is what followed then; see `Store.restore`."""
        self.store.restore(path)
        self.forget()

    def close(self) -> None:
        """The file is let go; what was committed is in it."""
        self.store.close()

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def check_text(name: str, value: object, *, empty: bool = False) -> None:
    """TypeError unless `value` is a string; ValueError where it says nothing (unless `empty`) or UTF-8 cannot hold it."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a string, got {value!r}")
    if not empty and not value.strip():
        raise ValueError(f"{name}: expected a text, got {value!r}")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{name}: expected text that UTF-8 can hold, got {value!r}")
