"""The calculator as a tool."""

from typing import Annotated, Any

from trainer.hima_ecom.calculator import MAX_LENGTH, CalculatorError, evaluate, shown_number
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.registry import Arg, ToolError, tool


@tool("math")
def calculate(
    store: Overlay, *, expression: Annotated[str, Arg("such as (3 + 4) * 15%", max_length=MAX_LENGTH)]
) -> dict[str, Any]:
    """Evaluate an expression exactly: + - * / // ** (or ^), % as remainder (7 % 3) or per cent (200 * 15%), parentheses, pi, e,
    sqrt, abs, min, max, sum, round(x, places), floor, ceil, percent(rate, of)."""
    try:
        value = evaluate(expression)
    except CalculatorError as error:
        raise ToolError(f"expression: {error}") from None
    result = {"result": shown_number(value.number)}
    # A fraction that is no short decimal is also given exactly.
    text = f"{value.number.numerator}/{value.number.denominator}"
    if value.exact and "/" in str(value.number) and len(text) <= 60:
        result["fraction"] = text
    return result
