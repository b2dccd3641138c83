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
from trainer.hima_ecom.tasks.phrases import Phrases

WHATS = {
    "mean": ("mean", "平均值"), "median": ("median", "中位数"),
    "range": ("range (largest minus smallest)", "极差（最大值减最小值）"), "variance": ("population variance", "总体方差"),
}  # fmt: skip
STATISTIC = Phrases(
    (
        "What is the {what} of {values}?", "My orders had these numbers of items: {values}. What is their {what}?",
        "Find the {what} of the following figures: {values}.", "Daily visits were {values}. Compute the {what}.",
    ),
    (
        "Given the counts {values}, report the {what}.",
        "Our parcels weighed {values} grams. I am after the {what} of those weights.",
    ),
    ("{values} 的{what}是多少？", "每天的访问量是 {values}，请求{what}。"),
    ("已知数据 {values}，求它们的{what}。",),
    (
        "Report the {what} of {values}.", "Given {values}, what is the {what}?",
        "The counts were {values}. I am after the {what}.", "Our parcels: {values}. Report their {what}, please.",
        "I am after the {what} of those numbers: {values}.", "They weighed {values} grams. What is the {what}?",
    ),
)  # fmt: skip
UNKNOWN = Phrases(
    (
        "{count} {items} and {extra} {cur} for shipping come to {total} {cur}. What does one {item} cost?",
        "I paid {total} {cur} for {count} equal {items}, of which {extra} {cur} was postage. What is the price of each?",
        (
            "My invoice shows {total} {cur}: {count} {items} at one price plus {extra} {cur} delivery. How much "
            "is a single {item}?"
        ),
        "If {count} {items} plus a fee of {extra} {cur} make {total} {cur}, what is the price of a {item}?",
    ),
    (
        "The bill says {total} {cur} in all, delivery of {extra} {cur} included, for {count} {items}. Price of one, please.",
        "What must a {item} cost, when {count} of them with {extra} {cur} of handling add up to {total} {cur}?",
    ),
    (
        "{count} {measure}{item}加 {extra} {cur} 运费一共 {total} {cur}，每{measure}{item}多少钱？",
        "我付了 {total} {cur}，其中运费 {extra} {cur}，其余是 {count} {measure}同价的{item}，单价多少？",
    ),
    ("账单合计 {total} {cur}，含 {extra} {cur} 配送费和 {count} {measure}{item}，一{measure}卖多少？",),
)  # fmt: skip
SHARE = Phrases(
    (
        "{a}, {b} and {c} share {total} {cur} in the ratio {x} to {y} to {z}. How much does {b} get?",
        "Divide {total} {cur} among {a}, {b} and {c} as {x} to {y} to {z}. What is the part of {b}?",
        "A bonus of {total} {cur} goes to {a}, {b} and {c}, weighted {x}, {y} and {z}. What does {b} receive?",
        "{a} paid {x} parts, {b} {y} parts and {c} {z} parts of {total} {cur}. How many {cur} did {b} pay?",
    ),
    (
        "Out of {total} {cur}, {a} may claim {x} shares, {b} {y} and {c} {z}. Tell me the amount for {b}.",
        "What falls to {b}, if {total} {cur} is split {x} to {y} to {z} between {a}, {b} and {c}?",
    ),
    (
        "{a}、{b}、{c} 按 {x} 比 {y} 比 {z} 分 {total} {cur}，{b} 得多少？",
        "把 {total} {cur} 按 {x} 比 {y} 比 {z} 分给 {a}、{b} 和 {c}，{b} 的那份是多少？",
    ),
    ("{total} {cur} 的奖金，{a} 占 {x} 份，{b} 占 {y} 份，{c} 占 {z} 份，{b} 能拿到多少？",),
)  # fmt: skip
RATE = Phrases(
    (
        "{a} packs the parcels in {x} hours, {b} in {y} hours. How many hours do both need together?",
        "Alone, {a} needs {x} hours for the job and {b} needs {y} hours. How long do they take side by side, in hours?",
        "One job takes {a} {x} hours and {b} {y} hours. If they work together, after how many hours is it done?",
        "How many hours will it be if {a} ({x} hours alone) and {b} ({y} hours alone) do the work jointly?",
    ),
    (
        "The stocktaking keeps {a} busy for {x} hours or {b} for {y} hours; as a team, what is the time in hours?",
        "Joining forces, when do {a} and {b} finish, given {x} and {y} hours on their own? Answer in hours.",
    ),
    (
        "{a} 单独打包要 {x} 小时，{b} 要 {y} 小时，两人一起要几小时？",
        "一项工作 {a} 做要 {x} 小时，{b} 做要 {y} 小时，合作需要多少小时？",
    ),
    ("{a} 独自 {x} 小时完成，{b} 独自 {y} 小时完成，一同做几小时能完？",),
)  # fmt: skip


