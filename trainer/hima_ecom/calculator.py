"""A calculator: recursive descent over exact fractions, with limits on everything that could grow.

expression := term (("+" | "-") term)*
term       := unary (("*" | "/" | "//" | "%") unary)*
unary      := ("+" | "-") unary | power
power      := postfix (("**" | "^") unary)?
postfix    := atom "%"*
atom       := number | "pi" | "e" | "(" expression ")" | name "(" expression ("," expression)* ")"

A "%" before a number, a name or "(" is the remainder; anywhere else it is per cent: 200 * 15% = 30.
"""

import re
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from math import ceil, floor, isqrt
from typing import NamedTuple

MAX_LENGTH = 500  # characters of an expression
MAX_DEPTH = 40  # nested parentheses, signs and powers
MAX_BITS = 4096  # of a numerator or denominator
MAX_PLACES = 50  # of round()
DIGITS = 40  # of irrational results inside
SHOWN_DIGITS = 15  # of results that are no short decimal
_CONTEXT = Context(prec=DIGITS, Emax=10**6, Emin=-(10**6), traps=[])
_PI = Fraction("3.141592653589793238462643383279502884197")
_E = Fraction("2.718281828459045235360287471352662497757")
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|([a-z_]+)|(\*\*|//|[-+*/%^(),]))", re.ASCII)


class CalculatorError(ValueError):
    """An expression that has no value here; the text says why."""


class Value(NamedTuple):
    """A number, and whether it is exact (no irrational step)."""

    number: Fraction
    exact: bool = True


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else ("end", "")

    def take(self, *symbols: str) -> str | None:
        """The next token if it is one of these symbols."""
        kind, text = self.peek()
        if kind == "symbol" and text in symbols:
            self.at += 1
            return text
        return None

    def expect(self, symbol: str) -> None:
        if self.take(symbol) is None:
            raise CalculatorError(f"expected '{symbol}', got {self.found()}")

    def found(self) -> str:
        kind, text = self.peek()
        return "the end" if kind == "end" else f"'{text[:20]}'"

    def expression(self) -> Value:
        left = self.term()
        while symbol := self.take("+", "-"):
            left = _apply(symbol, left, self.term())
        return left

    def term(self) -> Value:
        left = self.unary()
        while symbol := self.take("*", "/", "//", "%"):
            left = _apply(symbol, left, self.unary())
        return left

    def unary(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise CalculatorError(f"nested more than {MAX_DEPTH} deep")
        if symbol := self.take("+", "-"):
            value = self.unary()
            result = value if symbol == "+" else Value(-value.number, value.exact)
        else:
            result = self.power()
        self.depth -= 1
        return result

    def power(self) -> Value:
        base = self.postfix()
        return _power(base, self.unary()) if self.take("**", "^") else base

    def postfix(self) -> Value:
        value = self.atom()
        while self.peek() == ("symbol", "%"):
            kind, text = self.peek(1)
            if kind in ("number", "name") or text == "(":
                break
            self.at += 1
            value = _checked(value.number / 100, value.exact)
        return value

    def atom(self) -> Value:
        kind, text = self.peek()
        if kind == "number":
            self.at += 1
            return _checked(Fraction(text), True)
        if kind == "name":
            self.at += 1
            if text in ("pi", "e"):
                return Value(_PI if text == "pi" else _E, False)
            if text not in FUNCTIONS:
                raise CalculatorError(f"unknown name '{text[:20]}'; known: pi, e, {', '.join(FUNCTIONS)}")
            self.expect("(")
            arguments = [self.expression()]
            while self.take(","):
                arguments.append(self.expression())
            self.expect(")")
            low, high, function = FUNCTIONS[text]
            if not low <= len(arguments) <= high:
                raise CalculatorError(
                    f"{text} takes {low}{'' if low == high else f' to {high}'} arguments, got {len(arguments)}"
                )
            result = function(*(a.number for a in arguments))
            number, exact = result if isinstance(result, Value) else (result, True)
            return _checked(number, exact and all(a.exact for a in arguments))
        if self.take("("):
            value = self.expression()
            self.expect(")")
            return value
        raise CalculatorError(f"expected a number, got {self.found()}")


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise CalculatorError(f"can not read '{text[at : at + 20].strip()}'")
        number, name, symbol = match.groups()
        tokens.append(("number", number) if number else ("name", name) if name else ("symbol", symbol))
        at = match.end()
    return tokens


def _checked(number: Fraction, exact: bool) -> Value:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_BITS:
        raise CalculatorError("a number gets too large or too finely divided")
    return Value(number, exact)


def _apply(symbol: str, left: Value, right: Value) -> Value:
    a, b = left.number, right.number
    if symbol in ("/", "//", "%") and not b:
        raise CalculatorError("division by zero")
    number = {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "/": lambda: a / b,
        "//": lambda: Fraction(a // b),
        "%": lambda: a % b,
    }[symbol]()
    return _checked(number, left.exact and right.exact)


def _power(base: Value, exponent: Value) -> Value:
    a, b = base.number, exponent.number
    exact = base.exact and exponent.exact
    if b.denominator == 1:
        n = b.numerator
        if not a and n < 0:
            raise CalculatorError("division by zero")
        size = max(abs(a.numerator), a.denominator).bit_length()
        if size > 1 and abs(n) * (size - 1) > MAX_BITS:
            raise CalculatorError("a power is too large")
        # 0, 1 and -1 to a huge power: only its parity matters.
        return _checked(a ** (n if size > 1 else (2 - n % 2 if n else 0)), exact)
    if a < 0:
        raise CalculatorError("a negative number to a fractional power")
    if not a:
        if b < 0:
            raise CalculatorError("division by zero")
        return Value(Fraction(0), exact)
    if b == Fraction(1, 2):
        root = _sqrt(a)
        return Value(root.number, root.exact and exact)
    return _irrational(_CONTEXT.power(_decimal(a), _decimal(b)))


def _decimal(number: Fraction) -> Decimal:
    return _CONTEXT.divide(Decimal(number.numerator), Decimal(number.denominator))


def _irrational(result: Decimal) -> Value:
    # The exponent is checked first: as a fraction, 1E+900000 would be a million digits.
    if not result.is_finite() or not -1000 < result.adjusted() < 1000:
        raise CalculatorError("a power is too large or too small")
    return _checked(Fraction(result), False)


def _sqrt(number: Fraction) -> Value:
    if number < 0:
        raise CalculatorError("square root of a negative number")
    above, below = isqrt(number.numerator), isqrt(number.denominator)
    if above**2 == number.numerator and below**2 == number.denominator:
        return Value(Fraction(above, below))
    return _irrational(_CONTEXT.sqrt(_decimal(number)))


def round_half_up(number: Fraction, places: Fraction = Fraction(0)) -> Fraction:
    """Rounded to `places` decimals, halves away from zero, as shops do."""
    if places.denominator != 1 or not 0 <= places <= MAX_PLACES:
        raise CalculatorError(f"round: expected 0 to {MAX_PLACES} places")
    scale = 10**places.numerator
    rounded = Fraction(floor(abs(number) * scale + Fraction(1, 2)), scale)
    return rounded if number >= 0 else -rounded


FUNCTIONS: dict[str, tuple[int, int, Callable[..., Fraction | Value]]] = {
    "sqrt": (1, 1, _sqrt),
    "abs": (1, 1, abs),
    "min": (1, 50, min),
    "max": (1, 50, max),
    "sum": (1, 50, lambda *values: sum(values, Fraction(0))),
    "round": (1, 2, round_half_up),
    "floor": (1, 1, lambda x: Fraction(floor(x))),
    "ceil": (1, 1, lambda x: Fraction(ceil(x))),
    "percent": (2, 2, lambda rate, of: rate * of / 100),
}


def evaluate(expression: str) -> Value:
    """The value of an expression. Raises: CalculatorError."""
    if len(expression) > MAX_LENGTH:
        raise CalculatorError(f"longer than {MAX_LENGTH} characters")
    parser = _Parser(expression)
    value = parser.expression()
    if parser.at < len(parser.tokens):
        raise CalculatorError(f"expected an operator, got {parser.found()}")
    return value


def shown_number(number: Fraction) -> str:
    """A number as decimal text: exact up to 30 decimals, else to 15 significant digits."""
    if number.denominator == 1:
        return str(number.numerator)
    rest, places = number.denominator, 0
    twos = (rest & -rest).bit_length() - 1
    rest >>= twos
    while rest % 5 == 0:
        rest //= 5
        places += 1
    places = max(twos, places)
    if rest == 1 and places <= 30:
        digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
        return f"{'-' if number < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    short = Context(prec=SHOWN_DIGITS, Emax=10**6, Emin=-(10**6), traps=[])
    result = short.divide(Decimal(number.numerator), Decimal(number.denominator))
    text = format(result, "f") if -7 < result.adjusted() < 30 else format(result, "e")
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
