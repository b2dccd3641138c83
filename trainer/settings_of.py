"""VRGRPOTrainer's agents, environments, data sets and reward functions as a `Setting`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from trainer.agents import Agent, single_agent
from trainer.arguments_kinds import check_text
from trainer.config import TrainConfig
from trainer.env import Environment
from trainer.evaluate import Job
from trainer.foreign import as_environment, trl_environment
from trainer.judging import Judge
from trainer.prompts_env import NAME, PromptsEnv, prompt_agents, prompt_tasks, prompt_template
from trainer.reward_funcs import RewardFuncs
from trainer.setting import Setting, Template, hima_ecom_setting

COLUMN = "eval"  # what the tests of a data set are called among the metrics


def setting_of(
    config: TrainConfig,
    agents: Mapping[str, Agent] | None,
    factory: Callable[[], Any] | None,
    reward_funcs: Any,
    weights: Sequence[float] | None,
    train_dataset: Any,
    eval_dataset: Any,
    model: str,
) -> tuple[Setting, Template | None]:
    """The setting, and for prompts the chat template that they are read under.

    Args: as `trainer.arguments_kinds.check_arguments` has left them. model: what errors call the one that reads the prompts.

    Raises: TypeError, ValueError, NotImplementedError: see `prompt_tasks`, `RewardFuncs`, `as_environment`, `check_text`.
    """
    judge = None if reward_funcs is None else RewardFuncs(reward_funcs, weights=weights)
    if factory is None and train_dataset is None:
        return hima_ecom_setting(config.data), None
    if factory is None:
        rows = prompt_tasks(train_dataset)
        tests = [] if eval_dataset is None else prompt_tasks(eval_dataset, "eval_dataset", like=rows)
        check_text(rows, tests, model)
        setting = Setting(agents=prompt_agents(), make_env=PromptsEnv, tasks=rows, tests=_jobs(tests), judge=judge, entry=NAME)
        return setting, partial(prompt_template, tasks=rows)
    made = _rewarding(factory, judge)  # also where `agents` are given: what can't be is told before anything is done
    chosen = single_agent(made.tools) if agents is None else dict(agents)
    tasks, tests = list(train_dataset), [] if eval_dataset is None else list(eval_dataset)
    if trl_environment(made) is not None:  # of other tasks their environment knows what agents see
        check_text(tasks, tests, model)
    make = lambda: as_environment(factory())  # noqa: E731
    entry = next(iter(chosen))
    return Setting(agents=chosen, make_env=make, tasks=tasks, tests=_jobs(tests), judge=judge, entry=entry), None


def _rewarding(factory: Callable[[], Any], judge: Judge | None) -> Environment:
    """An environment of the factory. Raises: ValueError for one of TRL's that nothing would ever score."""
    made = as_environment(factory(), "env_factory")
    foreign = trl_environment(made)
    if judge is None and foreign is not None and not hasattr(foreign, "get_reward"):
        raise ValueError("reward_funcs: expected functions for an environment without get_reward, got None")
    return made


def _jobs(tasks: Sequence[Any]) -> list[Job]:
    return [Job(id=str(number), column=COLUMN, task=task, minimal_calls=0) for number, task in enumerate(tasks)]
