"""Math, one call: baskets, percentages, unit prices, bills; and the helpers of all Math families."""

from typing import NamedTuple

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Expert
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.texts import table


class Item(NamedTuple):
    """Something to buy: singular, plural, Chinese, and the Chinese measure word."""

    one: str
    many: str
    zh: str
    measure: str


CURRENCIES = ("USD", "EUR", "GBP")


def number(b: Builder, low: int, high: int) -> int:
    """Draw a whole number, both bounds included."""
    return b.rng.randint(low, high)


def price(b: Builder, low: float, high: float) -> str:
    """Draw a price with cents, as text."""
    return f"{b.rng.randint(round(low * 100), round(high * 100)) / 100:.2f}"


def items(b: Builder, count: int) -> list[Item]:
    """Draw different items; those of the test split never occur in training."""
    known = (Item(one, *words) for one, words in table("mathematics/items").items())
    return b.rng.sample([item for item in known if held_out(item.one) == b.pools.test], count)


def named(b: Builder, item: Item) -> str:
    """Return the singular of an item in the query's language."""
    return item.zh if b.zh else item.one


def some_numbers(b: Builder, count: int, low: int, high: int) -> list[int]:
    """Draw different whole numbers."""
    return b.rng.sample(range(low, high), count)


def listed(b: Builder, values: list[int] | list[str]) -> str:
    """Return values as a query lists them."""
    return w.pick(b, (", ", "、")).join(map(str, values))


def mathematician(b: Builder, task: str) -> Expert:
    """Delegate a task to the math agent."""
    return b.delegate("math", task, "Something to compute; the math agent does it.")


def calculate(expert: Expert, thought: str, expression: str) -> str:
    """Let the agent calculate an expression and return the result."""
    return str(expert.call("calculate", thought, expression=expression)["result"])


def solve(expert: Expert, thought: str, equation: str) -> str:
    """Let the agent solve an equation and return x."""
    return str(expert.call("solve_linear", thought, equation=equation)["x"])


def money(b: Builder, math: Expert, result: str, cur: str, en: str, zh: str) -> None:
    """Answer with an amount of money, which `en` and `zh` name as {answer}."""
    answer = f"{w.rounded(result, 2)} {cur}"
    math.answer(f"It is {answer}.")
    b.expect_number(w.rounded(result, 2), cur)
    w.finish(b, en.format(answer=answer), zh.format(answer=answer))


@family("math", 1, "The total of a basket.")
def basket(b: Builder) -> None:
    bought = [(number(b, 2, 9), item, price(b, 2, 90)) for item in items(b, number(b, 2, 4))]
    cur = b.rng.choice(CURRENCIES)
    english = [f"{count} {item.many} at {each}" for count, item, each in bought]
    chinese = [f"{count} {item.measure}{item.zh}（每{item.measure} {each}）" for count, item, each in bought]
    joined = f"{', '.join(english[:-1])} and {english[-1]}"
    w.ask(b, b.phrase("mathematics/basket", lines="、".join(chinese) if b.zh else joined, cur=cur))
    math = mathematician(b, f"What is the total in {cur} of {joined}?")
    total = calculate(math, "Each count times its price, added up.", " + ".join(f"{n} * {each}" for n, _, each in bought))
    money(b, math, total, cur, "The total is {answer}.", "一共是 {answer}。")


@family("math", 1, "A price less some percent.")
def discount(b: Builder) -> None:
    (item,), cost, rate, cur = items(b, 1), price(b, 8, 900), number(b, 3, 65), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase("mathematics/discount", item=named(b, item), measure=item.measure, price=cost, rate=rate, cur=cur))
    math = mathematician(b, f"What is {cost} {cur} less {rate} percent?")
    left = calculate(math, f"{100 - rate} percent remain; I round to cents.", f"round({cost} * (100 - {rate}) / 100, 2)")
    money(b, math, left, cur, "The new price is {answer}.", "现价是 {answer}。")


@family("math", 1, "By how many percent a price rose or fell.")
def percent_change(b: Builder) -> None:
    (item,), cur, places = items(b, 1), b.rng.choice(CURRENCIES), number(b, 1, 2)
    low, high = sorted((price(b, 10, 400), price(b, 10, 400)), key=float)
    up = b.rng.random() < 0.5
    old, new = (low, high) if up else (high, low)
    move = w.pick(b, (("increase", "上涨") if up else ("decrease", "下降")))
    w.ask(
        b,
        b.phrase("mathematics/percent_change", item=named(b, item), old=old, new=new, cur=cur, move=move),
        w.say_places(b, places),
    )
    math = mathematician(b, f"By how many percent do {old} and {new} differ, relative to {old}? Round to {places} decimals.")
    share = calculate(math, f"The difference divided by {old}.", f"round(({high} - {low}) / {old} * 100, {places})")
    rounded = w.rounded(share, places)
    math.answer(f"It is {rounded} percent.")
    b.expect_number(rounded, None, w.tolerance(places))
    w.finish(b, f"It is {'an increase' if up else 'a decrease'} of {rounded} percent.", f"{move}了 {rounded} %。")


@family("math", 1, "The price of a kilogram.")
def unit_price(b: Builder) -> None:
    size, cost, cur = number(b, 12, 190) / 10, price(b, 5, 300), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase("mathematics/unit_price", size=size, price=cost, cur=cur))
    math = mathematician(b, f"What is the price of one kg if {size} kg cost {cost} {cur}?")
    each = calculate(math, "The price divided by the weight, in cents.", f"round({cost} / {size}, 2)")
    money(b, math, each, cur, "One kilogram costs {answer}.", "每公斤 {answer}。")


@family("math", 1, "A bill with a tip, split equally.")
def tip_split(b: Builder) -> None:
    bill, rate, people, cur = price(b, 30, 600), number(b, 4, 22), number(b, 3, 12), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase("mathematics/tip_split", bill=bill, rate=rate, people=people, cur=cur))
    math = mathematician(b, f"{bill} {cur} plus {rate} percent is split among {people} people. What does one pay?")
    each = calculate(math, "The bill with the tip, divided, in cents.", f"round({bill} * (100 + {rate}) / 100 / {people}, 2)")
    money(b, math, each, cur, "Each pays {answer}.", "每人付 {answer}。")
