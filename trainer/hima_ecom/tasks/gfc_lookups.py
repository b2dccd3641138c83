"""GFC, three calls: today's date, the weather or another time zone is looked up first."""

from datetime import date

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.gfc_notes import expect_weather, shown_weather, some_note
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.template import Called, Facts, Number, Template, Text, call, templates
from trainer.hima_ecom.tasks.texts import table, translations
from trainer.hima_ecom.tools.calendar import OFFSETS, WEEKDAYS


def _in_days(b: Builder) -> Facts:
    note, days, clock = some_note(b), b.rng.randint(9, 400), w.some_time(b)
    return {"note": note, "days": days, "clock": clock, "time": w.say_time(b, clock)}


def _a_call(b: Builder) -> Facts:
    source, target = w.held_pair(b, translations("common/cities"))
    note, day, clock = some_note(b), w.some_day(b, 5, 400), w.some_time(b)
    minutes = int(clock[:2]) * 60 + int(clock[3:]) + OFFSETS[target] - OFFSETS[source]
    if 0 <= minutes < 24 * 60:
        raise Skip("the same day in both")
    said = {"source": w.say_city(b, source), "target": w.say_city(b, target), "date": w.say_date(b, day)}
    given = {"note": note, "day": day, "clock": clock, "from": source, "to": target, "chinese": w.city_zh(target)}
    return said | given | {"time": w.say_time(b, clock)}


def _other_day(facts: Facts) -> Facts:
    return {"words": "one day later" if facts["there"]["day_change"] > 0 else "one day earlier"}


def _a_term(b: Builder) -> Facts:
    start = w.some_day(b, -300, -5)
    gone = (date.fromisoformat(b.session.store.today) - start).days
    days = gone + b.rng.randint(9, 300)
    return {"start": start, "days": days, "date": w.say_date(b, start)}


def _a_weekday(b: Builder) -> Facts:
    aspects = table("gfc_notes/aspects")
    place, name, figure = w.some_city(b), b.rng.choice(WEEKDAYS), b.rng.choice(tuple(aspects))
    if held_out(f"{place}/{name}/{figure}") != b.pools.test:
        raise Skip("a figure of the other split")
    said = {"weekday": w.pick(b, (name, f"周{w.WEEKDAYS_ZH[name]}")), "aspect": w.pick(b, aspects[figure])}
    facts = {"place": place, "name": name, "figure": figure, "english": aspects[figure][0], "chinese": w.city_zh(place)}
    return said | facts | {"city": w.say_city(b, place)}


def _days_ahead(facts: Facts) -> Facts:
    return {"days": 7 - WEEKDAYS.index(facts["now"]["weekday"]) + WEEKDAYS.index(facts["name"])}


def _shown(facts: Facts) -> Facts:
    en, zh = shown_weather(facts["figure"], facts["seen"][facts["figure"]])
    return {"en": en, "zh": zh}


def _a_later_day(b: Builder) -> Facts:
    day, places = w.some_day(b, 16, 700), b.rng.choice((1, 2))
    said = {"date": w.say_date(b, day), "places": w.decimals(b, places)}
    return said | {"day": day, "decimals": places, "tolerance": w.tolerance(places)}


def _a_trip(b: Builder) -> Facts:
    place, day, clock = w.some_city(b), w.some_day(b, 2, 14), w.some_time(b, 15)
    wet, dry = (w.pick(b, b.rng.choice(list(translations(f"gfc_lookups/{name}").items()))) for name in ("wet", "dry"))
    limit = b.rng.randrange(20, 75, 5)
    if held_out(f"{place}/{day}") != b.pools.test:
        raise Skip("a day of the other split")
    said = {"city": w.say_city(b, place), "date": w.say_date(b, day), "time": w.say_time(b, clock)}
    return said | {"place": place, "day": day, "clock": clock, "wet": wet, "dry": dry, "limit": limit}


def _rain(facts: Facts) -> Facts:
    rain = facts["there"]["rain_percent"]
    wet = rain >= facts["limit"]
    return {"rain": rain, "note": facts["wet" if wet else "dry"], "less": "at least" if wet else "less than"}


TODAY = call("get_today", into="today")
templates(
    "gfc",
    "gfc_lookups",
    Template(
        "reminder_in_days", 3, "A reminder some days from today.", _in_days,
        (
            TODAY,
            call("date_add", into="day", date="{today[date]}", days="{days}"),
            call("set_reminder", text="{note}", date="{day[date]}", time="{clock}"),
        ),
        (Called(("date_add", "set_reminder")), Text("{day[date]}", accept="{dates}")),
        read=lambda facts: {"dates": w.dates(facts["day"]["date"])},
        noise=0.3,
    ),
    Template(
        "call_reminder", 3, "A reminder for a moment in another time zone, on another day there than here.", _a_call,
        (
            call("convert_time", into="there", time="{clock}", source="{from}", target="{to}", then=_other_day),
            call("date_add", into="local", date="{day!s}", days="{there[day_change]}"),
            call("set_reminder", text="{note}", date="{local[date]}", time="{there[time]}"),
        ),
        (
            Called(("convert_time", "set_reminder")),
            Text("{local[date]}", accept="{dates}"),
            lambda b, facts: w.expect_time(b, facts["there"]["time"]),
        ),
        read=lambda facts: {"dates": w.dates(facts["local"]["date"])},
        noise=0.2,
    ),
    Template(
        "days_left", 3, "What is left today of a term that began on a given date.", _a_term,
        (
            call("date_add", into="end", date="{start!s}", days="{days}"),
            TODAY,
            call("days_between", start="{today[date]}", end="{end[date]}"),
        ),
        (Called(("date_add", "days_between")), Number("{seen[days]}", "day", "0")),
        noise=0.3,
    ),
    Template(
        "weather_next_week", 3, "The weather on a weekday of next week.", _a_weekday,
        (
            call("get_today", into="now", then=_days_ahead),
            call("date_add", into="day", date="{now[date]}", days="{days}"),
            call("get_weather", city="{place}", date="{day[date]}"),
        ),
        (Called(("get_weather",)), lambda b, facts: expect_weather(b, facts["figure"], facts["seen"][facts["figure"]])),
        read=_shown,
        noise=0.9,
    ),
    Template(
        "weeks_until", 3, "Weeks from today to a given date.", _a_later_day,
        (
            TODAY,
            call("days_between", into="between", start="{today[date]}", end="{day!s}"),
            call("convert_unit", value="{between[days]}", source="day", target="week"),
        ),
        (Called(("days_between", "convert_unit")), Number("{rounded}", None, "{tolerance}")),
        read=lambda facts: {"rounded": w.rounded(facts["seen"]["value"], facts["decimals"])},
        ask=("gfc_lookups/weeks_until", "common/round"),
        noise=0.3,
    ),
    Template(
        "weather_reminder", 3, "A reminder for the day before a trip, whose text depends on the weather.", _a_trip,
        (
            call("get_weather", into="there", city="{place}", date="{day!s}", then=_rain),
            call("date_add", into="eve", date="{day!s}", days=-1),
            call("set_reminder", text="{note}", date="{eve[date]}", time="{clock}"),
        ),
        (Called(("get_weather", "set_reminder")), Number("{rain}", None, "0")),
    ),
)  # fmt: skip
