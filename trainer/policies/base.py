"""Who acts: what a policy is asked and returns."""

import random
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from trainer.types import Request

STOP = "\nObservation:"  # what comes after a call is not a model's to write
_OBSERVATION, _TASK = "Observation: ", "Task: "


class Policy(Protocol):
    """Plays all agents of any number of episodes at once."""

    def act(self, requests: Sequence[Request]) -> list[str]:
        """What each request's agent writes next, in the order of the requests."""


@runtime_checkable
class CountsTokens(Protocol):
    """A policy that tells how many tokens it wrote."""

    written: list[int] | None  # tokens of each text of the last `act`; None where it could not tell


@runtime_checkable
class FailsAlone(Protocol):
    """A policy that may fail to say something for some requests."""

    failed: list[Exception | None]  # why each request of the last `act` got no text


class UnansweredError(ConnectionError):
    """No request of a round got an answer. lasting: nor will the next ones, as far as can be told."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


def query_of(request: Request) -> str:
    """The task that the agent works on, without the strategies before it (see `trainer.prompts.first_message`)."""
    tasks = [m.content for m in request.messages if m.role == "user" and not m.content.startswith(_OBSERVATION)]
    last = tasks[-1]
    return last.removeprefix(_TASK) if last.startswith(_TASK) else last.partition(f"\n\n{_TASK}")[2] or last


def observations_of(request: Request) -> list[str]:
    """What the agent has observed since that task, oldest first."""
    found: list[str] = []
    for message in request.messages:
        if message.role == "user" and message.content.startswith(_OBSERVATION):
            found.append(message.content.removeprefix(_OBSERVATION))
        elif message.role == "user":
            found.clear()
    return found


def generator(seed: int, request: Request) -> random.Random:
    """A random generator of this node's own: the same in whatever order the nodes are played."""
    return random.Random(f"{seed}/{request.episode_id}/{request.node}")
