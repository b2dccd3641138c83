"""Math, three calls: several results, each of which needs the one before."""

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.mathematics import (
    CURRENCIES,
    calculate,
    items,
    listed,
    mathematician,
    named,
    number,
    price,
    solve,
    some_numbers,
)


@family("math", 3, "A goal from a median, and the pace that is left to reach it.")
def sales_goal(b: Builder) -> None:
    values, rate, gone = some_numbers(b, b.rng.choice((6, 8)), 20, 300), number(b, 4, 40), number(b, 2, 5)
    middle = sum(sorted(values)[len(values) // 2 - 1 : len(values) // 2 + 1]) / 2
    expected = -int(-middle * (100 + rate) // 100)  # rounded up
    pace = expected + number(b, -expected // 3, expected // 2)
    sold = 7 * expected - (7 - gone) * pace
    if sold < 1:
        raise Skip("nothing sold")
    w.ask(b, b.phrase("math_reports/sales_goal", values=listed(b, values), rate=rate, gone=gone, sold=sold))
    task = (
        f"The daily goal is the median of {', '.join(map(str, values))} plus {rate} percent, rounded up. {sold} were sold in "
        f"the first {gone} of 7 days. What is the goal, and how many a day must the other days sell to reach 7 goals?"
    )
    math = mathematician(b, task)
    median = math.call("statistics", "First the median.", values=values, what="median")["median"]
    goal = calculate(math, f"{rate} percent above {median}, rounded up.", f"ceil({median} * (100 + {rate}) / 100)")
    left = 7 - gone
    x = solve(math, f"{left} days of x and {sold} make 7 times {goal}.", f"{left}x + {sold} = 7*{goal}")
    math.answer(f"The goal is {goal} a day; the other {left} days need {x} each.")
    b.expect_number(goal, None, "0")
    b.expect_number(x, None, "0")
    w.finish(b, f"The daily goal is {goal}; each remaining day needs {x}.", f"每日目标 {goal} ，其余每天需要 {x} 。")


@family("math", 3, "What two plans cost for the median of months.")
def plans_at_median(b: Builder) -> None:
    values, cur = some_numbers(b, b.rng.choice((6, 8)), 20, 400), b.rng.choice(CURRENCIES)
    (one, two), (p, q) = some_numbers(b, 2, 9, 190), (price(b, 0.15, 4.8), price(b, 0.15, 4.8))
    w.ask(b, b.phrase("math_reports/plans_at_median", values=listed(b, values), a=one, b=two, p=p, q=q, cur=cur))
    task = (
        f"With the median of {', '.join(map(str, values))} orders, what do plan A ({one} {cur} plus {p} an order) and plan B "
        f"({two} {cur} plus {q} an order) cost?"
    )
    math = mathematician(b, task)
    orders = math.call("statistics", "First the median.", values=values, what="median")["median"]
    costs = [
        w.rounded(calculate(math, f"Plan {name} for {orders} orders.", f"round({fixed} + {orders} * {each}, 2)"), 2)
        for name, fixed, each in (("A", one, p), ("B", two, q))
    ]
    math.answer(f"Plan A costs {costs[0]} {cur} and plan B {costs[1]} {cur}.")
    for cost in costs:
        b.expect_number(cost, cur)
    w.finish(b, f"Plan A: {costs[0]} {cur}. Plan B: {costs[1]} {cur}.", f"A 要 {costs[0]} {cur}，B 要 {costs[1]} {cur}。")


@family("math", 3, "A refund from a total, and its share of it.")
def basket_refund(b: Builder) -> None:
    (item,), count, each, extra = items(b, 1), number(b, 4, 15), price(b, 3, 90), price(b, 2, 15)
    back, rate, cur = number(b, 2, count - 1), number(b, 3, 30), b.rng.choice(CURRENCIES)
    total = f"{count * float(each) + float(extra):.2f}"
    said = {"items": item.many, "item": named(b, item), "measure": item.measure, "count": count, "back": back}
    w.ask(b, b.phrase("math_reports/basket_refund", extra=extra, total=total, rate=rate, cur=cur, **said))
    task = (
        f"{count} {item.many} and {extra} {cur} shipping cost {total} {cur}. What is refunded for {back} of them less "
        f"{rate} percent, in cents, and which percentage of the total is that, to 1 decimal?"
    )
    math = mathematician(b, task)
    x = solve(math, f"With x for one: {count} of them plus {extra} is {total}.", f"{count}x + {extra} = {total}")
    refund = calculate(math, f"{back} at {x}, less {rate} percent.", f"round({back} * {x} * (100 - {rate}) / 100, 2)")
    share = calculate(math, f"{refund} as percent of {total}.", f"round({refund} / {total} * 100, 1)")
    refund, share = w.rounded(refund, 2), w.rounded(share, 1)
    math.answer(f"The refund is {refund} {cur}, which is {share} percent of the total.")
    b.expect_number(refund, cur)
    b.expect_number(share, None, "0.05")
    w.finish(b, f"The refund is {refund} {cur}, {share} percent of the total.", f"退款 {refund} {cur}，占总额的 {share} %。")


@family("math", 3, "A bill with a tip, whole equal payments, and what is left over.")
def split_up(b: Builder) -> None:
    bill, rate, people, cur = price(b, 40, 700), number(b, 4, 22), number(b, 3, 12), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase("math_reports/split_up", bill=bill, rate=rate, people=people, cur=cur))
    task = (
        f"Add {rate} percent to {bill} {cur}, in cents; {people} people pay equal whole amounts, rounded up. Give the total, "
        "what each pays, and the surplus."
    )
    math = mathematician(b, task)
    total = calculate(math, f"First the bill with {rate} percent, in cents.", f"round({bill} * (100 + {rate}) / 100, 2)")
    each = calculate(math, f"{total} over {people}, rounded up.", f"ceil({total} / {people})")
    over = calculate(math, f"{people} times {each} less {total}.", f"{people} * {each} - {total}")
    total, over = w.rounded(total, 2), w.rounded(over, 2)
    math.answer(f"The total is {total} {cur}; each pays {each} {cur}; {over} {cur} are left over.")
    for amount in (total, each, over):
        b.expect_number(amount, cur)
    en = f"The total is {total} {cur}; each pays {each} {cur}; {over} {cur} are left over."
    w.finish(b, en, f"总额 {total} {cur}，每人付 {each} {cur}，多出 {over} {cur}。")
