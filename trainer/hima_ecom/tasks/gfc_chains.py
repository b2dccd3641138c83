"""GFC, two calls: the second needs the result of the first, or two results are compared."""

from fractions import Fraction

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.texts import table, translations, word_list
from trainer.hima_ecom.tools.conversion import CURRENCIES, convert


def plain(number: str) -> int | float:
    """Return a tool's decimal text as a number for the next call."""
    value = float(number)
    return int(value) if value.is_integer() else value


@family("gfc", 2, "A date counted from today, which must be looked up.")
def date_from_today(b: Builder) -> None:
    days = b.rng.randint(9, 700)
    ahead = b.rng.random() < 0.6
    en = b.rng.choice((f"in {days} days", f"{days} days from now")) if ahead else f"{days} days ago"
    span = w.pick(b, (en, f"{days}天{'后' if ahead else '前'}"))
    w.ask(b, b.phrase("gfc_chains/date_from_today", span=span, be="will it be" if ahead else "was it"), noise=0.4)
    gfc = b.delegate(
        "gfc", f"Which date is {days} days {'after' if ahead else 'before'} today?", "The gfc agent knows today's date."
    )
    today = gfc.call("get_today", "I need today's date first.")["date"]
    given = {"date": today, "days": days if ahead else -days}
    day = gfc.call("date_add", f"Today is {today}; I {'add' if ahead else 'go back'} {days} days.", **given)["date"]
    gfc.answer(f"It is {day}.")
    b.expect_calls(("gfc", "date_add", given))
    w.expect_date(b, day)
    w.finish(b, f"The date is {day}.", f"日期是 {day} 。")


@family("gfc", 2, "The weekday some days after a given date.")
def weekday_after(b: Builder) -> None:
    start, days = w.some_day(b), b.rng.randint(9, 300)
    w.ask(b, b.phrase("gfc_chains/weekday_after", date=w.say_date(b, start), days=days), noise=0.4)
    gfc = b.delegate("gfc", f"Which day of the week is {days} days after {start}?", "The gfc agent has a calendar.")
    given = {"date": start.isoformat(), "days": days}
    day = gfc.call("date_add", f"First the date, {days} days after {start}.", **given)["date"]
    name = gfc.call("weekday", f"Now the weekday of {day}.", date=day)["weekday"]
    gfc.answer(f"{day} is a {name}.")
    b.expect_calls(("gfc", "date_add", given), ("gfc", "weekday", {"date": day}))
    w.expect_weekday(b, name)
    w.finish(b, f"It is a {name}, {day}.", f"那天是{w.chinese(name)}，{day} 。")


@family("gfc", 2, "The lower of two prices in different currencies, in a third.")
def cheaper_offer(b: Builder) -> None:
    (one, two), (first, second) = b.rng.sample(word_list("gfc_chains/shops"), 2), w.held_pair(b, CURRENCIES)
    target = b.rng.choice([code for code in CURRENCIES if code not in (first, second)])
    x = b.rng.randint(2000, 90000) / 100
    y = round(float(CURRENCIES[first] / CURRENCIES[second]) * x * b.rng.uniform(0.8, 1.25), 2)
    said = {"first": w.say_money(b, first), "second": w.say_money(b, second), "target": w.say_money(b, target)}
    w.ask(b, b.phrase("gfc_chains/cheaper_offer", a=one, b=two, x=w.amount(x), y=w.amount(y), **said), noise=0.3)
    task = f"Which is cheaper, {w.amount(x)} {first} at {one} or {y} {second} at {two}? Give the lower price in {target}."
    gfc = b.delegate("gfc", task, "Two currencies; the gfc agent can convert both.")
    offers = [{"amount": x, "source": first, "target": target}, {"amount": y, "source": second, "target": target}]
    left = gfc.call("convert_currency", f"The price of {one} in {target}.", **offers[0])["amount"]
    right = gfc.call("convert_currency", f"The price of {two} in {target}.", **offers[1])["amount"]
    if float(left) == float(right):
        raise Skip("equal")
    shop, other, price = (one, two, left) if float(left) < float(right) else (two, one, right)
    gfc.answer(f"{shop} is cheaper, at {price} {target}.", f"{left} at {one} against {right} at {two}: {shop} is lower.")
    b.expect_calls(*(("gfc", "convert_currency", offer) for offer in offers))
    b.expect_text(shop, reject=(other,))
    b.expect_number(price, target)
    w.finish(b, f"{shop} is cheaper: {price} {target}.", f"{shop} 更便宜，价格是 {price} {target}。")


@family("gfc", 2, "Money changed into one currency and from there into another.")
def exchanged_twice(b: Builder) -> None:
    source, target = w.held_pair(b, CURRENCIES)
    middle = b.rng.choice([code for code in CURRENCIES if code not in (source, target)])
    amount = b.rng.choice((b.rng.randint(20, 5000), b.rng.randint(2000, 90000) / 100))
    said = {"source": w.say_money(b, source), "middle": w.say_money(b, middle), "target": w.say_money(b, target)}
    w.ask(b, b.phrase("gfc_chains/exchanged_twice", amount=w.amount(amount), **said), noise=0.3)
    task = f"Convert {w.amount(amount)} {source} to {middle}, then that result to {target}."
    gfc = b.delegate("gfc", task, "Two conversions; the gfc agent knows the rates.")
    one = {"amount": amount, "source": source, "target": middle}
    held = gfc.call("convert_currency", f"First from {source} to {middle}.", **one)["amount"]
    two = {"amount": plain(held), "source": middle, "target": target}
    end = gfc.call("convert_currency", f"Now {held} {middle} to {target}.", **two)["amount"]
    gfc.answer(f"In the end it is {end} {target}.")
    b.expect_calls(("gfc", "convert_currency", one), ("gfc", "convert_currency", two))
    b.expect_number(end, target)
    w.finish(b, f"You end up with {end} {target}.", f"最后是 {end} {target}。")


