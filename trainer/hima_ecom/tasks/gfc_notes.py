"""GFC, one call: the weather, reminders, texts."""

import string
from collections.abc import Callable

from trainer.hima_ecom.names import CONDITIONS, FIRST_NAMES
from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.template import Call, Called, Facts, Number, Template, Text, call, templates
from trainer.hima_ecom.tasks.texts import table, translations, word_list

FORWARDS = "From a to z, as it does by itself."


def expect_weather(b: Builder, aspect: str, value: str | int) -> None:
    """Require a figure of the weather in the answer."""
    unit = {"high_celsius": "celsius", "low_celsius": "celsius"}.get(aspect)
    if aspect == "condition":
        others = (c for c in CONDITIONS if c not in str(value) and c != "rain")  # "cloudy, little chance of rain" is right
        b.expect_text(str(value), reject=tuple(others))
    else:
        b.expect_number(str(value), unit, "0")


def shown_weather(aspect: str, value: str | int) -> tuple[str, str]:
    """Return a figure of the weather in words, in both languages."""
    if aspect == "condition":
        return str(value), w.chinese(str(value))
    what = {"high_celsius": ("high", "最高"), "low_celsius": ("low", "最低"), "rain_percent": ("chance of rain", "降雨概率")}[
        aspect
    ]
    unit = "%" if aspect == "rain_percent" else "°C"
    return f"the {what[0]} is {value}{unit}", f"{what[1]} {value}{unit}"


def some_note(b: Builder) -> str:
    """Draw the text of a reminder, in the query's language."""
    return w.pick(b, b.rng.choice(list(translations("gfc_notes/notes").items()))).format(name=b.rng.choice(FIRST_NAMES))


def a_figure(first: int, last: int, *, split: bool) -> Callable[[Builder], Facts]:
    """Return what draws a figure of the weather in a city, on a day between two offsets from today.

    Args:
        split: draw one of this split only.
    """

    def draw(b: Builder) -> Facts:
        aspects = table("gfc_notes/aspects")
        place, day, name = w.some_city(b), w.some_day(b, first, last), b.rng.choice(tuple(aspects))
        if split and held_out(f"{place}/{day}/{name}") != b.pools.test:
            raise Skip("a figure of the other split")
        facts = {"place": place, "day": day, "figure": name, "english": aspects[name][0], "chinese": w.city_zh(place)}
        return facts | {"aspect": w.pick(b, aspects[name]), "city": w.say_city(b, place), "date": w.say_date(b, day)}

    return draw


def a_reminder(first: int, last: int) -> Callable[[Builder], Facts]:
    """Return what draws a reminder on a day between two offsets from today."""

    def draw(b: Builder) -> Facts:
        note, day, clock = some_note(b), w.some_day(b, first, last), w.some_time(b)
        return {"note": note, "day": day, "clock": clock, "date": w.say_date(b, day), "time": w.say_time(b, clock)}

    return draw


def _shown(facts: Facts) -> Facts:
    en, zh = shown_weather(facts["figure"], facts["seen"][facts["figure"]])
    return {"en": en, "zh": zh}


def _a_text(b: Builder) -> Facts:
    words = word_list("gfc_notes/text_words")
    return {"text": " ".join(b.rng.choice(words) for _ in range(b.rng.randint(5, 13)))}


def _a_code(b: Builder) -> Facts:
    return {"code": "".join(b.rng.choice(string.ascii_uppercase + string.digits) for _ in range(b.rng.randint(7, 12)))}


def _some_names(b: Builder) -> Facts:
    names, descending = b.rng.sample(FIRST_NAMES, b.rng.randint(5, 7)), b.rng.random() < 0.4
    order = w.pick(b, (" from z to a", "从z到a") if descending else ("", "从a到z"))
    given = {"lines": names} | ({"descending": True} if descending else {})
    said = {"order": order, "names": w.pick(b, (", ", "、")).join(names)}
    words = {"backwards": " from z to a" if descending else "", "how": "From z to a." if descending else FORWARDS}
    return said | words | {"list": names, "given": given, "joined": ", ".join(names)}


def _sorted(facts: Facts) -> Facts:
    if facts["seen"]["lines"] == facts["list"]:
        raise Skip("sorted already")
    return {"lines": ", ".join(facts["seen"]["lines"])}


templates(
    "gfc",
    "gfc_notes",
    Template(
        "weather_on", 1, "One figure of the weather of a city on a given day.", a_figure(-7, 14, split=True),
        call("get_weather", city="{place}", date="{day!s}"),
        (Called(), lambda b, facts: expect_weather(b, facts["figure"], facts["seen"][facts["figure"]])),
        read=_shown,
    ),
    Template(
        "reminder", 1, "A reminder on a given day.", a_reminder(1, 400),
        call("set_reminder", text="{note}", date="{day!s}", time="{clock}"),
        Called(),
    ),
    Template(
        "count_text", 1, "The characters of a text.", _a_text,
        call("count_words", text="{text}"),
        (Called(), Number("{seen[characters]}", None, "0")),
    ),
    Template(
        "reversed_code", 1, "A code backwards.", _a_code,
        call("reverse_text", text="{code}"),
        (Called(), Text("{seen[text]}")),
    ),
    Template(
        "sorted_names", 1, "Names in alphabetical order.", _some_names,
        Call("sort_lines", "{given}", "seen"),
        (Called(), Text("{lines}", reject="{joined}")),
        read=_sorted,
    ),
)  # fmt: skip
