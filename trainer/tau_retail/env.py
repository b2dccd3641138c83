"""The retail domain of tau-bench as an environment."""

from pathlib import Path
from typing import Any, NamedTuple

from trainer.env import Step
from trainer.react import Action, Answer
from trainer.tau_retail.data import Retail, Task, load
from trainer.tau_retail.tools.general import TRANSFER
from trainer.tau_retail.world import Touched, World


class State(NamedTuple):
    """A state of an episode."""

    task: Task | None
    touched: Touched
    done: bool


class TauRetailEnv:
    """One episode at a time over the shared store of a folder; make one environment for each parallel episode.

    There is no simulated user, who in tau-bench reads the instruction and reveals it over a conversation: the query is the
    instruction itself, written to the customer, and the agent acts on it alone. Scores are therefore not those of tau-bench's
    leaderboard; store, tools, tasks and criterion are.

    The reward comes with the end, by an Answer or a transfer to a human agent, and is tau-bench's: 1.0 if the store is as the
    task's gold actions leave it (one that the tools refuse changes nothing) and the answer holds each of the task's outputs
    (in any case; commas in the answer don't count), else 0.0. An episode that is given up (None) gets 0.0.

    Args: retail: a folder, or one that `load` gave.
    """

    def __init__(self, retail: Retail | str | Path) -> None:
        self.retail = retail if isinstance(retail, Retail) else load(retail)
        self.world = World(self.retail.base)
        self._task: Task | None = None
        self._done = False

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The sixteen OpenAI function schemas of the folder."""
        return list(self.retail.toolbox.schemas)

    def reset(self, task: Task, seed: int = 0) -> str:
        """Starts an episode on the untouched store; returns the instruction. Nothing is random: the seed isn't used."""
        if not isinstance(task, Task):
            raise TypeError(f"task: expected a trainer.tau_retail.Task, got {type(task).__name__}")
        self.world, self._task, self._done = World(self.retail.base), task, False
        return task.instruction

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        """Runs a tool, or ends the episode. A refused call gives {"error": reason} and leaves the store as it was.

        At the end `info` says what was met: {"state": bool, "outputs": {output: bool}}.

        Raises: RuntimeError before `reset` and after the end; TypeError for another kind of action.
        """
        if self._task is None or self._done:
            state = "one that has ended" if self._done else "none; call reset"
            raise RuntimeError(f"episode: expected one that goes on, got {state}")
        if action is None:
            self._done = True
            return Step("", 0.0, True, {})
        if isinstance(action, Answer):
            return self._end(self._task, "", action.text)
        if not isinstance(action, Action):
            raise TypeError(f"action: expected an Action, an Answer or None, got {type(action).__name__}")
        observation, refused = self.retail.toolbox.call(self.world, action.name, action.arguments)
        if action.name == TRANSFER and not refused:
            return self._end(self._task, observation, "")
        return Step(observation)

    def snapshot(self) -> State:
        """The state of the episode."""
        return State(self._task, self.world.snapshot(), self._done)

    def restore(self, state: State) -> None:
        """Back to a state, also one of another environment of the folder, also after the end."""
        self._task, self._done = state.task, state.done
        self.world.restore(state.touched)

    def _end(self, task: Task, observation: str, answer: str) -> Step:
        self._done = True
        gold = World(self.retail.base)
        for action in task.actions:
            self.retail.toolbox.call(gold, action.name, action.arguments)
        same = self.world.state_hash() == gold.state_hash()
        text = answer.lower().replace(",", "")
        outputs = {output: output.lower() in text for output in task.outputs}
        return Step(observation, float(same and all(outputs.values())), True, {"state": same, "outputs": outputs})
