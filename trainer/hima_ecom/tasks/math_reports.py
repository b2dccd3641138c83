"""Math, three calls: several results are asked for, each needing the one before."""

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
from trainer.hima_ecom.tasks.phrases import Phrases

GOAL = Phrases(
    (
        (
            "Our daily sales were {values}. The new daily goal is {rate} percent above the median, rounded up "
            "to a whole number. In a week of 7 days we have sold {sold} in the first {gone} days. What is the "
            "daily goal, and how many a day do we need on the rest to meet the week's goal?"
        ),
        (
            "Take the median of {values}, add {rate}% and round up: that is the goal per day. {sold} pieces are "
            "sold after {gone} of 7 days. Tell me the goal per day and the equal number for each remaining day "
            "so that 7 goals are reached."
        ),
        (
            "Goal per day: median of {values} plus {rate} percent, rounded up. After {gone} days of this 7-day "
            "week we stand at {sold}. State the goal and what each day left must sell to get to 7 times the goal."
        ),
        (
            "We sold {values} on past days. Set a daily target {rate}% over their median, next whole number up. "
            "This week, {gone} of 7 days gave {sold}. Which target is it, and what is needed on every day that "
            "is left to fulfil 7 targets?"
        ),
    ),
    (
        (
            "Past counts: {values}. Their median, raised by {rate} percent and rounded upwards, is what we want "
            "per day. The week has 7 days, {gone} are over and brought {sold}. Give the wanted count and the "
            "pace for the days to come."
        ),
        (
            "From {values} take the median, lift it by {rate}%, go up to the next integer. Of 7 days, {gone} "
            "have passed with {sold} sold. I need that integer, and the sales per open day that lead to 7 times "
            "it."
        ),
    ),
    (
        (
            "以往每天销量是 {values}。每日目标比中位数高 {rate}%，向上取整。一周 7 天，前 {gone} 天卖了 {sold} 。"
            "每日目标是多少？要达到 7 天的总目标，其余每天要卖多少？"
        ),
        (
            "取 {values} 的中位数，加 {rate}% 并向上取整作为日目标。本周 7 天过去 {gone} 天，已卖 {sold} 件，"
            "请给出日目标和剩下每天需要的销量。"
        ),
    ),
    (
        (
            "{values} 的中位数提高 {rate}%，再向上取整，就是每日指标。7 天里 {gone} 天已过，完成 {sold} 。指标"
            "是多少，余下的日子每天要完成多少才够 7 天的量？"
        ),
    ),
)  # fmt: skip
PLANS = Phrases(
    (
        (
            "Our monthly orders were {values}. Plan A costs {a} {cur} plus {p} {cur} an order, plan B {b} {cur} "
            "plus {q} {cur} an order. What does each plan cost in a month with the median number of orders?"
        ),
        (
            "At the median of {values} orders a month, what would plan A ({a} {cur} fixed, {p} {cur} per order) "
            "and plan B ({b} {cur} fixed, {q} {cur} per order) cost?"
        ),
        (
            "Compare two plans at the median of these monthly orders: {values}. A: {a} {cur} and {p} {cur} for "
            "each order. B: {b} {cur} and {q} {cur} for each order. Give both costs."
        ),
        (
            "Plan A: {a} {cur} a month and {p} {cur} an order. Plan B: {b} {cur} a month and {q} {cur} an order. "
            "Months had {values} orders. Tell me what A and B come to for the median."
        ),
    ),
    (
        (
            "A typical month is the median of {values} orders. Tariff A takes {a} {cur} basic fee and {p} {cur} "
            "every order, tariff B {b} {cur} and {q} {cur}. Both monthly bills, please."
        ),
        (
            "With orders of {values} in recent months, use their median to price contract A (fee {a} {cur}, {p} "
            "{cur} an order) and contract B (fee {b} {cur}, {q} {cur} an order)."
        ),
    ),
    (
        (
            "每月订单数是 {values}。套餐 A 月费 {a} {cur}，每单 {p} {cur}；套餐 B 月费 {b} {cur}，每单 {q} {cur}。"
            "按订单数的中位数，两种套餐各要多少？"
        ),
        "取 {values} 的中位数作为月订单数，A（{a} {cur} 加每单 {p} {cur}）和 B（{b} {cur} 加每单 {q} {cur}）分别花费多少？",
    ),
    (
        (
            "近几个月的订单为 {values}，以中位数估算：方案 A 固定 {a} {cur}、每单 {p} {cur}，方案 B 固定 {b} "
            "{cur}、每单 {q} {cur}，费用各是多少？"
        ),
    ),
)  # fmt: skip
REFUND = Phrases(
    (
        (
            "I paid {total} {cur} for {count} {items}, {extra} {cur} of it shipping. I return {back} of them, "
            "less a fee of {rate} percent. How much is refunded, to the cent, and what percent of my payment "
            "is that, to 1 decimal?"
        ),
        (
            "{count} {items} and {extra} {cur} postage made {total} {cur}. If {back} go back and {rate}% of their "
            "price is kept, what do I get in cents exact, and which percentage (1 decimal) of the total is it?"
        ),
        (
            "Out of {count} equal {items} I send back {back}. The bill was {total} {cur} including {extra} {cur} "
            "delivery, and you keep {rate} percent of the returned price. State the refund and its share of the "
            "bill in percent with 1 decimal."
        ),
        (
            "Work out my refund for {back} of {count} {items}: total paid {total} {cur}, shipping {extra} {cur} "
            "not refunded, {rate}% restocking fee. Also say how many percent of the total that is, 1 decimal."
        ),
    ),
    (
        (
            "A purchase of {count} {items} with {extra} {cur} freight ran to {total} {cur}. {back} pieces return, "
            "minus {rate}% handling. Which sum comes back to me, and what part of {total} {cur} in percent, one "
            "decimal?"
        ),
        (
            "Refund due on {back} {items}, when {count} of them plus {extra} {cur} carriage were {total} {cur} "
            "and {rate} percent is withheld? Express it as a percentage of the payment, too, to one decimal."
        ),
    ),
    (
        (
            "我花 {total} {cur} 买了 {count} {measure}{item}，其中运费 {extra} {cur}。退 {back} {measure}，扣"
            " {rate}% 手续费，能退多少（到分）？占付款的百分之几（1 位小数）？"
        ),
        (
            "{count} {measure}{item}加运费 {extra} {cur} 共 {total} {cur}。退回 {back} {measure}，按货价扣 {rate}% ，"
            "请算退款额和它占总额的百分比（保留 1 位小数）。"
        ),
    ),
    (
        (
            "账单 {total} {cur}，含 {extra} {cur} 运费和 {count} {measure}{item}，现退 {back} {measure}，扣除"
            " {rate}%，退款是多少，占账单百分之几（1 位小数）？"
        ),
    ),
)  # fmt: skip
SPLIT = Phrases(
    (
        (
            "The bill is {bill} {cur}. Add {rate} percent tip, to the cent; {people} of us each pay the same, "
            "rounded up to whole {cur}. What is the bill with tip, what does each pay, and how much is left over?"
        ),
        (
            "We are {people}. Our meal cost {bill} {cur} plus {rate}% service, rounded to cents. Everyone puts "
            "in an equal whole number of {cur}, rounded up. Tell me the total, the payment of each, and the surplus."
        ),
        (
            "Split {bill} {cur} and {rate}% tip among {people}: first the total in cents, then each share rounded "
            "up to full {cur}, then what remains in the kitty. I need all three."
        ),
        (
            "{people} friends owe {bill} {cur}. With {rate} percent on top (rounded to cents), everybody gives "
            "the same amount in whole {cur}, upwards. Give total, amount per friend and the rest."
        ),
    ),
    (
        (
            "Dinner for {people} came to {bill} {cur}. After {rate}% gratuity, to the cent, we all lay down equally "
            "many full {cur}, just enough. Say the sum due, the contribution of each and the excess."
        ),
        (
            "Three figures for a table of {people}: {bill} {cur} with {rate} percent added and rounded to cents, "
            "one equal part raised to the next whole {cur}, and the change that results."
        ),
    ),
    (
        (
            "账单 {bill} {cur}，加 {rate}% 小费（到分），{people} 人平摊，每人付向上取整到整 {cur} 的金额。含"
            "小费总额、每人付款、多收的钱各是多少？"
        ),
        (
            "{people} 个人吃饭花了 {bill} {cur}，另加 {rate}% 服务费，四舍五入到分；每人出同样的整数金额（向上"
            "取整）。请给出总额、每人金额和剩余。"
        ),
    ),
    (
        (
            "聚餐 {bill} {cur}，服务费 {rate}%（精确到分），{people} 人每人交整数 {cur}，不足向上取整。应付总"
            "额、每人金额、结余分别是多少？"
        ),
    ),
)  # fmt: skip


