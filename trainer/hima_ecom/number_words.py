"""Numbers written in words, English and Chinese, where they can mean nothing else: "twenty-four", "两百零五个"."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

_ONES = {w: i for i, w in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], 1)}
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = {w: 10 * i for i, w in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)}
_SMALL = _ONES | {w: i for i, w in enumerate(_TEENS.split(), 10)} | _TENS
_one, _gap = "|".join(_ONES), r"[\s-]+"
_below_100 = rf"(?:(?:{'|'.join(_TENS)})(?:{_gap}(?:{_one}))?|{'|'.join((*_TEENS.split(), *_ONES))})"
_below_1000 = rf"(?:(?:{_one}|a){_gap}hundred(?:{_gap}(?:and{_gap})?{_below_100})?|{_below_100})"
_digit = f"(?:zero|{_one})"
_ENGLISH = re.compile(
    rf"(?<![\w-])(?:minus\s+)?(?:(?:{_below_1000}|a){_gap}thousand(?:,?{_gap}(?:and{_gap})?{_below_1000})?|{_below_1000}|zero)"
    rf"(?:\s+point(?:\s+{_digit})+|\s+and\s+a\s+(?:half|quarter))?(?!\w)(?!{_gap}(?:hundred|thousand|million|point|half)\b)",
    re.IGNORECASE,
)
# "the two parcels" counts nothing, nor does "one" unless a unit follows.
_KNOWN_ONES = re.compile(r"\b(?:the|these|those|either|both|all|other|last|first|next|of|every|each)$", re.IGNORECASE)
_LONGEST = len("either")  # of these
MAX_NUMBER = 4000  # characters of a number, in words or digits; Python makes whole numbers of up to 4,300 digits
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_PLACES = {"十": 10, "百": 100, "千": 1000}
_CHINESE = re.compile(r"[零〇一二两三四五六七八九十百千万]+")
_COUNTED = re.compile(r"[个件条次位人名笔单款份倍岁]")
_NO_COUNT_BEFORE = tuple("第周期拜这那哪每上下前后月年日")
_NO_COUNT_AFTER = tuple("月日号点")


class Worded(NamedTuple):
    """A number in words: where it stands, its value, and whether it counts without a unit beside it."""

    start: int
    end: int
    value: Fraction
    counts_alone: bool


def worded(text: str) -> Iterator[Worded]:
    """Every number in words of a text in NFKC, the English ones first; of up to 4,000 characters."""
    for match in _ENGLISH.finditer(text):
        if match.end() - match.start() > MAX_NUMBER:
            continue
        value = _english(match.group().lower())
        alone = value != 1 and not _is_known(text, match.start())
        yield Worded(match.start(), match.end(), value, alone)
    for match in _CHINESE.finditer(text):
        before, after = text[max(0, match.start() - 3) : match.start()], text[match.end() : match.end() + 1]
        number = chinese_number(match.group())
        if number is None or before.endswith(_NO_COUNT_BEFORE) or after in _NO_COUNT_AFTER:
            continue
        alone = (bool(_COUNTED.match(after)) if after else False) or before.endswith("百分之")
        yield Worded(match.start(), match.end(), Fraction(number), alone and number != 1)


def _is_known(text: str, start: int) -> bool:
    """Return True where one of _KNOWN_ONES and white space stand before `start`; nothing further back is read."""
    end = start
    while end and text[end - 1].isspace():
        end -= 1
    return end < start and _KNOWN_ONES.search(text, max(0, end - _LONGEST), end) is not None


def _english(words: str) -> Fraction:
    total = part = 0
    fraction = Fraction(0)
    whole, _, decimals = words.partition(" point")
    if decimals:
        digits = "".join(str(_ONES.get(word, 0)) for word in decimals.split())
        fraction = Fraction(int(digits), 10 ** len(digits))
    for ending, share in (("half", Fraction(1, 2)), ("quarter", Fraction(1, 4))):
        if whole.endswith(ending):
            whole, fraction = whole[: -len(ending)].rstrip().removesuffix("and a"), share
    for word in re.findall(r"[a-z]+", whole):
        if word == "hundred":
            part *= 100
        elif word == "thousand":
            total, part = total + part * 1000, 0
        elif word not in ("and", "minus", "zero"):
            part += 1 if word == "a" else _SMALL[word]
    value = total + part + fraction
    return -value if words.startswith("minus") else value


def chinese_number(text: str) -> int | None:
    """The value of a Chinese numeral below 100 million; None for what is none, such as 二三 or 万万."""
    high, wan, low = text.rpartition("万")
    parts = [_below_wan(part) for part in ((high, low) if wan else (low,)) if part]
    if not parts or None in parts or (wan and not high):
        return None
    values = [part for part in parts if part is not None]
    return values[0] * (10_000 if wan else 1) + sum(values[1:])


def _below_wan(text: str) -> int | None:
    total, digit, last = 0, None, 10_000
    for character in text:
        if character in _DIGITS:
            if digit:  # two digits side by side
                return None
            digit = _DIGITS[character]
        else:
            place = _PLACES.get(character, last)
            if place >= last or (digit is None and place != 10):
                return None
            total, digit, last = total + (1 if digit is None or digit == 0 else digit) * place, None, place
    return total + (digit or 0)
