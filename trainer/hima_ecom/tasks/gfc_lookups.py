"""GFC, three calls: what is asked depends on today's date, on the weather or on another time zone, which is looked up first."""

from datetime import date, timedelta

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.gfc_notes import ASPECTS, expect_weather, shown_weather, some_note
from trainer.hima_ecom.tasks.phrases import Phrases
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tools.calendar import OFFSETS, WEEKDAYS

IN_DAYS = Phrases(
    (
        'Remind me {days} days from now at {time}: "{note}". On which date will that be?',
        'In {days} days, at {time}, I want to be reminded of "{note}". Set it and tell me the date.',
        'Please set a reminder "{note}" for {time}, {days} days from today, and say which date you took.',
        'Make a note "{note}" that rings in {days} days at {time}; I would also like to know the date.',
    ),
    (
        'Today plus {days} days, {time}: alert me with "{note}" and let me have the calendar date.',
        'I will need a nudge with the words "{note}" at {time} once {days} days have passed. Give me the date too.',
    ),
    ("请在{days}天后{time}提醒我“{note}”，并告诉我那天的日期。", "{days}天之后的{time}，提醒我“{note}”。那是哪一天？"),
    ("从今天起再过{days}天，{time}通知我“{note}”，顺便说一下是几月几号。",),
)  # fmt: skip
CALL = Phrases(
    (
        (
            'At {time} on {date}, {source} time, a call starts. I am in {target}: set a reminder "{note}" for '
            "my local date and time, and tell me both."
        ),
        'Set a reminder "{note}" in {target} time for {date}, {time} in {source}. Which local date and time is it?',
        '{source} opens a sale on {date} at {time} there. Remind me here in {target}, local time, of "{note}", and say when.',
        'I live in {target}. On {date} at {time} in {source}, remind me at that moment: "{note}". When is it here?',
    ),
    (
        (
            'My clock shows {target} time. Alert me with "{note}" when it is {time} on {date} in {source}, and '
            "name my date and hour."
        ),
        'When {source} reaches {time} on {date}, I (in {target}) want "{note}" to pop up. When is that for me?',
    ),
    (
        "{source}时间{date} {time}有个会议，我在{target}，请按我当地的日期和时间设提醒“{note}”，并告诉我是什么时候。",
        "{source}{date} {time}开始促销。我在{target}，请在当地对应时间提醒我“{note}”，并告诉我日期和时间。",
    ),
    ("我人在{target}，等{source}到了{date} {time}就提醒我“{note}”，我这边是几号几点？",),
)  # fmt: skip
LEFT = Phrases(
    (
        "I bought a kettle on {date} with a guarantee of {days} days. For how many more days from today does it last?",
        "My membership began on {date} and runs for {days} days. How many days are left as of today?",
        "A coupon from {date} is valid for {days} days. Counted from today, how many days remain?",
        "How many days from now does a licence end that started on {date} and lasts {days} days?",
    ),
    (
        "Insurance taken out on {date}, term {days} days: what is still left of it today, in days?",
        "Since {date} I have a pass for {days} days. Tell me the remaining days, starting today.",
    ),
    ("我{date}买的水壶，保修{days}天，从今天算还剩多少天？", "会员从{date}开始，有效期{days}天，到今天还剩几天？"),
    ("{date}办的通行证，{days}天有效，截至今天还能用多少天？",),
)  # fmt: skip
NEXT_WEEK = Phrases(
    (
        "Please tell me {aspect} in {city} on {weekday} of next week.", "For {weekday} of next week in {city}: {aspect}?",
        "I am in {city} on {weekday} of next week. Can you look up {aspect}?",
        "Next week on {weekday} we picnic in {city}; find out {aspect} there.",
    ),
    (
        "Looking at {weekday} in the coming week, not this one: check {aspect} for {city}.",
        "{city}, next week's {weekday}: tell me {aspect}.",
    ),
    ("下{weekday}{city}{aspect}？", "我下{weekday}在{city}，请查一下那天{aspect}。"),
    ("{city}下{weekday}的天气我想了解，{aspect}？",),
)  # fmt: skip
WEEKS = Phrases(
    (
        "How many weeks is it from today until {date}?", "In how many weeks is {date}?",
        "Our wedding is on {date}. How many weeks away is that?", "From now to {date}: what is that in weeks?",
    ),
    ("The baby is due on {date}; count the weeks that remain.", "Express the time left before {date} as weeks."),
    ("从今天到{date}还有多少周？", "离{date}还有几个星期？请用周表示。"),
    ("婚礼在{date}，现在还剩多少周？",),
)  # fmt: skip
TRIP = Phrases(
    (
        (
            'I travel to {city} on {date}. The day before, at {time}, remind me: "{wet}" if the chance of rain '
            'there is at least {limit} percent, otherwise "{dry}". How likely is rain?'
        ),
        (
            'Check the chance of rain in {city} on {date}. With {limit} percent or more, set a reminder "{wet}", '
            'else "{dry}", for one day earlier at {time}. Tell me the chance, too.'
        ),
        (
            'My trip to {city} is on {date}. Please set a reminder for {time} on the previous day, "{wet}" if '
            'rain is {limit} percent likely or more and "{dry}" if less, and say what the chance is.'
        ),
        (
            'Going to {city} on {date}: if rain reaches {limit} percent I want the note "{wet}", if not "{dry}", '
            "at {time} on the eve. What is the percentage?"
        ),
    ),
    (
        (
            'One day ahead of my {city} visit on {date}, ring at {time} with "{wet}" (rain chance {limit} percent '
            'and up) or "{dry}" (below), and report the chance.'
        ),
        (
            'What is the risk of rain for {city} on {date}? From {limit} percent on, I need "{wet}" as a reminder, '
            'under that "{dry}", the evening or morning before, at {time}.'
        ),
    ),
    (
        (
            "我{date}去{city}。请在前一天{time}提醒我：如果当地降雨概率达到百分之{limit}就写“{wet}”，否则写“{dry}”。"
            "降雨概率是多少？"
        ),
        "查一下{city}{date}的降雨概率：不低于百分之{limit}就在前一天{time}提醒“{wet}”，不然提醒“{dry}”，也告诉我概率。",
    ),
    ("{date}到{city}出差，降雨概率有百分之{limit}或更高的话，提前一天{time}提醒我“{wet}”，否则“{dry}”，概率也报给我。",),
)  # fmt: skip
WET = (
    ("pack the umbrella", "带上雨伞"),
    ("take the rain jacket", "带雨衣"),
    ("wear boots", "穿靴子"),
    ("book a taxi", "预订出租车"),
)
DRY = (
    ("pack the sunglasses", "带上墨镜"),
    ("take the sun hat", "带遮阳帽"),
    ("wear sandals", "穿凉鞋"),
    ("rent a bicycle", "租自行车"),
)


