"""Math, two calls: an unknown or a median, then a result from it; or two results."""

from trainer.hima_ecom.names import FIRST_NAMES
from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.mathematics import (
    CURRENCIES,
    MONEY,
    a_list,
    amount,
    cents,
    items,
    named,
    number,
    price,
    some_numbers,
)
from trainer.hima_ecom.tasks.template import Facts, Number, Template, call, templates


def _two_ages(b: Builder) -> Facts:
    (one, two), times, young = b.rng.sample(FIRST_NAMES, 2), number(b, 2, 5), number(b, 4, 17)
    years, later = some_numbers(b, 2, 2, 25)
    total = young + times * young + 2 * years
    return {"a": one, "b": two, "times": times, "years": years, "later": later, "total": total}


def _two_prices(b: Builder) -> Facts:
    count, cur, (low, high) = number(b, 30, 400), b.rng.choice(CURRENCIES), sorted(some_numbers(b, 2, 4, 45))
    adults = number(b, 9, count - 9)
    return {"count": count, "total": adults * high + (count - adults) * low, "cur": cur, "high": high, "low": low}


def _some_offers(b: Builder) -> Facts:
    (item,), rate, cur = items(b, 1), number(b, 4, 45), b.rng.choice(CURRENCIES)
    return {"item": named(b, item), "rate": rate, "cur": cur} | a_list(b, some_numbers(b, b.rng.choice((6, 8)), 19, 700))


def _a_taxed_price(b: Builder) -> Facts:
    (item,), cost, cur = items(b, 1), price(b, 20, 900), b.rng.choice(CURRENCIES)
    rate, tax = some_numbers(b, 2, 4, 40)
    return {"item": named(b, item), "price": cost, "rate": rate, "tax": tax, "cur": cur}


def _some_scores(b: Builder) -> Facts:
    values = some_numbers(b, b.rng.choice((4, 5, 8)), 31, 99)
    count, total = len(values), sum(values)
    target = b.rng.choice([t for t in range(30, 100) if 20 <= t * (count + 1) - total <= 130])
    return a_list(b, values) | {"count": count, "more": count + 1, "target": target}


templates(
    "math",
    "math_chains",
    Template(
        "ages", 2, "An age from a ratio and a sum.", _two_ages,
        (
            call("solve_linear", into="young", equation="(x + {years}) + ({times}x + {years}) = {total}"),
            call("calculate", into="age", expression="{times} * {young[x]} + {later}"),
        ),
        Number("{age[result]}", None, "0"),
        noise=0.3,
    ),
    Template(
        "tickets", 2, "What the adults paid, from a count and a sum.", _two_prices,
        (
            call("solve_linear", into="adults", equation="{high}x + {low}*({count} - x) = {total}"),
            call("calculate", expression="{adults[x]} * {high}"),
        ),
        MONEY,
        read=amount,
        noise=0.3,
    ),
    Template(
        "median_off", 2, "Some percent below the median of prices.", _some_offers,
        (
            call("statistics", into="middle", values="{list}", what="median"),
            call("calculate", expression="round({middle[median]} * (100 - {rate}) / 100, 2)"),
        ),
        MONEY,
        read=amount,
        noise=0.3,
    ),
    Template(
        "discount_and_tax", 2, "A reduced price and the tax on it.", _a_taxed_price,
        (
            call("calculate", into="left", expression="round({price} * (100 - {rate}) / 100, 2)"),
            call("calculate", into="due", expression="round({left[result]} * {tax} / 100, 2)"),
        ),
        (Number("{left}", "{cur}"), Number("{due}", "{cur}")),
        read=cents("left", "due"),
        noise=0.3,
    ),
    Template(
        "needed_score", 2, "The mean of scores, and the next that makes it what is wanted.", _some_scores,
        (
            call("statistics", into="now", values="{list}", what="mean"),
            call("solve_linear", into="next", equation="{count}*{now[mean]} + x = {more}*{target}"),
        ),
        (Number("{now[mean]}"), Number("{next[x]}", None, "0")),
        noise=0.3,
    ),
)  # fmt: skip
