"""GFC that cannot be done: the right answer is a refusal with the reason."""

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.gfc import MONEY, TIME
from trainer.hima_ecom.tasks.gfc_notes import ASPECTS, REMINDER, WEATHER, some_note
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tools.conversion import CURRENCIES

UNKNOWN_MONEY = {
    "KRW": ("Korean won", "韩元"), "SEK": ("Swedish kronor", "瑞典克朗"), "NOK": ("Norwegian kroner", "挪威克朗"),
    "MXN": ("Mexican pesos", "墨西哥比索"), "THB": ("Thai baht", "泰铢"), "ZAR": ("South African rand", "南非兰特"),
    "PLN": ("Polish zloty", "波兰兹罗提"), "TRY": ("Turkish lira", "土耳其里拉"), "DKK": ("Danish kroner", "丹麦克朗"),
    "NZD": ("New Zealand dollars", "新西兰元"), "SGD": ("Singapore dollars", "新加坡元"),
}  # fmt: skip
UNKNOWN_CITIES = {
    "Reykjavik": "雷克雅未克", "Lagos": "拉各斯", "Lima": "利马", "Oslo": "奥斯陆", "Nairobi": "内罗毕", "Hanoi": "河内",
    "Athens": "雅典", "Bogota": "波哥大", "Manila": "马尼拉", "Warsaw": "华沙", "Lisbon": "里斯本", "Dublin": "都柏林",
    "Havana": "哈瓦那", "Tunis": "突尼斯",
}  # fmt: skip


@family("gfc", 1, impossible=True)
def weather_too_far(b: Builder) -> None:
    """The weather on a day that the table does not reach."""
    city, day, aspect = w.some_city(b), w.some_day(b, 18, 330), b.rng.choice(tuple(ASPECTS))
    w.ask(b, b.phrase(WEATHER, aspect=w.pick(b, ASPECTS[aspect]), city=w.say_city(b, city), date=w.say_date(b, day)))
    gfc = b.delegate("gfc", f"Tell me {ASPECTS[aspect][0]} in {city} on {day}.", "The weather; the gfc agent has a table.")
    gfc.refused("get_weather", f"I look up {city} on {day}.", city=city, date=day.isoformat())
    gfc.answer(f"I cannot say: the weather is known only up to two weeks ahead, and {day} is later.", "The table ends before.")
    b.expect_refusal(
        "two weeks", "too far", "14 days", "two-week", "two week", "2 weeks", "beyond", "later than", "in advance", "forecast",
        "only up to", "out of range", "两周", "2周", "两个星期", "太远", "14天", "十四天", "超出", "范围",
    )  # fmt: skip
    b.finish(
        f"I cannot tell: the weather is known only up to two weeks ahead, and {day} is later.",
        f"抱歉，天气只能查到两周以内，无法查询 {day} 。",
        "It cannot be known; I say why.",
    )


@family("gfc", 1, impossible=True)
def reminder_in_past(b: Builder) -> None:
    """A reminder for a day that is over."""
    note, day, time = some_note(b), w.some_day(b, -300, -2), w.some_time(b)
    w.ask(b, b.phrase(REMINDER, note=note, date=w.say_date(b, day), time=w.say_time(b, time)))
    gfc = b.delegate("gfc", f'Set a reminder for {day} at {time} with the text "{note}".', "The gfc agent sets reminders.")
    gfc.refused("set_reminder", f"I set it for {day} at {time}.", text=note, date=day.isoformat(), time=time)
    gfc.answer(f"It cannot be set: {day} is in the past.", "The day is over.")
    b.expect_refusal("past", "passed", "already over", "过去", "已过", "过期")
    b.finish(
        f"I cannot set that reminder: {day} is in the past.",
        f"抱歉，{day} 已经过去，无法设置提醒。",
        "It cannot be done; I say why.",
    )


@family("gfc", 1, impossible=True)
def unknown_currency(b: Builder) -> None:
    """A currency without a rate."""
    source, target = b.rng.choice(tuple(CURRENCIES)), b.rng.choice(tuple(UNKNOWN_MONEY))
    if held_out(f"{source}/{target}") != b.pools.test:
        raise Skip("a pair of the other split")
    amount = b.rng.choice((b.rng.randint(5, 3000), b.rng.randint(500, 90000) / 100))
    said = b.rng.choice((target, w.pick(b, UNKNOWN_MONEY[target])))
    w.ask(b, b.phrase(MONEY, amount=w.amount(amount), source=w.say_money(b, source), target=said))
    gfc = b.delegate(
        "gfc", f"Convert {w.amount(amount)} {source} to {target}.", "A conversion of money; the gfc agent knows the rates."
    )
    gfc.refused("convert_currency", f"From {source} to {target}.", amount=amount, source=source, target=target)
    gfc.answer(f"It cannot be converted: there is no rate for {target}.", f"{target} is not among the known currencies.")
    b.expect_refusal(target, *UNKNOWN_MONEY[target])
    b.finish(
        f"I cannot convert that: there is no rate for {target}.",
        f"抱歉，没有 {target} 的汇率，无法换算。",
        "No rate; I say so.",
    )


@family("gfc", 1, impossible=True)
def unknown_city(b: Builder) -> None:
    """The time in a city that is not in the table."""
    source, target = w.some_city(b), b.rng.choice(tuple(UNKNOWN_CITIES))
    if held_out(f"{source}/{target}") != b.pools.test:
        raise Skip("a pair of the other split")
    time, place = w.some_time(b), w.pick(b, (target, UNKNOWN_CITIES[target]))
    w.ask(b, b.phrase(TIME, time=w.say_time(b, time), source=w.say_city(b, source), target=place))
    gfc = b.delegate("gfc", f"It is {time} in {source}. What time is it in {target}?", "Time zones; the gfc agent knows them.")
    gfc.refused("convert_time", f"{time} from {source} to {target}.", time=time, source=source, target=target)
    gfc.answer(f"It cannot be said: the time zone of {target} is not known.", f"{target} is not among the known cities.")
    b.expect_refusal(target, UNKNOWN_CITIES[target])
    b.finish(
        f"I cannot say: the time zone of {target} is not in my table.",
        f"抱歉，没有{place}的时区资料，无法换算。",
        "Unknown; I say so.",
    )
