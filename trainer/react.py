"""The ReAct grammar: what an agent may write, parsed without ever raising, and rendered back.

    Thought: free text, may run over lines            Thought: free text
    Action: get_order                         or      Final Answer: free text to the end
    Action Input: {"order_id": "O00001"}

The thought may be absent. A marker counts at the start of a line only. Nothing may follow the JSON object, so that a model can
neither write two actions nor invent the observation of its first. What a thinking model writes before all that, in
<think> ... </think>, is thought as well.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from trainer.reading import DepthError, load_json

MAX_DEPTH = 32  # of nested JSON values
_STEP = re.compile(r"^(?:Action|Final Answer):", re.MULTILINE)
THINK, THOUGHT = "<think>", "</think>"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Action:
    """A call of a tool or of a sub-agent."""

    name: str
    arguments: dict[str, Any]
    thought: str = ""


@dataclass(frozen=True)
class Answer:
    """The end of an agent's turn."""

    text: str
    thought: str = ""


@dataclass(frozen=True)
class Malformed:
    """Text outside the grammar, and why."""

    reason: str


def parse(text: str | bytes) -> Action | Answer | Malformed:
    """What an agent wrote, in time linear in its length; any bytes give a value, never an exception.

    White space around the thought, the name and the answer is dropped. A text may begin with <think> ... </think>: the thought,
    before what 'Thought:' adds to it. Malformed: no action and no answer; text before the first marker; a <think> that is not
    closed, or closed once more before the action; a name other than 1 to 64 of `A-Z a-z 0-9 _ . -`; arguments that aren't one
    JSON object and nothing else, with NaN, an infinity (1e999 too), a whole number beyond a float's range, a key twice, or more
    than 32 levels; an empty answer; text that isn't valid Unicode.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text.encode().decode()
    except UnicodeError:
        return Malformed("text: expected valid Unicode, got bytes that are not UTF-8 or an unpaired surrogate")
    text, thinking = text.strip(), ""
    if text.startswith(THINK):
        if is_thinking(text):
            return Malformed(f"'{THINK}': expected '{THOUGHT}' and an action after it, got a thought without an end")
        thinking, _, text = text.removeprefix(THINK).partition(THOUGHT)
        thinking, text = thinking.strip(), text.strip()
    start = _STEP.search(text)
    if start is None:
        return Malformed("expected a line that starts with 'Action:' or 'Final Answer:', got none")
    thought, rest = text[: start.start()], text[start.end() :].lstrip()
    if thought and not thought.startswith("Thought:"):
        return Malformed("expected 'Thought:', 'Action:' or 'Final Answer:' at the start, got other text")
    thought = thought.removeprefix("Thought:").strip()
    if thinking and THOUGHT in thought:
        return Malformed(f"'Thought:': expected no second '{THOUGHT}', got one")
    thought = f"{thinking}\n{thought}".strip()
    if start.group() == "Final Answer:":
        return Answer(rest, thought) if rest else Malformed("'Final Answer:': expected text, got nothing")
    name, found, arguments = rest.partition("\nAction Input:")
    name = name.rstrip()
    if not found:
        return Malformed("expected 'Action Input:' on the line after the action, got none")
    if not _NAME.fullmatch(name):
        return Malformed("'Action:': expected one name of 1 to 64 letters, digits, '_', '.' or '-', got other text")
    try:
        value = load_json(arguments.strip(), depth=MAX_DEPTH, once=True)
    except DepthError as error:
        return Malformed(f"'Action Input:': {error}")
    except ValueError as error:
        return Malformed(f"'Action Input:': expected a JSON object and nothing after it, got an error: {error}")
    if not isinstance(value, dict):
        return Malformed("'Action Input:': expected a JSON object, got another JSON value")
    if "\\u" in arguments and not _is_unicode(value):
        return Malformed("'Action Input:': expected valid Unicode, got an unpaired surrogate")
    return Action(name, value, thought)


def is_thinking(text: str) -> bool:
    """Return True for a text that ends inside its <think>."""
    return text.lstrip().startswith(THINK) and THOUGHT not in text


def render(step: Action | Answer) -> str:
    """A step as text: `parse(render(step)) == step`. A thought with a line that starts like an action stands in <think>.

    Raises: ValueError for a step that the grammar can't express: an empty answer, white space around a text, a name of other
    characters, arguments that aren't JSON.
    """
    if isinstance(step, Answer):
        action = f"Final Answer: {step.text}"
    else:
        try:
            arguments = json.dumps(step.arguments, ensure_ascii=False, allow_nan=False)
        except (TypeError, RecursionError) as error:
            raise ValueError(f"step: expected arguments of JSON values, got an error: {error}") from error
        action = f"Action: {step.name}\nAction Input: {arguments}"
    thought = f"Thought: {step.thought}\n" if step.thought else ""
    if _STEP.search(thought):
        thought = f"{THINK}\n{step.thought}\n{THOUGHT}\n\n"
    text = thought + action
    back = parse(text)
    if back != step:
        reason = back.reason if isinstance(back, Malformed) else "it would be read as another step"
        raise ValueError(f"step: expected one that the ReAct grammar can express, got {step!r}: {reason}")
    return text


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
