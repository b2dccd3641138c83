"""GFC, one call: units, money, dates, time zones."""

from fractions import Fraction

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.texts import table, translations
from trainer.hima_ecom.tools.conversion import CURRENCIES, TEMPERATURES, UNITS


@family("gfc", 1, "A quantity in another unit.")
def unit_conversion(b: Builder) -> None:
    quantities: list[list[str]] = [*map(list, UNITS.values()), list(TEMPERATURES)]
    source, target = w.held_pair(b, b.rng.choice(quantities))
    value = b.rng.choice((float(b.rng.randint(2, 900)), b.rng.randint(11, 4999) / 10))
    value = int(value) if value.is_integer() else value
    places = b.rng.choice((1, 2, 2, 3))
    query = b.phrase("gfc/unit_conversion", value=value, source=w.say_unit(b, source), target=w.say_unit(b, target))
    w.ask(b, query, w.say_places(b, places))
    task = f"Convert {value} {source} to {target}. Round to {places} decimals."
    gfc = b.delegate("gfc", task, "A conversion of units; the gfc agent has the tool.")
    result = gfc.call("convert_unit", f"From {source} to {target}.", value=value, source=source, target=target)["value"]
    if "e" in result or not 1 <= abs(Fraction(result)) < 10**7:
        raise Skip("a result that nobody would ask for")
    rounded = w.rounded(result, places)
    gfc.answer(f"{value} {source} is {rounded} {target}.", f"{result} to {places} decimals is {rounded}.")
    b.expect_calls(("gfc", "convert_unit", {"value": value, "source": source, "target": target}))
    # No unit: in the source's unit the query itself would be right.
    b.expect_number(rounded, None, w.tolerance(places))
    (one, one_zh), (two, two_zh) = table("common/units")[source], table("common/units")[target]
    w.finish(b, f"{value} {one} are {rounded} {two}.", f"{value} {one_zh}等于 {rounded} {two_zh}。")


@family("gfc", 1, "An amount in another currency.")
def currency_conversion(b: Builder) -> None:
    source, target = w.held_pair(b, CURRENCIES)
    amount = b.rng.choice((b.rng.randint(5, 3000), b.rng.randint(500, 90000) / 100))
    w.ask(
        b,
        b.phrase(
            "gfc/currency_conversion", amount=w.amount(amount), source=w.say_money(b, source), target=w.say_money(b, target)
        ),
    )
    gfc = b.delegate(
        "gfc", f"Convert {w.amount(amount)} {source} to {target}.", "A conversion of money; the gfc agent knows the rates."
    )
    there = gfc.call("convert_currency", f"From {source} to {target}.", amount=amount, source=source, target=target)["amount"]
    gfc.answer(f"{w.amount(amount)} {source} is {there} {target}.")
    b.expect_calls(("gfc", "convert_currency", {"amount": amount, "source": source, "target": target}))
    b.expect_number(there, target)
    w.finish(b, f"{w.amount(amount)} {source} is {there} {target}.", f"{w.amount(amount)} {source} 合 {there} {target}。")


@family("gfc", 1, "The date some days after or before a given one.")
def date_offset(b: Builder) -> None:
    start, days = w.some_day(b), b.rng.randint(9, 400)
    side, sign = b.rng.choice((("after", 1), ("before", -1)))
    said = w.pick(b, (side, "之后" if sign > 0 else "之前"))
    w.ask(b, b.phrase("gfc/date_offset", days=days, side=said, date=w.say_date(b, start)))
    gfc = b.delegate("gfc", f"Which date is {days} days {side} {start}?", "Counting days; the gfc agent has a calendar.")
    day = gfc.call("date_add", f"{days} days {side} {start}.", date=start.isoformat(), days=sign * days)["date"]
    gfc.answer(f"It is {day}.")
    b.expect_calls(("gfc", "date_add", {"date": start.isoformat(), "days": sign * days}))
    w.expect_date(b, day)
    w.finish(b, f"{days} days {side} {start} is {day}.", f"{start} {said} {days} 天是 {day}。")


@family("gfc", 1, "Days between two given dates.")
def days_apart(b: Builder) -> None:
    start, end = sorted((w.some_day(b), w.some_day(b)))
    w.ask(b, b.phrase("gfc/days_apart", start=w.say_date(b, start), end=w.say_date(b, end)))
    gfc = b.delegate("gfc", f"How many days are there from {start} to {end}?", "Counting days; the gfc agent has a calendar.")
    dates = {"start": start.isoformat(), "end": end.isoformat()}
    days = gfc.call("days_between", "I count from the first date to the second.", **dates)["days"]
    gfc.answer(f"There are {days} days from {start} to {end}.")
    b.expect_calls(("gfc", "days_between", dates))
    b.expect_number(str(days), "day", "0")
    w.finish(b, f"There are {days} days between them.", f"两个日期相隔 {days} 天。")


@family("gfc", 1, "The day of the week of a given date.")
def weekday_of(b: Builder) -> None:
    day = w.some_day(b)
    w.ask(b, b.phrase("gfc/weekday_of", date=w.say_date(b, day)))
    gfc = b.delegate("gfc", f"Which day of the week is {day}?", "A question about the calendar; the gfc agent has one.")
    name = gfc.call("weekday", f"I look up {day}.", date=day.isoformat())["weekday"]
    gfc.answer(f"{day} is a {name}.")
    b.expect_calls(("gfc", "weekday", {"date": day.isoformat()}))
    w.expect_weekday(b, name)
    w.finish(b, f"{day} is a {name}.", f"{day} 是{w.chinese(name)}。")


@family("gfc", 1, "A time of day in another city.")
def city_time(b: Builder) -> None:
    source, target = w.held_pair(b, translations("common/cities"))
    time = w.some_time(b)
    places = {"source": w.say_city(b, source), "target": w.say_city(b, target)}
    w.ask(b, b.phrase("gfc/city_time", time=w.say_time(b, time), **places))
    gfc = b.delegate("gfc", f"It is {time} in {source}. What time is it in {target}?", "Time zones; the gfc agent knows them.")
    there = gfc.call("convert_time", f"{time} from {source} to {target}.", time=time, source=source, target=target)
    gfc.answer(f"It is {there['time']} in {target}.")
    b.expect_calls(("gfc", "convert_time", {"time": time, "source": source, "target": target}))
    w.expect_time(b, there["time"])
    w.finish(b, f"It is {there['time']} in {target} then.", f"那时{places['target']}是 {there['time']}。")
