"""GFC, two calls: the second needs the result of the first, or two results are compared."""

from fractions import Fraction

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.template import Called, Facts, Number, Template, Text, call, templates
from trainer.hima_ecom.tasks.texts import table, translations, word_list
from trainer.hima_ecom.tools.conversion import CURRENCIES, convert


def plain(number: str) -> int | float:
    """Return a tool's decimal text as a number for the next call."""
    value = float(number)
    return int(value) if value.is_integer() else value


def _from_today(b: Builder) -> Facts:
    days = b.rng.randint(9, 700)
    ahead = b.rng.random() < 0.6
    en = b.rng.choice((f"in {days} days", f"{days} days from now")) if ahead else f"{days} days ago"
    said = {"span": w.pick(b, (en, f"{days}天{'后' if ahead else '前'}")), "be": "will it be" if ahead else "was it"}
    words = {"side": "after", "move": "add"} if ahead else {"side": "before", "move": "go back"}
    return said | words | {"days": days, "change": days if ahead else -days}


def _after_a_day(b: Builder) -> Facts:
    start, days = w.some_day(b), b.rng.randint(9, 300)
    return {"start": start, "days": days, "date": w.say_date(b, start)}


def _two_offers(b: Builder) -> Facts:
    (one, two), (first, second) = b.rng.sample(word_list("gfc_chains/shops"), 2), w.held_pair(b, CURRENCIES)
    target = b.rng.choice([code for code in CURRENCIES if code not in (first, second)])
    x = b.rng.randint(2000, 90000) / 100
    y = round(float(CURRENCIES[first] / CURRENCIES[second]) * x * b.rng.uniform(0.8, 1.25), 2)
    said = {"first": w.say_money(b, first), "second": w.say_money(b, second), "target": w.say_money(b, target)}
    prices = {"x": w.amount(x), "y": w.amount(y), "left": x, "right": y}
    return said | prices | {"a": one, "b": two, "from": (first, second), "to": target}


def _cheaper(facts: Facts) -> Facts:
    one, two = facts["one"]["amount"], facts["two"]["amount"]
    if float(one) == float(two):
        raise Skip("equal")
    first = float(one) < float(two)
    shop, other = (facts["a"], facts["b"]) if first else (facts["b"], facts["a"])
    return {"shop": shop, "other": other, "price": one if first else two}


def _three_currencies(b: Builder) -> Facts:
    source, target = w.held_pair(b, CURRENCIES)
    middle = b.rng.choice([code for code in CURRENCIES if code not in (source, target)])
    amount = b.rng.choice((b.rng.randint(20, 5000), b.rng.randint(2000, 90000) / 100))
    said = {"source": w.say_money(b, source), "middle": w.say_money(b, middle), "target": w.say_money(b, target)}
    return said | {"amount": w.amount(amount), "number": amount, "from": source, "via": middle, "to": target}


def _two_parcels(b: Builder) -> Facts:
    colours, weights = translations("gfc_chains/colours"), ("lb", "oz", "g", "kg")
    (one, two), (first, second) = b.rng.sample(tuple(colours), 2), w.held_pair(b, weights)
    target = b.rng.choice([unit for unit in weights if unit not in (first, second)])
    kilograms, ratio = b.rng.randint(12, 400) / 10, b.rng.uniform(0.75, 1.35)
    x, y = (
        plain(f"{kg / float(convert(Fraction(1), unit, 'kg')):.4g}")
        for kg, unit in ((kilograms, first), (kilograms * ratio, second))
    )
    said = {"first": w.say_unit(b, first), "second": w.say_unit(b, second), "target": w.say_unit(b, target)}
    names = {"a": w.pick(b, (one, colours[one])), "b": w.pick(b, (two, colours[two])), "places": w.decimals(b, 2)}
    units = {"from": (first, second), "to": target, "unit": table("common/units")[target]}
    return said | names | units | {"colours": (one, two), "x": x, "y": y}


def _heavier(facts: Facts) -> Facts:
    (one, two), x, y = facts["colours"], facts["one"]["value"], facts["two"]["value"]
    if w.rounded(x, 2) == w.rounded(y, 2):
        raise Skip("equal")
    more, less, weight = (one, two, x) if float(x) > float(y) else (two, one, y)
    chinese = translations("gfc_chains/colours")
    words = {"more": more, "chinese": chinese[more], "others": (less, chinese[less])}
    return words | {"weight": w.rounded(weight, 2)}


