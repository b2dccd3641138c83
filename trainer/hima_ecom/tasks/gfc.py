"""GFC, one call: units, money, dates, time zones."""

from fractions import Fraction

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.phrases import WORDS_ZH, Phrases
from trainer.hima_ecom.tools.conversion import CURRENCIES, TEMPERATURES, UNITS

UNIT = Phrases(
    (
        "Convert {value} {source} to {target}.", "How many {target} are {value} {source}?",
        "What is {value} {source} in {target}?",
        "The data sheet says {value} {source}, but I think in {target}. What would that be?",
        "I need {value} {source} expressed in {target}, please.",
    ),
    (
        "Could you restate {value} {source} for someone who only knows {target}?",
        "{value} {source}: how much is it when measured in {target}?",
    ),
    (
        "请把{value}{source}换算成{target}。", "{value}{source}等于多少{target}？",
        "说明书上写的是{value}{source}，用{target}表示是多少？",
    ),
    ("我只熟悉{target}，{value}{source}相当于多少？",),
    (
        "Could you convert {value} {source}? I only know {target}.", "Restate {value} {source} in {target}.",
        "How much is {value} {source}, measured in {target}?",
        "Someone measured {value} {source}; how much is it in {target}?",
        "For someone who knows {target}: {value} {source}?",
    ),
)  # fmt: skip
MONEY = Phrases(
    (
        "How much is {amount} {source} in {target}?", "Please convert {amount} {source} into {target}.",
        "An item costs {amount} {source}. What is that in {target}?",
        "I have {amount} {source}; how many {target} do I get for them?",
        "What would {amount} {source} come to in {target} at your rate?",
    ),
    (
        "If I pay in {target}, what corresponds to a price of {amount} {source}?",
        "Exchange of {amount} {source}: which sum in {target} results?",
    ),
    (
        "{amount} {source} 换成{target}是多少？", "请把 {amount} {source} 兑换成{target}。",
        "商品标价 {amount} {source}，合多少{target}？",
    ),
    ("按你们的汇率，用{target}付 {amount} {source} 的价格要付多少？",),
    (
        "I pay {amount} {source}. What corresponds to it in {target}?",
        "Exchange {amount} {source} for {target}: which sum is that?",
        "Which sum results in {target} if I exchange {amount} {source}?",
        "The price is {amount} {source}, but I pay in {target}. How much is it?",
        "An exchange of {amount} {source} into {target}, please.",
    ),
)  # fmt: skip
OFFSET = Phrases(
    (
        "Which date is {days} days {side} {date}?", "What is the date {days} days {side} {date}?",
        "Something happens {days} days {side} {date}. Tell me the date.",
        "Count {days} days {side} {date}: on which day do I land?",
        "I have a deadline exactly {days} days {side} {date}; when is it?",
    ),
    (
        "Starting at {date}, name the day that lies {days} days {side} it.",
        "{days} days {side} {date}, what does the calendar show?",
    ),
    ("{date}{side}{days}天是哪一天？", "请告诉我{date}{side}第{days}天的日期。", "期限是{date}{side}{days}天，那是几月几号？"),
    ("以{date}为起点，{side}{days}天对应的日期是什么？",),
    (
        "What does the calendar show {days} days {side} {date}?", "Name the day {days} days {side} {date}.",
        "The calendar, {days} days {side} {date}: which date?", "Starting at {date}, which date lies {days} days {side}?",
        "Which day lies {days} days {side} {date}?",
    ),
)  # fmt: skip
APART = Phrases(
    (
        "How many days are there between {start} and {end}?", "How many days is it from {start} to {end}?",
        "Count the days from {start} until {end}.",
        "I bought something on {start} and sold it on {end}. How many days did I have it?",
        "What is the number of days separating {start} and {end}?",
    ),
    (
        "My rental runs from {start} and ends on {end}; how long is that in days?",
        "{start} up to {end}: the length in days, please.",
    ),
    ("{start}到{end}有多少天？", "请算一下从{start}到{end}相隔几天。", "我{start}买的，{end}卖掉，中间有多少天？"),
    ("租期从{start}开始，{end}结束，一共多少天？",),
)  # fmt: skip
WEEKDAY = Phrases(
    (
        "What day of the week is {date}?", "On which weekday does {date} fall?", "Is {date} a Monday, or which day is it?",
        "My delivery is planned for {date}. Which day of the week is that?", "Tell me the weekday of {date}.",
    ),
    ("I want to know if {date} is in the middle of the week: what day is it?", "{date}, which weekday would that be?"),
    ("{date}是星期几？", "请问{date}是周几？", "送货安排在{date}，那天星期几？"),
    ("帮我看一下{date}落在星期几。",),
    (
        "Is {date} in the middle of a week? Tell me the day.", "What day would {date} be?",
        "I want to know the weekday for {date}.", "{date}: what weekday is it, the middle of the week?",
        "If it is {date}, which day of the week would that be?",
    ),
)  # fmt: skip
TIME = Phrases(
    (
        "When it is {time} in {source}, what time is it in {target}?", "What is {time} {source} time in {target}?",
        "A call starts at {time} in {source}. At what time is that in {target}?",
        "Convert {time} from {source} to {target} time.",
        "My colleague in {source} says {time}. What does my clock in {target} show then?",
    ),
    (
        "Your live show begins at {time} ({source}). When must I tune in from {target}?",
        "For somebody in {target}, what does the clock show at {time} in {source}?",
    ),
    (
        "{source}{time}的时候，{target}是几点？", "{source}时间{time}换成{target}时间是多少？",
        "会议在{source}时间{time}开始，{target}是几点？",
    ),
    ("直播于{source}时间{time}开始，我在{target}该几点看？",),
    (
        "A show begins at {time} in {source}. When is that for somebody in {target}?",
        "I tune in from {target}. When must I be there if it begins at {time} ({source})?",
        "What does the clock in {target} show when it is {time} in {source}?",
        "In {source} a live show begins at {time}; at what time must I tune in, in {target}?",
        "At {time} ({source}), what is the clock of somebody in {target}?",
    ),
)  # fmt: skip


