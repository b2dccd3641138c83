"""What agents read first: a static system prompt, so that episodes share it as a prefix, and memory after it."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

from trainer.agents import Agent
from trainer.escaping import for_line

Style = Literal["compact", "json", "brief"]

_CALL = """\
To use {what}, write this and wait for the observation:
Thought: <why>
Action: <name>
Action Input: <JSON object>

"""
_ANSWER = """\
{when}, write:
Thought: <why>
Final Answer: <answer, in the language of the task>"""


@lru_cache(maxsize=256)
def system_prompt(agent: Agent, *, style: Style = "compact") -> str:
    """An agent's role, the grammar of `trainer.react`, its sub-agents and tools. Computed once an agent.

    Args: style: "compact" writes a tool as `name(argument: type, optional?: type): description`, "json" as its JSON schema;
        "brief" is the agent's name alone, for a model that is trained from scratch and knows its tools by heart.
    """
    if style not in get_args(Style):
        raise ValueError(f"style: expected {', '.join(map(repr, get_args(Style)))}, got {style!r}")
    if style == "brief":
        return agent.name
    write = _signature if style == "compact" else _json
    subagents = [write(tool["function"]) for tool in agent.tools if tool["function"]["name"] in agent.subagents]
    tools = [write(tool["function"]) for tool in agent.tools if tool["function"]["name"] not in agent.subagents]
    what = " or ".join(["an agent"] * bool(subagents) + ["a tool"] * bool(tools))
    grammar = (_CALL.format(what=what) if what else "") + _ANSWER.format(when="When you are done" if what else "To answer")
    parts = [f"You are {agent.name}, an agent that {agent.description}", grammar]
    if subagents:
        parts.append("\n".join(["Agents (they see nothing but the task you give):", *subagents]))
    if tools:
        parts.append("\n".join(["Tools:", *tools]))
    return "\n\n".join(parts)


def first_message(query: str, strategies: Sequence[str] = ()) -> str:
    """An agent's first task in an episode, after the strategies that its memory holds for it, a line each."""
    task = f"Task: {query}"
    lines = [f"- {for_line(text)}" for text in strategies]
    return "\n".join(["Strategies from memory:", *lines, "", task]) if strategies else task


def _json(function: dict[str, Any]) -> str:
    return json.dumps(function, ensure_ascii=False)


def _signature(function: dict[str, Any]) -> str:
    parameters = function.get("parameters", {})
    required = parameters.get("required", ())
    arguments = [
        f"{name}{'' if name in required else '?'}: {_type(schema)}" for name, schema in parameters.get("properties", {}).items()
    ]
    description = function.get("description", "")
    return for_line(f"{function['name']}({', '.join(arguments)})" + (f": {description}" if description else ""))


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema's type in a word: `integer`, `string[]`, `"new"|"used"`, `string|null`."""
    if "enum" in schema:
        return "|".join(json.dumps(choice, ensure_ascii=False) for choice in schema["enum"])
    if "anyOf" in schema:
        return "|".join(_type(option) for option in schema["anyOf"])
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return "|".join(kind)
    if kind == "array":
        item = _type(schema.get("items", {}))
        return f"({item})[]" if "|" in item else f"{item}[]"
    return str(kind)
