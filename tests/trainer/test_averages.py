"""Sums and means at the ends of what floats hold, against exact fractions."""

import math
from fractions import Fraction
from statistics import pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.averages import as_float, deviation, mean, total

HUGE = 1.7e308
FINITE = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


def rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@settings(max_examples=200, deadline=None)
@given(FINITE)
def test_what_is_finite(values: list[float]) -> None:
    exact = sum(map(Fraction, values), Fraction(0))
    assert total(values) == pytest.approx(rounded(exact), rel=1e-15, abs=1e-290)
    assert mean(values) == pytest.approx(rounded(exact / len(values)), rel=1e-15, abs=1e-290)
    assert deviation(values) == pstdev(values)


def test_the_ends() -> None:
    assert total([HUGE, HUGE, -HUGE]) == HUGE
    assert total([HUGE, HUGE]) == math.inf
    assert mean([HUGE, HUGE]) == HUGE
    assert mean([HUGE, -HUGE]) == 0.0
    assert total([]) == 0.0
    for values in ([math.inf, -math.inf], [math.nan, 1.0]):
        assert math.isnan(total(values))
        assert math.isnan(mean(values))
        assert math.isnan(deviation(values))
    assert mean([math.inf, 1.0]) == math.inf
    assert math.isnan(mean([]))
    assert math.isnan(deviation([]))
    assert math.isnan(deviation([math.inf, 1.0]))


def test_numbers_that_are_no_floats() -> None:
    assert as_float(10**400) == math.inf
    assert as_float(Fraction(-(10**400), 3)) == -math.inf
    assert as_float(Fraction(1, 4)) == 0.25
    with pytest.raises(ValueError, match="could not convert"):
        as_float("many")
