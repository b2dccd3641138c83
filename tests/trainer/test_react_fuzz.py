"""Any text and any bytes parse to a value; what renders parses back.

The environment variable HIMA_FUZZ_EXAMPLES sets how many examples each law gets.
"""

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.react import Action, Answer, Malformed, parse, render

EXAMPLES = int(os.environ.get("HIMA_FUZZ_EXAMPLES", "500"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
PARTS = (
    "Thought:", "Action:", "Action Input:", "Final Answer:", "Observation:", "<think>", "</think>", "```json\n", "get_order",
    "\n", "\r\n", "\r", " ", "\t", "\0", "\u2028", "\x85", "\ufeff", "{", "}", "[", "]", '"', ":", ",", "\\", "\\u", "\\ud800",
    "{}", '{"x": 1}', '{"x": 1, "x": 2}', "NaN", "Infinity", "1e999", "-0", "9" * 5000, "[" * 3000, "null", "true", "\ud800",
)  # fmt: skip
ANY_TEXT = st.text(st.characters(codec=None))
NEAR = st.lists(st.sampled_from(PARTS) | ANY_TEXT, max_size=12).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
NAME = st.from_regex(r"\A[A-Za-z0-9_.-]{1,64}\Z")
LINES = st.lists(st.text(), max_size=4).map("\n".join)
# A thought that render accepts: no line of it starts like a step.
THOUGHT = LINES.map(str.strip).filter(lambda text: not any(line.startswith(("Action:", "Final")) for line in text.split("\n")))
ARGUMENTS = st.dictionaries(st.text(), JSON, max_size=4)
STEP = st.builds(Action, NAME, ARGUMENTS, THOUGHT) | st.builds(Answer, LINES.map(str.strip).filter(bool), THOUGHT)


def check(text: str | bytes) -> None:
    got = parse(text)
    assert got == parse(text)
    if isinstance(got, Malformed):
        assert 0 < len(got.reason.encode()) < 300
        return
    assert parse(render(got)) == got
    render(got).encode()
    if isinstance(got, Action):
        json.dumps(got.arguments, allow_nan=False).encode()


@FUZZ
@given(ANY_TEXT | NEAR)
def test_any_text(text: str) -> None:
    check(text)


@FUZZ
@given(st.binary() | NEAR.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(text: bytes) -> None:
    check(text)


@FUZZ
@given(STEP, st.data())
def test_steps_survive_and_damage_is_no_crash(step: Action | Answer, data: Any) -> None:
    text = render(step)
    assert parse(text) == step
    assert parse(f"\n {text}\r\n ") == step
    place = data.draw(st.integers(0, len(text)))
    check(text[:place])
    check(text[:place] + data.draw(st.sampled_from(PARTS)) + text[place:])
