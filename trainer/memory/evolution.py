"""What one optimiser step teaches a memory; runs inside one transaction of its file.

In this order: the rewards join their agent's window and give its bounds; every weight decays; the entries that were used are
updated and, where r <= low, penalised; the best siblings' texts of groups that reached high are added, or replace a worse
text under a near-duplicate key; entries below min_weight are deleted; agents over capacity lose their lowest weights.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from trainer.memory import rule
from trainer.memory.config import MemoryConfig
from trainer.memory.index import top
from trainer.memory.store import COLUMNS, Entry, Store

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One group of siblings at one node: what its agent was asked, what it had retrieved, and what its siblings earned.

    For example: Observation(agent="efc", query="Cancel order O00001", used=(7,), strategy="Look the order up first.",
    rewards=(2.0, 1.0, 0.0, 2.0), episode="s12-q3").
    """

    agent: str
    query: str
    """The text that the memory was asked with."""
    rewards: tuple[float, ...]
    """R_A + R_F of each sibling; NaN where the scorer failed."""
    used: tuple[int, ...] = ()
    """The ids of the retrieved entries."""
    strategy: str | None = None
    """What the best sibling would advise; None: nothing."""
    episode: str = ""
    """Where it happened."""

    @property
    def scored(self) -> list[float]:
        """The rewards that are not NaN."""
        return [reward for reward in self.rewards if not math.isnan(reward)]


@dataclass(kw_only=True)
class Evolution:
    """What a step did: how many entries it added, and so on."""

    step: int
    """The memory's clock after the step."""
    added: int = 0
    replaced: int = 0
    """Entries that got a better text from a near-duplicate."""
    duplicates: int = 0
    """Texts that reached high but were no better than a near-duplicate's."""
    updated: int = 0
    """Entries that were used."""
    penalised: int = 0
    missing: int = 0
    """Used entries that are no more: another process's step deleted them in the meantime."""
    deleted: int = 0
    evicted: int = 0
    bounds: dict[str, rule.Bounds] = field(default_factory=dict)
    """low and high of the agents that were observed and whose windows hold enough rewards."""


def evolve(store: Store, step: int, observations: Sequence[Observation], vectors: Floats, config: MemoryConfig) -> Evolution:
    """See the module; within `store.write()`.

    Args:
        store: the file.
        step: the optimiser step. Where the file has already seen a later one (of another process), time stands still.
        observations: checked, each with at least one reward that is no NaN.
        vectors: [N, D], the embedded query of each.
        config: the numbers.
    """
    before = store.step
    done = Evolution(step=step if before is None else max(step, before))
    dt = 0 if before is None else done.step - before
    store.db.execute("INSERT OR REPLACE INTO meta VALUES ('step', ?)", (done.step,))
    _take_rewards(store, observations, config, done)
    _update_used(store, observations, dt, config, done)
    _learn(store, observations, vectors, config, done)
    done.deleted = store.db.execute("DELETE FROM entries WHERE weight < ?", (config.min_weight,)).rowcount
    done.evicted = _evict(store, {o.agent for o in observations}, config)
    return done


def _take_rewards(store: Store, observations: Iterable[Observation], config: MemoryConfig, done: Evolution) -> None:
    rows = [(o.agent, reward) for o in observations for reward in o.scored]
    store.db.executemany("INSERT INTO rewards (agent, reward) VALUES (?, ?)", rows)
    for agent in sorted({agent for agent, _ in rows}):
        latest = "SELECT id FROM rewards WHERE agent = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
        store.db.execute(f"DELETE FROM rewards WHERE agent = ? AND id <= ({latest})", (agent, agent, config.window))
        window = [row[0] for row in store.db.execute("SELECT reward FROM rewards WHERE agent = ? ORDER BY id", (agent,))]
        bounds = rule.bounds_of(window, config)
        if bounds is not None:
            done.bounds[agent] = bounds


