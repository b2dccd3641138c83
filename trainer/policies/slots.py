"""Arguments of a tool from a text, by patterns: ids, dates, numbers with units, names in a list, quoted texts."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from trainer.hima_ecom.quantities import Quantity, quantities
from trainer.hima_ecom.tools.registry import MAX_NUMBER

WORD = re.compile(r"[A-Z]\d{3,}(?:-\d+)?|[A-Za-z][A-Za-z'-]*|\d+(?:\.\d+)?|[㐀-鿿]")
QUOTED = re.compile(r"(?:(?<=')|(?<=\")|(?<=“)|(?<=‘)|(?<=「))[^'\"“”‘’「」]+(?=['\"”’」])")
_STOP = frozenset(
    WORD.findall(
        "a an the of to for in on at by and or is are was be it its my me i you your please what which who how much long do "
        "does did can could would will with from that this have has there know tell want need like let task"
    )
)
_PATTERNS = {
    "order_id": r"#W\d+|\bO\d{4,}(?!-\d)",
    "item_id": r"\bO\d{4,}-\d+",
    "product_id": r"\bP\d{4,}",
    "new_product_id": r"\bP\d{4,}",
    "email": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "user_id": r"\b[a-z]+_[a-z]+_\d{4}\b",
    "tracking_number": r"\b[A-Z]{2}\d{8,}",
    "document_id": r"\bK\d{4,}",
    "payment_method_id": r"\bM\d{4,}|\b(?:paypal|credit_card|gift_card)_\d+",
    "address_id": r"\bA\d{4,}",
    "postal_code": r"\b\d{5}\b",
    "zip": r"\b\d{5}\b",
    "code": r"\b(?=[A-Z0-9]*\d)[A-Z]{4,}[A-Z0-9]*\b",
    "date": r"\b\d{4}-\d\d-\d\d\b",
    "start": r"\b\d{4}-\d\d-\d\d\b",
    "end": r"\b\d{4}-\d\d-\d\d\b",
    "time": r"\b\d{1,2}:\d\d\b",
    "text": QUOTED.pattern,
    "equation": r"[-+*/.()\w\s]*?\d?[a-z]\b[-+*/.()\d\sa-z]*=[-+*/.()\d\sa-z]*\d",
}
MAX_TEXT = 2000  # characters of a text in which arguments are looked for
_NEAR = 300  # characters on each side of an equation's "=": a tool takes 200 in all
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SECOND = ("end", "new_product_id")  # the second of their kind where there are two
_SYNONYMS = {"average": "mean", "smallest": "min", "lowest": "min", "largest": "max", "highest": "max", "total": "sum"}
_WORDED = (
    (re.compile(r"(\d[\d.]*) ?(?:%|per ?cent)\D{1,60}?(\d[\d.]*)", re.I), "{1} * {0} / 100"),
    (re.compile(r"(?:divide|split)\D*(\d[\d.]*)\D+(\d[\d.]*)", re.I), "{0} / {1}"),
    (re.compile(r"(\d[\d.]*) (?:times|multiplied by) (\d[\d.]*)", re.I), "{0} * {1}"),
    (re.compile(r"multiply\D*(\d[\d.]*)\D+(\d[\d.]*)", re.I), "{0} * {1}"),
    (re.compile(r"subtract\D*(\d[\d.]*)\D+(\d[\d.]*)", re.I), "{1} - {0}"),
    (re.compile(r"(?:add|sum|plus)\D*(\d[\d.]*)\D+(\d[\d.]*)", re.I), "{0} + {1}"),
)


def stems(text: str) -> set[str]:
    """The words that matter, without endings."""
    words = (word.lower() for word in WORD.findall(text.replace("_", " ")))
    return {re.sub(r"(?<=\w{3})(?:ies|es|s|ing|ed|ion|y)$", "", word) for word in words if word not in _STOP}


def plain(text: str) -> str:
    """The text with dates as YYYY-MM-DD and times as HH:MM, 24 hours."""

    def date(match: re.Match[str]) -> str:
        year, month, day = (match[name] for name in ("year", "month", "day"))
        return f" {year}-{int(month) if month.isdigit() else 1 + _MONTHS.index(month[:3].lower()):02d}-{int(day):02d} "

    month = rf"(?P<month>(?:{'|'.join(_MONTHS)})[a-z]*)"
    day, year = r"(?P<day>\d\d?)(?:st|nd|rd|th)?", r"(?P<year>\d{4})"
    for pattern in (rf"\b{month} {day},? {year}", rf"\b{day} (?:of )?{month},? {year}", rf"{year}年(?P<month>\d\d?)月{day}日"):
        text = re.sub(pattern, date, text, flags=re.IGNORECASE)
    return re.sub(r"\b(\d\d?):(\d\d) ?([ap])\.?m\b\.?", lambda m: f"{int(m[1]) % 12 + 12 * (m[3] == 'p'):02d}:{m[2]}", text)


def fill(function: Mapping[str, Any], text: str) -> dict[str, Any] | None:
    """Arguments for a tool; None if a required one isn't in the text (its first MAX_TEXT characters)."""
    text = text[:MAX_TEXT]
    parameters = function["parameters"]
    arguments = {name: _value(name, schema, text) for name, schema in parameters.get("properties", {}).items()}
    if any(arguments[name] is None for name in parameters.get("required", ())):
        return None
    return {name: value for name, value in arguments.items() if value is not None}