@family("gfc", 3)
def reminder_in_days(b: Builder) -> None:
    """A reminder some days from today."""
    note, days, time = some_note(b), b.rng.randint(9, 400), w.some_time(b)
    w.ask(b, b.phrase(IN_DAYS, note=note, days=days, time=w.say_time(b, time)), noise=0.3)
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


@family("gfc", 3)
def call_reminder(b: Builder) -> None:
    """A reminder for a moment in another time zone, on another day there than here."""
    source, target = w.held_pair(b, w.CITIES_ZH)
    note, day, time = some_note(b), w.some_day(b, 5, 400), w.some_time(b)
    minutes = int(time[:2]) * 60 + int(time[3:]) + OFFSETS[target] - OFFSETS[source]
    if 0 <= minutes < 24 * 60:
        raise Skip("the same day in both")
    said = {"source": w.say_city(b, source), "target": w.say_city(b, target), "date": w.say_date(b, day)}
    w.ask(b, b.phrase(CALL, note=note, time=w.say_time(b, time), **said), noise=0.2)
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
    place = w.CITIES_ZH[target]
    w.finish(
        b,
        f"I will remind you on {local} at {there['time']}, {target} time.",
        f"会在{place}时间 {local} {there['time']} 提醒您。",
    )


@family("gfc", 3)
def days_left(b: Builder) -> None:
    """What is left today of a term that began on a given date."""
    start = w.some_day(b, -300, -5)
    gone = (date.fromisoformat(b.session.store.today) - start).days
    days = gone + b.rng.randint(9, 300)
    w.ask(b, b.phrase(LEFT, date=w.say_date(b, start), days=days), noise=0.3)
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


@family("gfc", 3)
def weather_next_week(b: Builder) -> None:
    """The weather on a weekday of next week."""
    city, name, aspect = w.some_city(b), b.rng.choice(WEEKDAYS), b.rng.choice(tuple(ASPECTS))
    if held_out(f"{city}/{name}/{aspect}") != b.pools.test:
        raise Skip("a figure of the other split")
    said = w.pick(b, (name, f"周{w.WEEKDAYS_ZH[name]}"))
    query = b.phrase(NEXT_WEEK, aspect=w.pick(b, ASPECTS[aspect]), city=w.say_city(b, city), weekday=said)
    w.ask(b, query, noise=0.9)
    task = f"Tell me {ASPECTS[aspect][0]} in {city} on {name} of next week."
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
    w.finish(b, f"In {city} on {name}, {day}: {en}.", f"{day} {w.CITIES_ZH[city]}：{zh}。")


@family("gfc", 3)
def weeks_until(b: Builder) -> None:
    """Weeks from today to a given date."""
    day, places = w.some_day(b, 16, 700), b.rng.choice((1, 2))
    w.ask(b, b.phrase(WEEKS, date=w.say_date(b, day)), w.say_places(b, places), noise=0.3)
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


@family("gfc", 3)
def weather_reminder(b: Builder) -> None:
    """A reminder for the day before a trip, whose text depends on the weather."""
    city, day, time = w.some_city(b), w.some_day(b, 2, 14), w.some_time(b, 15)
    wet, dry, limit = w.pick(b, b.rng.choice(WET)), w.pick(b, b.rng.choice(DRY)), b.rng.randrange(20, 75, 5)
    if held_out(f"{city}/{day}") != b.pools.test:
        raise Skip("a day of the other split")
    said = {"city": w.say_city(b, city), "date": w.say_date(b, day), "time": w.say_time(b, time)}
    w.ask(b, b.phrase(TRIP, wet=wet, dry=dry, limit=limit, **said))
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
