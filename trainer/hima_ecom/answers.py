"""What a final answer says: its words and numbers in one normal form, each test a pure function with a score in [0, 1]."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import NamedTuple

from trainer.hima_ecom.tools.conversion import CURRENCIES, TEMPERATURES, UNITS, convert

# A word of letters and digits with inner . - ' (P0001, 2026-06-15, 3.5) or, between digits, : and , (14:30), or one Chinese
# character.
_TOKEN = re.compile(r"[㐀-鿿]|[^\W_㐀-鿿]+(?:(?:[.'\-]|(?<=\d)[,:](?=\d))[^\W_㐀-鿿]+)*")
_NUMBER = re.compile(r"(?<![\w.])(?<!\d[-:,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d]|[.,:\-]\d|[A-Za-z]\d)")
_UNIT = re.compile(r"\s*([%°]?[A-Za-z][A-Za-z_/0-9]*|%|[€£¥$]|[㐀-鿿]+)")
MAX_WORDS = 120  # of an answer; a longer one is not an answer but a dump
MAX_OTHER_NUMBERS = 2  # distinct numbers beside the right one that an answer may name; more is guessing

_SYMBOLS = {"$": "USD", "€": "EUR", "£": "GBP"}
_SPELLED = {
    "kilometre": "km", "kilometer": "km", "metre": "m", "meter": "m", "centimetre": "cm", "centimeter": "cm", "mi": "mile",
    "ft": "foot", "feet": "foot", "inches": "inch", "kilogram": "kg", "gram": "g", "pound": "lb", "lbs": "lb", "ounce": "oz",
    "litre": "l", "liter": "l", "millilitre": "ml", "milliliter": "ml", "minute": "min", "mins": "min", "hour": "h", "hr": "h",
    "second": "s", "sec": "s", "dollar": "USD", "euro": "EUR", "yen": "JPY", "yuan": "CNY", "c": "celsius", "f": "fahrenheit",
    "k": "kelvin", "公里": "km", "千米": "km", "米": "m", "厘米": "cm", "英里": "mile", "公斤": "kg", "千克": "kg", "克": "g",
    "磅": "lb",
    "升": "l", "毫升": "ml", "分钟": "min", "小时": "h", "美元": "USD", "欧元": "EUR", "英镑": "GBP", "日元": "JPY",
    "元": "CNY",
    "天": "day", "日": "day", "周": "week", "摄氏度": "celsius", "华氏度": "fahrenheit",
}  # fmt: skip
_KNOWN = {unit for units in UNITS.values() for unit in units} | set(TEMPERATURES) | set(CURRENCIES)
_LOWER = {unit.lower(): unit for unit in _KNOWN if unit.lower() not in ("mb", "m", "kb")} | {"m": "m", "mb": "MB", "kb": "kB"}

_REFUSALS = (
    "cannot", "can't", "can not", "could not", "couldn't", "unable", "not possible", "impossible", "not allowed", "not found",
    "no information", "need more information", "please tell me", "which order", "无法", "不能", "抱歉", "没有找到", "请告诉",
)  # fmt: skip


def tokens(text: str) -> list[str]:
    """The words of a text: NFKC, lower case, without punctuation; Chinese by characters."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())


def contains(text: str, value: str) -> bool:
    """Whether the words of `value` stand in `text`, one after the other."""
    words, wanted = tokens(text), tokens(value)
    span = len(wanted)
    return bool(wanted) and any(words[i : i + span] == wanted for i in range(len(words) - span + 1))


def f1(text: str, value: str) -> float:
    """The harmonic mean of precision and recall of the words, as for SQuAD."""
    words, wanted = Counter(tokens(text)), Counter(tokens(value))
    common = (words & wanted).total()
    return 2 * common / (words.total() + wanted.total()) if common else 0.0


class Quantity(NamedTuple):
    """A number as written, and its unit in the store's spelling: None if the word after it is none."""

    value: Fraction
    unit: str | None


def _unit(word: str) -> str | None:
    for form in (word, word.lower(), word.lower().rstrip("s")):
        found = _SYMBOLS.get(form) or _SPELLED.get(form) or (form if form in _KNOWN else _LOWER.get(form))
        if found:
            return found
    return next((unit for name, unit in _SPELLED.items() if not word.isascii() and word.startswith(name)), None)


def quantities(text: str) -> list[Quantity]:
    """Every number of a text that is no part of an id, a date or a time."""
    text = unicodedata.normalize("NFKC", text).replace("−", "-")
    found = []
    for match in _NUMBER.finditer(text):
        before = text[match.start() - 1 : match.start()]
        after = _UNIT.match(text, match.end())
        unit = _SYMBOLS.get(before) or (_unit(after.group(1).lstrip("°")) if after else None)
        found.append(Quantity(Fraction(match.group().replace(",", "")), unit))
    return found


def says_number(answer: str, value: Fraction, unit: str | None, tolerance: Fraction, known: Collection[Fraction]) -> bool:
    """Whether an answer names the value, in its unit, in one that converts to it, or without any, and few other numbers.

    Args: known: numbers that don't count as others: those of the query and of the answer's other parts.
    """
    found, others = False, set()
    for number, named in quantities(answer):
        if any(abs(own - value) <= tolerance for own in _in_unit(number, named, unit)):
            found = True
        elif number not in known:
            others.add(number)
    return found and len(others) <= MAX_OTHER_NUMBERS


def _in_unit(number: Fraction, named: str | None, unit: str | None) -> list[Fraction]:
    """What a number may mean in `unit`: itself, or converted where it names another unit."""
    if unit is None or named is None or named == unit:
        return [number]
    if unit in CURRENCIES or named in CURRENCIES:
        return []  # another currency is another amount: a rate is looked up, never assumed
    if unit not in _KNOWN:
        return [number]
    same = unit in TEMPERATURES and named in TEMPERATURES
    same |= any(unit in units and named in units for units in UNITS.values())
    return [convert(number, named, unit)] if same else []


def refuses(answer: str) -> bool:
    """Whether an answer says that something cannot be done or is not known."""
    lowered = unicodedata.normalize("NFKC", answer).lower().replace("’", "'")
    return any(phrase in lowered for phrase in _REFUSALS)


def too_long(answer: str) -> bool:
    """Whether an answer is a dump that might contain anything."""
    return len(tokens(answer)) > MAX_WORDS


def says_any(answer: str, values: Sequence[str]) -> bool:
    """Whether one of the values stands in the answer."""
    return any(contains(answer, value) for value in values)
