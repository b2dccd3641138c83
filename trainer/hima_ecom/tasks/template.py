"""Families whose tasks differ in facts alone: an entry says what is drawn, called and expected, `play` writes a task.

The texts of an entry lie in a TOML file (`texts.Sentences`). They, and the arguments of calls and expectations, are templates
over the facts: what `draw` returns, the results of the calls, and what `read` makes of them. A template that is one field, like
"{price}", stands for the fact itself, whatever its type.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from string import Formatter
from typing import Any

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.families import Family, register
from trainer.hima_ecom.tasks.texts import Sentences, sentences

Facts = dict[str, Any]
_FIELD = re.compile(r"\{([^{}!:]+)\}")


@dataclass(frozen=True)
class Call:
    """A tool call of the expert."""

    tool: str
    arguments: Mapping[str, Any] | str  # or a fact that is a mapping
    into: str  # the fact that its result becomes
    then: Callable[[Facts], Facts] = lambda facts: {}  # further facts, for the calls after it. Raises: Skip
    refused: bool = False  # the tool must refuse; its reason becomes the fact


@dataclass(frozen=True)
class Number:
    """The answer must name a quantity."""

    value: str
    unit: str | None = None
    tolerance: str = "0.005"


@dataclass(frozen=True)
class Text:
    """The answer must contain a text, or each of several."""

    value: str
    accept: str = ""  # a text, or a fact that is a list of texts, which count as well
    reject: str = ""  # the same of texts that must not occur


@dataclass(frozen=True)
class Refusal:
    """The answer must refuse and say why."""

    reasons: Sequence[str] | str  # texts, or a fact that is a list of texts
    reject: Sequence[str] | str = ()


@dataclass(frozen=True)
class Called:
    """The entry's calls must be made; of several, those of these tools."""

    tools: tuple[str, ...] = ()  # all if none is named


Expected = Number | Text | Refusal | Called | Callable[[Builder, Facts], None]


@dataclass(frozen=True)
class Template:
    """A family of tasks that one call or a fixed sequence of calls solves.

    GFC and Math ask and finish by `wording.ask` and `wording.finish`, the other columns by the builder.
    """

    name: str
    difficulty: int
    topic: str
    draw: Callable[[Builder], Facts]
    calls: Call | tuple[Call, ...]
    expect: Expected | tuple[Expected, ...]
    read: Callable[[Facts], Facts] = lambda facts: {}  # further facts, from the results. Raises: Skip
    ask: tuple[str, ...] = ()  # the phrases of the query, in order; if empty, those with the family's name
    noise: float = 0.0  # GFC and Math: probability of a sentence with an irrelevant number
    impossible: bool = False


def call(tool: str, /, *, into: str = "seen", then: Callable[[Facts], Facts] | None = None, **arguments: Any) -> Call:
    """Return a call whose result becomes the fact `into`."""
    made = Call(tool, arguments, into)
    return made if then is None else replace(made, then=then)


def refused(tool: str, /, **arguments: Any) -> Call:
    """Return a call that the tool must refuse; the reason becomes the fact "reason"."""
    return Call(tool, arguments, "reason", refused=True)


def templates(column: str, file: str, *entries: Template) -> None:
    """Register families of a column, whose sub-agent has the column's name. Their sentences lie in texts/`file`.toml."""
    for entry in entries:
        name = f"{file}/{entry.name}"
        write = partial(_write, replace(entry, ask=entry.ask or (name,)), column, name)
        register(Family(column, entry.name, entry.difficulty, entry.impossible, entry.topic, write))


def fill(template: Any, facts: Facts) -> Any:
    """Fill the templates in a text, or in the texts of a list or a dict."""
    if isinstance(template, str):
        if field := _FIELD.fullmatch(template):
            return Formatter().get_field(field[1], (), facts)[0]
        return template.format(**facts)
    if isinstance(template, Mapping):
        return {key: fill(value, facts) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, facts) for value in template]
    return template


def _write(entry: Template, agent: str, name: str, b: Builder) -> None:
    play(b, entry, sentences(name), agent)


def play(b: Builder, entry: Template, said: Sentences, agent: str) -> None:
    """Write one task of an entry. Raises: Skip."""
    general = agent in ("gfc", "math")
    facts = entry.draw(b)
    query = [b.phrase(phrases, **facts) for phrases in entry.ask]
    if general:
        w.ask(b, *query, noise=entry.noise)
    else:
        b.ask(b.join(*query))
    expert = b.delegate(agent, said.task.format(**facts), said.why.format(**facts))
    calls = []
    for made, thought in zip(entry.calls if isinstance(entry.calls, tuple) else (entry.calls,), said.thoughts, strict=True):
        make = expert.refused if made.refused else expert.call
        calls.append((agent, made.tool, fill(made.arguments, facts)))
        facts[made.into] = make(made.tool, thought.format(**facts), **calls[-1][2])
        facts |= made.then(facts)
    facts |= entry.read(facts)
    expert.answer(said.answer.format(**facts), said.because.format(**facts))
    expected: tuple[Expected, ...] = entry.expect if isinstance(entry.expect, tuple) else (entry.expect,)
    for part in expected:
        _expect(b, part, facts, calls)
    en, zh, closing = (text.format(**facts) for text in (said.en, said.zh, said.closing))
    if general:
        w.finish(b, en, zh, closing)
    else:
        b.finish(en, zh, closing)


def _expect(b: Builder, part: Expected, facts: Facts, calls: list[tuple[str, str, dict[str, Any]]]) -> None:
    if isinstance(part, Number):
        unit = None if part.unit is None else fill(part.unit, facts)
        b.expect_number(fill(part.value, facts), unit, fill(part.tolerance, facts))
    elif isinstance(part, Refusal):
        b.expect_refusal(*_texts(part.reasons, facts), reject=_texts(part.reject, facts))
    elif isinstance(part, Called):
        b.expect_calls(*(made for made in calls if not part.tools or made[1] in part.tools))
    elif isinstance(part, Text):
        value = fill(part.value, facts)
        for text in [value] if isinstance(value, str) else value:
            b.expect_text(text, *_texts(part.accept, facts), reject=_texts(part.reject, facts))
    else:
        part(b, facts)


def _texts(texts: Sequence[str] | str, facts: Facts) -> tuple[str, ...]:
    if not isinstance(texts, str):
        return tuple(texts)
    filled = fill(texts, facts)
    if isinstance(filled, str):
        return (filled,) if filled else ()
    return tuple(filled)
