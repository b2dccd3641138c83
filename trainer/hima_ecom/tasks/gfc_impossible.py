"""GFC, impossible: the right answer is a refusal with its reason."""

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.gfc_notes import some_note
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.texts import table, translations, word_list
from trainer.hima_ecom.tools.conversion import CURRENCIES


@family("gfc", 1, "The weather on a day that the table does not reach.", impossible=True)
def weather_too_far(b: Builder) -> None:
    aspects = table("gfc_notes/aspects")
    city, day, aspect = w.some_city(b), w.some_day(b, 18, 330), b.rng.choice(tuple(aspects))
    w.ask(
        b,
        b.phrase("gfc_notes/weather_on", aspect=w.pick(b, aspects[aspect]), city=w.say_city(b, city), date=w.say_date(b, day)),
    )
    gfc = b.delegate("gfc", f"Tell me {aspects[aspect][0]} in {city} on {day}.", "The weather; the gfc agent has a table.")
    gfc.refused("get_weather", f"I look up {city} on {day}.", city=city, date=day.isoformat())
    gfc.answer(f"I cannot say: the weather is known only up to two weeks ahead, and {day} is later.", "The table ends before.")
    b.expect_refusal(*word_list("reasons/too_far"))
    b.finish(
        f"I cannot tell: the weather is known only up to two weeks ahead, and {day} is later.",
        f"抱歉，天气只能查到两周以内，无法查询 {day} 。",
        "It cannot be known; I say why.",
    )


@family("gfc", 1, "A reminder for a day that is over.", impossible=True)
def reminder_in_past(b: Builder) -> None:
    note, day, time = some_note(b), w.some_day(b, -300, -2), w.some_time(b)
    w.ask(b, b.phrase("gfc_notes/reminder", note=note, date=w.say_date(b, day), time=w.say_time(b, time)))
    gfc = b.delegate("gfc", f'Set a reminder for {day} at {time} with the text "{note}".', "The gfc agent sets reminders.")
    gfc.refused("set_reminder", f"I set it for {day} at {time}.", text=note, date=day.isoformat(), time=time)
    gfc.answer(f"It cannot be set: {day} is in the past.", "The day is over.")
    b.expect_refusal(*word_list("reasons/in_past"))
    b.finish(
        f"I cannot set that reminder: {day} is in the past.",
        f"抱歉，{day} 已经过去，无法设置提醒。",
        "It cannot be done; I say why.",
    )


@family("gfc", 1, "A currency without a rate.", impossible=True)
def unknown_currency(b: Builder) -> None:
    unknown = table("gfc_impossible/currencies")
    source, target = b.rng.choice(tuple(CURRENCIES)), b.rng.choice(tuple(unknown))
    if held_out(f"{source}/{target}") != b.pools.test:
        raise Skip("a pair of the other split")
    amount = b.rng.choice((b.rng.randint(5, 3000), b.rng.randint(500, 90000) / 100))
    said = b.rng.choice((target, w.pick(b, unknown[target])))
    w.ask(b, b.phrase("gfc/currency_conversion", amount=w.amount(amount), source=w.say_money(b, source), target=said))
    gfc = b.delegate(
        "gfc", f"Convert {w.amount(amount)} {source} to {target}.", "A conversion of money; the gfc agent knows the rates."
    )
    gfc.refused("convert_currency", f"From {source} to {target}.", amount=amount, source=source, target=target)
    gfc.answer(f"It cannot be converted: there is no rate for {target}.", f"{target} is not among the known currencies.")
    b.expect_refusal(target, *unknown[target])
    b.finish(
        f"I cannot convert that: there is no rate for {target}.",
        f"抱歉，没有 {target} 的汇率，无法换算。",
        "No rate; I say so.",
    )


@family("gfc", 1, "The time in a city that is not in the table.", impossible=True)
def unknown_city(b: Builder) -> None:
    unknown = translations("gfc_impossible/cities")
    source, target = w.some_city(b), b.rng.choice(tuple(unknown))
    if held_out(f"{source}/{target}") != b.pools.test:
        raise Skip("a pair of the other split")
    time, place = w.some_time(b), w.pick(b, (target, unknown[target]))
    w.ask(b, b.phrase("gfc/city_time", time=w.say_time(b, time), source=w.say_city(b, source), target=place))
    gfc = b.delegate("gfc", f"It is {time} in {source}. What time is it in {target}?", "Time zones; the gfc agent knows them.")
    gfc.refused("convert_time", f"{time} from {source} to {target}.", time=time, source=source, target=target)
    gfc.answer(f"It cannot be said: the time zone of {target} is not known.", f"{target} is not among the known cities.")
    b.expect_refusal(target, unknown[target])
    b.finish(
        f"I cannot say: the time zone of {target} is not in my table.",
        f"抱歉，没有{place}的时区资料，无法换算。",
        "Unknown; I say so.",
    )
