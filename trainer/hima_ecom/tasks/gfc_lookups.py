"""GFC, three calls: today's date, the weather or another time zone is looked up first."""

from datetime import date, timedelta

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.gfc_notes import expect_weather, shown_weather, some_note
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.texts import table, translations
from trainer.hima_ecom.tools.calendar import OFFSETS, WEEKDAYS


@family("gfc", 3, "A reminder some days from today.")
def reminder_in_days(b: Builder) -> None:
    note, days, time = some_note(b), b.rng.randint(9, 400), w.some_time(b)
    w.ask(b, b.phrase("gfc_lookups/reminder_in_days", note=note, days=days, time=w.say_time(b, time)), noise=0.3)
    task = f'Set a reminder in {days} days at {time} with the text "{note}" and say the date.'
    gfc = b.delegate("gfc", task, "The gfc agent sets reminders.")
    today = gfc.call("get_today", "I need today's date first.")["date"]
    day = gfc.call("date_add", f"Today is {today}; I add {days} days.", date=today, days=days)["date"]
    given = {"text": note, "date": day, "time": time}
    gfc.call("set_reminder", f"I set it for {day} at {time}.", **given)
    gfc.answer(f"The reminder is set for {day} at {time}.")
    b.expect_calls(("gfc", "date_add", {"date": today, "days": days}), ("gfc", "set_reminder", given))
    w.expect_date(b, day)
    w.finish(b, f"The reminder is set for {day} at {time}.", f"提醒已设在 {day} {time} 。")


@family("gfc", 3, "A reminder for a moment in another time zone, on another day there than here.")
def call_reminder(b: Builder) -> None:
    source, target = w.held_pair(b, translations("common/cities"))
    note, day, time = some_note(b), w.some_day(b, 5, 400), w.some_time(b)
    minutes = int(time[:2]) * 60 + int(time[3:]) + OFFSETS[target] - OFFSETS[source]
    if 0 <= minutes < 24 * 60:
        raise Skip("the same day in both")
    said = {"source": w.say_city(b, source), "target": w.say_city(b, target), "date": w.say_date(b, day)}
    w.ask(b, b.phrase("gfc_lookups/call_reminder", note=note, time=w.say_time(b, time), **said), noise=0.2)
    task = f'Set a reminder "{note}" at the {target} date and time of {day} {time} in {source}. Say that date and time.'
    gfc = b.delegate("gfc", task, "The gfc agent knows time zones and sets reminders.")
    zones = {"time": time, "source": source, "target": target}
    there = gfc.call("convert_time", f"First the time in {target}.", **zones)
    change = {"date": day.isoformat(), "days": there["day_change"]}
    words = "one day later" if there["day_change"] > 0 else "one day earlier"
    local = gfc.call("date_add", f"It is {there['time']} there, {words}.", **change)["date"]
    given = {"text": note, "date": local, "time": there["time"]}
    gfc.call("set_reminder", f"I set it for {local} at {there['time']}.", **given)
    gfc.answer(f"The reminder is set for {local} at {there['time']}, {target} time.")
    b.expect_calls(("gfc", "convert_time", zones), ("gfc", "set_reminder", given))
    w.expect_date(b, local)
    w.expect_time(b, there["time"])
    place = w.city_zh(target)
    w.finish(
        b,
        f"I will remind you on {local} at {there['time']}, {target} time.",
        f"会在{place}时间 {local} {there['time']} 提醒您。",
    )


@family("gfc", 3, "What is left today of a term that began on a given date.")
def days_left(b: Builder) -> None:
    start = w.some_day(b, -300, -5)
    gone = (date.fromisoformat(b.session.store.today) - start).days
    days = gone + b.rng.randint(9, 300)
    w.ask(b, b.phrase("gfc_lookups/days_left", date=w.say_date(b, start), days=days), noise=0.3)
    task = f"A term of {days} days began on {start}. How many days are left from today?"
    gfc = b.delegate("gfc", task, "Counting days from today; the gfc agent has a calendar.")
    end = gfc.call("date_add", f"The end is {days} days after {start}.", date=start.isoformat(), days=days)["date"]
    today = gfc.call("get_today", f"It ends on {end}. Now I need today's date.")["date"]
    left = gfc.call("days_between", f"From today, {today}, to {end}.", start=today, end=end)["days"]
    gfc.answer(f"It ends on {end}; {left} days are left.")
    dates = {"start": today, "end": end}
    b.expect_calls(("gfc", "date_add", {"date": start.isoformat(), "days": days}), ("gfc", "days_between", dates))
    b.expect_number(str(left), "day", "0")
    w.finish(b, f"It ends on {end}, so {left} days are left.", f"{end} 到期，还剩 {left} 天。")


