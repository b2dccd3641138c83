"""TRL's reward functions as a judge of `sample_groups`: (prompts, completions, completion_ids, **columns) -> a number each.

judge = RewardFuncs([correct, short], weights=[1.0, 0.2])
groups, stats = sample_groups(..., judge=judge)
judge.scalars()  # {"rewards/correct/mean": 0.4, ...}
"""

import asyncio
import inspect
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from himakernels.checks import check_finite
from trainer.averages import as_float, deviation, mean, total
from trainer.dialogue import trl_rollout
from trainer.foreign import finish, trl_environment
from trainer.judging import Judged
from trainer.play import Player, describe

RewardFunc = Callable[..., Any]
_OTHERS = ("prompt", "completion", "completion_ids")  # columns that functions don't get


class RewardFuncs:
    """Calls every function once with all completions of a batch, those of a prompt side by side.

    A completion is a text where the prompt is one, else the messages after the prompt; `completion_ids` are the sampled tokens
    and, in episodes of several turns, those between them. Every other column of the rows comes as a list, a value for each
    completion; so do `environments` where TRL environments play. Also `trainer_state` (`state` below), `log_metric(name,
    value)` and `log_extra(column, values)`, as in TRL. A coroutine function is awaited, all of them together.

    The reward is the sum of weight * value over the functions that gave one (None and NaN: none), and, with weight 1, what the
    environment gave. A completion without any is not scored, nor is one with an infinite value or sum. Where a call raises, the
    function is called again with each completion alone: only those for which it raises are lost.

    Args:
        reward_funcs: a function, or several.
        weights: one for each; None: 1.

    Attributes:
        state: what functions see of the training: global_step, max_steps and whatever else is set on it.
        extra: {column: values} that `log_extra` got with the last batch.

    Raises: TypeError for what can't be called, such as the name of a reward model; ValueError for no functions, or weights that
        don't match or are not finite. When called, ValueError for another number of values than completions, TypeError for
        values that are no numbers.
    """

    def __init__(self, reward_funcs: RewardFunc | Sequence[RewardFunc], *, weights: Sequence[float] | None = None) -> None:
        many = isinstance(reward_funcs, Sequence) and not isinstance(reward_funcs, str)
        self.functions: list[RewardFunc] = list(reward_funcs) if many else [reward_funcs]  # type: ignore[arg-type, list-item]
        if not self.functions:
            raise ValueError("reward_funcs: expected at least one function, got none")
        for i, function in enumerate(self.functions):
            if not callable(function) or hasattr(function, "parameters"):  # a network is callable, and takes other things
                raise TypeError(
                    f"reward_funcs[{i}]: expected a function (prompts, completions, **columns) -> numbers, got {function!r}; "
                    "call a reward model in a function of your own"
                )
        self.weights = [1.0] * len(self.functions) if weights is None else [float(weight) for weight in weights]
        if len(self.weights) != len(self.functions):
            raise ValueError(
                f"reward_weights: expected {len(self.functions)}, one for each of reward_funcs, got {len(self.weights)}"
            )
        for i, weight in enumerate(self.weights):
            check_finite(f"reward_weights[{i}]", weight)
        names = [_name(function) for function in self.functions]
        count = Counter(names)
        self.names = [name if count[name] == 1 else f"{name}_{i}" for i, name in enumerate(names)]
        self.state = SimpleNamespace(global_step=0, max_steps=0)
        self.extra: dict[str, list[Any]] = {}
        self._logged: defaultdict[str, list[float]] = defaultdict(list)

    def __call__(self, tasks: Sequence[Any], players: Sequence[Player]) -> list[Judged]:
        """R_A of each trajectory."""
        rows = [_row(task, player) for task, player in zip(tasks, players, strict=True)]
        self.extra = {}
        values, errors = self._values(rows)
        for name, column in zip(self.names, values, strict=True):
            self._logged[f"rewards/{name}"] += [value for value in column if math.isfinite(value)]
        return [
            self._sum([column[i] for column in values], player.episode.reward)
            if error is None
            else Judged(math.nan, error, True)
            for i, (player, error) in enumerate(zip(players, errors, strict=True))
        ]

    def _sum(self, values: Sequence[float], environment: float | None) -> Judged:
        """The reward of a completion. An infinite value of weight 0 is none: it belongs to no sum."""
        found = [
            (name, weight, value)
            for name, weight, value in zip(self.names, self.weights, values, strict=True)
            if math.isfinite(value) or (math.isinf(value) and weight)
        ]
        if environment is not None:
            found.append(("the environment", 1.0, environment))
        infinite = next(((name, value) for name, _, value in found if math.isinf(value)), None)
        if infinite is not None:
            return Judged(math.nan, f"{infinite[0]}: expected a finite reward, got {infinite[1]}")
        if not found:
            return Judged(math.nan, "reward_funcs: expected a number from one of them, got none")
        reward = total([weight * value for _, weight, value in found])
        if math.isinf(reward):
            return Judged(math.nan, f"reward_funcs: expected a finite sum of weighted rewards, got {reward}")
        return Judged(reward)

    def scalars(self) -> dict[str, float]:
        """Since the last call: mean and deviation of each function's values, means of what `log_metric` got."""
        flat: dict[str, float] = {}
        for name, values in self._logged.items():
            if name.startswith("rewards/"):
                flat |= {f"{name}/mean": mean(values), f"{name}/std": deviation(values)} if values else {}
            else:
                flat[name] = mean(values)
        self._logged.clear()
        return flat

    def _values(self, rows: Sequence[dict[str, Any]]) -> tuple[list[list[float]], list[str | None]]:
        """Each function's values, NaN for none; and what a function raised for a row."""
        given = _columns(rows) | {
            "trainer_state": self.state,
            "log_metric": lambda name, value: self._logged[name].append(as_float(value)),
            "log_extra": lambda column, values: self.extra.setdefault(column, []).extend(values),
        }
        slow = [i for i, function in enumerate(self.functions) if _is_async(function)]

        async def together() -> list[Any]:
            return await asyncio.gather(*(self.functions[i](**given) for i in slow), return_exceptions=True)

        awaited = dict(zip(slow, finish(together()), strict=True)) if slow else {}
        values: list[list[float]] = []
        errors: list[str | None] = [None] * len(rows)
        for i, function in enumerate(self.functions):
            try:
                if isinstance(awaited.get(i), asyncio.CancelledError):
                    raise RuntimeError("the coroutine was cancelled")
                if isinstance(awaited.get(i), Exception):
                    raise awaited[i]
                got = awaited[i] if i in awaited else function(**given)
            except Exception:
                values.append(self._alone(function, self.names[i], rows, given, errors))
            else:
                values.append(_numbers(self.names[i], got, len(rows)))
        return values, errors

    def _alone(
        self,
        function: RewardFunc,
        name: str,
        rows: Sequence[dict[str, Any]],
        given: Mapping[str, Any],
        errors: list[str | None],
    ) -> list[float]:
        """A function that raised, row by row; what it raises then goes to `errors`."""
        values = []
        for i, row in enumerate(rows):
            try:
                got = function(**{**given, **_columns([row])})
                got = finish(got) if inspect.iscoroutine(got) else got
            except Exception as error:
                errors[i] = errors[i] or f"{name}: {describe(error)}"
                values.append(math.nan)
            else:
                values += _numbers(name, got, 1)
        return values


