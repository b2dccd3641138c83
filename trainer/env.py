"""The environment interface: a task, steps, and states that a node is re-entered from."""

import copy
from typing import Any, NamedTuple, Protocol, runtime_checkable

from trainer.react import Action, Answer
from trainer.types import Message


class Step(NamedTuple):
    """What a step did: the observation for the agent, a reward where the environment gives one, whether it ended, details.

    `Step('{"status":"shipped"}', None, False, {})`; after an answer `Step("", 1.0, True, {"state": True})`.
    """

    observation: str
    reward: float | None = None
    done: bool = False
    info: dict[str, Any] = {}  # noqa: RUF012 - a default of a named tuple; nobody writes into it


@runtime_checkable
class Playable(Protocol):
    """The interface without states."""

    @property
    def tools(self) -> list[dict[str, Any]]:
        """OpenAI function schemas."""

    def reset(self, task: Any, seed: int = 0) -> str | list[Message]:
        """Starts an episode; returns the query, or the messages that it begins with."""

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        """Runs an action of `agent`. An Answer, or None (gave up), ends the episode with a reward, if there is one."""


@runtime_checkable
class Environment(Playable, Protocol):
    """The whole interface. A state may be restored any number of times, also after the episode ended."""

    def snapshot(self) -> Any:
        """The state of the episode."""

    def restore(self, state: Any) -> None:
        """Back to a state that `snapshot` gave."""


class Move(NamedTuple):
    """A step of an episode that is being recorded."""

    action: Action | Answer | None
    agent: str | None
    observation: str


class State(NamedTuple):
    """A state of a Replayable: its moves from (task, seed), and a copy of the environment where one can be made."""

    task: Any
    seed: int
    moves: tuple[Move, ...]
    copied: Playable | None


class Replayable:
    """States for an environment that has none: deep copies; where it can't be copied, the episode's actions played again.

    A replay that observes other than the first time raises RuntimeError: such an environment has no states.
    """

    def __init__(self, inner: Playable) -> None:
        self.inner = inner
        self._copies = True
        self._task: Any = None
        self._seed = 0
        self._moves: tuple[Move, ...] = ()

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The environment's."""
        return self.inner.tools

    def reset(self, task: Any, seed: int = 0) -> str | list[Message]:
        """Starts an episode."""
        self._task, self._seed, self._moves = task, seed, ()
        return self.inner.reset(task, seed)

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        """Runs and records an action."""
        step = self.inner.step(action, agent=agent)
        self._moves += (Move(action, agent, step.observation),)
        return step

    def snapshot(self) -> State:
        """The state; the first environment that refuses to be copied is never copied again."""
        copied = None
        if self._copies:
            try:
                copied = copy.deepcopy(self.inner)
            except Exception:  # whatever an object raises that can't be copied: the replay takes its place
                self._copies = False
        return State(self._task, self._seed, self._moves, copied)

    def restore(self, state: State) -> None:
        """Back to a state. Raises: RuntimeError if a replay observes other than the first time."""
        if state.copied is not None:
            self.inner = copy.deepcopy(state.copied)
        else:
            self.inner.reset(state.task, state.seed)
            for number, move in enumerate(state.moves):
                got = self.inner.step(move.action, agent=move.agent).observation
                if got != move.observation:
                    raise RuntimeError(f"replay: step {number}: expected observation {move.observation!r}, got {got!r}")
        self._task, self._seed, self._moves = state.task, state.seed, state.moves