def _a_city_and_a_day(b: Builder) -> Facts:
    city, day = w.some_city(b), w.some_day(b, -7, 14)
    if held_out(f"{city}/{day}") != b.pools.test:
        raise Skip("a day of the other split")
    said = {"city": w.say_city(b, city), "date": w.say_date(b, day)}
    return said | {"place": city, "chinese": w.city_zh(city), "day": day}


def _two_cities(b: Builder) -> Facts:
    (one, two), day = w.held_pair(b, translations("common/cities")), w.some_day(b, -7, 14)
    said = {"a": w.say_city(b, one), "b": w.say_city(b, two), "date": w.say_date(b, day)}
    return said | {"places": (one, two), "day": day}


def _warmer(facts: Facts) -> Facts:
    (one, two), highs = facts["places"], [facts[name]["high_celsius"] for name in ("one", "two")]
    if highs[0] == highs[1]:
        raise Skip("equal")
    more, less = (one, two) if highs[0] > highs[1] else (two, one)
    words = {"more": more, "chinese": w.city_zh(more), "others": (less, w.city_zh(less))}
    return words | {"most": max(highs), "least": min(highs)}


templates(
    "gfc",
    "gfc_chains",
    Template(
        "date_from_today", 2, "A date counted from today, which must be looked up.", _from_today,
        (call("get_today", into="today"), call("date_add", date="{today[date]}", days="{change}")),
        (Called(("date_add",)), Text("{seen[date]}", accept="{dates}")),
        read=lambda facts: {"dates": w.dates(facts["seen"]["date"])},
        noise=0.4,
    ),
    Template(
        "weekday_after", 2, "The weekday some days after a given date.", _after_a_day,
        (call("date_add", into="day", date="{start!s}", days="{days}"), call("weekday", date="{day[date]}")),
        (Called(), lambda b, facts: w.expect_weekday(b, facts["seen"]["weekday"])),
        read=lambda facts: {"chinese": w.chinese(facts["seen"]["weekday"])},
        noise=0.4,
    ),
    Template(
        "cheaper_offer", 2, "The lower of two prices in different currencies, in a third.", _two_offers,
        (
            call("convert_currency", into="one", amount="{left}", source="{from[0]}", target="{to}"),
            call("convert_currency", into="two", amount="{right}", source="{from[1]}", target="{to}"),
        ),
        (Called(), Text("{shop}", reject="{other}"), Number("{price}", "{to}")),
        read=_cheaper,
        noise=0.3,
    ),
    Template(
        "exchanged_twice", 2, "Money changed into one currency and from there into another.", _three_currencies,
        (
            call(
                "convert_currency", into="held", amount="{number}", source="{from}", target="{via}",
                then=lambda facts: {"again": plain(facts["held"]["amount"])},
            ),
            call("convert_currency", amount="{again}", source="{via}", target="{to}"),
        ),
        (Called(), Number("{seen[amount]}", "{to}")),
        noise=0.3,
    ),
    Template(
        "heavier_parcel", 2, "The heavier of two weights in different units, in a third.", _two_parcels,
        (
            call("convert_unit", into="one", value="{x}", source="{from[0]}", target="{to}"),
            call("convert_unit", into="two", value="{y}", source="{from[1]}", target="{to}"),
        ),
        # No unit: in their own units the query names both weights.
        (Called(), Text("{more}", accept="{chinese}", reject="{others}"), Number("{weight}")),
        read=_heavier,
        ask=("gfc_chains/heavier_parcel", "common/round"),
        noise=0.3,
    ),
    Template(
        "weather_fahrenheit", 2, "The high of a city in Fahrenheit.", _a_city_and_a_day,
        (
            call("get_weather", into="there", city="{place}", date="{day!s}"),
            call("convert_unit", value="{there[high_celsius]}", source="celsius", target="fahrenheit"),
        ),
        (Called(), Number("{seen[value]}", None, "0.05")),  # no unit: Celsius would convert to it
        noise=0.4,
    ),
    Template(
        "warmer_city", 2, "The warmer of two cities and its high.", _two_cities,
        (
            call("get_weather", into="one", city="{places[0]}", date="{day!s}"),
            call("get_weather", into="two", city="{places[1]}", date="{day!s}"),
        ),
        (Called(), Text("{more}", accept="{chinese}", reject="{others}"), Number("{most}", "celsius", "0")),
        read=_warmer,
        noise=0.4,
    ),
)  # fmt: skip
