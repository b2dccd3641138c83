"""The benchmark as an environment: a task's store, its tools, and the checker at the end."""

from typing import Any, NamedTuple

from trainer.env import Step
from trainer.hima_ecom import overlay
from trainer.hima_ecom.checkers import Evidence, check
from trainer.hima_ecom.tasks.task import Task
from trainer.hima_ecom.tools import TOOLS
from trainer.hima_ecom.world import World
from trainer.react import Action, Answer
from trainer.types import Call


class State(NamedTuple):
    """A state of an episode: the store's touched rows and the calls so far."""

    task: Task
    store: overlay.Snapshot
    calls: tuple[Call, ...]


class HimaEcomEnv:
    """Episodes over one shared world. Example: `env = HimaEcomEnv(world); query = env.reset(task)`."""

    tools: list[dict[str, Any]] = [schema for schemas in TOOLS.values() for schema in schemas]  # noqa: RUF012 - nobody writes

    def __init__(self, world: World) -> None:
        self.world = world
        self.session = world.session()
        self._task: Task | None = None
        self._calls: tuple[Call, ...] = ()

    def reset(self, task: Task, seed: int = 0) -> str:
        """Starts the task's episode; returns its query. The seed changes nothing: the world is deterministic."""
        self._task, self._calls = task, ()
        self.session = self.world.session(task.customer_id)
        return task.query

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        """A tool's observation; for an answer the accuracy R_A in [0, 1]; 0 for None (gave up).

        Args: agent: whose tools may be used; None, or one that has no tools of its own (a master alone), may use all.
        """
        if self._task is None:
            raise RuntimeError("environment: expected reset(task) before step")
        if isinstance(action, Action):
            text = self.session.call(action.name, action.arguments, agent=agent if agent in TOOLS else None)
            self._calls += (Call(owner(action.name), action.name, action.arguments, text),)
            return Step(text)
        accuracy = 0.0 if action is None else check(self._task.checker, self._evidence(action.text))
        return Step("", accuracy, True, {"accuracy": accuracy})

    def snapshot(self) -> State:
        """The state, in microseconds."""
        assert self._task is not None
        return State(self._task, self.session.snapshot(), self._calls)

    def restore(self, state: State) -> None:
        """Back to a state, also one of another task."""
        self._task, self._calls = state.task, state.calls
        self.session.restore(state.store)

    def _evidence(self, answer: str) -> Evidence:
        task = self._task
        assert task is not None
        return Evidence(answer, self._calls, self.session.state_hash(), task.query, task.customer_id, self.world)


_OWNER = {schema["function"]["name"]: agent for agent, schemas in TOOLS.items() for schema in schemas}


def owner(tool: str) -> str:
    """Whose tool this is; "" for an unknown one. A call counts for its tool's agent, whoever made it."""
    return _OWNER.get(tool, "")