@family("math", 3)
def sales_goal(b: Builder) -> None:
    """A goal from a median, and the pace that is left to reach it."""
    values, rate, gone = some_numbers(b, b.rng.choice((6, 8)), 20, 300), number(b, 4, 40), number(b, 2, 5)
    middle = sum(sorted(values)[len(values) // 2 - 1 : len(values) // 2 + 1]) / 2
    expected = -int(-middle * (100 + rate) // 100)  # rounded up
    pace = expected + number(b, -expected // 3, expected // 2)
    sold = 7 * expected - (7 - gone) * pace
    if sold < 1:
        raise Skip("nothing sold")
    w.ask(b, b.phrase(GOAL, values=listed(b, values), rate=rate, gone=gone, sold=sold))
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


@family("math", 3)
def plans_at_median(b: Builder) -> None:
    """What two plans cost for the median of months."""
    values, cur = some_numbers(b, b.rng.choice((6, 8)), 20, 400), b.rng.choice(CURRENCIES)
    (one, two), (p, q) = some_numbers(b, 2, 9, 190), (price(b, 0.15, 4.8), price(b, 0.15, 4.8))
    w.ask(b, b.phrase(PLANS, values=listed(b, values), a=one, b=two, p=p, q=q, cur=cur))
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


@family("math", 3)
def basket_refund(b: Builder) -> None:
    """A refund from a total, and its share of it."""
    (item,), count, each, extra = items(b, 1), number(b, 4, 15), price(b, 3, 90), price(b, 2, 15)
    back, rate, cur = number(b, 2, count - 1), number(b, 3, 30), b.rng.choice(CURRENCIES)
    total = f"{count * float(each) + float(extra):.2f}"
    said = {"items": item.many, "item": named(b, item), "measure": item.measure, "count": count, "back": back}
    w.ask(b, b.phrase(REFUND, extra=extra, total=total, rate=rate, cur=cur, **said))
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


@family("math", 3)
def split_up(b: Builder) -> None:
    """A bill with a tip, whole equal payments, and what is left over."""
    bill, rate, people, cur = price(b, 40, 700), number(b, 4, 22), number(b, 3, 12), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase(SPLIT, bill=bill, rate=rate, people=people, cur=cur))
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