@family("math", 1)
def statistic(b: Builder) -> None:
    """A statistic of a list of numbers."""
    values, what = some_numbers(b, b.rng.choice((6, 8, 10)), 11, 480), b.rng.choice(tuple(WHATS))
    w.ask(b, b.phrase(STATISTIC, values=listed(b, values), what=w.pick(b, WHATS[what])), w.say_places(b, 1))
    math = mathematician(b, f"What is the {WHATS[what][0]} of {', '.join(map(str, values))}? Round to 1 decimal.")
    result = str(math.call("statistics", f"I compute the {what}.", values=values, what=what)[what])
    rounded = w.rounded(result, 1)
    math.answer(f"It is {rounded}.", f"{result} to one decimal is {rounded}.")
    b.expect_number(rounded, None, w.tolerance(1))
    w.finish(b, f"The {what} is {rounded}.", f"{WHATS[what][1]}是 {rounded} 。")


@family("math", 1)
def unknown_price(b: Builder) -> None:
    """The price of one from a total with shipping."""
    (item,), count, each, extra = items(b, 1), number(b, 3, 14), price(b, 3, 120), price(b, 2, 15)
    cur, total = b.rng.choice(CURRENCIES), f"{count * float(each) + float(extra):.2f}"
    said = {"count": count, "items": item.many, "item": named(b, item), "measure": item.measure}
    w.ask(b, b.phrase(UNKNOWN, extra=extra, total=total, cur=cur, **said))
    math = mathematician(b, f"{count} {item.many} plus {extra} {cur} cost {total} {cur}. What does one cost?")
    x = solve(math, f"With x for one: {count} of them plus {extra} is {total}.", f"{count}x + {extra} = {total}")
    money(b, math, x, cur, f"One {item.one} costs {{answer}}.", f"每{item.measure}{item.zh} {{answer}}。")


@family("math", 1)
def ratio_share(b: Builder) -> None:
    """One of three shares in a ratio."""
    (x, y, z), (one, two, three) = some_numbers(b, 3, 2, 15), b.rng.sample(FIRST_NAMES, 3)
    total, cur = number(b, 4, 95) * (x + y + z), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase(SHARE, a=one, b=two, c=three, x=x, y=y, z=z, total=total, cur=cur))
    math = mathematician(b, f"{total} {cur} is shared in the ratio {x} to {y} to {z}. What is the second share?")
    share = calculate(math, f"{y} of {x} + {y} + {z} parts.", f"{total} * {y} / ({x} + {y} + {z})")
    money(b, math, share, cur, f"{two} gets {{answer}}.", f"{two} 得 {{answer}}。")


@family("math", 1)
def work_rate(b: Builder) -> None:
    """The time that two need together."""
    (x, y), (one, two) = some_numbers(b, 2, 3, 60), b.rng.sample(FIRST_NAMES, 2)
    w.ask(b, b.phrase(RATE, a=one, b=two, x=x, y=y), w.say_places(b, 2))
    math = mathematician(b, f"Two people need {x} and {y} hours alone. How many hours together? Round to 2 decimals.")
    hours = calculate(math, "Their rates add up; the time is one over the sum.", f"round(1 / (1 / {x} + 1 / {y}), 2)")
    rounded = w.rounded(hours, 2)
    math.answer(f"Together they need {rounded} hours.")
    b.expect_number(rounded, "h")
    w.finish(b, f"Together they need {rounded} hours.", f"两人一起需要 {rounded} 小时。")
