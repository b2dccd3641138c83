"""The quantities that a text names: numbers that are no part of an id, a date or a time, and the unit beside them."""

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from trainer.hima_ecom.number_words import MAX_NUMBER, worded
from trainer.hima_ecom.tools.conversion import CURRENCIES, TEMPERATURES, UNITS, convert

_LETTER = r"[^\W\d_㐀-鿿]"  # of an alphabet; a Chinese character beside a number is a word of its own
_NUMBER = re.compile(
    rf"(?<!{_LETTER})(?<![\d_.])(?<!\d[-:,])[-+]?(?:"
    r"(?P<comma>[1-9]\d{0,2}(?:(?:\.\d{3})+|(?:[ ']\d{3}){1,20}),\d{1,2}|0,\d+|\d+,(?:\d{1,2}|\d{4,}))"  # 1.098,41 and 0,5
    r"|(?P<dots>[1-9]\d{0,2}(?:\.\d{3}){2,})"  # 1.098.410
    r"|[1-9]\d{0,2}(?:[,']\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"  # 1,098.41 and 1098.41
    r")(?!\d|[.,:\-]\d|[A-Za-z]\d)"
)
MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_DAY = r"\b\d{1,2}(?:st|nd|rd|th)?\b"
# Dates and times that are not written with hyphens and colons, which _NUMBER passes over itself.
DATE = re.compile(
    rf"{MONTH}\s+{_DAY}(?:,?\s+\d{{4}}\b)?|{_DAY}\s+(?:of\s+)?{MONTH}(?:,?\s+\d{{4}}\b)?|\b\d{{1,4}}/\d{{1,2}}/\d{{1,4}}\b"
    r"|(?:\d{4}\s*年\s*)?\d{1,2}\s*月\s*\d{1,2}\s*[日号]",
)
_CLOCK = re.compile(r"\d{1,2}\s*点(?:\s*\d{1,2}\s*分)?")

# unit -> its other spellings, in lower case; a plural s is understood. "pound" and "dollar" are settled by what is asked for.
_SPELLED = {
    "km": "kilometre kilometer 公里 千米", "m": "metre meter 米", "cm": "centimetre centimeter 厘米",
    "mm": "millimetre millimeter 毫米", "mile": "mi 英里", "yard": "yd 码", "foot": "ft feet 英尺", "inch": "inche 英寸",
    "kg": "kilogram kilo 公斤 千克", "g": "gram 克", "mg": "milligram 毫克", "t": "tonne metric_ton 吨", "lb": "磅",
    "oz": "ounce 盎司", "l": "litre liter 升", "ml": "millilitre milliliter 毫升",
    "us_gallon": "gallon us_gallon 美制加仑 加仑",
    "us_cup": "cup us_cup 美制杯", "us_fluid_ounce": "fluid_ounce us_fluid_ounce fl_oz 美制液量盎司 液量盎司",
    "m2": "square_metre square_meter sq_m 平方米", "cm2": "square_centimetre square_centimeter 平方厘米",
    "km2": "square_kilometre square_kilometer 平方公里", "hectare": "ha 公顷", "acre": "英亩",
    "square_foot": "square_feet square_foot sq_ft 平方英尺",
    "m/s": "metre_per_second metres_per_second meters_per_second 米每秒",
    "km/h": "kilometre_per_hour kilometres_per_hour kilometers_per_hour km_per_hour kmh kph 公里每小时",
    "mph": "mile_per_hour miles_per_hour 英里每小时", "knot": "节", "min": "minute 分钟", "h": "hour hr 小时",
    "s": "second sec 秒",
    "day": "天 日", "week": "周 星期 个星期", "month": "个月", "year": "年", "MB": "megabyte 兆字节", "kB": "kilobyte 千字节",
    "GB": "gigabyte 吉字节", "TB": "terabyte 太字节", "MiB": "mebibyte",
    "celsius": "c °c degrees_celsius degree_celsius 摄氏度",
    "fahrenheit": "f °f degrees_fahrenheit degree_fahrenheit 华氏度", "kelvin": "k 开尔文 开", "pound": "", "dollar": "",
    "USD": "us_dollar us$ 美元", "EUR": "euro 欧元", "GBP": "british_pound pound_sterling pounds_sterling 英镑",
    "JPY": "yen japanese_yen 日元", "CNY": "yuan chinese_yuan rmb renminbi 人民币 元", "CAD": "canadian_dollar c$ 加元",
    "AUD": "australian_dollar a$ 澳元", "INR": "indian_rupee rupee 印度卢比 卢比",
    "BRL": "brazilian_reai brazilian_real r$ 巴西雷亚尔 雷亚尔",
    "CHF": "swiss_franc franc 瑞士法郎",
}  # fmt: skip
_KNOWN = {unit for units in UNITS.values() for unit in units} | set(TEMPERATURES) | set(CURRENCIES)
_CALENDAR = {"month": 1, "year": 12}  # months; of no fixed number of days
_SEVERAL = {"pound": ("lb", "GBP"), "dollar": ("USD", "CAD", "AUD")}
_BEFORE = {"$": "dollar", "€": "EUR", "£": "GBP", "¥": None}
_FORMS = {unit.lower(): unit for unit in (*_KNOWN, *_SPELLED)} | {
    form.replace("_", " "): unit for unit, forms in _SPELLED.items() for form in forms.split()
}
_ALPHABETIC = sorted((re.escape(form) for form in _FORMS if form.isascii() or form[0] == "°"), key=len, reverse=True)
_CHINESE = sorted((form for form in _FORMS if not form.isascii() and form[0] != "°"), key=len, reverse=True)
_UNIT = re.compile(
    rf"(?:\s*|-)(?:({'|'.join(_ALPHABETIC)})s?(?![A-Za-z0-9/]|-[A-Za-z])|({'|'.join(_CHINESE)})|(€|£|\$))", re.IGNORECASE
)


