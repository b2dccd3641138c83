"""Math, one call: statistics, one unknown, shares and rates."""

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
from trainer.hima_ecom.tasks.texts import table


@family("math", 1, "A statistic of a list of numbers.")
def statistic(b: Builder) -> None:
    names = table("math_words/statistics")
    values, what = some_numbers(b, b.rng.choice((6, 8, 10)), 11, 480), b.rng.choice(tuple(names))
    w.ask(b, b.phrase("math_words/statistic", values=listed(b, values), what=w.pick(b, names[what])), w.say_places(b, 1))
    math = mathematician(b, f"What is the {names[what][0]} of {', '.join(map(str, values))}? Round to 1 decimal.")
    result = str(math.call("statistics", f"I compute the {what}.", values=values, what=what)[what])
    rounded = w.rounded(result, 1)
    math.answer(f"It is {rounded}.", f"{result} to one decimal is {rounded}.")
    b.expect_number(rounded, None, w.tolerance(1))
    w.finish(b, f"The {what} is {rounded}.", f"{names[what][1]}是 {rounded} 。")


@family("math", 1, "The price of one from a total with shipping.")
def unknown_price(b: Builder) -> None:
    (item,), count, each, extra = items(b, 1), number(b, 3, 14), price(b, 3, 120), price(b, 2, 15)
    cur, total = b.rng.choice(CURRENCIES), f"{count * float(each) + float(extra):.2f}"
    said = {"count": count, "items": item.many, "item": named(b, item), "measure": item.measure}
    w.ask(b, b.phrase("math_words/unknown_price", extra=extra, total=total, cur=cur, **said))
    math = mathematician(b, f"{count} {item.many} plus {extra} {cur} cost {total} {cur}. What does one cost?")
    x = solve(math, f"With x for one: {count} of them plus {extra} is {total}.", f"{count}x + {extra} = {total}")
    money(b, math, x, cur, f"One {item.one} costs {{answer}}.", f"每{item.measure}{item.zh} {{answer}}。")


@family("math", 1, "One of three shares in a ratio.")
def ratio_share(b: Builder) -> None:
    (x, y, z), (one, two, three) = some_numbers(b, 3, 2, 15), b.rng.sample(FIRST_NAMES, 3)
    total, cur = number(b, 4, 95) * (x + y + z), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase("math_words/ratio_share", a=one, b=two, c=three, x=x, y=y, z=z, total=total, cur=cur))
    math = mathematician(b, f"{total} {cur} is shared in the ratio {x} to {y} to {z}. What is the second share?")
    share = calculate(math, f"{y} of {x} + {y} + {z} parts.", f"{total} * {y} / ({x} + {y} + {z})")
    money(b, math, share, cur, f"{two} gets {{answer}}.", f"{two} 得 {{answer}}。")


@family("math", 1, "The time that two need together.")
def work_rate(b: Builder) -> None:
    (x, y), (one, two) = some_numbers(b, 2, 3, 60), b.rng.sample(FIRST_NAMES, 2)
    w.ask(b, b.phrase("math_words/work_rate", a=one, b=two, x=x, y=y), w.say_places(b, 2))
    math = mathematician(b, f"Two people need {x} and {y} hours alone. How many hours together? Round to 2 decimals.")
    hours = calculate(math, "Their rates add up; the time is one over the sum.", f"round(1 / (1 / {x} + 1 / {y}), 2)")
    rounded = w.rounded(hours, 2)
    math.answer(f"Together they need {rounded} hours.")
    b.expect_number(rounded, "h")
    w.finish(b, f"Together they need {rounded} hours.", f"两人一起需要 {rounded} 小时。")
