"""How fast episodes step: bounds that hold on a slow core that others share; bench_episodes measures what there is."""

import statistics
import time
from itertools import islice

import pytest

from trainer.agents import hima_ecom_agents
from trainer.episode import Episode
from trainer.hima_ecom import World
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.tasks import COLUMNS, Task, make_tasks

EPISODES_A_SECOND = 500  # on one core: half of the 1,000 that two cores must reach
SNAPSHOT_SECONDS = 50e-6


@pytest.fixture(scope="module")
def full() -> World:
    return World.in_memory(0, "full")


@pytest.fixture(scope="module")
def tasks(full: World) -> list[Task]:
    return [task for column in COLUMNS for task in make_tasks(full, 0, "test", column, 20)]


def test_500_episodes_a_second_on_one_core(full: World, tasks: list[Task]) -> None:
    """Processor time, so that what else runs on the core does not count; the best of five rounds."""
    agents, seconds = hima_ecom_agents(), []
    for _ in range(5):
        start = time.process_time()
        for task in tasks:
            episode = Episode(HimaEcomEnv(full), agents, task=task)
            for node in task.trajectory:
                episode.act(node["text"])
            assert episode.reward == 1.0
        seconds.append(time.process_time() - start)
    print(f"{len(tasks) / min(seconds):,.0f} episodes a second")
    assert len(tasks) / min(seconds) >= EPISODES_A_SECOND


def test_snapshot_and_restore_take_under_50_microseconds(full: World, tasks: list[Task]) -> None:
    """At every node of every task, the environment's and the whole episode's."""
    for task in tasks:
        env = HimaEcomEnv(full)
        episode = Episode(env, hima_ecom_agents(), task=task)
        for node in islice(task.trajectory, len(task.trajectory) - 1):
            episode.act(node["text"])
        for what in (env, episode):
            what.restore(what.snapshot())  # warm
            taken = []
            for _ in range(25):
                start = time.perf_counter()
                what.restore(what.snapshot())
                taken.append(time.perf_counter() - start)
            assert statistics.median(taken) < SNAPSHOT_SECONDS, (task.id, type(what).__name__)