MAX_TEXT = 20_000  # characters in which numbers are looked for


class Quantity(NamedTuple):
    """A number as written, and its unit in the store's spelling, or "pound" or "dollar"; None if no unit is beside it."""

    value: Fraction
    unit: str | None


def quantities(text: str) -> list[Quantity]:
    """Every number of a text that is no part of an id, a date or a time; of the first 20,000 characters, and of up to 4,000."""
    return list(_quantities(text))


@lru_cache(maxsize=4096)
def _quantities(text: str) -> tuple[Quantity, ...]:
    text = _without_dates(text)
    found = []
    for match in _NUMBER.finditer(text):
        sign = text[match.start() - 1 : match.start()] if match.start() else ""
        unit = _unit_at(text, match.end())
        if unit not in CURRENCIES and _BEFORE.get(sign):
            unit = _BEFORE[sign]
        if len(match.group()) <= MAX_NUMBER:
            found.append(Quantity(_value(match), unit))
    return tuple(found)


def _without_dates(text: str) -> str:
    text = unicodedata.normalize("NFKC", text[:MAX_TEXT])[:MAX_TEXT].replace("−", "-").replace("’", "'")
    for what in (DATE, _CLOCK):
        text = what.sub(lambda match: " " * len(match.group()), text)
    return text


def _value(match: re.Match[str]) -> Fraction:
    """Of a number with points or commas, groups of thousands or decimals."""
    digits = re.sub("[ ']", "", match.group())
    if match["comma"]:
        return Fraction(digits.replace(".", "").replace(",", "."))
    return Fraction(digits.replace("." if match["dots"] else ",", ""))


def worded_quantities(text: str) -> list[Quantity]:
    """The same of numbers in words: those with a unit, and those that count something in any case."""
    return list(_worded_quantities(text))


@lru_cache(maxsize=4096)
def _worded_quantities(text: str) -> tuple[Quantity, ...]:
    text = _without_dates(text)
    found = [(number, _unit_at(text, number.end)) for number in worded(text)]
    return tuple(Quantity(number.value, unit) for number, unit in found if unit is not None or number.counts_alone)


def kind_of(unit: str) -> str:
    """What a unit measures: units that convert into each other are of one kind, each currency is one."""
    if unit in TEMPERATURES:
        return "temperature"
    if unit in _CALENDAR:
        return "time"
    if unit in ("pound", "dollar"):
        return {"pound": "mass", "dollar": "USD"}[unit]
    return next((kind for kind, units in UNITS.items() if unit in units), unit)


def _unit_at(text: str, position: int) -> str | None:
    match = _UNIT.match(text, position)
    if match is None:
        return None
    form = next(group for group in match.groups() if group)
    return _BEFORE.get(form) or _FORMS[form.lower()]


def in_unit(quantity: Quantity, unit: str | None) -> list[Fraction]:
    """What a quantity may be in `unit`: itself where no unit is asked for or named, else itself, converted, or nothing."""
    number, named = quantity
    if unit is None or named is None or unit not in _KNOWN | _CALENDAR.keys():
        return [number]
    return [found for one in _SEVERAL.get(named, (named,)) for found in _converted(number, one, unit)]


def _converted(number: Fraction, named: str, unit: str) -> list[Fraction]:
    if named == unit:
        return [number]
    if named in _CALENDAR and unit in _CALENDAR:
        return [number * _CALENDAR[named] / _CALENDAR[unit]]
    # Another currency is another amount: a rate is looked up, never assumed.
    same = named in TEMPERATURES and unit in TEMPERATURES
    same |= any(named in units and unit in units for units in UNITS.values())
    return [convert(number, named, unit)] if same else []
