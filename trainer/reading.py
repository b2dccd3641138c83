"""Text from outside as values, within bounds: JSON, exact numbers, lines of a file.

load_json('{"price": 12.5}', depth=3)
exact("12.50")  # Fraction(25, 2)

Without bounds a short text can ask for any amount of work: "1e99999999" as a fraction has a hundred million digits, and what
walks through nested JSON recurses as deep as it is nested.
"""

import json
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from typing import Any, TextIO

MAX_DEPTH = 64  # levels of nesting of a file's values
MAX_DIGITS = 308  # of a whole number, and the largest exponent: what a float can hold
MAX_NUMBER = 400  # characters of an exact number
MAX_LINE = 2**24  # characters of a line
MAX_SHOWN = 60  # characters of a value in an error message
_EXPONENT = re.compile(r"[eE]([-+]?[\d_]+)\s*$")


class DepthError(ValueError):
    """JSON of more levels than allowed."""


def load_json(text: str | bytes, *, depth: int = MAX_DEPTH, once: bool = False, finite: bool = True) -> Any:
    """The value of a JSON text, which bytes hold as UTF-8.

    Args:
        depth: levels of objects and lists that may be nested.
        once: a key may occur only once in an object.
        finite: NaN, infinities and numbers beyond a float's range are errors; else they are floats that are not finite, for a
            check that can say where they stand.

    Raises: ValueError: what is wrong; of it DepthError.
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value = _DECODERS[once, finite].decode(text)
        deep = _is_deep(value, depth)
    except RecursionError:
        deep = True
    if deep:
        raise DepthError(f"expected at most {depth} levels of nesting, got more") from None
    return value


def exact(value: object) -> Fraction:
    """A number as text or as JSON gives it, exactly: 12, 0.5, "12.50", "1e3", "2/3".

    Raises: ValueError for what is no finite number, and for one of more than 400 characters or an exponent beyond 308.
    """
    if isinstance(value, str):
        exponent = _EXPONENT.search(value[:MAX_NUMBER])
        if len(value) > MAX_NUMBER or (exponent and abs(int(exponent[1])) > MAX_DIGITS):
            raise ValueError(
                f"expected a number of at most {MAX_NUMBER} characters and an exponent within {MAX_DIGITS}, got {short(value)}"
            )
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return Fraction(value)
    except (ValueError, ArithmeticError):
        pass
    raise ValueError(f"expected a number as text, got {short(value)}")


def check_seed(name: str, value: object) -> int:
    """The seed of a run, a store or an evaluation: in the range that every generator behind it takes.

    Raises: ValueError unless it is a whole number from 0 to 2^63 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{name}: expected a whole number from 0 to 2^63 - 1, got {short(value)}")
    return value


def lines_of(file: TextIO, name: str) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text with its end) of the lines of an open file.

    Args: name: the file's, for errors.

    Raises: ValueError for a line of more than 2^24 characters.
    """
    for number in count(1):
        text = file.readline(MAX_LINE + 1)
        if not text:
            return
        if len(text) > MAX_LINE:
            raise ValueError(f"{name}: line {number}: expected at most {MAX_LINE:,} characters, got more")
        yield number, text


def short(value: object) -> str:
    """`repr`, cut to what fits into an error message."""
    try:
        text = repr(value[: 2 * MAX_SHOWN] if isinstance(value, str | bytes) else value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits; nested too deep
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _is_deep(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key occurs twice")
    return made


def _whole(text: str) -> int:
    if len(text.removeprefix("-")) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _any_whole(text: str) -> int | float:
    return int(text) if len(text.removeprefix("-")) <= MAX_DIGITS else float(text)


def _decoder(once: bool, finite: bool) -> json.JSONDecoder:
    hook = _unique if once else None
    if not finite:
        return json.JSONDecoder(object_pairs_hook=hook, parse_int=_any_whole)
    return json.JSONDecoder(object_pairs_hook=hook, parse_int=_whole, parse_float=_float, parse_constant=_constant)


_DECODERS = {(once, finite): _decoder(once, finite) for once in (False, True) for finite in (False, True)}
