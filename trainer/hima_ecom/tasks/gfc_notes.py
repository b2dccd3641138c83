"""GFC, one call: the weather, reminders, texts."""

import string

from trainer.hima_ecom.names import CONDITIONS, FIRST_NAMES
from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.phrases import WORDS_ZH, Phrases
from trainer.hima_ecom.tasks.pools import held_out

ASPECTS = {
    "condition": ("the general weather", "天气怎么样"),
    "high_celsius": ("the highest temperature", "最高气温是多少度"),
    "low_celsius": ("the lowest temperature", "最低气温是多少度"),
    "rain_percent": ("the chance of rain in percent", "降雨概率是百分之多少"),
}
WEATHER = Phrases(
    (
        "Please tell me {aspect} in {city} on {date}.", "I would like to know {aspect} in {city} on {date}.",
        "For {city} on {date}: {aspect}?", "We will be in {city} on {date}. Can you look up {aspect}?",
        "Find out {aspect} on {date} in {city}.",
    ),
    (
        "On {date} my parcel passes through {city}; check {aspect} there.",
        "Do you know {aspect} for {date}, the place being {city}?",
    ),
    ("{date}{city}{aspect}？", "请查一下{city}{date}{aspect}。", "我们{date}在{city}，那天{aspect}？"),
    ("包裹{date}会经过{city}，当地{aspect}？",),
    (
        "My parcel is in {city} on {date}. Check {aspect}.", "Do you know {aspect} in {city}, on {date}?",
        "Being in {city} on {date}, I want to know {aspect}.", "Check {aspect} for the place {city}, the day being {date}.",
        "A parcel passes through {city} on {date}: {aspect} there?",
    ),
)  # fmt: skip
NOTES = (
    ("call {name}", "给{name}打电话"), ("pick up the parcel from {name}", "去{name}那里取包裹"),
    ("send {name} the invoice", "把发票寄给{name}"), ("return the shoes with {name}", "和{name}一起去退鞋"),
    ("pay {name} back", "还钱给{name}"), ("order a gift for {name}", "给{name}订礼物"),
    ("ask {name} about the warranty", "问{name}保修的事"), ("water the plants of {name}", "给{name}的花浇水"),
)  # fmt: skip
REMINDER = Phrases(
    (
        'Remind me on {date} at {time}: "{note}".', 'Please set a reminder for {date}, {time}, that says "{note}".',
        'I must not forget: "{note}". Put that in my reminders for {date} at {time}.',
        'At {time} on {date} I want a reminder with the text "{note}".',
        'Could you make a reminder "{note}" for {time} on {date}?',
    ),
    ('Ping me {date}, {time} sharp, with the words "{note}".', 'Note down "{note}" so that I am alerted at {time} on {date}.'),
    (
        "请在{date} {time}提醒我：“{note}”。", "帮我设一个提醒，内容是“{note}”，时间是{date} {time}。",
        "{date} {time}提醒我“{note}”，谢谢。",
    ),
    ("别让我忘了“{note}”，{date} {time}通知我。",),
)  # fmt: skip
TEXT_WORDS = (
    "soft", "blue", "cotton", "lamp", "with", "a", "steel", "frame", "and", "two", "spare", "parts", "for", "the", "garden",
    "or", "kitchen", "very", "light", "easy", "to", "clean", "fits", "every", "table", "made", "by", "hand", "in", "small",
    "numbers", "free", "of", "plastic",
)  # fmt: skip
COUNT = Phrases(
    (
        'How many characters, spaces included, has the text "{text}"?', 'Count the characters (with spaces) of "{text}".',
        'My product title may not be too long. How many characters is "{text}", counting spaces?',
        'What is the length in characters, blanks included, of: "{text}"?',
    ),
    (
        'The label printer wants to know how long "{text}" is; spaces count as characters.',
        'Length of the line "{text}" in characters including blanks?',
    ),
    ("“{text}”一共有多少个字符（含空格）？", "请数一下“{text}”的字符数，空格也算。"),
    ("标题“{text}”连空格算有多长，多少个字符？",),
)  # fmt: skip
REVERSE = Phrases(
    (
        "Write the code {code} backwards.", "Reverse the characters of {code}.", "What is {code} read from right to left?",
        "My voucher has to be entered backwards. It reads {code}; what do I type?",
        "Turn {code} around, last character first.",
    ),
    ("In a mirror, character by character, what becomes of {code}?", "Spell {code} starting at its end."),
    ("请把 {code} 倒过来写。", "{code} 从右往左读是什么？", "把代码 {code} 的字符顺序反转。"),
    ("从最后一个字符开始写 {code}，结果是什么？",),
)  # fmt: skip
SORT = Phrases(
    (
        "Sort these names alphabetically{order}: {names}.", "Put the following in alphabetical order{order}: {names}.",
        "My guest list is {names}. Order it by the alphabet{order}.", "Bring {names} into alphabetical order{order}.",
    ),
    ("For a seating plan I need {names} arranged by the alphabet{order}.", "Alphabetise the team{order}: {names}."),
    ("请把这些名字按字母顺序{order}排列：{names}。", "按字母{order}排序：{names}。"),
    ("名单是{names}，请依字母表{order}整理。",),
)  # fmt: skip


