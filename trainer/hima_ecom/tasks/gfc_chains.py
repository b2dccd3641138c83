"""GFC, two calls: the second needs the first's result, or two results are compared."""

from fractions import Fraction

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.phrases import WORDS_ZH, Phrases
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tools.conversion import CURRENCIES, convert

FROM_TODAY = Phrases(
    (
        "What date {be} {span}?", "I need the exact date {span}, please.", "Which calendar date {be} {span}?",
        "An entry in my diary stands on the day {span}. Which date is that?", "Tell me the date of the day {span}.",
    ),
    ("Counting from today, which date {be} {span}?", 'My receipt says "{span}". Turn that into a date.'),
    ("{span}是几月几号？", "请告诉我{span}的日期。", "有件事在{span}，那天的日期是什么？"),
    ("从今天算起，{span}对应哪个日期？",),
)  # fmt: skip
WEEKDAY_AFTER = Phrases(
    (
        "My order of {date} arrives exactly {days} days later. Which day of the week is that?",
        "What weekday is it {days} days after {date}?", "If I start on {date} and wait {days} days, which weekday do I reach?",
        "The trial began on {date} and lasts {days} days. On what day of the week is it over?",
        "{days} days after {date} I have an appointment; is that a weekend, or which weekday?",
    ),
    (
        "A voucher issued on {date} runs out {days} days afterwards. Name the weekday on which it does.",
        "Take {date}, go {days} days forward: what day of the week is it?",
    ),
    (
        "{date}之后{days}天是星期几？", "订单{date}下的，{days}天后送到，那天是周几？",
        "试用从{date}开始，{days}天后结束，结束那天星期几？",
    ),
    ("{date}发的券，{days}天以后到期，到期日是星期几？",),
)  # fmt: skip
SHOPS = (
    "Norden",
    "Kestrel",
    "Bluebell",
    "Marlow",
    "Tivoli",
    "Harvest",
    "Pinecone",
    "Orbit",
    "Quayside",
    "Larkspur",
    "Brightside",
)
CHEAPER = Phrases(
    (
        "{a} wants {x} {first} and {b} wants {y} {second}. Which shop is cheaper, and what is its price in {target}?",
        "The same jacket costs {x} {first} at {a} and {y} {second} at {b}. Where do I pay less, and how much in {target}?",
        "Compare two offers: {a}, {x} {first}; {b}, {y} {second}. Name the lower one and its amount in {target}.",
        "Should I buy at {a} for {x} {first} or at {b} for {y} {second}? Give me the better price in {target}.",
    ),
    (
        (
            "I pay in {target}. {a} quotes {x} {first}, {b} quotes {y} {second}: who is less expensive, and what "
            "will I be charged?"
        ),
        "Two quotes lie here, {x} {first} ({a}) against {y} {second} ({b}). Pick the lower and state it in {target}.",
    ),
    (
        "{a} 卖 {x} {first}，{b} 卖 {y} {second}。哪家便宜？便宜的那家合多少{target}？",
        "同一件外套，{a} 标价 {x} {first}，{b} 标价 {y} {second}，哪家更低，换成{target}是多少？",
    ),
    ("我用{target}付款。{a} 报价 {x} {first}，{b} 报价 {y} {second}，选哪家省钱，要付多少？",),
)  # fmt: skip
EXCHANGED = Phrases(
    (
        (
            "I change {amount} {source} into {middle} and later all of that into {target}. How many {target} "
            "do I hold in the end?"
        ),
        "First {amount} {source} become {middle}, then the {middle} become {target}. What is the final amount?",
        "A refund of {amount} {source} was paid out in {middle}; I now exchange it for {target}. What do I receive?",
        "Convert {amount} {source} to {middle}, and the result, in cents as it is, to {target}.",
    ),
    (
        (
            "My {amount} {source} went through an account in {middle} before reaching one in {target}. Which "
            "sum in {target} arrived?"
        ),
        "By way of {middle}, rounded there to cents: what do {amount} {source} amount to in {target}?",
    ),
    (
        "我先把 {amount} {source} 换成{middle}，再全部换成{target}，最后有多少{target}？",
        "{amount} {source} 的退款先以{middle}到账，再兑换成{target}，我能拿到多少？",
    ),
    ("{amount} {source} 经由{middle}账户转到{target}账户，最终到账多少{target}？",),
)  # fmt: skip
COLOURS = {"red": "红色", "blue": "蓝色", "green": "绿色", "white": "白色", "grey": "灰色", "black": "黑色", "orange": "橙色"}
HEAVIER = Phrases(
    (
        "The {a} parcel weighs {x} {first} and the {b} one {y} {second}. Which is heavier, and how many {target} is it?",
        "I have a {a} box of {x} {first} and a {b} box of {y} {second}. Tell me the heavier one and its weight in {target}.",
        "Which weighs more: {x} {first} in the {a} bag, or {y} {second} in the {b} bag? Name it, with its weight in {target}.",
        "Compare the {a} suitcase ({x} {first}) with the {b} suitcase ({y} {second}): say which is heavier, and its {target}.",
    ),
    (
        "Two sacks stand here, {a} with {x} {first} and {b} with {y} {second}. The weightier one, please, stated in {target}.",
        (
            "The lift carries the {a} crate ({x} {first}) or the {b} crate ({y} {second}). Which strains it more, "
            "at how many {target}?"
        ),
    ),
    (
        "{a}包裹重 {x} {first}，{b}包裹重 {y} {second}。哪个更重，重多少{target}？",
        "{a}箱子 {x} {first}，{b}箱子 {y} {second}，请说出较重的那个和它的{target}数。",
    ),
    ("两只袋子，{a}的 {x} {first}，{b}的 {y} {second}，较重的是哪只，合多少{target}？",),
)  # fmt: skip
FAHRENHEIT = Phrases(
    (
        "How warm will it get in {city} on {date}, in degrees Fahrenheit?",
        "What is the high for {city} on {date} in Fahrenheit?",
        "I think in Fahrenheit. What is the top temperature in {city} on {date}?",
        "Please give me the day's highest temperature in {city} for {date} as Fahrenheit.",
    ),
    (
        "My American aunt visits {city} on {date} and wants the maximum in her degrees, Fahrenheit.",
        "{city}, {date}: the peak temperature on the Fahrenheit scale?",
    ),
    ("{city}{date}的最高气温是多少华氏度？", "请用华氏度告诉我{date}{city}最高多少度。"),
    ("我习惯看华氏度，{date}{city}那天最热有多少度？",),
)  # fmt: skip
WARMER = Phrases(
    (
        "Is {a} or {b} warmer on {date}, going by the high? Tell me the city and its high in Celsius.",
        "On {date}, which has the higher top temperature, {a} or {b}, and what is it?",
        "I can travel to {a} or to {b} on {date}. Where will it be hotter, and how hot in Celsius?",
        "Compare the highs of {a} and {b} for {date}: name the warmer city and its temperature.",
    ),
    (
        "For a beach day on {date}, {a} against {b}: who wins by maximum temperature, and with how many degrees?",
        "Take the daily maximum of {date} in {a} and {b}. Which is larger, and how much is it?",
    ),
    ("{date}{a}和{b}哪个城市的最高气温更高，是多少度？", "我{date}要去{a}或者{b}，哪里更热，最高多少度？"),
    ("按最高气温比较，{date}{a}与{b}谁更暖和，有几度？",),
)  # fmt: skip


