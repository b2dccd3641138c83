"""What an agent learned from an episode that it played: texts about the order of calls, where arguments come from, which field
answers, rounding, units and refusals, each worded in several ways. They hold no value of the episode, so that they help with
others of its family."""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from trainer.hima_ecom.strategy_words import (
    ARGUMENTS,
    BEGIN,
    DELEGATE,
    FIELD,
    FROM_RESULT,
    FROM_TASK,
    HAND_ON,
    LAST,
    MANY,
    NOT_USED,
    ONE_CALL,
    ORDER,
    REFUSED,
    ROUND,
    UNIT,
)
from trainer.react import Action, Answer

_UNIT = re.compile(r"\d (USD|EUR|GBP|JPY|CNY|CAD|AUD|INR|BRL|CHF|grams|months|days|weeks|lb)\b")


class Step(NamedTuple):
    """What an agent did, and what it saw of it ("" after an answer)."""

    act: Action | Answer
    seen: str


def lessons(topic: str, task: str, steps: Sequence[Step]) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """(wordings, facts) of everything that is worth remembering of one agent's part in an episode.

    Args: topic: what the family is about, such as "the total of an order". task: what the agent was asked.
    """
    actions = [(step.act, step.seen) for step in steps if isinstance(step.act, Action)]
    answer = next((step.act.text for step in reversed(steps) if isinstance(step.act, Answer)), "")
    about, found = {"topic": topic}, list[tuple[tuple[str, ...], dict[str, str]]]()
    names = [action.name for action, _ in actions]
    if not names:
        return found
    if "task" in actions[0][0].arguments:  # the master's calls are of agents
        return [*_of_master(about, names, actions)]
    if len(names) == 1:
        found.append((ONE_CALL, about | {"tool": names[0]}))
    else:
        found.append((ORDER, about | {"calls": ", then ".join(names)}))
        found.append((BEGIN, about | {"tool": names[0]}))
        found.append((LAST, about | {"tool": names[-1], "count": str(len(names))}))
    for i, (action, seen) in enumerate(actions):
        facts = about | {"tool": action.name}
        if action.arguments:
            found.append((ARGUMENTS, facts | {"arguments": " and ".join(action.arguments)}))
        for name, value in action.arguments.items():
            source = next((other.name for other, before in reversed(actions[:i]) if _stands_in(value, before)), None)
            if _stands_in(value, task):
                found.append((FROM_TASK, facts | {"argument": name}))
            elif source is not None:
                found.append((FROM_RESULT, facts | {"argument": name, "source": source}))
        if "round(" in str(action.arguments.get("expression", "")):
            found.append((ROUND, facts))
        result = _object(seen)
        if "error" in result:
            found.append((REFUSED, facts))
        elif i == len(actions) - 1:
            found += ((FIELD, facts | {"field": name}) for name in _fields(result, answer))
    unit = _UNIT.search(answer)
    if unit is not None:
        found.append((UNIT, about | {"unit": unit.group(1)}))
    return found


def _of_master(about: dict[str, str], names: Sequence[str], actions: Sequence[tuple[Action, str]]) -> Iterator[Any]:
    yield DELEGATE, about | {"calls": ", then ".join(names), "tool": names[0]}
    if len(names) > 1:
        yield MANY, about | {"count": str(len(names)), "tool": names[-1]}
    for (before, seen), (after, _) in pairwise(actions):
        numbers = set(re.findall(r"\d[\d.:-]*\d", seen)) & set(re.findall(r"\d[\d.:-]*\d", str(after.arguments["task"])))
        if numbers:
            yield HAND_ON, about | {"source": before.name, "tool": after.name}
    yield (
        NOT_USED,
        about | {"tool": names[0], "others": " and ".join(n for n in ("qa", "efc", "gfc", "math") if n not in names)},
    )


def _stands_in(value: Any, text: str) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(not isinstance(one, bool) and len(str(one)) > 1 and str(one) in text for one in values)


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _fields(result: Mapping[str, Any], answer: str) -> list[str]:
    """The fields of a result whose values the answer repeats, ids aside."""
    plain = {name: str(value) for name, value in result.items() if isinstance(value, str | int | float)}
    return [name for name, value in plain.items() if not name.endswith("id") and len(value) > 1 and value in answer]


class Lessons:
    """What each agent has learned so far, by family; `recall` gives it out again as the memory of a later episode."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._known: dict[str, dict[str, dict[str, None]]] = {}  # agent -> family -> texts

    def learn(self, agent: str, family: str, topic: str, task: str, steps: Sequence[Step]) -> None:
        """Remembers an episode, each lesson in one of its wordings."""
        texts = self._known.setdefault(agent, {}).setdefault(family, {})
        for wordings, facts in lessons(topic, task, steps):
            texts[self._rng.choice(wordings).format(**facts)] = None

    def recall(self, agent: str, family: str) -> list[str]:
        """One to three entries, of the family and of the agent's other families, in random order; none if it knows none."""
        known = self._known.get(agent, {})
        about, others = list(known.get(family, ())), [name for name in known if name != family]
        count = self._rng.randint(1, 3)
        chosen = self._rng.sample(about, min(len(about), self._rng.randint(1, count)))
        if len(chosen) < count and others:
            chosen.append(self._rng.choice(list(known[self._rng.choice(others)])))
        self._rng.shuffle(chosen)
        return list(dict.fromkeys(chosen))
