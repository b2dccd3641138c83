"""Episodes of the benchmark: how many the expert plays a second, and what leaving and re-entering a node costs."""

import itertools
from typing import Any

import pytest

from trainer.agents import hima_ecom_agents
from trainer.episode import Episode
from trainer.hima_ecom import World
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.tasks import COLUMNS, make_tasks

EPISODES = 250
WORLD = World.in_memory(0, "full")
TASKS = [task for column in COLUMNS for task in make_tasks(WORLD, 0, "test", column, EPISODES // len(COLUMNS))]
AGENTS = hima_ecom_agents()


def play() -> int:
    """The expert plays every task; returns how many nodes that took."""
    nodes = 0
    for task in TASKS:
        episode = Episode(HimaEcomEnv(WORLD), AGENTS, task=task)
        for node in task.trajectory:
            episode.act(node["text"])
            nodes += 1
        assert episode.reward == 1.0
    return nodes


def bench_episodes(benchmark: Any) -> None:
    nodes = benchmark(play)
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info |= {"episodes_per_second": EPISODES / seconds, "nodes_per_second": nodes / seconds}
        print(f"\n{EPISODES / seconds:,.0f} episodes a second on one core, {nodes / seconds:,.0f} nodes (target on two: 1,000)")


@pytest.mark.parametrize("column", ["efc", "cooperation"])
def bench_snapshot_and_restore(benchmark: Any, column: str) -> None:
    task = next(task for task in TASKS if task.column == column and len(task.trajectory) >= 5 and "state" in str(task.checker))
    episode = Episode(HimaEcomEnv(WORLD), AGENTS, task=task)
    for node in itertools.islice(task.trajectory, len(task.trajectory) - 2):
        episode.act(node["text"])
    benchmark(lambda: episode.restore(episode.snapshot()))
    if benchmark.stats is not None:
        print(f"\n{column}: {1e6 * benchmark.stats.stats.median:.1f} microseconds (target: 50)")
