"""Bounds of what is read: the same values as json and fractions within them, an error at once beyond."""

import json
import math
import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.reading import DepthError, exact, load_json, short

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(ANY_JSON)
def test_json_is_read_as_json_reads_it(value: Any) -> None:
    text = json.dumps(value)
    assert load_json(text) == load_json(text.encode()) == load_json(text, finite=False) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[" * 100_000 + "]" * 100_000, "at most 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "at most 64 levels"),
        ("[" * 100_000, "at most 64 levels"),
        ("9" * 309, "more than 308 digits"),
        ("9" * 100_000, "more than 308 digits"),
        ("1e309", "out of range"),
        ("NaN", "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("{", "Expecting"),
        (b'"\xff"', "utf-8"),
    ],
)
def test_what_is_no_json_of_ours_is_an_error(text: str | bytes, wrong: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match=wrong):
        load_json(text)
    assert time.process_time() - begin < 1


def test_whole_numbers_fit_a_float() -> None:
    assert float(load_json(f"-{'9' * 308}")) == -1e308


def test_levels_are_counted() -> None:
    for levels in (1, 3, 64):
        text = "[" * levels + "]" * levels
        assert load_json(text, depth=levels) == json.loads(text)
        with pytest.raises(DepthError, match=f"at most {levels - 1} levels"):
            load_json(text, depth=levels - 1)
    assert load_json("1", depth=0) == 1


def test_what_is_not_finite_can_be_left_to_a_check() -> None:
    values = load_json(f"[NaN, -Infinity, 1e999, {'9' * 5000}]", finite=False)
    assert math.isnan(values[0])
    assert values[1:] == [-math.inf, math.inf, math.inf]


def test_a_key_may_be_wanted_once() -> None:
    assert load_json('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="a key occurs twice"):
        load_json('{"a": 1, "a": 2}', once=True)


@pytest.mark.parametrize(
    ("value", "number"),
    [("12.50", Fraction(25, 2)), (3, Fraction(3)), (0.5, Fraction(1, 2)), ("2/3", Fraction(2, 3)), ("-1e3", Fraction(-1000))],
)
def test_an_exact_number(value: object, number: Fraction) -> None:
    assert exact(value) == number


@pytest.mark.parametrize(
    "value",
    [
        *("1e99999999", "1e-99999999", "1e999_999_999", "1E309 ", "9" * 401, "1/" + "9" * 500),
        *("one", "", "1/0", True, None, [], math.nan, math.inf),
    ],
)
def test_what_is_no_exact_number_is_an_error_at_once(value: object) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match="expected a number"):
        exact(value)
    assert time.process_time() - begin < 0.5


def test_a_value_in_a_message_is_short() -> None:
    assert short({"a": 1}) == "{'a': 1}"
    assert len(short("x" * 10**6)) < 100
    assert short(10**5000) == "a int"
