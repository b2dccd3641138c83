"""Evaluation: a policy plays tasks, and a report in the form of the paper's table.

world = World.in_memory(0, "full")
tasks = make_tasks(world, 0, "test", "qa", 100)
print(evaluate(ExpertPolicy(tasks), tasks, world).table())
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.agents import Agent, hima_ecom_agents
from trainer.env import Environment
from trainer.evaluate.play import Job, Played, play
from trainer.evaluate.report import Column, Report, make_report
from trainer.hima_ecom import World
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.tasks.task import Task
from trainer.policies.base import Policy
from trainer.reading import check_seed

__all__ = ["Column", "Job", "Played", "Report", "evaluate", "evaluate_jobs", "play"]


def evaluate(
    policy: Policy,
    tasks: Sequence[Task],
    world: World,
    *,
    agents: Mapping[str, Agent] | None = None,
    name: str | None = None,
    **options: Any,
) -> Report:
    """The benchmark's tasks over the five agents, or over others.

    Args:
        name: of the policy, in the report; default: its class.
        options: see `play` (parallel, limits, retrieve, entry, seed ...).

    Raises: ValueError for no tasks; as `play`.
    """
    jobs = [Job(id=task.id, column=task.column, task=task, minimal_calls=task.minimal_calls) for task in tasks]
    split = "+".join(dict.fromkeys(task.split for task in tasks))
    return evaluate_jobs(
        policy, jobs, lambda: HimaEcomEnv(world), agents or hima_ecom_agents(), name=name, split=split, **options
    )


def evaluate_jobs(
    policy: Policy,
    jobs: Sequence[Job],
    make_env: Callable[[], Environment],
    agents: Mapping[str, Agent],
    *,
    name: str | None = None,
    split: str = "all",
    seed: int = 0,
    **options: Any,
) -> Report:
    """The same over any environment. Args: seed: of the episodes and of the intervals. Raises: as `evaluate`."""
    check_seed("seed", seed)
    episodes = play(policy, jobs, make_env, agents, seed=seed, **options)
    return make_report(episodes, policy=name or type(policy).__name__, split=split, seed=seed)
