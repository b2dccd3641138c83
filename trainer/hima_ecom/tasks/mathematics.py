"""Math, one call: baskets, percentages, unit prices, bills; and the helpers of all Math families."""

from collections.abc import Callable
from typing import NamedTuple

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.template import Facts, Number, Template, call, templates
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


def a_list(b: Builder, values: list[int]) -> Facts:
    """Return a list of numbers as the query, the sub-agent and the tool take it."""
    return {"values": listed(b, values), "numbers": ", ".join(map(str, values)), "list": values}


def amount(facts: Facts) -> Facts:
    """Return the result of the last call as an amount of money."""
    return {"amount": w.rounded(str(facts["seen"].get("result", facts["seen"].get("x"))), 2)}


def cents(*names: str) -> Callable[[Facts], Facts]:
    """Return what rounds results of calculations to cents: the facts with these names."""
    return lambda facts: {name: w.rounded(str(facts[name]["result"]), 2) for name in names}


def _a_basket(b: Builder) -> Facts:
    bought = [(number(b, 2, 9), item, price(b, 2, 90)) for item in items(b, number(b, 2, 4))]
    cur = b.rng.choice(CURRENCIES)
    english = [f"{count} {item.many} at {each}" for count, item, each in bought]
    chinese = [f"{count} {item.measure}{item.zh}（每{item.measure} {each}）" for count, item, each in bought]
    joined = f"{', '.join(english[:-1])} and {english[-1]}"
    total = " + ".join(f"{count} * {each}" for count, _, each in bought)
    return {"cur": cur, "joined": joined, "lines": "、".join(chinese) if b.zh else joined, "expression": total}


def _a_discount(b: Builder) -> Facts:
    (item,), cost, rate, cur = items(b, 1), price(b, 8, 900), number(b, 3, 65), b.rng.choice(CURRENCIES)
    said = {"item": named(b, item), "measure": item.measure}
    return said | {"price": cost, "rate": rate, "cur": cur, "left": 100 - rate}


def _two_prices(b: Builder) -> Facts:
    (item,), cur, places = items(b, 1), b.rng.choice(CURRENCIES), number(b, 1, 2)
    low, high = sorted((price(b, 10, 400), price(b, 10, 400)), key=float)
    up = b.rng.random() < 0.5
    old, new = (low, high) if up else (high, low)
    move = w.pick(b, ("increase", "上涨") if up else ("decrease", "下降"))
    said = {"item": named(b, item), "move": move, "english": "an increase" if up else "a decrease"}
    prices = {"low": low, "high": high, "old": old, "new": new, "cur": cur}
    return said | prices | {"decimals": places, "places": w.decimals(b, places), "tolerance": w.tolerance(places)}


def _a_sack(b: Builder) -> Facts:
    return {"size": number(b, 12, 190) / 10, "price": price(b, 5, 300), "cur": b.rng.choice(CURRENCIES)}


def _a_bill(b: Builder) -> Facts:
    bill = {"bill": price(b, 30, 600), "rate": number(b, 4, 22), "people": number(b, 3, 12)}
    return bill | {"cur": b.rng.choice(CURRENCIES)}


MONEY = Number("{amount}", "{cur}")
templates(
    "math",
    "mathematics",
    Template(
        "basket", 1, "The total of a basket.", _a_basket,
        call("calculate", expression="{expression}"),
        MONEY,
        read=amount,
    ),
    Template(
        "discount", 1, "A price less some percent.", _a_discount,
        call("calculate", expression="round({price} * (100 - {rate}) / 100, 2)"),
        MONEY,
        read=amount,
    ),
    Template(
        "percent_change", 1, "By how many percent a price rose or fell.", _two_prices,
        call("calculate", expression="round(({high} - {low}) / {old} * 100, {decimals})"),
        Number("{rounded}", None, "{tolerance}"),
        read=lambda facts: {"rounded": w.rounded(str(facts["seen"]["result"]), facts["decimals"])},
        ask=("mathematics/percent_change", "common/round"),
    ),
    Template(
        "unit_price", 1, "The price of a kilogram.", _a_sack,
        call("calculate", expression="round({price} / {size}, 2)"),
        MONEY,
        read=amount,
    ),
    Template(
        "tip_split", 1, "A bill with a tip, split equally.", _a_bill,
        call("calculate", expression="round({bill} * (100 + {rate}) / 100 / {people}, 2)"),
        MONEY,
        read=amount,
    ),
)  # fmt: skip
