"""One episode: the hierarchy of agents over an environment, as a state machine that is asked, told, saved and restored.

    episode = Episode(env, hima_ecom_agents(), task=task)
    while (request := episode.request) is not None:
        episode.act(policy(request))
    print(episode.outcome, episode.reward)

An agent delegates by an Action with a sub-agent's name and {"task": text}. The sub-agent works in a context of its own; its
final answer is what the agent observes. Called again, it goes on in its context: contexts only grow. Every text that a policy
writes is one node.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from trainer.agents import Agent
from trainer.averages import as_float
from trainer.env import Environment, Step
from trainer.escaping import for_utf8
from trainer.prompts import Style, first_message, system_prompt
from trainer.react import Action, Answer, Malformed
from trainer.types import Call, Message, Outcome, Reason, Request


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an episode may take. nodes, delegations (refused ones too): of an episode; calls: tools and sub-agents in one turn
    of an agent; observation: characters, the rest is cut off with a note. malformed: a text outside the grammar ends the
    episode with reward 0 ("end"), or the agent reads what is wrong with it ("observe")."""

    nodes: int = 64
    calls: int = 16
    delegations: int = 16
    observation: int = 8000
    malformed: Literal["end", "observe"] = "end"

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "malformed" and value < 1:
                raise ValueError(f"limits.{item.name}: expected at least 1, got {value}")
        if self.malformed not in ("end", "observe"):
            raise ValueError(f"limits.malformed: expected 'end' or 'observe', got {self.malformed!r}")


def check_agents(agents: Mapping[str, Agent], entry: str) -> None:
    """Raises: ValueError for an entry or a sub-agent that isn't among `agents`."""
    for name in (entry, *(name for agent in agents.values() for name in agent.subagents)):
        if name not in agents:
            raise ValueError(f"agents: expected one named {name!r}, got {', '.join(agents)}")


class Turn(NamedTuple):
    """An agent at work, and how many calls it has made since its task."""

    agent: str
    calls: int


class Snapshot(NamedTuple):
    """A state of an episode: nothing in it is ever changed, so that it costs a few references and the environment's state."""

    contexts: dict[str, tuple[Message, ...]]
    strategies: dict[str, tuple[str, ...]]
    turns: tuple[Turn, ...]
    calls: tuple[Call, ...]
    parsed: tuple[bool, ...]
    delegations: int
    answer: str | None
    reason: Reason | None
    reward: float | None
    env: Any


