"""Scores of trajectories, from the environment, a scorer of one episode, or a judge of a whole batch."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from trainer.averages import as_float
from trainer.episode import Episode
from trainer.play import Player, describe
from trainer.walks import Walker

Score = Callable[[Any, Episode], float | None]


class Judged(NamedTuple):
    """A trajectory's accuracy R_A; NaN where there is none, `error` says why then, `failed` whether something raised."""

    accuracy: float
    error: str | None = None
    failed: bool = False


Judge = Callable[[Sequence[Any], Sequence[Player]], Sequence[Judged]]
_NO_SCORE = "score: expected a reward from the environment, or from a scorer of the task's own, got None"


def environment_score(task: Any, episode: Episode) -> float | None:
    """R_A is what the environment gave."""
    return episode.reward


def one_by_one(score: Score) -> Judge:
    """A judge that asks a scorer about each trajectory; what that raises costs the one."""

    def judge(tasks: Sequence[Any], players: Sequence[Player]) -> list[Judged]:
        found = []
        for task, player in zip(tasks, players, strict=True):
            try:
                accuracy = score(task, player.episode)
                found.append(Judged(math.nan, _NO_SCORE) if accuracy is None else Judged(as_float(accuracy)))
            except Exception as failure:
                found.append(Judged(math.nan, describe(failure), failed=True))
        return found

    return judge


def judge_all(walkers: Sequence[Walker], tasks: Sequence[Any], judge: Judge) -> dict[int, Judged]:
    """{number of the walker: R_A} of those that have an answer to judge."""
    ended = [
        i
        for i, walker in enumerate(walkers)
        if walker.player.error is None
        if (outcome := walker.player.episode.outcome) is not None and outcome.reason != "malformed"
    ]
    ended.sort(key=lambda i: walkers[i].task)
    found = judge([tasks[walkers[i].task] for i in ended], [walkers[i].player for i in ended]) if ended else []
    if len(found) != len(ended):
        raise ValueError(f"judge: expected {len(ended)} results, one for each trajectory, got {len(found)}")
    return dict(zip(ended, found, strict=True))
