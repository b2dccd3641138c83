"""Sums and means of rewards and metrics that raise nothing: what floats cannot hold is infinite or NaN."""

import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

_SMALL = 2.0**-64  # so much smaller, no partial sum overflows


def as_float(value: Any) -> float:
    """A number as a float; infinite for an int that is larger than all floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def total(values: Sequence[float]) -> float:
    """The sum, rounded once; infinite only where the sum itself is, NaN with NaN or both infinities."""
    try:
        return math.fsum(values)
    except OverflowError:  # of a partial sum
        return math.fsum(value * _SMALL for value in values) / _SMALL
    except ValueError:  # inf - inf
        return math.nan


def mean(values: Sequence[float]) -> float:
    """NaN for none, as for what `total` has no number for."""
    if not values:
        return math.nan
    try:
        return fmean(values)
    except OverflowError:
        return fmean([value * _SMALL for value in values]) / _SMALL
    except ValueError:
        return math.nan


def deviation(values: Sequence[float]) -> float:
    """The standard deviation (ddof = 0); NaN for none, or where one is not finite."""
    return pstdev(values) if values and all(map(math.isfinite, values)) else math.nan
