"""Families whose tasks differ in facts alone: an entry says what is drawn, called and expected, `play` writes a task.

The texts of an entry lie in a TOML file (`texts.Sentences`). They, and the arguments of calls and expectations, are templates
over the facts: what `draw` returns, the results of the calls, and what `read` makes of them. A template that is one field, like
"{price}", stands for the fact itself, whatever its type.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from string import Formatter
from typing import Any, NamedTuple

from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.families import Family, register
from trainer.hima_ecom.tasks.texts import Sentences, sentences

Facts = dict[str, Any]
_FIELD = re.compile(r"\{([^{}]+)\}")


class Call(NamedTuple):
    """A tool call of the expert."""

    tool: str
    arguments: Mapping[str, Any]
    into: str  # the fact that its result becomes
    refused: bool = False  # the tool must refuse; its reason becomes the fact


class Number(NamedTuple):
    """The answer must name a quantity."""

    value: str
    unit: str | None = None
    tolerance: str = "0.005"


class Text(NamedTuple):
    """The answer must contain a text, or each of several."""

    value: str
    accept: str = ""  # a text, or a fact that is a list of texts, which count as well
    reject: str = ""  # the same of texts that must not occur


class Refusal(NamedTuple):
    """The answer must refuse and say why."""

    reasons: Sequence[str] | str  # texts, or a fact that is a list of texts
    reject: Sequence[str] | str


Expected = Number | Text | Refusal


class Template(NamedTuple):
    """A family of tasks that one call or a fixed sequence of calls solves."""

    name: str
    difficulty: int
    topic: str
    draw: Callable[[Builder], Facts]
    calls: Call | tuple[Call, ...]
    expect: Expected | tuple[Expected, ...]
    read: Callable[[Facts], Facts] = lambda facts: {}  # further facts, from the results. Raises: Skip
    ask: tuple[str, ...] = ()  # the phrases of the query, in order; if empty, those with the family's name
    impossible: bool = False


def call(tool: str, /, *, into: str = "seen", **arguments: Any) -> Call:
    """Return a call whose result becomes the fact `into`."""
    return Call(tool, arguments, into)


def refused(tool: str, /, **arguments: Any) -> Call:
    """Return a call that the tool must refuse; the reason becomes the fact "reason"."""
    return Call(tool, arguments, "reason", refused=True)


def templates(column: str, file: str, *entries: Template) -> None:
    """Register families of a column, whose sub-agent has the column's name. Their sentences lie in texts/`file`.toml."""
    for entry in entries:
        name = f"{file}/{entry.name}"
        write = partial(_write, entry._replace(ask=entry.ask or (name,)), column, name)
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
    facts = entry.draw(b)
    b.ask(b.join(*(b.phrase(phrases, **facts) for phrases in entry.ask)))
    expert = b.delegate(agent, said.task.format(**facts), said.why.format(**facts))
    calls = (entry.calls,) if isinstance(entry.calls, Call) else entry.calls
    for made, thought in zip(calls, said.thoughts, strict=True):
        make = expert.refused if made.refused else expert.call
        facts[made.into] = make(made.tool, thought.format(**facts), **fill(made.arguments, facts))
    facts |= entry.read(facts)
    expert.answer(said.answer.format(**facts), said.because.format(**facts))
    for part in (entry.expect,) if isinstance(entry.expect, Expected) else entry.expect:
        _expect(b, part, facts)
    b.finish(said.en.format(**facts), said.zh.format(**facts), said.closing.format(**facts))


def _expect(b: Builder, part: Expected, facts: Facts) -> None:
    if isinstance(part, Number):
        b.expect_number(fill(part.value, facts), part.unit, part.tolerance)
    elif isinstance(part, Refusal):
        b.expect_refusal(*_texts(part.reasons, facts), reject=_texts(part.reject, facts))
    else:
        value = fill(part.value, facts)
        for text in [value] if isinstance(value, str) else value:
            b.expect_text(text, *_texts(part.accept, facts), reject=_texts(part.reject, facts))


def _texts(texts: Sequence[str] | str, facts: Facts) -> tuple[str, ...]:
    if not isinstance(texts, str):
        return tuple(texts)
    filled = fill(texts, facts)
    if isinstance(filled, str):
        return (filled,) if filled else ()
    return tuple(filled)