@family("gfc", 1)
def weather_on(b: Builder) -> None:
    """One figure of the weather of a city on a given day."""
    city, day, aspect = w.some_city(b), w.some_day(b, -7, 14), b.rng.choice(tuple(ASPECTS))
    if held_out(f"{city}/{day}/{aspect}") != b.pools.test:
        raise Skip("a figure of the other split")
    w.ask(b, b.phrase(WEATHER, aspect=w.pick(b, ASPECTS[aspect]), city=w.say_city(b, city), date=w.say_date(b, day)))
    task = f"Tell me {ASPECTS[aspect][0]} in {city} on {day}."
    gfc = b.delegate("gfc", task, "The weather; the gfc agent has a table.")
    value = gfc.call("get_weather", f"I look up {city} on {day}.", city=city, date=day.isoformat())[aspect]
    b.expect_calls(("gfc", "get_weather", {"city": city, "date": day.isoformat()}))
    expect_weather(b, aspect, value)
    en, zh = shown_weather(aspect, value)
    gfc.answer(f"In {city} on {day}: {en}.")
    w.finish(b, f"In {city} on {day}: {en}.", f"{day} {w.CITIES_ZH[city]}：{zh}。")


def expect_weather(b: Builder, aspect: str, value: str | int) -> None:
    """The answer must name that figure."""
    unit = {"high_celsius": "celsius", "low_celsius": "celsius"}.get(aspect)
    if aspect == "condition":
        others = (c for c in CONDITIONS if c not in str(value) and c != "rain")  # "cloudy, little chance of rain" is right
        b.expect_text(str(value), reject=tuple(others))
    else:
        b.expect_number(str(value), unit, "0")


def shown_weather(aspect: str, value: str | int) -> tuple[str, str]:
    """A figure in words, in both languages."""
    if aspect == "condition":
        return str(value), WORDS_ZH[str(value)]
    what = {"high_celsius": ("high", "最高"), "low_celsius": ("low", "最低"), "rain_percent": ("chance of rain", "降雨概率")}[
        aspect
    ]
    unit = "%" if aspect == "rain_percent" else "°C"
    return f"the {what[0]} is {value}{unit}", f"{what[1]} {value}{unit}"


def some_note(b: Builder) -> str:
    """The text of a reminder, in the query's language."""
    return w.pick(b, b.rng.choice(NOTES)).format(name=b.rng.choice(FIRST_NAMES))


@family("gfc", 1)
def reminder(b: Builder) -> None:
    """A reminder on a given day."""
    note, day, time = some_note(b), w.some_day(b, 1, 400), w.some_time(b)
    w.ask(b, b.phrase(REMINDER, note=note, date=w.say_date(b, day), time=w.say_time(b, time)))
    gfc = b.delegate("gfc", f'Set a reminder for {day} at {time} with the text "{note}".', "The gfc agent sets reminders.")
    given = {"text": note, "date": day.isoformat(), "time": time}
    gfc.call("set_reminder", f"I set it for {day} at {time}.", **given)
    gfc.answer(f"The reminder is set for {day} at {time}.")
    b.expect_calls(("gfc", "set_reminder", given))
    w.finish(b, f"I will remind you on {day} at {time}.", f"好的，{day} {time} 会提醒您。")


@family("gfc", 1)
def count_text(b: Builder) -> None:
    """The characters of a text."""
    text = " ".join(b.rng.choice(TEXT_WORDS) for _ in range(b.rng.randint(5, 13)))
    w.ask(b, b.phrase(COUNT, text=text))
    gfc = b.delegate("gfc", f'Count the characters, spaces included, of "{text}".', "Counting; the gfc agent has a tool.")
    characters = gfc.call("count_words", "The tool also counts characters.", text=text)["characters"]
    gfc.answer(f"The text has {characters} characters.")
    b.expect_calls(("gfc", "count_words", {"text": text}))
    b.expect_number(str(characters), None, "0")
    w.finish(b, f"The text has {characters} characters.", f"一共有 {characters} 个字符。")


@family("gfc", 1)
def reversed_code(b: Builder) -> None:
    """A code backwards."""
    code = "".join(b.rng.choice(string.ascii_uppercase + string.digits) for _ in range(b.rng.randint(7, 12)))
    w.ask(b, b.phrase(REVERSE, code=code))
    gfc = b.delegate("gfc", f"Reverse the characters of {code}.", "A change of a text; the gfc agent has a tool.")
    back = gfc.call("reverse_text", "I reverse it by characters.", text=code)["text"]
    gfc.answer(f"Backwards it is {back}.")
    b.expect_calls(("gfc", "reverse_text", {"text": code}))
    b.expect_text(back)
    w.finish(b, f"Backwards it is {back}.", f"倒过来是 {back} 。")


@family("gfc", 1)
def sorted_names(b: Builder) -> None:
    """Names in alphabetical order."""
    names, descending = b.rng.sample(FIRST_NAMES, b.rng.randint(5, 7)), b.rng.random() < 0.4
    order = w.pick(b, (" from z to a", "从z到a")) if descending else w.pick(b, ("", "从a到z"))
    w.ask(b, b.phrase(SORT, order=order, names=w.pick(b, (", ", "、")).join(names)))
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
