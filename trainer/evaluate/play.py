"""Many episodes in lockstep: whatever all running episodes ask goes to the policy at once."""

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.agents import Agent
from trainer.env import Environment
from trainer.episode import Episode, Limits
from trainer.policies.base import CountsTokens, FailsAlone, Policy, UnansweredError
from trainer.prompts import Style

ERROR = "error"  # the reason of an end that an exception brought about
_TOKEN = re.compile(r"[^\W\d_㐀-鿿]{1,6}|\d{1,3}|\S")


@dataclass(frozen=True, kw_only=True)
class Job:
    """An episode to play. `task` goes to the environment; `id` is the episode's, so that a policy can tell it."""

    id: str
    column: str
    task: Any
    minimal_calls: int


@dataclass
class Played:
    """How an episode went.

    accuracy: R_A; 0 where an exception ended it. calls: tools and sub-agents. nodes: texts that the policy wrote; written:
    tokens of these; by_rule: whether some were counted by `count_by_rule`, as their policy told no
    number. reason: as `Outcome.reason`, or "error", then `error` is the exception. turns: (agent, text) of
    every node.
    """

    id: str
    column: str
    minimal_calls: int
    accuracy: float = 0.0
    calls: int = 0
    nodes: int = 0
    written: int = 0
    by_rule: bool = False
    reason: str = ""
    answer: str | None = None
    error: str | None = None
    turns: list[tuple[str, str]] = field(default_factory=list)

    @property
    def solved(self) -> bool:
        """Whether R_A is 1."""
        return self.accuracy == 1.0


@dataclass
class _Running:
    episode: Episode
    played: Played


def count_by_rule(text: str) -> int:
    """Tokens of a text that no tokenizer has seen, by one rule for all: up to six letters, up to three digits, or any other
    character that is no space (so each Chinese one) are a token. Vocabularies of 100,000 entries give about as many."""
    return len(_TOKEN.findall(text))


def play(
    policy: Policy,
    jobs: Iterable[Job],
    make_env: Callable[[], Environment],
    agents: Mapping[str, Agent],
    *,
    entry: str = "master",
    limits: Limits | None = None,
    retrieve: Callable[[str, str], Sequence[str]] | None = None,
    style: Style = "compact",
    seed: int = 0,
    parallel: int = 256,
    on_end: Callable[[Played], None] | None = None,
) -> list[Played]:
    """Plays all jobs with at most `parallel` episodes at a time; returns how they went, in the order of the jobs.

    An exception of an environment or a scorer, a reward that is no number, and a request that the policy had no answer to
    (`FailsAlone`) cost that episode only. A policy that is lost on the way (`UnansweredError`) costs the episodes that have not
    ended; what else it raises propagates, as does that where nothing has been played yet.

    Args:
        make_env: makes the environment of one episode.
        agents, entry, limits, retrieve, style, seed: see `Episode`.
        on_end: told of each episode when it ends.

    Raises: ValueError for two jobs of one id, and for a policy that returns another number of texts than it was asked.
    """
    if parallel < 1:
        raise ValueError(f"parallel: expected at least 1, got {parallel}")
    waiting = deque(jobs)
    results = {job.id: Played(job.id, job.column, job.minimal_calls) for job in waiting}
    if len(results) != len(waiting):
        raise ValueError(f"jobs: expected an id once, got {len(waiting)} jobs of {len(results)} ids")
    running: list[_Running] = []

    def end(played: Played) -> None:
        if on_end is not None:
            on_end(played)

    while waiting or running:
        while waiting and len(running) < parallel:
            job = waiting.popleft()
            played = results[job.id]
            try:
                episode = Episode(
                    make_env(),
                    agents,
                    task=job.task,
                    episode_id=job.id,
                    seed=seed,
                    limits=limits or Limits(),
                    retrieve=retrieve,
                    entry=entry,
                    style=style,
                )
            except Exception as error:  # whatever an environment raises is that episode's
                _fail(played, error)
                end(played)
            else:
                running.append(_Running(episode, played))
        if running:
            try:
                _step(policy, running)
            except UnansweredError as error:
                if error.lasting and not any(played.nodes for played in results.values()):
                    raise
                for run in running:
                    _fail(run.played, error)
                while error.lasting and waiting:
                    played = results[waiting.popleft().id]
                    _fail(played, error)
                    end(played)
            for run in running:
                if run.played.reason:
                    end(run.played)
            running = [run for run in running if not run.played.reason]
    return list(results.values())


def _step(policy: Policy, running: list[_Running]) -> None:
    """Plays the next node of every episode; those that ended have a reason."""
    requests = [request for run in running if (request := run.episode.request) is not None]
    texts = policy.act(requests)
    if len(texts) != len(running):
        raise ValueError(f"policy: expected {len(running)} texts, one for each request, got {len(texts)}")
    tokens = policy.written if isinstance(policy, CountsTokens) else None
    written = [count_by_rule(text) for text in texts] if tokens is None else tokens
    failed = policy.failed if isinstance(policy, FailsAlone) else [None] * len(texts)
    for run, request, text, count, failure in zip(running, requests, texts, written, failed, strict=True):
        if failure is not None:
            _fail(run.played, failure)
            continue
        run.played.turns.append((request.agent, text))
        run.played.nodes += 1
        run.played.written += count
        run.played.by_rule |= tokens is None
        try:
            run.episode.act(text)
            if run.episode.done:
                _finish(run.episode, run.played)
        except Exception as error:
            _fail(run.played, error)


def _finish(episode: Episode, played: Played) -> None:
    outcome, reward = episode.outcome, episode.reward
    assert outcome is not None
    if reward is None or not math.isfinite(reward):
        raise ValueError(f"reward: expected a number, got {reward}")
    played.accuracy, played.calls, played.answer, played.reason = reward, outcome.actions, outcome.answer, outcome.reason


def _fail(played: Played, error: Exception) -> None:
    played.reason, played.error = ERROR, f"{type(error).__name__}: {error}"
