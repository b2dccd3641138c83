"""Linear equations and statistics, exactly."""

import re
from fractions import Fraction
from typing import Annotated, Any, Literal

from trainer.hima_ecom.calculator import CalculatorError, evaluate, shown_number
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.registry import Arg, ToolError, tool


def _side(text: str, variable: str, value: int) -> Fraction:
    # A digit, ")" or "%" right before the variable multiplies it: 3x.
    text = re.sub(rf"(?<=[0-9)])\s*(?<![a-z_]){variable}(?![a-z_])", f"*{variable}", text)
    text = re.sub(rf"(?<![a-z_]){variable}(?![a-z_])", f"({value})", text)
    return evaluate(text).number


@tool("math")
def solve_linear(
    store: Overlay,
    *,
    equation: Annotated[str, Arg("such as 3x + 4 = 19")],
    variable: Annotated[str, Arg("one small letter but e", max_length=1)] = "x",
) -> dict[str, Any]:
    """Solve an equation that is linear in one variable."""
    if not re.fullmatch(r"[a-z]", variable) or variable == "e":
        raise ToolError("variable: expected one small letter but e")
    sides = equation.split("=")
    if len(sides) != 2:
        raise ToolError("equation: expected exactly one '='")
    try:
        # left - right at 0, 1, 2 and 3: a line is known from two points and checked at the others.
        f = [_side(sides[0], variable, at) - _side(sides[1], variable, at) for at in range(4)]
    except CalculatorError as error:
        raise ToolError(f"equation: {error}") from None
    slope = f[1] - f[0]
    if any(f[i + 1] - f[i] != slope for i in range(3)):
        raise ToolError(f"equation: not linear in {variable}")
    if not slope:
        raise ToolError("equation: true for every value" if not f[0] else "equation: has no solution")
    return {variable: shown_number(-f[0] / slope)}


def median(values: list[Fraction]) -> Fraction:
    """The middle value, or the mean of the two in the middle."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def variance(values: list[Fraction]) -> Fraction:
    """Of a population: the mean squared distance from the mean."""
    mean = sum(values, Fraction(0)) / len(values)
    return sum(((value - mean) ** 2 for value in values), Fraction(0)) / len(values)


@tool("math")
def statistics(
    store: Overlay,
    *,
    values: Annotated[list[float], Arg("the numbers", max_items=200)],
    what: Annotated[Literal["sum", "mean", "median", "min", "max", "range", "variance", "count"], Arg("what to compute")],
) -> dict[str, Any]:
    """A statistic of a list of numbers; the variance is that of a population."""
    # repr, not the binary value: 0.1 is meant as a tenth.
    numbers = [Fraction(repr(value)) for value in values]
    total = sum(numbers, Fraction(0))
    result = {
        "sum": lambda: total,
        "mean": lambda: total / len(numbers),
        "median": lambda: median(numbers),
        "min": lambda: min(numbers),
        "max": lambda: max(numbers),
        "range": lambda: max(numbers) - min(numbers),
        "variance": lambda: variance(numbers),
        "count": lambda: Fraction(len(numbers)),
    }[what]()
    return {what: shown_number(result)}