def plain(number: str) -> int | float:
    """A tool's decimal text as a number for the next call."""
    value = float(number)
    return int(value) if value.is_integer() else value


@family("gfc", 2)
def date_from_today(b: Builder) -> None:
    """A date counted from today, which must be looked up."""
    days = b.rng.randint(9, 700)
    ahead = b.rng.random() < 0.6
    en = b.rng.choice((f"in {days} days", f"{days} days from now")) if ahead else f"{days} days ago"
    span = w.pick(b, (en, f"{days}天{'后' if ahead else '前'}"))
    w.ask(b, b.phrase(FROM_TODAY, span=span, be="will it be" if ahead else "was it"), noise=0.4)
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


@family("gfc", 2)
def weekday_after(b: Builder) -> None:
    """The weekday some days after a given date."""
    start, days = w.some_day(b), b.rng.randint(9, 300)
    w.ask(b, b.phrase(WEEKDAY_AFTER, date=w.say_date(b, start), days=days), noise=0.4)
    gfc = b.delegate("gfc", f"Which day of the week is {days} days after {start}?", "The gfc agent has a calendar.")
    given = {"date": start.isoformat(), "days": days}
    day = gfc.call("date_add", f"First the date, {days} days after {start}.", **given)["date"]
    name = gfc.call("weekday", f"Now the weekday of {day}.", date=day)["weekday"]
    gfc.answer(f"{day} is a {name}.")
    b.expect_calls(("gfc", "date_add", given), ("gfc", "weekday", {"date": day}))
    w.expect_weekday(b, name)
    w.finish(b, f"It is a {name}, {day}.", f"那天是{WORDS_ZH[name]}，{day} 。")


@family("gfc", 2)
def cheaper_offer(b: Builder) -> None:
    """The lower of two prices in different currencies, in a third."""
    (one, two), (first, second) = b.rng.sample(SHOPS, 2), w.held_pair(b, CURRENCIES)
    target = b.rng.choice([code for code in CURRENCIES if code not in (first, second)])
    x = b.rng.randint(2000, 90000) / 100
    y = round(float(CURRENCIES[first] / CURRENCIES[second]) * x * b.rng.uniform(0.8, 1.25), 2)
    said = {"first": w.say_money(b, first), "second": w.say_money(b, second), "target": w.say_money(b, target)}
    w.ask(b, b.phrase(CHEAPER, a=one, b=two, x=w.amount(x), y=w.amount(y), **said), noise=0.3)
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


