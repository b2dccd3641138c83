"""Checking an episode against its task: R_A in [0, 1], without a judge model.

A specification is a JSON object, one of:

- `{"kind": "text", "value": V, "accept": [V2, ...], "reject": [W, ...]}`: the answer names V or one of V2, and rather than any
  W: more often, or as often and first, without "or": 1. Where it names a W instead: 0. Where it names neither: half of the
  best F1 of its words against V and V2, so that a near miss can be told from a far one. Where V is an id, a date or a time,
  an answer that lists others of that form: 0.
- `{"kind": "number", "value": "12.50", "unit": "USD",
  "tolerance": "0.005"}`: the last number of the answer that can be meant (not one of the query or of another part) is that
  quantity, in this unit or in one that converts to it.
- `{"kind": "state", "calls": [{"name", "arguments"}, ...]}`: the store is exactly as after these calls.
- `{"kind": "calls", "calls": [{"agent", "name",
  "arguments"}, ...]}`: these calls were made; the share of arguments that are equal.
- `{"kind": "refusal", "reasons": [R, ...], "reject": [W, ...]}`: the answer says that it cannot be done and gives one of the
  reasons, before any W, which are other reasons, and the store is as it was.
- `{"kind": "all", "parts": [S, ...]}`: the mean of the parts, so 1 only where all hold.

Numbers are texts of at most 400 characters, exponents at most 308.

What an answer says counts for nothing where it is a dump: longer than 120 words or 4,000 characters, or naming more than two
kinds of ids, dates, times or quantities that neither the query nor the specification names (see `kinds`).
"""

import json
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from trainer.hima_ecom import answers
from trainer.hima_ecom.kinds import is_dump
from trainer.hima_ecom.quantities import quantities
from trainer.hima_ecom.spelling import plain
from trainer.hima_ecom.tools.registry import REGISTRY
from trainer.hima_ecom.world import World
from trainer.reading import exact, short
from trainer.types import Call

KINDS = {
    "text": ("value",),
    "number": ("value",),
    "state": ("calls",),
    "calls": ("calls",),
    "refusal": ("reasons",),
    "all": ("parts",),
}
UNCHANGED = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # SHA-256 of "{}": no touched rows


class Evidence(NamedTuple):
    """What an episode left: its answer, its calls, the hash of its store, and what was asked of whom."""

    answer: str
    calls: Sequence[Call]
    state_hash: str
    query: str
    customer_id: str | None
    world: World


def check(spec: dict[str, Any], evidence: Evidence) -> float:
    """The accuracy R_A of an episode. Raises: ValueError for a specification that is none (see `problems`)."""
    known = {number.value for number in quantities(evidence.query)} | _numbers(spec)
    texts = _texts_of(spec)
    if answers.too_long(evidence.answer) or is_dump(evidence.answer, evidence.query, texts, _units(spec)):
        evidence = evidence._replace(answer="")
    return _check(spec, evidence, known, texts)


def _numbers(spec: dict[str, Any]) -> set[Fraction]:
    """The numbers that an answer must name."""
    if spec.get("kind") == "all":
        return {number for part in spec["parts"] for number in _numbers(part)}
    return {exact(spec["value"])} if spec.get("kind") == "number" else set()


def _texts_of(spec: dict[str, Any]) -> list[str]:
    """The texts that an answer must contain, in all their forms, or may give as reasons."""
    if spec.get("kind") == "all":
        return [text for part in spec["parts"] for text in _texts_of(part)]
    return [spec["value"], *spec.get("accept", ())] if spec.get("kind") == "text" else list(spec.get("reasons", ()))


def _units(spec: dict[str, Any]) -> set[str]:
    """The units of the numbers that an answer must name."""
    if spec.get("kind") == "all":
        return {unit for part in spec["parts"] for unit in _units(part)}
    return {spec["unit"]} if spec.get("unit") else set()


def _check(spec: dict[str, Any], evidence: Evidence, known: set[Fraction], texts: list[str]) -> float:
    kind = spec.get("kind")
    if kind == "all":
        return sum(_check(part, evidence, known, texts) for part in spec["parts"]) / len(spec["parts"])
    if kind == "state":
        return float(evidence.state_hash == expected_hash(evidence.world, evidence.customer_id, json.dumps(spec["calls"])))
    if kind == "calls":
        return _calls(spec["calls"], evidence.calls)
    if kind not in KINDS:
        raise ValueError(f"checker: expected kind to be one of {', '.join(KINDS)}, got {kind!r}")
    answer = evidence.answer
    if kind == "text":
        return 0.0 if answers.guesses(answer, texts, evidence.query) else _text(spec, answer, evidence.query)
    if kind == "number":
        value, tolerance = exact(spec["value"]), exact(spec.get("tolerance", "0"))
        return float(answers.says_number(answer, value, spec.get("unit"), tolerance, known))
    given = answers.says_first(answer, spec["reasons"], spec.get("reject", ()), evidence.query)
    refused = answers.refuses(answer) and given
    return float(refused and evidence.state_hash == UNCHANGED)


