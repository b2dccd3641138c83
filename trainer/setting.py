"""What a run plays: agents, an environment, the queries to learn from, and those to be tested on.

setting = hima_ecom_setting(TrainConfig().data)
setting.tasks[0].query, setting.samples(0.885)[0].messages
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from trainer.agents import Agent, hima_ecom_agents
from trainer.config import DataConfig
from trainer.env import Environment
from trainer.evaluate import Job
from trainer.hima_ecom import World
from trainer.hima_ecom.dataset import read_samples, read_tasks
from trainer.hima_ecom.dataset.samples import Sample, samples
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.strategies import Lessons
from trainer.hima_ecom.tasks import Task, stream_tasks
from trainer.judging import Judge, Score, environment_score

Template = Callable[[Any], str | None]  # a tokenizer -> the chat template to read it under
TRIES = 200  # tasks that are looked at for each one that is wanted, when languages, families and difficulties are chosen


def no_samples(memory: float) -> list[Sample]:
    """Of a setting without experts."""
    return []


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is played. make_env: an environment of its own for each trajectory. tasks: for `env.reset`, see `sample_groups`;
    RL goes through them in a shuffled order, over and over. tests: what evaluations play. samples: (share with memory) -> what
    SFT learns; none by default. score, judge, entry: as in `sample_groups`."""

    agents: Mapping[str, Agent]
    make_env: Callable[[], Environment]
    tasks: Sequence[Any]
    tests: Sequence[Job] = ()
    samples: Callable[[float], Sequence[Sample]] = no_samples
    score: Score = environment_score
    judge: Judge | None = None
    entry: str = "master"


class Queries:
    """Tasks in an order without end: epochs, each shuffled by (seed, its number).

    Args: tasks: at least one.
    """

    def __init__(self, tasks: Sequence[Any], seed: int) -> None:
        if not tasks:
            raise ValueError("tasks: expected at least one query to learn from (data.rl_tasks, train_dataset), got none")
        self.tasks, self.seed = tasks, seed
        self._epoch = (-1, list[int]())  # the last one that was asked for, and its order

    def take(self, cursor: int, count: int) -> list[Any]:
        """The `count` tasks from place `cursor` on."""
        return [self.tasks[self._order(at // len(self.tasks))[at % len(self.tasks)]] for at in range(cursor, cursor + count)]

    def _order(self, epoch: int) -> list[int]:
        if self._epoch[0] != epoch:
            order = list(range(len(self.tasks)))
            random.Random(f"{self.seed}/queries/{epoch}").shuffle(order)
            self._epoch = epoch, order
        return self._epoch[1]


def hima_ecom_setting(data: DataConfig) -> Setting:
    """The five agents on the benchmark's tasks: of a folder, or made here.

    Raises: FileNotFoundError, InvalidDatasetError for a folder that isn't one of `hima data generate`; ValueError where too few
    tasks are of the languages and difficulties that were chosen.
    """
    if data.path is not None:
        return _from_folder(Path(data.path), data)
    world = World.in_memory(data.seed, data.world)
    seen: set[str] = set()
    test = _drawn(world, data, "test", data.columns, data.test_tasks, seen)
    tasks = _drawn(world, data, "train", data.rl_columns or data.columns, data.rl_tasks, seen)

    def learn(memory: float) -> list[Sample]:
        experts = _drawn(world, data, "sft", data.columns, data.sft_tasks, set(seen))
        return list(_samples(world, experts, memory, data.seed))

    return _setting(world, tasks, test, learn)


def _from_folder(folder: Path, data: DataConfig) -> Setting:
    world = World.open(folder / "store.sqlite")
    test = _chosen(read_tasks(folder / "test.jsonl"), data, data.test_tasks)
    pairs = (task for task in read_tasks(folder / "train.jsonl") if task.column in (data.rl_columns or data.columns))
    tasks = _chosen(pairs, data, data.rl_tasks)

    def learn(memory: float) -> list[Sample]:
        """So many episodes of a column. The file's own share of memory is what it was written with."""
        found = [sample for sample in read_samples(folder / "sft.jsonl") if _fits(sample, data)]
        episodes: dict[str, dict[str, None]] = {column: {} for column in data.columns}
        for sample in found:
            episodes[sample.column][sample.id.rpartition("/")[0]] = None
        kept = {name for column in episodes.values() for name in islice(column, data.sft_tasks)}
        return [sample for sample in found if sample.id.rpartition("/")[0] in kept]

    return _setting(world, tasks, test, learn)


def _setting(world: World, tasks: Sequence[Task], test: Sequence[Task], learn: Callable[[float], Sequence[Sample]]) -> Setting:
    tests = [Job(id=task.id, column=task.column, task=task, minimal_calls=task.minimal_calls) for task in test]
    return Setting(agents=hima_ecom_agents(), make_env=lambda: HimaEcomEnv(world), tasks=tasks, tests=tests, samples=learn)


def _fits(item: Task | Sample, data: DataConfig) -> bool:
    chosen = data.families is None or item.family in data.families
    return chosen and item.column in data.columns and item.language in data.languages and item.difficulty <= data.max_difficulty


def _chosen(tasks: Iterable[Task], data: DataConfig, count: int) -> list[Task]:
    """The first `count` that fit of each column, in their order."""
    taken: Counter[str] = Counter()
    found = []
    for task in tasks:
        if _fits(task, data) and taken[task.column] < count:
            taken[task.column] += 1
            found.append(task)
    return found


def _drawn(world: World, data: DataConfig, split: str, columns: Iterable[str], count: int, seen: set[str]) -> list[Task]:
    found: list[Task] = []
    for column in columns:
        stream = islice(stream_tasks(world, data.seed, split, column, seen=seen, families=data.families), TRIES * count)
        fitting: list[Task] = []
        with suppress(RuntimeError):  # a family has no more tasks that differ
            fitting.extend(islice((task for task in stream if _fits(task, data)), count))
        if len(fitting) < count:
            languages = ", ".join(data.languages)
            families = "all families" if data.families is None else f"{len(data.families)} families"
            raise ValueError(
                f"data: expected {count} {split} tasks of column {column} in {languages} of {families} of difficulty up to "
                f"{data.max_difficulty}, got {len(fitting)} different ones from a {data.world} world"
            )
        found += fitting
    return found


def _samples(world: World, experts: Sequence[Task], memory: float, seed: int) -> Iterator[Sample]:
    """What the agents of the experts' episodes read and wrote, nothing twice; a share of the episodes with memory, of what
    earlier ones taught."""
    env, rng = HimaEcomEnv(world), random.Random(f"{seed}/samples")
    lessons = Lessons(random.Random(f"{seed}/lessons"))
    known: set[tuple[str, ...]] = set()
    for task in experts:
        for sample in samples(task, env, lessons if rng.random() < memory else None):
            if sample.told not in known:
                known.add(sample.told)
                yield sample