@family("gfc", 3, "The weather on a weekday of next week.")
def weather_next_week(b: Builder) -> None:
    aspects = table("gfc_notes/aspects")
    city, name, aspect = w.some_city(b), b.rng.choice(WEEKDAYS), b.rng.choice(tuple(aspects))
    if held_out(f"{city}/{name}/{aspect}") != b.pools.test:
        raise Skip("a figure of the other split")
    said = w.pick(b, (name, f"周{w.WEEKDAYS_ZH[name]}"))
    query = b.phrase("gfc_lookups/weather_next_week", aspect=w.pick(b, aspects[aspect]), city=w.say_city(b, city), weekday=said)
    w.ask(b, query, noise=0.9)
    task = f"Tell me {aspects[aspect][0]} in {city} on {name} of next week."
    gfc = b.delegate("gfc", task, "The weather; the gfc agent has a table.")
    now = gfc.call("get_today", "I need today's date and weekday first.")
    days = 7 - WEEKDAYS.index(now["weekday"]) + WEEKDAYS.index(name)
    thought = f"Today is {now['weekday']}, so {name} of next week is {days} days ahead."
    day = gfc.call("date_add", thought, date=now["date"], days=days)["date"]
    value = gfc.call("get_weather", f"Now the weather of {city} on {day}.", city=city, date=day)[aspect]
    b.expect_calls(("gfc", "get_weather", {"city": city, "date": day}))
    expect_weather(b, aspect, value)
    en, zh = shown_weather(aspect, value)
    gfc.answer(f"In {city} on {day}: {en}.")
    w.finish(b, f"In {city} on {name}, {day}: {en}.", f"{day} {w.city_zh(city)}：{zh}。")


@family("gfc", 3, "Weeks from today to a given date.")
def weeks_until(b: Builder) -> None:
    day, places = w.some_day(b, 16, 700), b.rng.choice((1, 2))
    w.ask(b, b.phrase("gfc_lookups/weeks_until", date=w.say_date(b, day)), w.say_places(b, places), noise=0.3)
    task = f"How many weeks is it from today to {day}? Round to {places} decimals."
    gfc = b.delegate("gfc", task, "Counting from today; the gfc agent has a calendar.")
    today = gfc.call("get_today", "I need today's date first.")["date"]
    dates = {"start": today, "end": day.isoformat()}
    days = gfc.call("days_between", f"From today, {today}, to {day}.", **dates)["days"]
    given = {"value": days, "source": "day", "target": "week"}
    weeks = gfc.call("convert_unit", f"{days} days in weeks.", **given)["value"]
    rounded = w.rounded(weeks, places)
    gfc.answer(f"It is {rounded} weeks.", f"{weeks} to {places} decimals is {rounded}.")
    b.expect_calls(("gfc", "days_between", dates), ("gfc", "convert_unit", given))
    b.expect_number(rounded, None, w.tolerance(places))
    w.finish(b, f"It is {rounded} weeks until {day}.", f"到 {day} 还有 {rounded} 周。")


@family("gfc", 3, "A reminder for the day before a trip, whose text depends on the weather.")
def weather_reminder(b: Builder) -> None:
    city, day, time = w.some_city(b), w.some_day(b, 2, 14), w.some_time(b, 15)
    wet, dry = (w.pick(b, b.rng.choice(list(translations(f"gfc_lookups/{name}").items()))) for name in ("wet", "dry"))
    limit = b.rng.randrange(20, 75, 5)
    if held_out(f"{city}/{day}") != b.pools.test:
        raise Skip("a day of the other split")
    said = {"city": w.say_city(b, city), "date": w.say_date(b, day), "time": w.say_time(b, time)}
    w.ask(b, b.phrase("gfc_lookups/weather_reminder", wet=wet, dry=dry, limit=limit, **said))
    task = (
        f'Look up the chance of rain in {city} on {day}. Set a reminder for the day before at {time}: "{wet}" if it is at '
        f'least {limit} percent, otherwise "{dry}". Say the chance.'
    )
    gfc = b.delegate("gfc", task, "The gfc agent knows the weather and sets reminders.")
    where = {"city": city, "date": day.isoformat()}
    rain = gfc.call("get_weather", f"First the weather of {city} on {day}.", **where)["rain_percent"]
    note = wet if rain >= limit else dry
    less = "at least" if rain >= limit else "less than"
    eve = gfc.call("date_add", f"Rain: {rain} percent, {less} {limit}. Now the day before.", date=day.isoformat(), days=-1)[
        "date"
    ]
    assert eve == (day - timedelta(days=1)).isoformat()
    given = {"text": note, "date": eve, "time": time}
    gfc.call("set_reminder", f'I set "{note}" for {eve}.', **given)
    gfc.answer(f'The chance of rain is {rain} percent; the reminder "{note}" is set for {eve} at {time}.')
    b.expect_calls(("gfc", "get_weather", where), ("gfc", "set_reminder", given))
    b.expect_number(str(rain), None, "0")
    w.finish(
        b,
        f'The chance of rain is {rain} percent, so I will remind you of "{note}" on {eve} at {time}.',
        f"降雨概率是 {rain} %，我会在 {eve} {time} 提醒您“{note}”。",
    )