def _value(name: str, schema: Mapping[str, Any], text: str) -> Any:
    if "enum" in schema:
        return _choice(schema["enum"], text)
    if name in _SPECIAL:
        return _SPECIAL[name](schema, text)
    if name == "equation":  # its pattern takes the cube of the length
        at = text.find("=")
        text = text[max(0, at - _NEAR) : at + _NEAR] if at >= 0 else ""
    items = schema.get("type") == "array"
    pattern = _PATTERNS.get(name.removesuffix("s") if items else name)
    found = re.findall(pattern, text) if pattern else []
    if not found:
        return None
    if items:
        return list(dict.fromkeys(found))
    return found[1].strip() if name in _SECOND and len(found) > 1 else found[0].strip()


def _choice(options: list[Any], text: str) -> Any:
    lowered = " ".join(_SYNONYMS.get(word, word) for word in text.lower().split())
    for option in options:
        words = str(option).lower().split("_")
        if any(re.search(rf"\b{word}", lowered) for word in words if len(word) > 4 or len(words) == 1):
            return option
    return None


def _number(schema: Mapping[str, Any], text: str) -> float | int | None:
    found = _numbers(text)
    if not found:
        return None
    value = next((number.value for number in found if number.unit), found[0].value)
    return int(value) if value.denominator == 1 else float(value)


def _numbers(text: str) -> list[Quantity]:
    """Numbers of a size that tools take."""
    return [number for number in quantities(text) if abs(number.value) <= MAX_NUMBER]


def _days(schema: Mapping[str, Any], text: str) -> int | None:
    found = re.search(r"(?<!\d)(\d{1,6})(?: days?| ?天)", text)
    if not found:
        return None
    return int(found[1]) * (-1 if re.search(r"before|ago|earlier|前", text) else 1)


def _options(schema: Mapping[str, Any], text: str) -> list[str]:
    """Those of "one of: a, b, c" that the text names, units also as they are spelled out; the one after a number first."""
    listed = schema.get("description", "").partition("one of: ")[2].split(", ")
    if listed == [""]:
        return []
    places = {option: match.start() for option in listed if (match := re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text))}
    for match in WORD.finditer(text):
        unit = next((number.unit for number in quantities(f"1 {match.group()}")), None)
        if unit in listed and len(match.group()) > 1:
            places.setdefault(unit, match.start())
    counted = next((number.unit for number in quantities(text) if number.unit in places), None)
    return sorted(places, key=lambda option: (option != counted, places[option]))


def _nth(place: int) -> Callable[[Mapping[str, Any], str], str | None]:
    return lambda schema, text: next(iter(_options(schema, text)[place:]), None)


def _expression(schema: Mapping[str, Any], text: str) -> str | None:
    runs = [run.strip() for run in re.findall(r"[\d.+*/()%^ -]+", text)]
    written = [run for run in runs if re.search(r"\d\)* *[-+*/^] *\(*\d", run) and not re.fullmatch(r"\d{4}-\d\d-\d\d", run)]
    if written:
        return str(max(written, key=len)).rstrip(" .")
    for pattern, form in _WORDED:
        if match := pattern.search(text):
            return form.format(*(group.rstrip(".") for group in match.groups()))
    return None


def _values(schema: Mapping[str, Any], text: str) -> list[float] | None:
    return [float(number.value) for number in _numbers(text)] or None


def _query(schema: Mapping[str, Any], text: str) -> str | None:
    words = [word for word in WORD.findall(text) if word.lower() not in _STOP]
    return " ".join(words[-12:])[: schema.get("maxLength", 200)] or None


def _lines(schema: Mapping[str, Any], text: str) -> list[str] | None:
    listed = text.rpartition(":")[2] or text
    lines = [line.strip(" .'\"") for line in re.split(r"[,;、\n]| and ", listed)]
    return lines if len(lines) > 1 and all(lines) else None


_SPECIAL: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    "value": _number,
    "amount": _number,
    "days": _days,
    "source": _nth(0),
    "target": _nth(1),
    "city": _nth(0),
    "expression": _expression,
    "values": _values,
    "query": _query,
    "lines": _lines,
}
