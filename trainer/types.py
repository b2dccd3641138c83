"""What passes between an episode, the policies that play it and the rewards that judge it."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Role = Literal["system", "user", "assistant"]
Reason = Literal["answered", "malformed", "turn limit", "call limit", "context limit"]


class Message(NamedTuple):
    """One message of a context: `Message("user", 'Observation: {"status":"shipped"}')`. An observation is a user message."""

    role: Role
    content: str


class Call(NamedTuple):
    """A tool call that an episode made: `Call("efc", "get_order", {"order_id": "O00001"}, '{"status":"shipped",...}')`."""

    agent: str
    name: str
    arguments: dict[str, Any]
    observation: str


@dataclass(frozen=True)
class Request:
    """What the next node's policy is asked: agent `agent` continues `messages`; `node` counts the episode's nodes from 0."""

    agent: str
    messages: tuple[Message, ...]
    episode_id: str
    node: int


@dataclass
class Outcome:
    """How an episode ended: `Outcome("Your order has shipped.", [Call(...)], "answered", [True] * 5, 1)`.

    answer: the entry agent's final answer; None where it gave none. calls: the tool calls in order, refused ones too, without
    delegations. reason: why it ended; "answered" without an answer: the environment ended it. parsed: for each node, whether
    its text was in the grammar. delegations: how often an agent called a sub-agent, refused calls too.
    """

    answer: str | None
    calls: list[Call] = field(default_factory=list)
    reason: Reason = "answered"
    parsed: list[bool] = field(default_factory=list)
    delegations: int = 0

    @property
    def actions(self) -> int:
        """All calls: of tools and of sub-agents."""
        return len(self.calls) + self.delegations


@dataclass(frozen=True)
class Sample:
    """What an engine generated: `Sample((812, 7, 2), (-0.1, -0.7, -0.0), "stop", 3)`.

    token_ids: with the stop token, where one ended it. rollout_logprobs: of each token, over the whole vocabulary.
    policy_version: of the weights that sampled it. sampling_logprobs: where filters or temperature 0 made the distribution that
    was drawn from another one, the tokens' log-probabilities in that, if the engine tells (vLLM's does not).
    """

    token_ids: tuple[int, ...]
    rollout_logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]
    policy_version: int
    sampling_logprobs: tuple[float, ...] | None = None
