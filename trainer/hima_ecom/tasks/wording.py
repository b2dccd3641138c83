"""Dates, times, units, money and cities in words, in both languages; and helpers of the general and Math tasks."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from fractions import Fraction

from trainer.hima_ecom.answers import says_any
from trainer.hima_ecom.calculator import round_half_up
from trainer.hima_ecom.checkers import UNCHANGED, Evidence, check
from trainer.hima_ecom.names import CITIES
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.texts import table, translations
from trainer.hima_ecom.tools.calendar import WEEKDAYS

WEEKDAYS_ZH = dict(zip(WEEKDAYS, "一二三四五六日", strict=True))


def dates(day: str) -> tuple[str, ...]:
    """Return other ways to write an ISO date."""
    on = date.fromisoformat(day)
    month = on.strftime("%B")
    return (
        f"{month} {on.day}, {on.year}", f"{on.day} {month} {on.year}", f"{month[:3]} {on.day}, {on.year}",
        f"{on.year}年{on.month}月{on.day}日",
    )  # fmt: skip


def chinese(word: str) -> str:
    """Return a word of the store, such as the status of an order, in Chinese."""
    return translations("common/words")[word]


def pick(b: Builder, words: Sequence[str]) -> str:
    """Return the word in the query's language, of (English, Chinese)."""
    return words[b.zh]


def ask(b: Builder, *sentences: str, noise: float = 0.0) -> None:
    """Set the query from whole sentences; with probability `noise`, add one with an irrelevant number."""
    said = [*sentences]
    if b.rng.random() < noise:
        said.insert(b.rng.choice((0, len(said))), b.phrase("common/noise", n=b.rng.randint(11, 97)))
    b.ask(b.join(*said))


def finish(b: Builder, en: str, zh: str, thought: str = "I have what I need.") -> None:
    """Record the final answer. Raises: Skip where the query already says a part of it."""
    for part in b.parts:
        said = Evidence(b.query, (), UNCHANGED, b.query, None, b.pools.world)
        told = part["kind"] == "number" and check(part, said) == 1.0
        if part["kind"] == "text":
            told = says_any(b.query, [part["value"], *part["accept"]]) and not says_any(b.query, part["reject"])
        if told:
            raise Skip("the query says the answer")
    b.finish(en, zh, thought)


def held_pair(b: Builder, items: Iterable[str]) -> tuple[str, str]:
    """Draw two different items, in an order that the other split never sees."""
    items = list(items)
    pairs = [(x, y) for x in items for y in items if x != y and held_out(f"{x}/{y}") == b.pools.test]
    if not pairs:
        raise Skip("every pair belongs to the other split")
    return b.rng.choice(pairs)


def some_day(b: Builder, first: int = -150, last: int = 560) -> date:
    """Draw a day between two offsets from today."""
    return date.fromisoformat(b.session.store.today) + timedelta(days=b.rng.randint(first, last))


def say_date(b: Builder, day: date) -> str:
    """Return a date as a customer writes it."""
    american, european, _, chinese = dates(day.isoformat())
    return b.rng.choice((day.isoformat(), chinese) if b.zh else (day.isoformat(), american, european))


def expect_weekday(b: Builder, name: str) -> None:
    """Require the day of the week in the answer, and no other."""
    others = tuple(day for day in WEEKDAYS if day != name)
    accept = (f"周{WEEKDAYS_ZH[name]}", *(("星期天", "周天") if name == "Sunday" else ()))
    b.expect_text(name, *accept, reject=(*others, *(f"周{WEEKDAYS_ZH[day]}" for day in others)))


def clock12(time: str) -> str:
    """Return 18:30 as 6:30 pm."""
    hour, minute = time.split(":")
    return f"{(int(hour) - 1) % 12 + 1}:{minute} {'am' if int(hour) < 12 else 'pm'}"


def some_time(b: Builder, step: int = 5) -> str:
    """Draw a time of day, HH:MM."""
    minutes = b.rng.randrange(0, 24 * 60, step)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def say_time(b: Builder, time: str) -> str:
    """Return a time as a customer writes it."""
    return time if b.zh else b.rng.choice((time, clock12(time)))


def expect_time(b: Builder, time: str) -> None:
    """Require the time in the answer, on a 24-hour or a 12-hour clock."""
    short = clock12(time)
    at, half = short.split()
    chinese = ("上午", "凌晨", "早上") if half == "am" else ("下午", "晚上", "中午")
    bare = (time.removeprefix("0"),) if int(time[:2]) < 12 else ()
    wrong = (f"{at} pm", f"{at} p.m.", f"下午{at}", f"晚上{at}") if half == "am" else ()
    b.expect_text(time, short, f"{at} {half[0]}.m.", *(word + at for word in chinese), *bare, reject=wrong)


def city_zh(name: str) -> str:
    """Return a city in Chinese."""
    return translations("common/cities")[name]


def say_city(b: Builder, name: str) -> str:
    """Return a city in the query's language."""
    return city_zh(name) if b.zh else name


def some_city(b: Builder) -> str:
    """Draw a city."""
    return b.rng.choice(CITIES).name


def say_unit(b: Builder, unit: str) -> str:
    """Return a unit as a customer writes it: its name, or its symbol if it has one."""
    has_symbol = (len(unit) <= 3 and unit != "day") or "/" in unit
    return b.rng.choice((unit, pick(b, table("common/units")[unit]))) if has_symbol else pick(b, table("common/units")[unit])


def decimals(b: Builder, places: int) -> str:
    """Return a number of decimals in words."""
    return f"{places}位小数" if b.zh else f"{places} decimal{'s' if places > 1 else ''}"


def tolerance(places: int) -> str:
    """Return half a unit of the last decimal place."""
    return f"0.{'0' * places}5"


def rounded(number: str, places: int) -> str:
    """Return a decimal text or fraction rounded half up, with exactly so many decimals."""
    value = round_half_up(Fraction(number), Fraction(places))
    units = abs(value) * 10**places
    digits = str(units.numerator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}" if places else str(value)


def amount(value: int | float) -> str:
    """Return an amount of money as it is written, with cents where there are any."""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def say_money(b: Builder, currency: str) -> str:
    """Return a currency as a customer writes it."""
    return b.rng.choice((currency, pick(b, table("common/currencies")[currency])))