@family("gfc", 1)
def unit_conversion(b: Builder) -> None:
    """A quantity in another unit."""
    quantities: list[list[str]] = [*map(list, UNITS.values()), list(TEMPERATURES)]
    source, target = w.held_pair(b, b.rng.choice(quantities))
    value = b.rng.choice((float(b.rng.randint(2, 900)), b.rng.randint(11, 4999) / 10))
    value = int(value) if value.is_integer() else value
    places = b.rng.choice((1, 2, 2, 3))
    query = b.phrase(UNIT, value=value, source=w.say_unit(b, source), target=w.say_unit(b, target))
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
    (one, one_zh), (two, two_zh) = w.UNIT_WORDS[source], w.UNIT_WORDS[target]
    w.finish(b, f"{value} {one} are {rounded} {two}.", f"{value} {one_zh}等于 {rounded} {two_zh}。")


@family("gfc", 1)
def currency_conversion(b: Builder) -> None:
    """An amount in another currency."""
    source, target = w.held_pair(b, CURRENCIES)
    amount = b.rng.choice((b.rng.randint(5, 3000), b.rng.randint(500, 90000) / 100))
    w.ask(b, b.phrase(MONEY, amount=w.amount(amount), source=w.say_money(b, source), target=w.say_money(b, target)))
    gfc = b.delegate(
        "gfc", f"Convert {w.amount(amount)} {source} to {target}.", "A conversion of money; the gfc agent knows the rates."
    )
    there = gfc.call("convert_currency", f"From {source} to {target}.", amount=amount, source=source, target=target)["amount"]
    gfc.answer(f"{w.amount(amount)} {source} is {there} {target}.")
    b.expect_calls(("gfc", "convert_currency", {"amount": amount, "source": source, "target": target}))
    b.expect_number(there, target)
    w.finish(b, f"{w.amount(amount)} {source} is {there} {target}.", f"{w.amount(amount)} {source} 合 {there} {target}。")


@family("gfc", 1)
def date_offset(b: Builder) -> None:
    """The date some days after or before a given one."""
    start, days = w.some_day(b), b.rng.randint(9, 400)
    side, sign = b.rng.choice((("after", 1), ("before", -1)))
    said = w.pick(b, (side, "之后" if sign > 0 else "之前"))
    w.ask(b, b.phrase(OFFSET, days=days, side=said, date=w.say_date(b, start)))
    gfc = b.delegate("gfc", f"Which date is {days} days {side} {start}?", "Counting days; the gfc agent has a calendar.")
    day = gfc.call("date_add", f"{days} days {side} {start}.", date=start.isoformat(), days=sign * days)["date"]
    gfc.answer(f"It is {day}.")
    b.expect_calls(("gfc", "date_add", {"date": start.isoformat(), "days": sign * days}))
    w.expect_date(b, day)
    w.finish(b, f"{days} days {side} {start} is {day}.", f"{start} {said} {days} 天是 {day}。")


@family("gfc", 1)
def days_apart(b: Builder) -> None:
    """Days between two given dates."""
    start, end = sorted((w.some_day(b), w.some_day(b)))
    w.ask(b, b.phrase(APART, start=w.say_date(b, start), end=w.say_date(b, end)))
    gfc = b.delegate("gfc", f"How many days are there from {start} to {end}?", "Counting days; the gfc agent has a calendar.")
    dates = {"start": start.isoformat(), "end": end.isoformat()}
    days = gfc.call("days_between", "I count from the first date to the second.", **dates)["days"]
    gfc.answer(f"There are {days} days from {start} to {end}.")
    b.expect_calls(("gfc", "days_between", dates))
    b.expect_number(str(days), "day", "0")
    w.finish(b, f"There are {days} days between them.", f"两个日期相隔 {days} 天。")


@family("gfc", 1)
def weekday_of(b: Builder) -> None:
    """The day of the week of a given date."""
    day = w.some_day(b)
    w.ask(b, b.phrase(WEEKDAY, date=w.say_date(b, day)))
    gfc = b.delegate("gfc", f"Which day of the week is {day}?", "A question about the calendar; the gfc agent has one.")
    name = gfc.call("weekday", f"I look up {day}.", date=day.isoformat())["weekday"]
    gfc.answer(f"{day} is a {name}.")
    b.expect_calls(("gfc", "weekday", {"date": day.isoformat()}))
    w.expect_weekday(b, name)
    w.finish(b, f"{day} is a {name}.", f"{day} 是{WORDS_ZH[name]}。")


@family("gfc", 1)
def city_time(b: Builder) -> None:
    """A time of day in another city."""
    source, target = w.held_pair(b, w.CITIES_ZH)
    time = w.some_time(b)
    places = {"source": w.say_city(b, source), "target": w.say_city(b, target)}
    w.ask(b, b.phrase(TIME, time=w.say_time(b, time), **places))
    gfc = b.delegate("gfc", f"It is {time} in {source}. What time is it in {target}?", "Time zones; the gfc agent knows them.")
    there = gfc.call("convert_time", f"{time} from {source} to {target}.", time=time, source=source, target=target)
    gfc.answer(f"It is {there['time']} in {target}.")
    b.expect_calls(("gfc", "convert_time", {"time": time, "source": source, "target": target}))
    w.expect_time(b, there["time"])
    w.finish(b, f"It is {there['time']} in {target} then.", f"那时{places['target']}是 {there['time']}。")
