"""GFC, one call: units, money, dates, time zones."""

from fractions import Fraction

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.template import Called, Facts, Number, Template, Text, call, templates
from trainer.hima_ecom.tasks.texts import table, translations
from trainer.hima_ecom.tools.conversion import CURRENCIES, TEMPERATURES, UNITS


def _a_quantity(b: Builder) -> Facts:
    quantities: list[list[str]] = [*map(list, UNITS.values()), list(TEMPERATURES)]
    source, target = w.held_pair(b, b.rng.choice(quantities))
    value = b.rng.choice((float(b.rng.randint(2, 900)), b.rng.randint(11, 4999) / 10))
    places = b.rng.choice((1, 2, 2, 3))
    said = {"source": w.say_unit(b, source), "target": w.say_unit(b, target), "places": w.decimals(b, places)}
    given = {"value": int(value) if value.is_integer() else value, "from": source, "to": target}
    return said | given | {"decimals": places, "units": [table("common/units")[unit] for unit in (source, target)]}


def _converted(facts: Facts) -> Facts:
    result = facts["seen"]["value"]
    if "e" in result or not 1 <= abs(Fraction(result)) < 10**7:
        raise Skip("a result that nobody would ask for")
    return {"rounded": w.rounded(result, facts["decimals"]), "tolerance": w.tolerance(facts["decimals"])}


def _an_amount(b: Builder) -> Facts:
    source, target = w.held_pair(b, CURRENCIES)
    amount = b.rng.choice((b.rng.randint(5, 3000), b.rng.randint(500, 90000) / 100))
    said = {"amount": w.amount(amount), "source": w.say_money(b, source), "target": w.say_money(b, target)}
    return said | {"number": amount, "from": source, "to": target}


def _an_offset(b: Builder) -> Facts:
    start, days = w.some_day(b), b.rng.randint(9, 400)
    english, sign = b.rng.choice((("after", 1), ("before", -1)))
    said = w.pick(b, (english, "之后" if sign > 0 else "之前"))
    return {"start": start, "days": days, "change": sign * days, "english": english, "side": said, "date": w.say_date(b, start)}


def _two_days(b: Builder) -> Facts:
    first, last = sorted((w.some_day(b), w.some_day(b)))
    return {"first": first, "last": last, "start": w.say_date(b, first), "end": w.say_date(b, last)}


def _a_day(b: Builder) -> Facts:
    day = w.some_day(b)
    return {"day": day, "date": w.say_date(b, day)}


def _a_time(b: Builder) -> Facts:
    source, target = w.held_pair(b, translations("common/cities"))
    clock = w.some_time(b)
    said = {"source": w.say_city(b, source), "target": w.say_city(b, target), "time": w.say_time(b, clock)}
    return said | {"clock": clock, "from": source, "to": target}


templates(
    "gfc",
    "gfc",
    Template(
        "unit_conversion", 1, "A quantity in another unit.", _a_quantity,
        call("convert_unit", value="{value}", source="{from}", target="{to}"),
        # No unit: in the source's unit the query itself would be right.
        (Called(), Number("{rounded}", None, "{tolerance}")),
        read=_converted,
        ask=("gfc/unit_conversion", "common/round"),
    ),
    Template(
        "currency_conversion", 1, "An amount in another currency.", _an_amount,
        call("convert_currency", amount="{number}", source="{from}", target="{to}"),
        (Called(), Number("{seen[amount]}", "{to}")),
    ),
    Template(
        "date_offset", 1, "The date some days after or before a given one.", _an_offset,
        call("date_add", date="{start!s}", days="{change}"),
        (Called(), Text("{seen[date]}", accept="{dates}")),
        read=lambda facts: {"dates": w.dates(facts["seen"]["date"])},
    ),
    Template(
        "days_apart", 1, "Days between two given dates.", _two_days,
        call("days_between", start="{first!s}", end="{last!s}"),
        (Called(), Number("{seen[days]}", "day", "0")),
    ),
    Template(
        "weekday_of", 1, "The day of the week of a given date.", _a_day,
        call("weekday", date="{day!s}"),
        (Called(), lambda b, facts: w.expect_weekday(b, facts["seen"]["weekday"])),
        read=lambda facts: {"chinese": w.chinese(facts["seen"]["weekday"])},
    ),
    Template(
        "city_time", 1, "A time of day in another city.", _a_time,
        call("convert_time", time="{clock}", source="{from}", target="{to}"),
        (Called(), lambda b, facts: w.expect_time(b, facts["seen"]["time"])),
    ),
)  # fmt: skip
