"""A run goes on through steps in which nobody is scored, and through failures; it counts them, and says so once."""

import asyncio
import math
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from test_trainer import ROWS, arguments
from tiny_policies import byte_tokenizer, qwen3

from trainer import VRGRPOTrainer
from trainer.agents import Agent
from trainer.env import Step
from trainer.metrics import read_metrics


def run(folder: Path, reward_funcs: Any = None, steps: int = 2, **options: Any) -> tuple[Any, list[str]]:
    """Run two steps with tests before them; return the outcome, and the warnings about lost trajectories."""
    made = VRGRPOTrainer(
        qwen3(),
        reward_funcs=reward_funcs,
        args=arguments(folder, eval_strategy="steps", eval_steps=1, max_steps=steps),
        train_dataset=ROWS[:4],
        eval_dataset=ROWS[:2],
        processing_class=byte_tokenizer(),
        **options,
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = made.train()
    assert result.global_step == steps
    return result, [str(one.message) for one in said if "(said once)" in str(one.message)]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, -(10**400)], ids=["none", "nan", "inf", "-inf", "int"])
def test_nobody_is_scored(value: Any, tmp_path: Path) -> None:
    result, said = run(tmp_path / "run", lambda completions, **_: [value] * len(completions))
    assert [text.split(":")[0] for text in said] == ["evaluation/unscored", "rollout/unscored"]
    assert "expected a number from one of them, got none" in said[0] or "expected a finite reward" in said[0]
    train, tests = (read_metrics(tmp_path / "run", kind) for kind in ("train", "eval"))
    assert [line["rollout/unscored"] for line in train] == [8, 8]
    assert [line["rollout/failed"] for line in train] == [0, 0]
    assert [line["rollout/reward"] for line in train] == [None, None]
    assert [line["updated/assistant"] for line in train] == [0, 0]
    assert [(line["avg/accuracy"], line["avg/unscored"]) for line in tests] == [(None, 2)] * 3
    assert result.training_loss == 0.0


def test_some_are_not_scored(tmp_path: Path) -> None:
    """Every function has its own gaps; the others learn, and the metrics are of what is finite."""

    def first(completions: list[str], **_: Any) -> list[Any]:
        return [-math.inf, 1e308, None, *map(float, range(len(completions) - 3))] if len(completions) > 3 else [1.0, None]

    def second(completions: list[str], **_: Any) -> list[float]:
        return [1e308 if i == 1 else float(i) for i in range(len(completions))]

    _, said = run(tmp_path / "run", [first, second])
    assert [text.split(":")[0] for text in said] == ["rollout/unscored"]
    for line in read_metrics(tmp_path / "run", "train"):
        assert line["rollout/unscored"] == 2
        assert {error.split(":")[0] for error in line["errors"]} == {"first", "reward_funcs"}
        assert line["rewards/first/mean"] == pytest.approx(1e308 / 6)
        assert line["rewards/first/std"] > 1e307
        assert line["updated/assistant"] == 1


class Env:
    """One turn; reset and get cut off now and then."""

    tools: list[dict[str, Any]] = []  # noqa: RUF012
    calls = 0

    def reset(self, task: Any, seed: int = 0) -> str:
        Env.calls += 1
        if Env.calls % 5 == 3:
            raise ConnectionError(f"backend {Env.calls} is gone\x1b[2J\nhima: finished")
        return str(task["prompt"])

    def step(self, action: Any, *, agent: str | None = None) -> Step:
        return Step("", float(len(set(action.text))) / 8 if action else 0.0, True)

    def snapshot(self) -> None: ...

    def restore(self, state: None) -> None: ...


def test_an_environment_that_fails_now_and_then(tmp_path: Path) -> None:
    agents = {"solo": Agent("solo", "answers.", (), plain=True)}
    _, said = run(tmp_path / "run", agents=agents, env_factory=Env)
    assert len(said) == len({text.split(":")[0] for text in said})
    expected = r"rollout/failed: [12] of \d trajectories failed: ConnectionError: backend \d+ is gone\?\[2J hima: finished"
    assert any(re.match(expected, text) and text.isprintable() for text in said)
    lines = read_metrics(tmp_path / "run", "train")
    assert all(line["rollout/failed"] + line["updated/solo"] > 0 for line in lines)


class Unpaid:
    """An environment of TRL that gives no reward."""

    def reset(self, prompt: str) -> None: ...


def test_an_environment_that_nothing_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reward_funcs: expected functions for an environment without get_reward, got None"):
        run(tmp_path / "run", env_factory=Unpaid)
    assert not (tmp_path / "run").exists()


def test_a_coroutine_that_is_cancelled_is_a_failure(tmp_path: Path) -> None:
    async def cancelled(completions: list[str], **_: Any) -> list[float]:
        if len(completions) > 1 or cancelled.calls % 2:  # type: ignore[attr-defined]
            cancelled.calls += 1  # type: ignore[attr-defined]
            raise asyncio.CancelledError
        cancelled.calls += 1  # type: ignore[attr-defined]
        return [float(len(set(completions[0])))]

    cancelled.calls = 0  # type: ignore[attr-defined]
    run(tmp_path / "run", cancelled, steps=1)
    (line,) = read_metrics(tmp_path / "run", "train")
    assert line["rollout/failed"] == 4
    assert line["errors"] == ["cancelled: RuntimeError: the coroutine was cancelled"]
