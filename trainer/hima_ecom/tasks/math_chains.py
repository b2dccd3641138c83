"""Math, two calls: an unknown or a median first, then what follows from it; or two results that were asked for."""

from trainer.hima_ecom.names import FIRST_NAMES
from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.mathematics import (
    CURRENCIES,
    calculate,
    items,
    listed,
    mathematician,
    money,
    named,
    number,
    price,
    solve,
    some_numbers,
)
from trainer.hima_ecom.tasks.phrases import Phrases

AGES = Phrases(
    (
        (
            "{a} is {times} times as old as {b}. In {years} years their ages add up to {total}. How old is {a} "
            "{later} years from now?"
        ),
        (
            "Today {a} has {times} times the age of {b}, and {years} years from now both together will be {total}. "
            "What will the age of {a} be in {later} years?"
        ),
        (
            "In {years} years {a} and {b} will be {total} years old together. Now {a} is {times} times as old "
            "as {b}. How old will {a} be after {later} years?"
        ),
        (
            "The age of {a} is {times} times that of {b}; add {years} years to each and the sum is {total}. Tell "
            "me how old {a} is in {later} years."
        ),
    ),
    (
        (
            "For a birthday card: {b} is so young that {a} counts {times} times as many years. {years} years "
            "on, they make {total} jointly. Which age does {a} reach {later} years ahead?"
        ),
        (
            "Find the age {a} will have in {later} years, given that it is {times} times the age of {b} at present "
            "and that the two sum to {total} in {years} years."
        ),
    ),
    (
        "{a} 的年龄是 {b} 的 {times} 倍，{years} 年后两人年龄之和是 {total}。{later} 年后 {a} 多少岁？",
        "再过 {years} 年 {a} 和 {b} 一共 {total} 岁，现在 {a} 的年龄是 {b} 的 {times} 倍，问 {a} 在 {later} 年后几岁。",
    ),
    ("现在 {a} 的岁数是 {b} 的 {times} 倍，{years} 年后合计 {total} 岁，求 {later} 年后 {a} 的岁数。",),
)  # fmt: skip
TICKETS = Phrases(
    (
        (
            "We sold {count} tickets for {total} {cur}: adults at {high} {cur}, children at {low} {cur}. How "
            "much money came from the adults?"
        ),
        (
            "An adult pays {high} {cur} and a child {low} {cur}. {count} visitors brought in {total} {cur}. What "
            "did all adults pay together?"
        ),
        (
            "The till holds {total} {cur} from {count} tickets, some at {high} {cur} for adults and the rest "
            "at {low} {cur} for children. What is the adults' part?"
        ),
        (
            "With {count} tickets sold and {total} {cur} earned, how many {cur} are due to adults, who pay {high} "
            "{cur} while children pay {low} {cur}?"
        ),
    ),
    (
        (
            "Takings were {total} {cur}. Children went in for {low} {cur}, grown-ups for {high} {cur}, {count} "
            "people in all. Which sum did the grown-ups leave?"
        ),
        (
            "{count} seats were filled at {high} {cur} (full) or {low} {cur} (child), in total {total} {cur}. "
            "Name the revenue from full price seats."
        ),
    ),
    (
        "共卖出 {count} 张票，收入 {total} {cur}，成人票 {high} {cur}，儿童票 {low} {cur}。成人票收入是多少？",
        "成人每人 {high} {cur}，儿童每人 {low} {cur}，{count} 人一共付了 {total} {cur}，成人一共付了多少？",
    ),
    ("票款合计 {total} {cur}，来自 {count} 位观众，全价 {high} {cur}，儿童价 {low} {cur}，全价票卖了多少钱？",),
)  # fmt: skip
MEDIAN_OFF = Phrases(
    (
        "Offers for a {item} are {values} {cur}. Take the median price and give me {rate} percent off it. What is that?",
        "Shops ask {values} {cur} for a {item}. I want to pay {rate}% less than the median. How much is that?",
        "Find the median of the prices {values} ({cur}) of a {item} and reduce it by {rate} percent.",
        "What is {rate} percent below the median of these {item} prices in {cur}: {values}?",
    ),
    (
        "My limit for a {item} lies {rate}% under the median of what others charge, namely {values} {cur}. Where is my limit?",
        "Sellers quote {values} {cur} per {item}; compute their median and cut it by {rate} percent.",
    ),
    (
        "{item}的报价有 {values} {cur}，取中位数再减 {rate}%，是多少？",
        "各店的{item}卖 {values} {cur}，比中位数低 {rate}% 的价格是多少？",
    ),
    ("我的预算比{item}报价 {values} {cur} 的中位数少 {rate}%，预算是多少？",),
)  # fmt: skip
TAX = Phrases(
    (
        (
            "A {item} of {price} {cur} gets {rate} percent off; the reduced price is rounded to cents. On it "
            "comes {tax} percent tax. Tell me the reduced price and the tax."
        ),
        (
            "First take {rate}% off {price} {cur} for a {item}, to the cent, then compute {tax}% tax on the result. "
            "I need both amounts."
        ),
        (
            "What is the price of a {item} after {rate} percent discount on {price} {cur}, and how much is {tax} "
            "percent tax on that rounded price?"
        ),
        (
            "The {item} costs {price} {cur}. After a discount of {rate}% (in whole cents), {tax}% tax is due. "
            "Name the net price and the tax amount."
        ),
    ),
    (
        (
            "On my invoice {price} {cur} for a {item} are lowered by {rate} percent and rounded to cents; then "
            "{tax} percent tax is charged. How high are the lowered price and that tax?"
        ),
        (
            "Give two figures for a {item} at {price} {cur}: what is left with {rate}% off, to the cent, and "
            "the {tax}% levy on what is left."
        ),
    ),
    (
        "{item} {price} {cur}，先打折减 {rate}%（精确到分），再按 {tax}% 计税。折后价和税额各是多少？",
        "{price} {cur} 的{item}减 {rate}% 后四舍五入到分，再收 {tax}% 的税，请给出折后价和税。",
    ),
    ("发票上的{item}原价 {price} {cur}，优惠 {rate}%（到分），税率 {tax}%，优惠后的价格与税额是多少？",),
)  # fmt: skip
SCORE = Phrases(
    (
        "My scores so far are {values}. What is their mean, and which score do I need next for a mean of {target}?",
        (
            "I got {values} points in {count} tests. Tell me the mean now and what the next test must bring so "
            "that it becomes {target}."
        ),
        "After ratings of {values}, what is the average, and what must the next rating be to make it {target}?",
        "Compute the mean of {values}. Then: which further value lifts or lowers it to exactly {target}?",
    ),
    (
        (
            "The numbers are {values}; I aim at an average of {target} with one more. Report today's average "
            "and the number that I am missing."
        ),
        "What do {values} average, and what has to be added to the list to average {target}?",
    ),
    (
        "我的成绩是 {values}，平均分是多少？下一次要考多少分平均才是 {target}？",
        "已有评分 {values}，请算平均值，以及再来一个多少分才能让平均变成 {target}。",
    ),
    ("{values} 的均值是多少，再加哪个数能使均值等于 {target}？",),
)  # fmt: skip