def _update_used(store: Store, observations: Iterable[Observation], dt: int, config: MemoryConfig, done: Evolution) -> None:
    """Every weight decays. A used entry is updated once a step, with the mean over all siblings that saw it."""
    saw: dict[int, list[Observation]] = {}
    for observation in observations:
        for identity in dict.fromkeys(observation.used):
            saw.setdefault(identity, []).append(observation)
    entries = {identity: _entry(store, identity) for identity in saw}
    store.db.execute("UPDATE entries SET weight = weight - ? WHERE ?", (rule.decay(dt, config), dt > 0))
    for identity, groups in saw.items():
        entry = entries[identity]
        if entry is None:
            done.missing += 1
            continue
        r = fmean([reward for o in groups for reward in o.scored])
        episodes = len({o.episode for o in groups})
        weight = rule.updated_weight(entry.weight, dt, r, entry.reward, config)
        if rule.warns(r, done.bounds.get(entry.agent)):
            weight -= config.penalty
            done.penalised += 1
        # What siblings earned when the text was found counts like one use; where that is unknown, the first use counts twice.
        reward = rule.running_mean(entry.reward, entry.uses + 1, r, episodes)
        _write(store, replace(entry, weight=weight, reward=reward, uses=entry.uses + episodes, last_use=done.step))
        done.updated += 1


def _learn(store: Store, observations: Sequence[Observation], vectors: Floats, config: MemoryConfig, done: Evolution) -> None:
    """The texts of the best siblings, the best one first: of near-duplicates within a step it is the one that gets an entry.

    A group is judged by its best sibling, since that is whose text it is. The entry starts with the mean of the whole group:
    what is earned there without its advice, so that the first r - r_mean is what the advice brought.
    """
    lessons = [
        (i, o) for i, o in enumerate(observations) if o.strategy and rule.teaches(max(o.scored), done.bounds.get(o.agent))
    ]
    lessons.sort(key=lambda lesson: -max(lesson[1].scored))
    known = {agent: _Keys(store, agent, len(lessons)) for agent in sorted({o.agent for _, o in lessons})}
    for i, o in lessons:
        assert o.strategy is not None
        r = fmean(o.scored)
        lesson = Entry(0, o.agent, o.query, o.strategy, config.initial_weight, r, episode=o.episode, step=done.step)
        keys = known[o.agent]
        twin = keys.twin(o.query, vectors[i], config.duplicate)
        if twin is None:
            keys.append(store.insert(lesson, vectors[i]), o.query, vectors[i])
            done.added += 1
            continue
        entry = _entry(store, twin)
        assert entry is not None
        if o.strategy != entry.strategy and (entry.reward is None or r > entry.reward):
            # The key and what it weighs stay; what was earned with the old text says nothing about the new one.
            _write(store, replace(lesson, id=twin, key=entry.key, weight=max(entry.weight, config.initial_weight)))
            done.replaced += 1
        else:
            done.duplicates += 1


class _Keys:
    """The keys of one agent, with room for those that the step adds."""

    def __init__(self, store: Store, agent: str, room: int) -> None:
        entries, vectors = store.keyed(agent)
        self.ids = [entry.id for entry in entries]
        self.by_key = {entry.key: entry.id for entry in entries}
        self.vectors = np.concatenate([vectors, np.zeros((room, vectors.shape[1]), dtype=np.float32)])

    def twin(self, key: str, vector: Floats, duplicate: float) -> int | None:
        """The entry of the same or the nearest key, if that is near enough."""
        if key in self.by_key:
            return self.by_key[key]
        nearest = top(self.vectors[: len(self.ids)], vector[None], 1)[0]
        return self.ids[nearest[0][0]] if nearest and nearest[0][1] >= duplicate else None

    def append(self, identity: int, key: str, vector: Floats) -> None:
        self.vectors[len(self.ids)] = vector
        self.ids.append(identity)
        self.by_key[key] = identity


def _evict(store: Store, agents: Iterable[str], config: MemoryConfig) -> int:
    evicted = 0
    for agent in sorted(agents):
        count = store.db.execute("SELECT count(*) FROM entries WHERE agent = ?", (agent,)).fetchone()[0]
        worst = "SELECT id FROM entries WHERE agent = ? ORDER BY weight, coalesce(last_use, step), id LIMIT ?"
        arguments = (agent, max(count - config.capacity, 0))
        evicted += store.db.execute(f"DELETE FROM entries WHERE id IN ({worst})", arguments).rowcount
    return evicted


def _entry(store: Store, identity: int) -> Entry | None:
    row = store.db.execute(f"SELECT {COLUMNS} FROM entries WHERE id = ?", (identity,)).fetchone()
    return None if row is None else Entry(*row)


def _write(store: Store, entry: Entry) -> None:
    """Everything of an entry but its agent and its key."""
    values = (entry.strategy, entry.weight, entry.reward, entry.uses, entry.last_use, entry.episode, entry.step, entry.id)
    columns = "strategy = ?, weight = ?, reward = ?, uses = ?, last_use = ?, episode = ?, step = ?"
    store.db.execute(f"UPDATE entries SET {columns} WHERE id = ?", values)
