"""Right answers written in other ways are right, and wrong ones stay wrong: numbers in words, European decimals, capitals."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.hima_ecom import World
from trainer.hima_ecom.answers import says_number
from trainer.hima_ecom.checkers import Evidence, check
from trainer.hima_ecom.number_words import chinese_number
from trainer.hima_ecom.spelling import plain
from trainer.types import Call

_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen"
)
ONES = ["", *_WORDS.split(" ")]
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
TENS = ["", "", *_TENS.split(" ")]


def english(number: int, hyphen: str, joined: str) -> str:
    """A number from 1 to 999,999 in words."""
    if number >= 1000:
        rest = f" {english(number % 1000, hyphen, joined)}" if number % 1000 else ""
        return f"{english(number // 1000, hyphen, joined)} thousand{rest}"
    if number >= 100:
        rest = f"{joined}{english(number % 100, hyphen, joined)}" if number % 100 else ""
        return f"{ONES[number // 100]} hundred{rest}"
    if number < 20:
        return ONES[number]
    return f"{TENS[number // 10]}{hyphen}{ONES[number % 10]}" if number % 10 else TENS[number // 10]


def chinese(number: int) -> str:
    """A number from 1 to 9,999 in characters."""
    text, zero = "", False
    for place, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // place % 10
        if digit:
            text += ("零" if zero and text else "") + "零一二三四五六七八九"[digit] + name
        zero = digit == 0
    return text.removeprefix("一") if text.startswith("一十") else text


def says(answer: str, value: Any, unit: str | None, tolerance: str = "0") -> bool:
    return says_number(answer, Fraction(value), unit, Fraction(tolerance), set())


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 999_999), st.sampled_from("- "), st.sampled_from((" ", " and ")), st.sampled_from((str, str.upper)))
def test_numbers_in_words(number: int, hyphen: str, joined: str, case: Any) -> None:
    words = case(english(number, hyphen, joined))
    assert says(f"The warranty lasts {words} months.", number, "month")
    assert not says(f"The warranty lasts {words} months.", number + 1, "month")
    assert not says(f"The warranty lasts {words} days.", number, "month")
    if number > 1:
        assert says(f"It has {words} characters.", number, None)
    for part in {number % 1000, number // 1000, number % 100} - {number, 0}:  # no part of the words is the number
        assert not says(f"It has {words} characters.", part, None)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 9999))
def test_numbers_in_characters(number: int) -> None:
    assert chinese_number(chinese(number)) == number
    assert says(f"保修期是{chinese(number)}个月。", number, "month")
    assert not says(f"保修期是{chinese(number)}个月。", number + 1, "month")
    assert not says(f"保修期是{chinese(number)}天。", number, "month")


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 99_999_999), st.sampled_from(("USD {}", "{} EUR", "{} euros.", "€{}")))
def test_european_decimals(cents: int, form: str) -> None:
    unit = "USD" if "USD" in form else "EUR"
    whole, rest = divmod(cents, 100)
    value = Fraction(cents, 100)
    dots, spaces = f"{whole:,}".replace(",", "."), f"{whole:,}".replace(",", " ")
    written = (
        f"{dots},{rest:02d}",
        f"{spaces},{rest:02d}",
        f"{whole},{rest:02d}",
        f"{whole:,}.{rest:02d}",
        f"{whole}.{rest:02d}",
    )
    for text in written:
        assert says(f"It costs {form.format(text)}", value, unit), text
        for wrong in {value * 100, value + 1, value / 1000} - {value}:
            assert not says(f"It costs {form.format(text)}", wrong, unit), (text, wrong)


@pytest.mark.parametrize(
    ("answer", "value", "unit", "right"),
    [
        ("twenty-four months", 24, "month", True),
        ("two years", 24, "month", True),
        ("It has a twenty-four-month warranty.", 24, "month", True),
        ("两年", 24, "month", True),
        ("two and a half hours", "2.5", "h", True),
        ("one point two five kilograms", "1.25", "kg", True),
        ("The sum is 1.098,41.", "1098.41", "EUR", True),
        ("The sum is 1098,41 EUR.", "1098.41", "EUR", True),
        ("0,639 lb", "0.639", "lb", True),
        ("The price is 1.098 EUR.", "1098", "EUR", False),  # by English rules one euro and a bit, and by no others: ambiguous
        ("The price is 1,098 EUR.", "1098", "EUR", True),
        ("Take 1,2,3 or 4", "1.2", None, False),
        ("The red one is heavier.", 1, None, False),
        ("Of the two products it is the red one.", 2, None, False),
        ("这两个商品里是第三个。", 3, None, False),
        ("星期二，十二月三日", 2, None, False),
        ("It is twenty two hundred", 22, None, False),
        ("There are 53, some sixty at most.", 53, None, True),  # digits before words
        ("sixty or 53 days", 60, "day", False),
        ("2 3 4 five", 5, None, False),
        ("thirty forty fifty months", 40, "month", False),
    ],
)
def test_what_is_not_plain_stays_wrong(answer: str, value: Any, unit: str | None, right: bool) -> None:
    assert says(answer, value, unit) is right


@pytest.mark.parametrize("text", ["call anna", "Call Anna.", " CALL  ANNA! ", "call Anna"])
def test_a_reminder_may_have_other_capitals(world: World, text: str) -> None:
    call = {"name": "set_reminder", "arguments": {"text": "call Anna", "date": "2026-07-01", "time": "10:00"}}
    session = world.session("C0001")
    session.call("set_reminder", call["arguments"] | {"text": text})
    made = Call("gfc", "set_reminder", call["arguments"] | {"text": text}, "")
    seen = Evidence("", (made,), session.state_hash(), "", "C0001", world)
    assert check({"kind": "state", "calls": [call]}, seen) == 1.0
    assert check({"kind": "calls", "calls": [call | {"agent": "gfc"}]}, seen) == 1.0


@pytest.mark.parametrize("wrong", [{"text": "call Ann"}, {"date": "2026-07-02"}, {"time": "10:01"}, {"text": "call Anna x"}])
def test_another_reminder_is_wrong(world: World, wrong: dict[str, str]) -> None:
    call = {"name": "set_reminder", "arguments": {"text": "call Anna", "date": "2026-07-01", "time": "10:00"}}
    session = world.session("C0001")
    session.call("set_reminder", call["arguments"] | wrong)
    twice = world.session("C0001")
    for text in ("call Anna", "CALL ANNA"):
        twice.call("set_reminder", call["arguments"] | {"text": text})
    for state in (session.state_hash(), twice.state_hash()):
        assert check({"kind": "state", "calls": [call]}, Evidence("", (), state, "", "C0001", world)) == 0.0


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=20), st.text(max_size=20))
def test_texts_that_differ_in_letters_stay_different(one: str, other: str) -> None:
    assert plain(plain(one)) == plain(one)
    letters = ["".join(filter(str.isalnum, text.casefold())) for text in (one, other)]
    assert letters[0] == letters[1] or plain(one) != plain(other)