@family("gfc", 2, "The heavier of two weights in different units, in a third.")
def heavier_parcel(b: Builder) -> None:
    colours = translations("gfc_chains/colours")
    weights = ("lb", "oz", "g", "kg")
    (one, two), (first, second) = b.rng.sample(tuple(colours), 2), w.held_pair(b, weights)
    target = b.rng.choice([unit for unit in weights if unit not in (first, second)])
    kilograms, ratio = b.rng.randint(12, 400) / 10, b.rng.uniform(0.75, 1.35)
    x, y = (
        plain(f"{kg / float(convert(Fraction(1), unit, 'kg')):.4g}")
        for kg, unit in ((kilograms, first), (kilograms * ratio, second))
    )
    names = {"a": w.pick(b, (one, colours[one])), "b": w.pick(b, (two, colours[two]))}
    said = {"first": w.say_unit(b, first), "second": w.say_unit(b, second), "target": w.say_unit(b, target)}
    w.ask(b, b.phrase("gfc_chains/heavier_parcel", x=x, y=y, **names, **said), w.say_places(b, 2), noise=0.3)
    task = f"Which is heavier, {one} with {x} {first} or {two} with {y} {second}? Give its {target} to 2 decimals."
    gfc = b.delegate("gfc", task, "Two units; the gfc agent can convert both.")
    given = [{"value": x, "source": first, "target": target}, {"value": y, "source": second, "target": target}]
    left = gfc.call("convert_unit", f"The {one} one in {target}.", **given[0])["value"]
    right = gfc.call("convert_unit", f"The {two} one in {target}.", **given[1])["value"]
    rounded = [w.rounded(value, 2) for value in (left, right)]
    if rounded[0] == rounded[1]:
        raise Skip("equal")
    more, less, weight = (one, two, rounded[0]) if float(left) > float(right) else (two, one, rounded[1])
    gfc.answer(f"The {more} one is heavier, with {weight} {target}.", f"{left} {target} against {right}: {more} is more.")
    b.expect_calls(*(("gfc", "convert_unit", call) for call in given))
    b.expect_text(more, colours[more], reject=(less, colours[less]))
    b.expect_number(weight, None)  # no unit: in their own units the query names both weights
    en, zh = table("common/units")[target]
    w.finish(b, f"The {more} one is heavier: {weight} {en}.", f"{colours[more]}的更重，重 {weight} {zh}。")


@family("gfc", 2, "The high of a city in Fahrenheit.")
def weather_fahrenheit(b: Builder) -> None:
    city, day = w.some_city(b), w.some_day(b, -7, 14)
    if held_out(f"{city}/{day}") != b.pools.test:
        raise Skip("a day of the other split")
    w.ask(b, b.phrase("gfc_chains/weather_fahrenheit", city=w.say_city(b, city), date=w.say_date(b, day)), noise=0.4)
    gfc = b.delegate("gfc", f"What is the high in {city} on {day} in Fahrenheit?", "The gfc agent knows weather and units.")
    where = {"city": city, "date": day.isoformat()}
    high = gfc.call("get_weather", f"First the weather of {city} on {day}.", **where)["high_celsius"]
    given = {"value": high, "source": "celsius", "target": "fahrenheit"}
    there = gfc.call("convert_unit", f"The high is {high} Celsius; I convert it.", **given)["value"]
    gfc.answer(f"The high in {city} on {day} is {there} Fahrenheit.")
    b.expect_calls(("gfc", "get_weather", where), ("gfc", "convert_unit", given))
    b.expect_number(there, None, "0.05")  # no unit: Celsius would convert to it
    w.finish(b, f"The high in {city} on {day} is {there} °F.", f"{w.city_zh(city)}最高 {there} 华氏度。")


@family("gfc", 2, "The warmer of two cities and its high.")
def warmer_city(b: Builder) -> None:
    (one, two), day = w.held_pair(b, translations("common/cities")), w.some_day(b, -7, 14)
    w.ask(b, b.phrase("gfc_chains/warmer_city", a=w.say_city(b, one), b=w.say_city(b, two), date=w.say_date(b, day)), noise=0.4)
    gfc = b.delegate("gfc", f"Which has the higher high on {day}, {one} or {two}?", "The gfc agent has the weather of both.")
    where = [{"city": city, "date": day.isoformat()} for city in (one, two)]
    highs = [gfc.call("get_weather", f"The weather of {call['city']}.", **call)["high_celsius"] for call in where]
    if highs[0] == highs[1]:
        raise Skip("equal")
    more, less = (one, two) if highs[0] > highs[1] else (two, one)
    gfc.answer(f"{more} is warmer, with a high of {max(highs)} °C.", f"{max(highs)} is more than {min(highs)}.")
    b.expect_calls(*(("gfc", "get_weather", call) for call in where))
    b.expect_text(more, w.city_zh(more), reject=(less, w.city_zh(less)))
    b.expect_number(str(max(highs)), "celsius", "0")
    w.finish(
        b,
        f"{more} is warmer, with a high of {max(highs)} °C.",
        f"{translations('common/cities')[more]}更热，最高 {max(highs)} °C。",
    )