@family("math", 2)
def ages(b: Builder) -> None:
    """An age from a ratio and a sum."""
    (one, two), times, young = b.rng.sample(FIRST_NAMES, 2), number(b, 2, 5), number(b, 4, 17)
    years, later = some_numbers(b, 2, 2, 25)
    total = young + times * young + 2 * years
    w.ask(b, b.phrase(AGES, a=one, b=two, times=times, years=years, later=later, total=total), noise=0.3)
    math = mathematician(
        b,
        f"{one} is {times} times as old as {two}; in {years} years they sum to {total}. How old is {one} in {later} years?",
    )
    equation = f"(x + {years}) + ({times}x + {years}) = {total}"
    x = solve(math, f"With x for {two}, {one} is {times}x; both get {years} older.", equation)
    age = calculate(math, f"{two} is {x}, so {one} is {times} times that; add {later}.", f"{times} * {x} + {later}")
    math.answer(f"{one} will be {age}.")
    b.expect_number(age, None, "0")
    w.finish(b, f"{one} will be {age} years old.", f"{one} 到时 {age} 岁。")


@family("math", 2)
def tickets(b: Builder) -> None:
    """What the adults paid, from a count and a sum."""
    count, cur, (low, high) = number(b, 30, 400), b.rng.choice(CURRENCIES), sorted(some_numbers(b, 2, 4, 45))
    adults = number(b, 9, count - 9)
    total = adults * high + (count - adults) * low
    w.ask(b, b.phrase(TICKETS, count=count, total=total, cur=cur, high=high, low=low), noise=0.3)
    task = f"{count} tickets at {high} {cur} (adults) or {low} {cur} (children) brought {total} {cur}. What did the adults pay?"
    math = mathematician(b, task)
    x = solve(math, f"With x adults there are {count} - x children.", f"{high}x + {low}*({count} - x) = {total}")
    part = calculate(math, f"{x} adults at {high}.", f"{x} * {high}")
    money(b, math, part, cur, "The adults paid {answer}.", "成人票一共 {answer}。")


