"""Math, two calls: an unknown or a median, then a result from it; or two results."""

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


@family("math", 2, "An age from a ratio and a sum.")
def ages(b: Builder) -> None:
    (one, two), times, young = b.rng.sample(FIRST_NAMES, 2), number(b, 2, 5), number(b, 4, 17)
    years, later = some_numbers(b, 2, 2, 25)
    total = young + times * young + 2 * years
    w.ask(b, b.phrase("math_chains/ages", a=one, b=two, times=times, years=years, later=later, total=total), noise=0.3)
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


@family("math", 2, "What the adults paid, from a count and a sum.")
def tickets(b: Builder) -> None:
    count, cur, (low, high) = number(b, 30, 400), b.rng.choice(CURRENCIES), sorted(some_numbers(b, 2, 4, 45))
    adults = number(b, 9, count - 9)
    total = adults * high + (count - adults) * low
    w.ask(b, b.phrase("math_chains/tickets", count=count, total=total, cur=cur, high=high, low=low), noise=0.3)
    task = f"{count} tickets at {high} {cur} (adults) or {low} {cur} (children) brought {total} {cur}. What did the adults pay?"
    math = mathematician(b, task)
    x = solve(math, f"With x adults there are {count} - x children.", f"{high}x + {low}*({count} - x) = {total}")
    part = calculate(math, f"{x} adults at {high}.", f"{x} * {high}")
    money(b, math, part, cur, "The adults paid {answer}.", "成人票一共 {answer}。")


@family("math", 2, "Some percent below the median of prices.")
def median_off(b: Builder) -> None:
    (item,), rate, cur = items(b, 1), number(b, 4, 45), b.rng.choice(CURRENCIES)
    values = some_numbers(b, b.rng.choice((6, 8)), 19, 700)
    w.ask(b, b.phrase("math_chains/median_off", item=named(b, item), values=listed(b, values), rate=rate, cur=cur), noise=0.3)
    math = mathematician(b, f"What is {rate} percent below the median of {', '.join(map(str, values))} {cur}?")
    middle = math.call("statistics", "First the median.", values=values, what="median")["median"]
    left = calculate(math, f"{rate} percent off {middle}, in cents.", f"round({middle} * (100 - {rate}) / 100, 2)")
    money(b, math, left, cur, "It is {answer}.", "结果是 {answer}。")


@family("math", 2, "A reduced price and the tax on it.")
def discount_and_tax(b: Builder) -> None:
    (item,), cost, cur = items(b, 1), price(b, 20, 900), b.rng.choice(CURRENCIES)
    rate, tax = some_numbers(b, 2, 4, 40)
    w.ask(b, b.phrase("math_chains/discount_and_tax", item=named(b, item), price=cost, rate=rate, tax=tax, cur=cur), noise=0.3)
    task = f"Take {rate} percent off {cost} {cur}, rounded to cents; then compute {tax} percent of that. Give both amounts."
    math = mathematician(b, task)
    left = calculate(math, f"First {rate} percent off, in cents.", f"round({cost} * (100 - {rate}) / 100, 2)")
    due = calculate(math, f"{tax} percent of {left}, in cents.", f"round({left} * {tax} / 100, 2)")
    left, due = w.rounded(left, 2), w.rounded(due, 2)
    math.answer(f"The reduced price is {left} {cur} and the tax {due} {cur}.")
    b.expect_number(left, cur)
    b.expect_number(due, cur)
    w.finish(b, f"The reduced price is {left} {cur}, the tax on it {due} {cur}.", f"折后价 {left} {cur}，税额 {due} {cur}。")


@family("math", 2, "The mean of scores, and the next that makes it what is wanted.")
def needed_score(b: Builder) -> None:
    values = some_numbers(b, b.rng.choice((4, 5, 8)), 31, 99)
    count, total = len(values), sum(values)
    targets = [t for t in range(30, 100) if 20 <= t * (count + 1) - total <= 130]
    target = b.rng.choice(targets)
    w.ask(b, b.phrase("math_chains/needed_score", values=listed(b, values), count=count, target=target), noise=0.3)
    task = f"What is the mean of {', '.join(map(str, values))}, and which next value makes the mean {target}?"
    math = mathematician(b, task)
    mean = math.call("statistics", "First the mean now.", values=values, what="mean")["mean"]
    thought = f"{count} values of mean {mean} and x make {count + 1} of mean {target}."
    x = solve(math, thought, f"{count}*{mean} + x = {count + 1}*{target}")
    math.answer(f"The mean is {mean}; the next value must be {x}.")
    b.expect_number(mean)
    b.expect_number(x, None, "0")
    w.finish(b, f"The mean is {mean} now, and {x} is needed next.", f"现在的平均值是 {mean} ，下一个需要 {x} 。")
