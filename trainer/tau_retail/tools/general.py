"""Tools that don't look at the store."""

import re
from typing import Any

from trainer.hima_ecom.calculator import CalculatorError, evaluate, shown_number
from trainer.hima_ecom.tools.registry import ToolError
from trainer.tau_retail.registry import tool
from trainer.tau_retail.world import World

TRANSFER = "transfer_to_human_agents"  # the tool that ends an episode


@tool
def calculate(world: World, *, expression: str) -> dict[str, Any]:
    """Numbers, + - * / and parentheses, evaluated exactly and rounded to two places."""
    if not re.fullmatch(r"[0-9+\-*/(). ]+", expression):
        raise ToolError("expression: expected numbers, + - * / and parentheses only")
    try:
        value = evaluate(expression).number
    except CalculatorError as error:
        raise ToolError(f"expression: {error}") from None
    return {"result": shown_number(round(value, 2))}


@tool
def think(world: World, *, thought: str) -> dict[str, Any]:
    """A place to think in; nothing happens."""
    return {"noted": True}


@tool
def transfer_to_human_agents(world: World, *, summary: str) -> dict[str, Any]:
    """Hands the customer over; the environment ends the episode."""
    return {"transferred": True}
