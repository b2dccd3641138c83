"""Dates, time zones by fixed offsets, the weather table, and reminders."""

import re
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from trainer.hima_ecom.names import CITIES
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.registry import Arg, ToolError, shown, tool

OFFSETS: dict[str, int] = {city.name: city.utc_offset for city in CITIES} | {"UTC": 0}
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
Date = Annotated[str, Arg("date as YYYY-MM-DD")]
City = Annotated[str, Arg(f"one of: {', '.join(OFFSETS)}")]


def parsed_date(text: str) -> date:
    """A date in exactly the form YYYY-MM-DD. Raises: ToolError."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ToolError(f"expected a date as YYYY-MM-DD, got {shown(text)}") from None
    if day.isoformat() != text:  # the ISO forms without hyphens or with weeks
        raise ToolError(f"expected a date as YYYY-MM-DD, got {shown(text)}")
    return day


def parsed_time(text: str) -> datetime:
    """A time of day in exactly the form HH:MM, on a day in the middle of the calendar. Raises: ToolError."""
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ToolError(f"expected a time as HH:MM, got {shown(text)}")
    return datetime(2000, 1, 2, int(text[:2]), int(text[3:]))


@tool("gfc")
def get_today(store: Overlay) -> dict[str, Any]:
    """Today's date and day of the week."""
    return {"date": store.today, "weekday": WEEKDAYS[date.fromisoformat(store.today).weekday()]}


@tool("gfc")
def date_add(
    store: Overlay,
    *,
    date: Date,
    days: Annotated[int, Arg("days to add; negative: before", minimum=-100000, maximum=100000)],
) -> dict[str, Any]:
    """The date some days after or before a date."""
    try:
        return {"date": (parsed_date(date) + timedelta(days=days)).isoformat()}
    except OverflowError:
        raise ToolError("the result is outside the years 1 to 9999") from None


@tool("gfc")
def days_between(store: Overlay, *, start: Date, end: Date) -> dict[str, Any]:
    """How many days from start to end; negative if end comes first."""
    return {"days": (parsed_date(end) - parsed_date(start)).days}


@tool("gfc")
def weekday(store: Overlay, *, date: Date) -> dict[str, Any]:
    """The day of the week of a date."""
    return {"weekday": WEEKDAYS[parsed_date(date).weekday()]}


@tool("gfc")
def convert_time(
    store: Overlay, *, time: Annotated[str, Arg("time as HH:MM, 24 hours")], source: City, target: City
) -> dict[str, Any]:
    """A time of day in one city as a time in another. Standard time all year; day_change is -1, 0 or 1."""
    at = parsed_time(time)
    for city in (source, target):
        if city not in OFFSETS:
            raise ToolError(f"unknown city {shown(city)}; known: {', '.join(OFFSETS)}")
    there = at + timedelta(minutes=OFFSETS[target] - OFFSETS[source])
    return {"time": there.strftime("%H:%M"), "day_change": (there.date() - at.date()).days}


@tool("gfc")
def get_weather(
    store: Overlay, *, city: City, date: Annotated[str, Arg("YYYY-MM-DD; today if left out")] | None = None
) -> dict[str, Any]:
    """The weather of a city on a day, from a week ago to two weeks ahead."""
    if city not in OFFSETS or city == "UTC":
        raise ToolError(f"no weather for {shown(city)}; known: {', '.join(c.name for c in CITIES)}")
    day = store.today if date is None else parsed_date(date).isoformat()
    row = store.row("weather", f"{city}|{day}")
    if row is None:
        raise ToolError(f"no weather for {day}; known from a week ago to two weeks ahead of {store.today}")
    return {key: value for key, value in row.items() if key != "weather_id"}


@tool("gfc", writes=True)
def set_reminder(
    store: Overlay,
    *,
    text: Annotated[str, Arg("what to be reminded of")],
    date: Date,
    time: Annotated[str, Arg("HH:MM, 24 hours; 09:00 if left out")] = "09:00",
) -> dict[str, Any]:
    """Set a reminder for today or later."""
    day, at = parsed_date(date).isoformat(), parsed_time(time).strftime("%H:%M")
    if day < store.today:
        raise ToolError(f"{day} is past; today is {store.today}")
    if not text.strip():
        raise ToolError("argument 'text': empty")
    key = store.insert("reminders", "N", date=day, time=at, text=text.strip())
    return {"reminder_id": key, "date": day, "time": at}


@tool("gfc")
def list_reminders(store: Overlay) -> dict[str, Any]:
    """All reminders, soonest first."""
    rows = sorted(store.all("reminders"), key=lambda row: (row["date"], row["time"], row["reminder_id"]))
    return {"reminders": rows[:50], "count": len(rows)}
