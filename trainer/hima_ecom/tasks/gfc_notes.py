"""GFC, one call: the weather, reminders, texts."""

import string

from trainer.hima_ecom.names import CONDITIONS, FIRST_NAMES
from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.texts import table, translations, word_list


@family("gfc", 1, "One figure of the weather of a city on a given day.")
def weather_on(b: Builder) -> None:
    aspects = table("gfc_notes/aspects")
    city, day, aspect = w.some_city(b), w.some_day(b, -7, 14), b.rng.choice(tuple(aspects))
    if held_out(f"{city}/{day}/{aspect}") != b.pools.test:
        raise Skip("a figure of the other split")
    w.ask(
        b,
        b.phrase("gfc_notes/weather_on", aspect=w.pick(b, aspects[aspect]), city=w.say_city(b, city), date=w.say_date(b, day)),
    )
    task = f"Tell me {aspects[aspect][0]} in {city} on {day}."
    gfc = b.delegate("gfc", task, "The weather; the gfc agent has a table.")
    value = gfc.call("get_weather", f"I look up {city} on {day}.", city=city, date=day.isoformat())[aspect]
    b.expect_calls(("gfc", "get_weather", {"city": city, "date": day.isoformat()}))
    expect_weather(b, aspect, value)
    en, zh = shown_weather(aspect, value)
    gfc.answer(f"In {city} on {day}: {en}.")
    w.finish(b, f"In {city} on {day}: {en}.", f"{day} {w.city_zh(city)}：{zh}。")


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


@family("gfc", 1, "A reminder on a given day.")
def reminder(b: Builder) -> None:
    note, day, time = some_note(b), w.some_day(b, 1, 400), w.some_time(b)
    w.ask(b, b.phrase("gfc_notes/reminder", note=note, date=w.say_date(b, day), time=w.say_time(b, time)))
    gfc = b.delegate("gfc", f'Set a reminder for {day} at {time} with the text "{note}".', "The gfc agent sets reminders.")
    given = {"text": note, "date": day.isoformat(), "time": time}
    gfc.call("set_reminder", f"I set it for {day} at {time}.", **given)
    gfc.answer(f"The reminder is set for {day} at {time}.")
    b.expect_calls(("gfc", "set_reminder", given))
    w.finish(b, f"I will remind you on {day} at {time}.", f"好的，{day} {time} 会提醒您。")


@family("gfc", 1, "The characters of a text.")
def count_text(b: Builder) -> None:
    words = word_list("gfc_notes/text_words")
    text = " ".join(b.rng.choice(words) for _ in range(b.rng.randint(5, 13)))
    w.ask(b, b.phrase("gfc_notes/count_text", text=text))
    gfc = b.delegate("gfc", f'Count the characters, spaces included, of "{text}".', "Counting; the gfc agent has a tool.")
    characters = gfc.call("count_words", "The tool also counts characters.", text=text)["characters"]
    gfc.answer(f"The text has {characters} characters.")
    b.expect_calls(("gfc", "count_words", {"text": text}))
    b.expect_number(str(characters), None, "0")
    w.finish(b, f"The text has {characters} characters.", f"一共有 {characters} 个字符。")


@family("gfc", 1, "A code backwards.")
def reversed_code(b: Builder) -> None:
    code = "".join(b.rng.choice(string.ascii_uppercase + string.digits) for _ in range(b.rng.randint(7, 12)))
    w.ask(b, b.phrase("gfc_notes/reversed_code", code=code))
    gfc = b.delegate("gfc", f"Reverse the characters of {code}.", "A change of a text; the gfc agent has a tool.")
    back = gfc.call("reverse_text", "I reverse it by characters.", text=code)["text"]
    gfc.answer(f"Backwards it is {back}.")
    b.expect_calls(("gfc", "reverse_text", {"text": code}))
    b.expect_text(back)
    w.finish(b, f"Backwards it is {back}.", f"倒过来是 {back} 。")


@family("gfc", 1, "Names in alphabetical order.")
def sorted_names(b: Builder) -> None:
    names, descending = b.rng.sample(FIRST_NAMES, b.rng.randint(5, 7)), b.rng.random() < 0.4
    order = w.pick(b, (" from z to a", "从z到a")) if descending else w.pick(b, ("", "从a到z"))
    w.ask(b, b.phrase("gfc_notes/sorted_names", order=order, names=w.pick(b, (", ", "、")).join(names)))
    task = f"Sort alphabetically{' from z to a' if descending else ''}: {', '.join(names)}."
    gfc = b.delegate("gfc", task, "Sorting; the gfc agent has a tool.")
    given = {"lines": names} | ({"descending": True} if descending else {})
    ordered = gfc.call("sort_lines", "From z to a." if descending else "From a to z, as it does by itself.", **given)["lines"]
    if ordered == names:
        raise Skip("sorted already")
    lines = ", ".join(ordered)
    gfc.answer(f"Sorted: {lines}.")
    b.expect_calls(("gfc", "sort_lines", given))
    b.expect_text(lines, reject=(", ".join(names),))
    w.finish(b, f"In order: {lines}.", f"排好的顺序：{lines}。")