@family("gfc", 2)
def exchanged_twice(b: Builder) -> None:
    """Money changed into one currency and from there into another."""
    source, target = w.held_pair(b, CURRENCIES)
    middle = b.rng.choice([code for code in CURRENCIES if code not in (source, target)])
    amount = b.rng.choice((b.rng.randint(20, 5000), b.rng.randint(2000, 90000) / 100))
    said = {"source": w.say_money(b, source), "middle": w.say_money(b, middle), "target": w.say_money(b, target)}
    w.ask(b, b.phrase(EXCHANGED, amount=w.amount(amount), **said), noise=0.3)
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


@family("gfc", 2)
def heavier_parcel(b: Builder) -> None:
    """The heavier of two weights in different units, in a third."""
    weights = ("lb", "oz", "g", "kg")
    (one, two), (first, second) = b.rng.sample(tuple(COLOURS), 2), w.held_pair(b, weights)
    target = b.rng.choice([unit for unit in weights if unit not in (first, second)])
    kilograms, ratio = b.rng.randint(12, 400) / 10, b.rng.uniform(0.75, 1.35)
    x, y = (
        plain(f"{kg / float(convert(Fraction(1), unit, 'kg')):.4g}")
        for kg, unit in ((kilograms, first), (kilograms * ratio, second))
    )
    names = {"a": w.pick(b, (one, COLOURS[one])), "b": w.pick(b, (two, COLOURS[two]))}
    said = {"first": w.say_unit(b, first), "second": w.say_unit(b, second), "target": w.say_unit(b, target)}
    w.ask(b, b.phrase(HEAVIER, x=x, y=y, **names, **said), w.say_places(b, 2), noise=0.3)
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
    b.expect_text(more, COLOURS[more], reject=(less, COLOURS[less]))
    b.expect_number(weight, None)  # no unit: in their own units the query names both weights
    en, zh = w.UNIT_WORDS[target]
    w.finish(b, f"The {more} one is heavier: {weight} {en}.", f"{COLOURS[more]}的更重，重 {weight} {zh}。")


@family("gfc", 2)
def weather_fahrenheit(b: Builder) -> None:
    """The high of a city in Fahrenheit."""
    city, day = w.some_city(b), w.some_day(b, -7, 14)
    if held_out(f"{city}/{day}") != b.pools.test:
        raise Skip("a day of the other split")
    w.ask(b, b.phrase(FAHRENHEIT, city=w.say_city(b, city), date=w.say_date(b, day)), noise=0.4)
    gfc = b.delegate("gfc", f"What is the high in {city} on {day} in Fahrenheit?", "The gfc agent knows weather and units.")
    where = {"city": city, "date": day.isoformat()}
    high = gfc.call("get_weather", f"First the weather of {city} on {day}.", **where)["high_celsius"]
    given = {"value": high, "source": "celsius", "target": "fahrenheit"}
    there = gfc.call("convert_unit", f"The high is {high} Celsius; I convert it.", **given)["value"]
    gfc.answer(f"The high in {city} on {day} is {there} Fahrenheit.")
    b.expect_calls(("gfc", "get_weather", where), ("gfc", "convert_unit", given))
    b.expect_number(there, None, "0.05")  # no unit: Celsius would convert to it
    w.finish(b, f"The high in {city} on {day} is {there} °F.", f"{w.CITIES_ZH[city]}最高 {there} 华氏度。")


@family("gfc", 2)
def warmer_city(b: Builder) -> None:
    """The warmer of two cities and its high."""
    (one, two), day = w.held_pair(b, w.CITIES_ZH), w.some_day(b, -7, 14)
    w.ask(b, b.phrase(WARMER, a=w.say_city(b, one), b=w.say_city(b, two), date=w.say_date(b, day)), noise=0.4)
    gfc = b.delegate("gfc", f"Which has the higher high on {day}, {one} or {two}?", "The gfc agent has the weather of both.")
    where = [{"city": city, "date": day.isoformat()} for city in (one, two)]
    highs = [gfc.call("get_weather", f"The weather of {call['city']}.", **call)["high_celsius"] for call in where]
    if highs[0] == highs[1]:
        raise Skip("equal")
    more, less = (one, two) if highs[0] > highs[1] else (two, one)
    gfc.answer(f"{more} is warmer, with a high of {max(highs)} °C.", f"{max(highs)} is more than {min(highs)}.")
    b.expect_calls(*(("gfc", "get_weather", call) for call in where))
    b.expect_text(more, w.CITIES_ZH[more], reject=(less, w.CITIES_ZH[less]))
    b.expect_number(str(max(highs)), "celsius", "0")
    w.finish(b, f"{more} is warmer, with a high of {max(highs)} °C.", f"{w.CITIES_ZH[more]}更热，最高 {max(highs)} °C。")
