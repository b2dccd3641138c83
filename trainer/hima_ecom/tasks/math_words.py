"""Math, one call: statistics, one unknown, shares and rates."""

from trainer.hima_ecom.names import FIRST_NAMES
from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.mathematics import CURRENCIES, MONEY, a_list, amount, items, named, number, price, some_numbers
from trainer.hima_ecom.tasks.template import Facts, Number, Template, call, templates
from trainer.hima_ecom.tasks.texts import table


def _some_values(b: Builder) -> Facts:
    names = table("math_words/statistics")
    values, name = some_numbers(b, b.rng.choice((6, 8, 10)), 11, 480), b.rng.choice(tuple(names))
    said = {"what": w.pick(b, names[name]), "places": w.decimals(b, 1)}
    return a_list(b, values) | said | {"name": name, "names": names[name]}


def _statistic(facts: Facts) -> Facts:
    result = str(facts["seen"][facts["name"]])
    return {"result": result, "rounded": w.rounded(result, 1), "tolerance": w.tolerance(1)}


def _an_invoice(b: Builder) -> Facts:
    (item,), count, each, extra = items(b, 1), number(b, 3, 14), price(b, 3, 120), price(b, 2, 15)
    cur, total = b.rng.choice(CURRENCIES), f"{count * float(each) + float(extra):.2f}"
    said = {"items": item.many, "item": named(b, item), "measure": item.measure, "one": item.one, "chinese": item.zh}
    return said | {"count": count, "extra": extra, "cur": cur, "total": total}


def _a_ratio(b: Builder) -> Facts:
    (x, y, z), people = some_numbers(b, 3, 2, 15), b.rng.sample(FIRST_NAMES, 3)
    total, cur = number(b, 4, 95) * (x + y + z), b.rng.choice(CURRENCIES)
    return dict(zip("abc", people, strict=True)) | {"x": x, "y": y, "z": z, "total": total, "cur": cur}


def _two_workers(b: Builder) -> Facts:
    (x, y), (one, two) = some_numbers(b, 2, 3, 60), b.rng.sample(FIRST_NAMES, 2)
    return {"a": one, "b": two, "x": x, "y": y, "places": w.decimals(b, 2)}


templates(
    "math",
    "math_words",
    Template(
        "statistic", 1, "A statistic of a list of numbers.", _some_values,
        call("statistics", values="{list}", what="{name}"),
        Number("{rounded}", None, "{tolerance}"),
        read=_statistic,
        ask=("math_words/statistic", "common/round"),
    ),
    Template(
        "unknown_price", 1, "The price of one from a total with shipping.", _an_invoice,
        call("solve_linear", equation="{count}x + {extra} = {total}"),
        MONEY,
        read=amount,
    ),
    Template(
        "ratio_share", 1, "One of three shares in a ratio.", _a_ratio,
        call("calculate", expression="{total} * {y} / ({x} + {y} + {z})"),
        MONEY,
        read=amount,
    ),
    Template(
        "work_rate", 1, "The time that two need together.", _two_workers,
        call("calculate", expression="round(1 / (1 / {x} + 1 / {y}), 2)"),
        Number("{amount}", "h"),
        read=amount,
        ask=("math_words/work_rate", "common/round"),
    ),
)  # fmt: skip
