"""Words and numbers of an answer, against cases worked out by hand."""

from fractions import Fraction

import pytest

from trainer.hima_ecom import answers
from trainer.hima_ecom.quantities import quantities
from trainer.hima_ecom.tasks.texts import table
from trainer.hima_ecom.tasks.wording import dates


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
def test_says_any(text: str, value: str, said: bool) -> None:
    assert answers.says_any(text, [value]) is said


def test_f1_counts_words_as_squad_does() -> None:
    assert answers.f1("the red kettle", "red kettle") == pytest.approx(2 * 2 / (3 + 2))
    assert answers.f1("red", "blue") == 0.0
    assert answers.f1("", "") == 0.0


def test_quantities_leave_ids_dates_and_times_alone() -> None:
    text = "O00012 on 2026-06-01 at 14:30: 1,234.50 USD, -3 °C, 20%, €15, 5km and v2.0"
    assert quantities(text) == [
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
        ("It has 3 or 4 or 5 or 6 of them.", "5", None, False),  # a list of guesses is its last one
        ("1.03 kg x 14 x 6.80 USD = 98.06 USD", "98.06", "USD", True),  # worked out
        ("98.06 USD, that is 14 times 7.004", "98.06", "USD", True),  # what has the unit is meant
        ("24 小时", "1", "day", True),
        ("It is twelve.", "12", None, True),
        ("总价是47.50美元", "47.5", "USD", True),  # Chinese has no spaces
        ("退货期为30天。", "30", "day", True),
        ("总价是47.50欧元", "47.5", "USD", False),
        ("It comes to 125.00 pounds.", "125", "GBP", True),  # money or weight, as it is asked for
        ("It comes to 125.00 pounds.", "125", "lb", True),
        ("It comes to 125.00 pounds.", "125", "EUR", False),
        ("It is 125.00 Canadian dollars.", "125", "CAD", True),
        ("It is 125 dollars.", "125", "CAD", True),
        ("It is $125.00 CAD.", "125", "CAD", True),
        ("It is $125.00 CAD.", "125", "USD", False),
        ("36 metres per second", "129.6", "km/h", True),
        ("速度是36公里每小时", "10", "m/s", True),
        ("36 kilometres", "36", "km/h", False),
        ("5 years", "60", "month", True),
        ("保修期是5年", "60", "month", True),
        ("60 days", "60", "month", False),
        ("There are 53 days from June 11, 2026 to 3 August 2026.", "53", "day", True),  # no guesses: dates
        ("2026年6月11日到2026年8月3日有53天", "53", "day", True),
        ("You have a 30-day window.", "30", "day", True),
        ("It is the 3rd of May 2027, at 7点30分.", "30", None, False),
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


@pytest.mark.parametrize("words", [table("common/units"), table("common/currencies")], ids=["units", "money"])
def test_every_unit_is_understood_as_a_query_writes_it(words: dict[str, tuple[str, str]]) -> None:
    for unit, (english, chinese) in words.items():
        for text in (f"It is 12.5 {english}.", f"结果是12.5{chinese}。", f"It is 12.5 {unit}, I think."):
            assert answers.says_number(text, Fraction("12.5"), unit, Fraction(0), set()), text
            assert quantities(text)[0].unit is not None, text


RED, BLUE = ("red", "红色"), ("blue", "蓝色")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("The red one is heavier.", True),
        ("The red one is heavier than the blue one.", True),
        ("The red one weighs 2 kg and the blue one 3 kg, so it is the blue one.", False),
        ("The blue one weighs 2 kg and the red one 3 kg, so it is the red one.", True),
        ("红色的比蓝色的重。", True),
        ("The blue one is heavier.", False),
        ("The red or the blue one.", False),  # no decision
        ("是红色还是蓝色", False),
        ("Which is heavier, the red or the blue one?", False),  # the query
        ("Which is heavier, the red or the blue one? The red one.", True),
        ("Neither.", False),
        ("", False),
    ],
)
def test_of_two_an_answer_prefers_the_one_it_names_more_often_or_first(answer: str, right: bool) -> None:
    assert answers.prefers(answer, RED, BLUE, "Which is heavier, the red or the blue one?") is right


def test_naming_both_gains_no_more_than_naming_one() -> None:
    for answer in ("red blue", "red blue blue", "red red blue", "red, 红色, blue", "blue red 红色"):
        assert answers.prefers(answer, RED, BLUE, "") + answers.prefers(answer, BLUE, RED, "") == 1, answer


@pytest.mark.parametrize(
    "answer",
    [
        "It has shipped already, so it can no longer be cancelled.",
        "Which one do you mean?",
        "There is no solution.",
        "您指的是哪一笔订单？",
        "Unfortunately the coupon has expired.",
        "I don't have any record of that product.",
    ],
)
def test_a_refusal_may_be_worded_otherwise(answer: str) -> None:
    assert answers.refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "It came on May 1st, 2026.",
        "the 1st of May, 2026",
        "May 01, 2026",
        "01 May 2026",
        "may 1 2026",
        "1st May 2026",
        "2026/05/01",
    ],
)
def test_a_date_may_be_written_in_many_ways(answer: str) -> None:
    forms = ("2026-05-01", *dates("2026-05-01"))
    assert answers.says_any(answer, forms)
    assert not answers.says_any(answer, ("2026-05-11", *dates("2026-05-11")))


def test_lists_of_ids_and_dates_are_guesses() -> None:
    assert answers.guesses("P0480 P0481 P0482", ["P0481"], "Which is it?")
    assert answers.guesses("2026-05-01, 2026-05-02 or 2026-05-03", ["2026-05-02", "May 2, 2026"], "")
    assert not answers.guesses("P0480 costs less than P0482", ["P0480"], "Is P0482 cheaper?")
    assert not answers.guesses("It is P0480, not P0499.", ["P0480"], "")
    assert not answers.guesses("red, blue or green", ["red"], "")


def test_what_repeats_the_query_says_nothing() -> None:
    query = "Which is heavier, the Alba kettle or the Nova phone?"
    assert answers.own_words(query, query) == []
    assert answers.own_words(query[1:], query) == ["hich"]
    assert answers.own_words(f"{query} Sorry.", query) == ["sorry"]
    assert answers.own_words("The Alba kettle is heavier than the Nova phone.", query) == answers.tokens(
        "The Alba kettle is heavier than the Nova phone."
    )
    assert answers.prefers("2026-08-08 是星期六。", ["星期六"], ["星期五"], "2026-08-08是星期几？")
    assert not answers.prefers(query[1:], ["Alba kettle"], ["Nova phone"], query)
    assert answers.prefers("The Alba kettle is.", ["Alba kettle"], ["Nova phone"], query)
    assert not answers.says_any("What is 3 MXN in EUR? Sorry, I cannot.", ["MXN"], "What is 3 MXN in EUR?")
    assert answers.says_any("Sorry, there is no rate for MXN.", ["MXN"], "What is 3 MXN in EUR?")
