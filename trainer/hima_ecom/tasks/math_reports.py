"""Math, three calls: several results, each of which needs the one before."""

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.mathematics import CURRENCIES, a_list, cents, items, named, number, price, some_numbers
from trainer.hima_ecom.tasks.template import Facts, Number, Template, call, templates


def _some_sales(b: Builder) -> Facts:
    values, rate, gone = some_numbers(b, b.rng.choice((6, 8)), 20, 300), number(b, 4, 40), number(b, 2, 5)
    middle = sum(sorted(values)[len(values) // 2 - 1 : len(values) // 2 + 1]) / 2
    expected = -int(-middle * (100 + rate) // 100)  # rounded up
    pace = expected + number(b, -expected // 3, expected // 2)
    sold = 7 * expected - (7 - gone) * pace
    if sold < 1:
        raise Skip("nothing sold")
    return a_list(b, values) | {"rate": rate, "gone": gone, "sold": sold, "left": 7 - gone}


def _two_plans(b: Builder) -> Facts:
    values, cur = some_numbers(b, b.rng.choice((6, 8)), 20, 400), b.rng.choice(CURRENCIES)
    (one, two), (p, q) = some_numbers(b, 2, 9, 190), (price(b, 0.15, 4.8), price(b, 0.15, 4.8))
    return a_list(b, values) | {"a": one, "b": two, "p": p, "q": q, "cur": cur}


def _a_return(b: Builder) -> Facts:
    (item,), count, each, extra = items(b, 1), number(b, 4, 15), price(b, 3, 90), price(b, 2, 15)
    back, rate, cur = number(b, 2, count - 1), number(b, 3, 30), b.rng.choice(CURRENCIES)
    said = {"items": item.many, "item": named(b, item), "measure": item.measure, "count": count, "back": back}
    return said | {"extra": extra, "total": f"{count * float(each) + float(extra):.2f}", "rate": rate, "cur": cur}


def _refund(facts: Facts) -> Facts:
    return cents("refund")(facts) | {"share": w.rounded(str(facts["share"]["result"]), 1)}


def _a_bill(b: Builder) -> Facts:
    bill = {"bill": price(b, 40, 700), "rate": number(b, 4, 22), "people": number(b, 3, 12)}
    return bill | {"cur": b.rng.choice(CURRENCIES)}


MEDIAN = call("statistics", into="middle", values="{list}", what="median")
templates(
    "math",
    "math_reports",
    Template(
        "sales_goal", 3, "A goal from a median, and the pace that is left to reach it.", _some_sales,
        (
            MEDIAN,
            call("calculate", into="goal", expression="ceil({middle[median]} * (100 + {rate}) / 100)"),
            call("solve_linear", into="pace", equation="{left}x + {sold} = 7*{goal[result]}"),
        ),
        (Number("{goal[result]}", None, "0"), Number("{pace[x]}", None, "0")),
    ),
    Template(
        "plans_at_median", 3, "What two plans cost for the median of months.", _two_plans,
        (
            MEDIAN,
            call("calculate", into="one", expression="round({a} + {middle[median]} * {p}, 2)"),
            call("calculate", into="two", expression="round({b} + {middle[median]} * {q}, 2)"),
        ),
        (Number("{one}", "{cur}"), Number("{two}", "{cur}")),
        read=cents("one", "two"),
    ),
    Template(
        "basket_refund", 3, "A refund from a total, and its share of it.", _a_return,
        (
            call("solve_linear", into="each", equation="{count}x + {extra} = {total}"),
            call("calculate", into="refund", expression="round({back} * {each[x]} * (100 - {rate}) / 100, 2)"),
            call("calculate", into="share", expression="round({refund[result]} / {total} * 100, 1)"),
        ),
        (Number("{refund}", "{cur}"), Number("{share}", None, "0.05")),
        read=_refund,
    ),
    Template(
        "split_up", 3, "A bill with a tip, whole equal payments, and what is left over.", _a_bill,
        (
            call("calculate", into="total", expression="round({bill} * (100 + {rate}) / 100, 2)"),
            call("calculate", into="each", expression="ceil({total[result]} / {people})"),
            call("calculate", into="over", expression="{people} * {each[result]} - {total[result]}"),
        ),
        (Number("{total}", "{cur}"), Number("{each[result]}", "{cur}"), Number("{over}", "{cur}")),
        read=cents("total", "over"),
    ),
)  # fmt: skip