def _row(task: Any, player: Player) -> dict[str, Any]:
    """What reward functions see of a trajectory."""
    if not isinstance(task, Mapping):
        raise TypeError(f"reward_funcs: expected tasks that are rows (mappings), got {type(task).__name__}")
    taken = sorted({"prompts", "completions"} & task.keys())
    if taken:
        raise ValueError(f"reward_funcs: expected no column of the name that functions know as an argument, got {taken[0]!r}")
    prompt, texts, token_ids = task.get("prompt", ""), list[dict[str, str]](), list[int]()
    entry = next(iter(player.contexts), "")  # who was asked first
    if entry in player.written:
        messages = player.episode.contexts[entry]
        turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
        texts = [message._asdict() for message in messages[turns[-len(player.written[entry])] :]]
        token_ids = trl_rollout([player.contexts[entry]])["completion_ids"][0]
    row = {key: value for key, value in task.items() if key not in _OTHERS}
    row["prompts"] = prompt
    row["completions"] = "\n".join(text["content"] for text in texts) if isinstance(prompt, str) else texts
    row["completion_ids"] = token_ids
    environment = trl_environment(player.episode.env)
    return row if environment is None else row | {"environments": environment}


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _numbers(name: str, got: Any, count: int) -> list[float]:
    try:
        values = [math.nan if value is None else as_float(value) for value in got]
    except (TypeError, ValueError):
        raise TypeError(f"reward function {name!r}: expected a list of numbers or None, got {got!r}") from None
    if len(values) != count:
        raise ValueError(f"reward function {name!r}: expected {count} values, one for each completion, got {len(values)}")
    return values


def _is_async(function: RewardFunc) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _name(function: RewardFunc) -> str:
    inner = getattr(function, "func", function)  # of a partial
    return str(getattr(inner, "__name__", type(inner).__name__))
