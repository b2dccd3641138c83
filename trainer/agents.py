"""Who plays: an agent has a name, a role, tools, and sub-agents that it can delegate to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trainer.hima_ecom import TOOLS
from trainer.react import Action, Answer, Malformed, parse

_SUBAGENTS = {
    "qa": "answers questions about the store's policies and products from its knowledge base.",
    "efc": "finds products and offers, and looks up and changes the customer's orders: cancel, return, exchange, address, "
    "payment, coupons.",
    "gfc": "knows dates, time zones and the weather, converts units and currencies, edits texts and sets reminders.",
    "math": "calculates: expressions, linear equations, statistics.",
}
_MASTER = "answers the customer of an online store."
_PLAN = (
    f"{_MASTER} Give each part of the request to the agent that can do it, one at a time; pass on what earlier agents found. "
    "Then answer with everything that was asked for; if something cannot be done, say why."
)
_ALONE = f"{_MASTER} Do every part of the request with the tools; if something cannot be done, say why."


@dataclass(frozen=True)
class Agent:
    """An agent. `description` goes on after its name: "calculates: ..."; `tools` are OpenAI function schemas, those of its
    sub-agents (`delegation`) among them; `subagents` names which of them are agents. `plain`: it has no tools, reads its task
    as it stands, without a system prompt, and whatever it writes is its answer."""

    name: str
    description: str
    tools: tuple[dict[str, Any], ...] = field(hash=False)
    subagents: tuple[str, ...] = ()
    plain: bool = False

    def __post_init__(self) -> None:
        if self.plain and self.tools:
            raise ValueError(f"tools: expected none for a plain agent, got {len(self.tools)}")

    @cached_property
    def tool_names(self) -> frozenset[str]:
        """The names it may call, sub-agents included."""
        return frozenset(tool["function"]["name"] for tool in self.tools)

    def read(self, text: str) -> Action | Answer | Malformed:
        """What a text of this agent means: `parse`; of a plain one, an answer."""
        return Answer(text) if self.plain else parse(text)


def delegation(name: str, description: str) -> dict[str, Any]:
    """The function schema by which an agent calls the sub-agent `name`."""
    task = {"type": "string", "description": "what it should do, with everything it needs to know"}
    parameters = {"type": "object", "properties": {"task": task}, "required": ["task"], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def single_agent(
    tools: Iterable[dict[str, Any]], *, name: str = "assistant", description: str = "solves the task."
) -> dict[str, Agent]:
    """One agent with all tools of an environment, for `Episode(..., entry=name)`."""
    return {name: Agent(name, description, tuple(tools))}


_HIERARCHY = {
    "master": Agent("master", _PLAN, tuple(delegation(*item) for item in _SUBAGENTS.items()), tuple(_SUBAGENTS)),
    **{name: Agent(name, description, tuple(TOOLS[name])) for name, description in _SUBAGENTS.items()},
}
_MASTER_ONLY = single_agent((tool for tools in TOOLS.values() for tool in tools), name="master", description=_ALONE)


def hima_ecom_agents() -> dict[str, Agent]:
    """The five agents: master, qa, efc, gfc, math."""
    return dict(_HIERARCHY)


def master_only_agents() -> dict[str, Agent]:
    """The master alone, with the tools of all four sub-agents: a system without a hierarchy."""
    return dict(_MASTER_ONLY)
