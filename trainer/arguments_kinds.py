"""Checks of VRGRPOTrainer's arguments, each by itself and together, before anything is done."""

import inspect
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer.agents import Agent
from trainer.arguments_options import ARGUMENTS, READ
from trainer.config import TrainConfig
from trainer.kinds import shown

_MEDIA = ("image", "images", "video", "videos", "audio", "audios")  # columns that TRL gives to a model beside the prompt


def check_arguments(given: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Check what VRGRPOTrainer was called with: `given` are its own arguments, `others` those that only TRL's trainer has.

    Raises: TypeError for another kind of thing, ValueError for a combination that means nothing, NotImplementedError for what
    is not built. The message begins with the argument's name.
    """
    _check_others(others)
    for name, check in _CHECKS.items():
        if given[name] is not None:
            check(name, given[name])
    if given["env_factory"] is not None and given["environment_factory"] is not None:
        raise ValueError("env_factory, environment_factory: expected one of the two names, got both")
    factory = given["env_factory"] or given["environment_factory"]
    if given["train_dataset"] is None:
        for name in ("agents", "reward_funcs", "eval_dataset"):
            if given[name] is not None and factory is None:
                raise ValueError(f"train_dataset: expected tasks with {name}, got None")
        if factory is not None:
            raise ValueError("train_dataset: expected tasks for the environment, got None")
        if given["args"] is not None and not isinstance(given["args"], TrainConfig):
            raise ValueError("train_dataset: expected rows with a prompt with TRL's arguments, got None")
    elif factory is None:
        if given["agents"] is not None:
            raise ValueError("env_factory: expected an environment for these agents, got None")
        if given["reward_funcs"] is None:
            raise ValueError("reward_funcs: expected functions for a data set of prompts, got None")


def check_text(rows: Sequence[Any], tests: Sequence[Any], model: str) -> None:
    """NotImplementedError for rows that bring images, videos or sounds, which no model here gets to see."""
    for name, tasks in (("train_dataset", rows), ("eval_dataset", tests)):
        for number, task in enumerate(tasks):
            column = next((column for column in _MEDIA if isinstance(task, Mapping) and _is_given(task.get(column))), None)
            if column is not None:
                raise NotImplementedError(
                    f"{name}[{number}]: expected a prompt of text alone, got a column {column!r}, without which the model "
                    f"{model!r} would be trained: not built; remove the column, or give it another name if only reward "
                    "functions or tools read it"
                )


def _is_given(value: Any) -> bool:
    """False for None and, as in TRL, for an empty list of images."""
    return value is not None and not (isinstance(value, list | tuple) and not value)


def check_call(name: str, function: Any, expected: str, *arguments: Any) -> None:
    """TypeError unless `function` can be called with these arguments; a class is none where an instance is meant."""
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"{name}: expected {expected}, got {shown(function)}")
    _check_signature(name, function, expected, *arguments)


def _check_signature(name: str, function: Any, expected: str, *arguments: Any) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # of C
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(f"{name}: expected {expected}, got one of {signature}: {error}") from None


def _check_others(others: Mapping[str, Any]) -> None:
    for name, value in others.items():
        if name not in ARGUMENTS:
            raise TypeError(f"VRGRPOTrainer() got an unexpected keyword argument {name!r}")
        values, instead = ARGUMENTS[name]
        if not any(type(value) is type(off) and value == off for off in values):
            raise NotImplementedError(f"{name}: expected {values[0]!r}, got {value!r}: not built; {instead}")


def _check_model(name: str, value: Any) -> None:
    if isinstance(value, PeftModel):
        raise TypeError(
            f"{name}: expected a name or a network of transformers, got a {type(value).__name__}; pass the network without "
            "adapters, and a LoraConfig as peft_config"
        )
    if not isinstance(value, str | PreTrainedModel):
        got = shown(value) if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{name}: expected a name or a network of transformers, got {got}")
    if value == "":
        raise ValueError(f"{name}: expected a name or a network of transformers, got ''")


def _check_args(name: str, value: Any) -> None:
    """A GRPOConfig has its options as attributes; so may a namespace. Other configurations of TRL share some of them."""
    if isinstance(value, TrainConfig):
        return
    named = isinstance(value, SimpleNamespace | Namespace) and any(option in READ for option in vars(value))
    if isinstance(value, type) or not (named or hasattr(value, "num_generations")):
        got = shown(value) if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{name}: expected a TrainConfig or a GRPOConfig of TRL, got {got}")


def _check_reward_funcs(name: str, value: Any) -> None:
    many = isinstance(value, Sequence) and not isinstance(value, str)
    if many and not value:
        raise ValueError(f"{name}: expected at least one function, got none")
    for i, function in enumerate(value if many else [value]):
        if not callable(function) or isinstance(function, type | PreTrainedModel):
            got = type(function).__name__ if isinstance(function, PreTrainedModel) else shown(function)
            raise TypeError(
                f"{name}[{i}]: expected a function (prompts, completions, **columns) -> numbers, got {got}; "
                "call a reward model in a function of your own"
            )


def _check_rows(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        names = ", ".join(map(str, value))
        raise TypeError(f"{name}: expected rows, got a {type(value).__name__} of {names or 'nothing'}; pass one of its values")
    if isinstance(value, str | bytes | type) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        got = shown(value) if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{name}: expected rows that can be counted, got {got}")
    if not len(value):
        raise ValueError(f"{name}: expected at least one row, got none")
    try:
        value[0]
    except (LookupError, TypeError):
        raise TypeError(f"{name}: expected rows by number, {name}[0], got {type(value).__name__} without") from None


def _check_tokenizer(name: str, value: Any) -> None:
    if not isinstance(value, PreTrainedTokenizerBase):
        got = shown(value) if isinstance(value, type | str) else type(value).__name__
        raise TypeError(f"{name}: expected a tokenizer of transformers, got {got}")


def _check_callbacks(name: str, value: Any) -> None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name}: expected a list of functions (kind, step, scalars), got {shown(value)}")
    for i, callback in enumerate(value):
        check_call(f"{name}[{i}]", callback, "a function (kind, step, scalars), no TrainerCallback", "train", 1, {})


def _check_peft_config(name: str, value: Any) -> None:
    if not isinstance(value, LoraConfig):
        got = shown(value) if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{name}: expected a LoraConfig, got {got}")


def _check_agents(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected {{name: Agent}}, got {shown(value)}")
    if not value:
        raise ValueError(f"{name}: expected at least one, got none")
    for key, agent in value.items():
        if not isinstance(key, str) or not isinstance(agent, Agent):
            raise TypeError(f"{name}[{key!r}]: expected a text and an Agent, got {shown(agent)}")


def _check_factory(name: str, value: Any) -> None:
    expected = "a class or a function without arguments that makes an environment"
    if isinstance(value, Mapping):
        raise NotImplementedError(
            f"{name}: expected {expected}, got a {type(value).__name__} of several ({', '.join(map(str, value))}): not built; "
            "pass one, whose reset(**row) reads the column by which they differ"
        )
    if not callable(value):
        raise TypeError(f"{name}: expected {expected}, got {shown(value)}")
    _check_signature(name, value, expected)


def _check_on_report(name: str, value: Any) -> None:
    check_call(name, value, "a function (report)", None)


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "model": _check_model,
    "args": _check_args,
    "reward_funcs": _check_reward_funcs,
    "train_dataset": _check_rows,
    "eval_dataset": _check_rows,
    "processing_class": _check_tokenizer,
    "callbacks": _check_callbacks,
    "peft_config": _check_peft_config,
    "agents": _check_agents,
    "env_factory": _check_factory,
    "environment_factory": _check_factory,
    "on_report": _check_on_report,
}