@family("math", 2)
def median_off(b: Builder) -> None:
    """Some percent below the median of prices."""
    (item,), rate, cur = items(b, 1), number(b, 4, 45), b.rng.choice(CURRENCIES)
    values = some_numbers(b, b.rng.choice((6, 8)), 19, 700)
    w.ask(b, b.phrase(MEDIAN_OFF, item=named(b, item), values=listed(b, values), rate=rate, cur=cur), noise=0.3)
    math = mathematician(b, f"What is {rate} percent below the median of {', '.join(map(str, values))} {cur}?")
    middle = math.call("statistics", "First the median.", values=values, what="median")["median"]
    left = calculate(math, f"{rate} percent off {middle}, in cents.", f"round({middle} * (100 - {rate}) / 100, 2)")
    money(b, math, left, cur, "It is {answer}.", "结果是 {answer}。")


@family("math", 2)
def discount_and_tax(b: Builder) -> None:
    """A reduced price and the tax on it."""
    (item,), cost, cur = items(b, 1), price(b, 20, 900), b.rng.choice(CURRENCIES)
    rate, tax = some_numbers(b, 2, 4, 40)
    w.ask(b, b.phrase(TAX, item=named(b, item), price=cost, rate=rate, tax=tax, cur=cur), noise=0.3)
    task = f"Take {rate} percent off {cost} {cur}, rounded to cents; then compute {tax} percent of that. Give both amounts."
    math = mathematician(b, task)
    left = calculate(math, f"First {rate} percent off, in cents.", f"round({cost} * (100 - {rate}) / 100, 2)")
    due = calculate(math, f"{tax} percent of {left}, in cents.", f"round({left} * {tax} / 100, 2)")
    left, due = w.rounded(left, 2), w.rounded(due, 2)
    math.answer(f"The reduced price is {left} {cur} and the tax {due} {cur}.")
    b.expect_number(left, cur)
    b.expect_number(due, cur)
    w.finish(b, f"The reduced price is {left} {cur}, the tax on it {due} {cur}.", f"折后价 {left} {cur}，税额 {due} {cur}。")


@family("math", 2)
def needed_score(b: Builder) -> None:
    """The mean of scores, and the next that makes it what is wanted."""
    values = some_numbers(b, b.rng.choice((4, 5, 8)), 31, 99)
    count, total = len(values), sum(values)
    targets = [t for t in range(30, 100) if 20 <= t * (count + 1) - total <= 130]
    target = b.rng.choice(targets)
    w.ask(b, b.phrase(SCORE, values=listed(b, values), count=count, target=target), noise=0.3)
    task = f"What is the mean of {', '.join(map(str, values))}, and which next value makes the mean {target}?"
    math = mathematician(b, task)
    mean = math.call("statistics", "First the mean now.", values=values, what="mean")["mean"]
    thought = f"{count} values of mean {mean} and x make {count + 1} of mean {target}."
    x = solve(math, thought, f"{count}*{mean} + x = {count + 1}*{target}")
    math.answer(f"The mean is {mean}; the next value must be {x}.")
    b.expect_number(mean)
    b.expect_number(x, None, "0")
    w.finish(b, f"The mean is {mean} now, and {x} is needed next.", f"现在的平均值是 {mean} ，下一个需要 {x} 。")
