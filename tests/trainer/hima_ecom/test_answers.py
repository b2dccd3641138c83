"""Words and numbers of an answer, against cases worked out by hand."""

from fractions import Fraction

import pytest

from trainer.hima_ecom import answers


@pytest.mark.parametrize(
    ("text", "value", "said"),
    [
        ("The status is: Shipped.", "shipped", True),
        ("It was delivered on 2026-06-01, at noon", "2026-06-01", True),
        ("It was delivered on 2026-06-011", "2026-06-01", False),
        ("退货期更长的是 sports：45 天。", "sports", True),  # full-width colon
        ("订单已发货", "已发货", True),
        ("Marlow & Finch Wave phone", "marlow & finch WAVE phone", True),
        ("unshipped", "shipped", False),  # whole words only
        ("anything", "", False),
    ],
)
def test_contains(text: str, value: str, said: bool) -> None:
    assert answers.contains(text, value) is said


def test_f1_counts_words_as_squad_does() -> None:
    assert answers.f1("the red kettle", "red kettle") == pytest.approx(2 * 2 / (3 + 2))
    assert answers.f1("red", "blue") == 0.0
    assert answers.f1("", "") == 0.0


def test_quantities_leave_ids_dates_and_times_alone() -> None:
    text = "O00012 on 2026-06-01 at 14:30: 1,234.50 USD, -3 °C, 20%, €15, 5km and v2.0"
    assert answers.quantities(text) == [
        (Fraction("1234.5"), "USD"),
        (Fraction(-3), "celsius"),
        (Fraction(20), None),
        (Fraction(15), "EUR"),
        (Fraction(5), "km"),
    ]


@pytest.mark.parametrize(
    ("answer", "value", "unit", "said"),
    [
        ("It costs 12.50 USD.", "12.5", "USD", True),
        ("It costs $12.50.", "12.5", "USD", True),
        ("It costs 12.50.", "12.5", "USD", True),  # no unit: taken for the one asked for
        ("It costs 12.50 EUR.", "12.5", "USD", False),  # another currency is another amount
        ("It is 5,000 m away.", "5", "km", True),
        ("It is 5 miles away.", "5", "km", False),
        ("36 months", "36", "month", True),
        ("It has 3 or 4 or 5 or 6 of them.", "6", None, False),  # guessing
        ("24 小时", "1", "day", True),
        ("It is twelve.", "12", None, False),
    ],
)
def test_says_number(answer: str, value: str, unit: str | None, said: bool) -> None:
    assert answers.says_number(answer, Fraction(value), unit, Fraction("0.005"), set()) is said


def test_numbers_of_the_query_are_no_guesses() -> None:
    known = {Fraction(n) for n in (3, 4, 5)}
    assert answers.says_number("3, 4 and 5 make 12.", Fraction(12), None, Fraction(0), known)


def test_refusals() -> None:
    assert answers.refuses("I’m sorry, this can’t be cancelled.")
    assert answers.refuses("抱歉，无法办理")
    assert not answers.refuses("It is cancelled.")
