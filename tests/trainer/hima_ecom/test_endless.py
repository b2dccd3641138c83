"""Answers, queries and checkers without end: read at once, and never for more than they say."""

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from trainer.hima_ecom import World
from trainer.hima_ecom.answers import own_words, tokens, too_long
from trainer.hima_ecom.checkers import UNCHANGED, Evidence, check, problems
from trainer.hima_ecom.dataset import read_tasks, validate
from trainer.hima_ecom.number_words import chinese_number
from trainer.hima_ecom.quantities import quantities, worded_quantities
from trainer.policies.slots import fill, plain, stems

PRICE = {"kind": "number", "value": "12.50", "unit": "USD"}
TEXT = {"kind": "text", "value": "shipped"}


@pytest.fixture(scope="module")
def world() -> World:
    return World.in_memory(0, "small")


def score(spec: dict[str, Any], answer: str, world: World, query: str = "What does it cost?") -> float:
    return check(spec, Evidence(answer, (), UNCHANGED, query, None, world))


@pytest.mark.parametrize(
    "end",
    [
        *("9" * 5_000, "one point" + " one" * 5_000, "⑳" * 3_000, "111 " * 9_000, "1'111" * 9_000, "the twenty " * 9_000),
        *("一" * 24_000, "一 " * 24_000, "万" * 24_000, "一万" * 3_000, "\u0316\u0301" * 9_000),
    ],
    ids=lambda text: text[:12],
)
def test_an_answer_without_end_earns_nothing_at_once(end: str, world: World) -> None:
    begin = time.process_time()
    for answer in (end, f"It costs 12.50 USD. {end}", f"It is shipped. {end}", f"{end} 12.50 USD, shipped"):
        assert score(PRICE, answer, world) == 0.0
        assert score(TEXT, answer, world) == 0.0
    assert time.process_time() - begin < 1
    begin = time.process_time()
    assert score(PRICE, "It costs 12.50 USD.", world, query=end) == 1.0
    assert time.process_time() - begin < 1


def test_a_long_number_within_the_bounds_is_read_whole(world: World) -> None:
    digits = "1" * 390
    assert score({"kind": "number", "value": digits}, f"It is {digits}.", world) == 1.0
    assert score({"kind": "number", "value": digits}, f"It is {digits}1.", world) == 0.0
    assert score(PRICE, f"It costs 12.50 USD, no: {'9' * 3_900} USD.", world) == 0.0
    assert not too_long("x" * 4_000)
    assert too_long("x" * 4_001)
    assert too_long("⑳" * 2_001)
    assert quantities("7 km and " + "9" * 4_001) == [(Fraction(7), "km")]
    assert worded_quantities("seven km and one point" + " one" * 4_990 + " km") == [(Fraction(7), "km")]


@pytest.mark.parametrize(
    ("text", "value"), [("一万", 10_000), ("三万零五", 30_005), ("万", None), ("一万万", None), ("万一万", None)]
)
def test_chinese_numerals(text: str, value: int | None) -> None:
    assert chinese_number(text) == value


@pytest.mark.parametrize(
    ("text", "counted"),
    [("the two parcels", False), ("these   two parcels", False), ("bathe two", True), ("either\n\ttwo", False), ("two", True)],
)
def test_known_ones_are_not_counted(text: str, counted: bool) -> None:
    assert worded_quantities(text) == ([(Fraction(2), None)] if counted else [])


def test_a_query_that_the_answer_cannot_repeat_costs_nothing() -> None:
    begin = time.process_time()
    assert own_words("的 " * 120, "的" * 20_000) == tokens("的 " * 120)
    assert time.process_time() - begin < 1


READERS: dict[str, Callable[[str], object]] = {
    "quantities": quantities,
    "worded": worded_quantities,
    "tokens": tokens,
    "stems": stems,
    "plain": plain,
    "math": lambda text: [fill(tool("expression", "value", "values", "days"), text)],
    "ids": lambda text: [fill(tool("email", "code", "equation", "user_id", "text", "lines", "query"), text)],
}


def tool(*names: str) -> dict[str, Any]:
    return {"parameters": {"properties": {name: {"type": "string"} for name in names}, "required": []}}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("part", ["1", "111 ", "1,", "one ", "twenty-", "一", "a", "a.", "'a", "(1", "add 1 ", "x=", "x@a."])
def test_time_grows_with_the_length(name: str, part: str) -> None:
    """Eight times the text takes no more than some twelve times as long; a quadratic reader takes 64 times."""
    taken = []
    for size in (4_000, 32_000):
        text = (part * size)[:size] + "!"
        best = 1.0
        for _ in range(3):
            begin = time.process_time()
            READERS[name](text + " " * len(taken))  # another text each time: some are remembered
            best = min(best, time.process_time() - begin)
        taken.append(best)
    assert taken[1] < 12 * taken[0] + 0.1


@pytest.mark.parametrize(
    ("checker", "reason"),
    [
        ({"kind": "number", "value": "1e99999999"}, "checker.value: expected a number of at most 400 characters"),
        ({"kind": "number", "value": "1", "tolerance": "1e-99999999"}, "checker.tolerance: expected a number of at most 400"),
        ({"kind": "number", "value": "9" * 401}, "checker.value: expected a number of at most 400 characters"),
        ({"kind": "all", "parts": [{"kind": "number", "value": "1e999"}]}, "checker.parts[0].value: expected a number of at"),
        ({"kind": "number", "value": "one"}, "checker.value: expected a number as text, got 'one'"),
        ({"kind": "number", "value": True}, "checker.value: expected a number as text, got True"),
        ({"kind": "number", "value": "1", "tolerance": "-1"}, "checker.tolerance: expected a number of at least 0, got '-1'"),
    ],
)
def test_a_checker_without_end_is_refused_at_once(checker: dict[str, Any], reason: str, world: World) -> None:
    begin = time.process_time()
    (found,) = problems(checker)
    assert found.startswith(reason)
    if "tolerance" not in checker:
        with pytest.raises(ValueError, match="expected a number"):
            score(checker, "It costs 1 USD.", world)
    assert time.process_time() - begin < 0.5


def test_a_file_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    good = '{"query": "q", "final_response": "r"'
    bad = [good + ', "checker": {"kind": "number", "value": "1e99999999"}}', "[" * 50_000, good + ', "difficulty": 1e999}']
    bad += [good + f', "difficulty": {"9" * 5_000}}}', good + ', "x": ' + "[" * 70 + "]" * 70 + "}"]
    path.write_text("\n".join([*bad, good + "}"]))
    begin = time.process_time()
    found = list(validate(path))
    assert [problem.line for problem in found] == [1, 2, 3, 4, 5]
    assert all(len(problem.reason) < 300 for problem in found)
    with pytest.raises(ValueError, match="5 problems"):
        read_tasks(path)
    with pytest.raises(ValueError, match="/dev/zero: line 1: expected at most 16,777,216 characters"):
        list(validate("/dev/zero"))
    assert time.process_time() - begin < 3
