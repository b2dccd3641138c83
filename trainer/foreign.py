"""Environments of other projects, accepted as they are: TRL's `environment_factory`, reasoning-gym's datasets."""

import asyncio
import inspect
import json
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

from trainer.averages import as_float
from trainer.env import Environment, Playable, Replayable, Step
from trainer.react import Action, Answer
from trainer.types import Message, Role


def as_environment(thing: Any, name: str = "thing") -> Environment:
    """Our interface for an environment of any kind.

    Args: thing: an Environment, returned as it is; one without snapshot and restore (see Replayable); a reasoning-gym dataset
    (see ReasoningGym); a TRL environment (see TrlEnvironment); a class or a function that makes one of these. name: what the
    error calls it.

    Raises: TypeError for anything else.
    """
    made = thing() if isinstance(thing, type) or (callable(thing) and not hasattr(thing, "reset")) else thing
    if isinstance(made, Environment):
        return made
    if isinstance(made, Playable):
        return Replayable(made)
    if hasattr(made, "score_answer") and hasattr(made, "__getitem__"):
        return ReasoningGym(made)
    if callable(getattr(made, "reset", None)):
        return Replayable(TrlEnvironment(made))
    raise TypeError(
        f"{name}: expected an environment (reset, step, tools), a TRL environment (reset and tools as methods), a "
        f"reasoning-gym dataset, or a factory of one, got {type(made).__name__}"
    )


class TrlEnvironment:
    """A TRL environment: `reset(**row)`, every other public method is a tool, and `get_reward()` where it has one.

    The task is a row of the data set: a mapping with the `prompt` (a text, or messages), which what `reset` returns is appended
    to. A tool's result is observed as `str(result)`, what it raises as {"error": ...}; coroutines are run to their ends. The
    reward comes with the end of the episode; None without `get_reward`.

    Raises: what `transformers.utils.get_json_schema` raises for a tool without type hints or docstring.
    """

    def __init__(self, inner: Any) -> None:
        from transformers.utils.chat_template_utils import get_json_schema

        self.inner = inner
        functions = [name for name, _ in inspect.getmembers(type(inner), inspect.isfunction) if not name.startswith("_")]
        names = [name for name in functions if name not in ("reset", "get_reward")]
        schemas = [get_json_schema(getattr(inner, name))["function"] for name in names]
        self.tools: list[dict[str, Any]] = [
            {"type": "function", "function": {key: value for key, value in schema.items() if key != "return"}}
            for schema in schemas
        ]
        self._names = frozenset(names)

    def reset(self, task: Any, seed: int = 0) -> str | list[Message]:
        """Starts an episode; TRL's interface has no seed, only a row may carry one."""
        row = {} if task is None else task
        if not isinstance(row, Mapping):
            raise TypeError(f"task: expected a row (a mapping) or None, got {type(task).__name__}")
        observation = self.inner.reset(**row)
        prompt, more = read_prompt(row.get("prompt", "")), "" if observation is None else observation
        if not isinstance(more, str):
            raise TypeError(f"reset: expected a string or None, got {type(more).__name__}")
        if isinstance(prompt, str):
            return prompt + more
        *before, last = prompt
        return [*before, last._replace(content=last.content + more)]

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        """Runs a tool; an Answer or None ends the episode."""
        if not isinstance(action, Action):
            reward = _finished(self.inner.get_reward()) if hasattr(self.inner, "get_reward") else None
            return Step("", None if reward is None else as_float(reward), True)
        if action.name not in self._names:
            return Step(_error(f"unknown tool '{action.name}'"))
        try:
            return Step(str(_finished(getattr(self.inner, action.name)(**action.arguments))))
        except Exception as error:  # what a tool raises is for the agent, as in TRL
            return Step(_error(str(error)))


def read_prompt(prompt: Any) -> str | list[Message]:
    """A row's `prompt`, as TRL's data sets have it: a text, or a list of messages {"role": ..., "content": text}.

    Raises: TypeError for anything else, such as messages with images, or of another role than system, user or assistant.
    """
    if isinstance(prompt, str):
        return prompt
    try:
        messages = [Message(message["role"], message["content"]) for message in prompt]
    except (TypeError, KeyError):
        messages = []
    if not messages or not all(isinstance(text, str) and role in get_args(Role) for role, text in messages):
        raise TypeError(f"task['prompt']: expected a text or messages with texts, got {prompt!r}")
    return messages


def trl_environment(env: Environment) -> Any:
    """The TRL environment behind ours; None where there is none."""
    inner = env.inner if isinstance(env, Replayable) else env
    return inner.inner if isinstance(inner, TrlEnvironment) else None


class ReasoningGym:
    """A reasoning-gym data set: the task is an item or its index; there are no tools; `score_answer` gives the reward.

    Some scorers raise for an answer that they can't read: it gets 0, and info["error"] says why.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.tools: list[dict[str, Any]] = []
        self._item: dict[str, Any] = {}

    def reset(self, task: Any, seed: int = 0) -> str:
        """The item's question; the seed is the data set's own affair."""
        self._item = self.dataset[task] if isinstance(task, int) else task
        return str(self._item["question"])

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        """Scores an Answer; None gets 0."""
        if isinstance(action, Action):
            return Step(_error(f"unknown tool '{action.name}'"))
        if action is None:
            return Step("", 0.0, True)
        try:
            return Step("", float(self.dataset.score_answer(action.text, self._item)), True)
        except Exception as error:
            return Step("", 0.0, True, {"error": repr(error)})

    def snapshot(self) -> dict[str, Any]:
        """The item: nothing else changes, and nobody writes into it."""
        return self._item

    def restore(self, state: dict[str, Any]) -> None:
        """Back to an item."""
        self._item = state


def _finished(result: Any) -> Any:
    """The result itself, or that of a coroutine."""
    return finish(result) if inspect.iscoroutine(result) else result


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end, also where an event loop runs already, as in a notebook.

    Raises: what it raises; RuntimeError if it was cancelled, as CancelledError is no Exception and would end more than its
    episode.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(asyncio.run, coroutine).result()
        except asyncio.CancelledError as error:
            raise RuntimeError("the coroutine was cancelled") from error


def _error(reason: str) -> str:
    return json.dumps({"error": reason}, ensure_ascii=False, separators=(",", ":"))