def _text(spec: dict[str, Any], answer: str, query: str) -> float:
    values, others = [spec["value"], *spec.get("accept", ())], spec.get("reject", ())
    if answers.prefers(answer, values, others, query):
        return 1.0
    if answers.says_any(answer, others):
        return 0.0
    return max(answers.f1(answer, value) for value in values) / 2


def _calls(wanted: Sequence[dict[str, Any]], made: Sequence[Call]) -> float:
    """The mean over the wanted calls of the best match among those made; a made call serves one wanted call."""
    left = list(made)
    total = 0.0
    for call in wanted:
        scores = [
            _arguments(call["name"], call["arguments"], other.arguments)
            if other.name == call["name"] and other.agent == call["agent"]
            else 0.0
            for other in left
        ]
        best = max(range(len(left)), key=scores.__getitem__, default=None)
        if best is not None and scores[best]:
            total += scores[best]
            del left[best]
    return total / len(wanted)


def _arguments(tool: str, wanted: dict[str, Any], given: dict[str, Any]) -> float:
    """Half for the name of the call, half for the share of equal arguments among all that are wanted or given. An argument that
    is left out, or null, has its default."""
    defaults = REGISTRY[tool].defaults if tool in REGISTRY else {}
    names = set(wanted) | {name for name, value in given.items() if value is not None}
    if not names:
        return 1.0

    def meant(call: dict[str, Any], name: str) -> Any:
        return defaults.get(name) if call.get(name) is None else call[name]

    return 0.5 + 0.5 * sum(same(meant(wanted, name), meant(given, name)) for name in names) / len(names)


def same(a: Any, b: Any) -> bool:
    """Equality of arguments: texts as `spelling.plain` has them, numbers by value, lists of texts in any order."""
    if isinstance(a, str) and isinstance(b, str):
        return plain(a) == plain(b)
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        if all(isinstance(item, str) for item in (*a, *b)):
            return sorted(map(plain, a)) == sorted(map(plain, b))
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


@lru_cache(maxsize=4096)
def expected_hash(world: World, customer_id: str | None, calls: str) -> str:
    """The hash of the store after the calls (a JSON text) of a session of that customer."""
    session = world.session(customer_id)
    for call in json.loads(calls):
        session.call(call["name"], call["arguments"])
    return session.state_hash()


def problems(spec: Any, where: str = "checker") -> list[str]:
    """What is wrong with a specification, each as a sentence; empty if nothing is."""
    if not isinstance(spec, dict) or not isinstance(spec.get("kind"), str) or spec["kind"] not in KINDS:
        got = spec.get("kind") if isinstance(spec, dict) else spec
        return [f"{where}: expected an object whose kind is one of {', '.join(KINDS)}, got {short(got)}"]
    missing = [name for name in KINDS[spec["kind"]] if name not in spec]
    if missing:
        return [f"{where}: a {spec['kind']} checker needs {', '.join(missing)}"]
    found = []
    if spec["kind"] == "all":
        if not isinstance(spec["parts"], list) or not spec["parts"]:
            return [f"{where}.parts: expected a list of at least one checker, got {short(spec['parts'])}"]
        for i, part in enumerate(spec["parts"]):
            found += problems(part, f"{where}.parts[{i}]")
    elif spec["kind"] == "number":
        for name in ("value", "tolerance"):
            try:
                number = exact(spec.get(name, "0"))
            except ValueError as error:
                found.append(f"{where}.{name}: {error}")
            else:
                if name == "tolerance" and number < 0:
                    found.append(f"{where}.tolerance: expected a number of at least 0, got {short(spec[name])}")
        if not isinstance(spec.get("unit"), str | None):
            found.append(f"{where}.unit: expected a text or null, got {short(spec['unit'])}")
    elif spec["kind"] in ("state", "calls"):
        wanted = ("name", "arguments") if spec["kind"] == "state" else ("agent", "name", "arguments")
        calls = spec["calls"]
        if not isinstance(calls, list) or not all(isinstance(c, dict) and all(key in c for key in wanted) for c in calls):
            found.append(f"{where}.calls: expected a list of objects with {', '.join(wanted)}")
        elif not all(isinstance(c[key], dict if key == "arguments" else str) for c in calls for key in wanted):
            found.append(f"{where}.calls: expected texts as names and objects as arguments")
        elif spec["kind"] == "calls" and not calls:
            found.append(f"{where}.calls: expected at least one call")
    elif spec["kind"] == "text":
        if not isinstance(spec["value"], str):
            found.append(f"{where}.value: expected a text, got {short(spec['value'])}")
        for name in ("accept", "reject"):
            if not _texts(spec.get(name, [])):
                found.append(f"{where}.{name}: expected a list of texts, got {short(spec[name])}")
    elif spec["kind"] == "refusal":
        if not (_texts(spec["reasons"]) and spec["reasons"]):
            found.append(f"{where}.reasons: expected a list of at least one text, got {short(spec['reasons'])}")
        if not _texts(spec.get("reject", [])):
            found.append(f"{where}.reject: expected a list of texts, got {short(spec['reject'])}")
    return found


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