class Episode:
    """An episode of `agents` over `env`.

    Args:
        task, seed: for `env.reset`. A system message that it returns goes on after the entry agent's system prompt (a plain
            agent reads it where it stands).
        limits: see Limits.
        retrieve: (agent, query) -> strategies from that agent's memory, asked once an agent, at its first task.
        entry: the agent that gets the task and whose final answer ends the episode.
        style: of the system prompts, see `system_prompt`.

    Raises: ValueError for an entry or a sub-agent that isn't among `agents`.
    """

    def __init__(
        self,
        env: Environment,
        agents: Mapping[str, Agent],
        *,
        task: Any,
        episode_id: str = "",
        seed: int = 0,
        limits: Limits = Limits(),
        retrieve: Callable[[str, str], Sequence[str]] | None = None,
        entry: str = "master",
        style: Style = "compact",
    ) -> None:
        check_agents(agents, entry)
        self.env, self.agents, self.episode_id, self.limits = env, agents, episode_id, limits
        self._retrieve, self._style = retrieve, style
        self._contexts: dict[str, tuple[Message, ...]] = {}
        self._strategies: dict[str, tuple[str, ...]] = {}
        self._turns: tuple[Turn, ...] = ()
        self._calls: tuple[Call, ...] = ()
        self._parsed: tuple[bool, ...] = ()
        self._delegations = 0
        self._answer: str | None = None
        self._reason: Reason | None = None
        self._reward: float | None = None
        self._start(entry, env.reset(task, seed))

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self._reason is not None

    @property
    def request(self) -> Request | None:
        """What the next node's policy is asked; None when the episode has ended."""
        if self._reason is not None:
            return None
        agent = self._turns[-1].agent
        return Request(agent, self._contexts[agent], self.episode_id, len(self._parsed))

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None before."""
        if self._reason is None:
            return None
        return Outcome(self._answer, list(self._calls), self._reason, list(self._parsed), self._delegations)

    @property
    def reward(self) -> float | None:
        """What the environment gave, summed over the steps; None before the end, or if it gives none. 0 if malformed."""
        return self._reward if self.done else None

    @property
    def contexts(self) -> dict[str, tuple[Message, ...]]:
        """{agent: all messages of its context}, in the order of their first tasks."""
        return dict(self._contexts)

    @property
    def strategies(self) -> dict[str, tuple[str, ...]]:
        """{agent: what its memory gave it at its first task}."""
        return dict(self._strategies)

    def act(self, text: str) -> None:
        """Plays the next node: the current agent wrote `text`. Raises: RuntimeError if the episode has ended."""
        if self._reason is not None:
            raise RuntimeError("episode: expected one that goes on, got one that has ended")
        turn = self._turns[-1]
        step = self.agents[turn.agent].read(text)
        self._parsed += (not isinstance(step, Malformed),)
        self._say(turn.agent, "assistant", text)
        if isinstance(step, Malformed):
            if self.limits.malformed == "end":
                self._reason, self._reward = "malformed", 0.0
            else:
                self._observe(turn.agent, _error(step.reason))
        elif isinstance(step, Answer):
            self._finish_turn(step)
        elif turn.calls == self.limits.calls:
            self._give_up("call limit")
        else:
            self._turns = (*self._turns[:-1], Turn(turn.agent, turn.calls + 1))
            if step.name in self.agents[turn.agent].subagents:
                self._delegate(turn.agent, step)
            else:
                self._call(turn.agent, step)
        if self._reason is None and len(self._parsed) >= self.limits.nodes:
            self._give_up("turn limit")

    def give_up(self, reason: Reason) -> None:
        """Ends the episode without an answer: its player cannot go on. Raises: RuntimeError if it has ended."""
        if self._reason is not None:
            raise RuntimeError("episode: expected one that goes on, got one that has ended")
        self._give_up(reason)

    def snapshot(self) -> Snapshot:
        """The state. It may be restored any number of times, also into another episode of the same task."""
        return Snapshot(
            self._contexts.copy(),
            self._strategies.copy(),
            self._turns,
            self._calls,
            self._parsed,
            self._delegations,
            self._answer,
            self._reason,
            self._reward,
            self.env.snapshot(),
        )

    def restore(self, state: Snapshot) -> None:
        """Back to a state."""
        self._contexts, self._strategies = state.contexts.copy(), state.strategies.copy()
        self._turns, self._calls, self._parsed, self._delegations = state.turns, state.calls, state.parsed, state.delegations
        self._answer, self._reason, self._reward = state.answer, state.reason, state.reward
        self.env.restore(state.env)

    def _say(self, agent: str, role: Literal["user", "assistant"], text: str) -> None:
        text = for_utf8(text)
        self._contexts[agent] += (Message(role, text),)

    def _observe(self, agent: str, text: str) -> str:
        if len(text) > self.limits.observation:
            text = f"{text[: self.limits.observation]}... ({len(text) - self.limits.observation} more characters)"
        self._say(agent, "user", f"Observation: {text}")
        return text

    def _start(self, agent: str, query: str | Sequence[Message]) -> None:
        """The agent's first turn: its context is its system prompt (of a plain agent: none), then what the environment begins
        with; the last user message of that is the task, after the agent's strategies."""
        who = self.agents[agent]
        given = [Message("user", query)] if isinstance(query, str) else query
        given = [Message(role, for_utf8(text)) for role, text in given]
        before = given if who.plain else [message for message in given if message.role != "system"]
        if not before or before[-1].role != "user":
            raise ValueError(f"env.reset: expected messages that end with the user's, got {given!r}")
        *before, (_, task) = before
        if not who.plain:
            texts = [message.content for message in given if message.role == "system"]
            before = [Message("system", "\n\n".join([system_prompt(who, style=self._style), *texts])), *before]
        strategies = tuple(self._retrieve(agent, task)) if self._retrieve is not None else ()
        self._strategies[agent] = strategies
        self._contexts[agent] = tuple(before)
        self._say(agent, "user", first_message(task, strategies) if strategies or not who.plain else task)
        self._turns += (Turn(agent, 0),)

    def _delegate(self, agent: str, action: Action) -> None:
        if self._delegations == self.limits.delegations:
            self._give_up("call limit")
            return
        self._delegations += 1
        task = action.arguments.get("task")
        if not isinstance(task, str) or not task.strip() or len(action.arguments) > 1:
            self._observe(agent, _error(f'{action.name} takes {{"task": "what it should do"}} and nothing else'))
        elif any(turn.agent == action.name for turn in self._turns):
            self._observe(agent, _error(f"{action.name} is waiting for an answer itself"))
        elif action.name in self._contexts:
            self._say(action.name, "user", first_message(task))
            self._turns += (Turn(action.name, 0),)
        else:
            self._start(action.name, task)

    def _call(self, agent: str, action: Action) -> None:
        if action.name in self.agents[agent].tool_names:
            step = self.env.step(action, agent=agent)
        else:
            step = Step(_error(f"unknown tool '{action.name}'"))
        seen = self._observe(agent, step.observation)
        self._calls += (Call(agent, action.name, action.arguments, seen),)
        self._take(step)

    def _finish_turn(self, answer: Answer) -> None:
        *rest, last = self._turns
        self._turns = tuple(rest)
        if self._turns:
            self._observe(self._turns[-1].agent, answer.text)
        else:
            self._answer, self._reason = answer.text, "answered"
            self._take(self.env.step(answer, agent=last.agent))

    def _give_up(self, reason: Reason) -> None:
        self._reason = reason
        self._take(self.env.step(None))

    def _take(self, step: Step) -> None:
        """The reward of a step; an environment may end an episode itself."""
        if step.reward is not None:
            self._reward = as_float(step.reward) + (self._reward or 0.0)
        if step.done and self._reason is None:
            self._reason = "answered"


def _error(reason: str) -> str:
    return json.dumps({"error": reason}, ensure_ascii=False, separators=(",", ":"))
