"""Units and currencies by fixed tables, exactly."""

from fractions import Fraction
from typing import Annotated, Any

from trainer.hima_ecom.calculator import round_half_up, shown_number
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.registry import Arg, ToolError, shown, tool

# quantity -> unit -> how many of the first unit it is
UNITS: dict[str, dict[str, Fraction]] = {
    "length": {
        "m": Fraction(1), "km": Fraction(1000), "cm": Fraction("0.01"), "mm": Fraction("0.001"),
        "mile": Fraction("1609.344"), "yard": Fraction("0.9144"), "foot": Fraction("0.3048"), "inch": Fraction("0.0254"),
    },
    "mass": {
        "kg": Fraction(1), "g": Fraction("0.001"), "mg": Fraction("0.000001"), "t": Fraction(1000),
        "lb": Fraction("0.45359237"), "oz": Fraction("0.028349523125"),
    },
    "volume": {
        "l": Fraction(1), "ml": Fraction("0.001"), "us_gallon": Fraction("3.785411784"), "us_cup": Fraction("0.2365882365"),
        "us_fluid_ounce": Fraction("0.0295735295625"),
    },
    "area": {
        "m2": Fraction(1), "cm2": Fraction("0.0001"), "km2": Fraction(1000000), "hectare": Fraction(10000),
        "acre": Fraction("4046.8564224"), "square_foot": Fraction("0.09290304"),
    },
    "speed": {"m/s": Fraction(1), "km/h": Fraction(5, 18), "mph": Fraction("0.44704"), "knot": Fraction(463, 900)},
    "time": {"s": Fraction(1), "min": Fraction(60), "h": Fraction(3600), "day": Fraction(86400), "week": Fraction(604800)},
    "data": {
        "MB": Fraction(1), "kB": Fraction(1, 1000), "GB": Fraction(1000), "TB": Fraction(1000000),
        "MiB": Fraction("1.048576"),
    },
}  # fmt: skip
# Temperatures are not multiples of each other: kelvin = (t + offset) * scale.
TEMPERATURES: dict[str, tuple[Fraction, Fraction]] = {
    "celsius": (Fraction("273.15"), Fraction(1)),
    "fahrenheit": (Fraction("459.67"), Fraction(5, 9)),
    "kelvin": (Fraction(0), Fraction(1)),
}
# USD that one unit is worth: the world's own rates, not the market's.
CURRENCIES: dict[str, Fraction] = {
    "USD": Fraction(1), "EUR": Fraction("1.08"), "GBP": Fraction("1.25"), "JPY": Fraction("0.0065"), "CNY": Fraction("0.14"),
    "CAD": Fraction("0.72"), "AUD": Fraction("0.65"), "INR": Fraction("0.012"), "BRL": Fraction("0.2"), "CHF": Fraction("1.12"),
}  # fmt: skip
UNIT_NAMES = ", ".join([unit for units in UNITS.values() for unit in units] + list(TEMPERATURES))
Unit = Annotated[str, Arg(f"one of: {UNIT_NAMES}")]
Currency = Annotated[str, Arg(f"one of: {', '.join(CURRENCIES)}")]


def convert(value: Fraction, source: str, target: str) -> Fraction:
    """A value in other units. Raises: ToolError."""
    for unit in (source, target):
        if unit not in TEMPERATURES and not any(unit in units for units in UNITS.values()):
            raise ToolError(f"unknown unit {shown(unit)}; known: {UNIT_NAMES}")
    if source in TEMPERATURES and target in TEMPERATURES:
        offset, scale = TEMPERATURES[source]
        kelvin = (value + offset) * scale
        if kelvin < 0:
            raise ToolError("below absolute zero")
        offset, scale = TEMPERATURES[target]
        return kelvin / scale - offset
    for units in UNITS.values():
        if source in units and target in units:
            return value * units[source] / units[target]
    raise ToolError(f"{source} and {target} measure different things")


@tool("gfc")
def convert_unit(store: Overlay, *, value: Annotated[float, Arg("how much")], source: Unit, target: Unit) -> dict[str, Any]:
    """Convert between units of length, mass, volume, area, speed, time, data and temperature."""
    result = convert(Fraction(repr(value)), source, target)
    # Six decimals, unless that would show nothing of a small result.
    return {"value": shown_number(round_half_up(result, Fraction(6)) if abs(result) >= 1 else result), "unit": target}


@tool("gfc")
def convert_currency(
    store: Overlay, *, amount: Annotated[float, Arg("how much")], source: Currency, target: Currency
) -> dict[str, Any]:
    """Convert money at the store's fixed rates, rounded to cents."""
    for currency in (source, target):
        if currency not in CURRENCIES:
            raise ToolError(f"unknown currency {shown(currency)}; known: {', '.join(CURRENCIES)}")
    cents = round_half_up(Fraction(repr(amount)) * CURRENCIES[source] / CURRENCIES[target] * 100)
    sign, whole = "-" if cents < 0 else "", abs(cents.numerator)
    return {"amount": f"{sign}{whole // 100}.{whole % 100:02d}", "currency": target}
