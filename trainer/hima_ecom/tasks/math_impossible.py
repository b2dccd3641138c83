"""Math without a solution: the right answer says so."""

from trainer.hima_ecom.names import FIRST_NAMES
from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.mathematics import CURRENCIES, mathematician, number, price, some_numbers
from trainer.hima_ecom.tasks.phrases import Phrases
from trainer.hima_ecom.tasks.reasons import NO_SOLUTION, NOBODY

NEVER = Phrases(
    (
        (
            "Plan A costs {a} {cur} a month and {p} {cur} an order, plan B {b} {cur} a month and {p} {cur} an "
            "order. For how many orders do both cost the same?"
        ),
        (
            "At which number of orders are A ({a} {cur} plus {p} {cur} per order) and B ({b} {cur} plus {p} {cur} "
            "per order) equally expensive?"
        ),
        (
            "Tariff A: {a} {cur} fixed, {p} {cur} each order. Tariff B: {b} {cur} fixed, {p} {cur} each order. "
            "When does the cost break even?"
        ),
        (
            "How many orders must I have until plan B, {b} {cur} plus {p} {cur} an order, is as dear as plan "
            "A, {a} {cur} plus {p} {cur} an order?"
        ),
    ),
    (
        (
            "Seller account A takes {a} {cur} and {p} {cur} for every order, account B {b} {cur} and {p} {cur}. "
            "Name the order count with identical bills."
        ),
        (
            "Where do the cost lines of A ({a} {cur} + {p} {cur} an order) and B ({b} {cur} + {p} {cur} an order) "
            "cross, counted in orders?"
        ),
    ),
    (
        "套餐 A 月费 {a} {cur}，每单 {p} {cur}；套餐 B 月费 {b} {cur}，每单 {p} {cur}。多少单时两者费用相同？",
        "A 是 {a} {cur} 加每单 {p} {cur}，B 是 {b} {cur} 加每单 {p} {cur}，订单数为多少时一样贵？",
    ),
    ("方案 A（{a} {cur}，每单 {p} {cur}）与方案 B（{b} {cur}，每单 {p} {cur}）在几单时费用打平？",),
)  # fmt: skip
CONTRADICTION = Phrases(
    (
        "{a} is {now} years older than {b}. In {years} years {a} will be {then} years older than {b}. How old is {b}?",
        "Today {a} is ahead of {b} by {now} years, and {years} years later by {then} years. What is the age of {b}?",
        "If {a} is {now} years older than {b} and {years} years from now {then} years older, what age does {b} have?",
        "Find the age of {b}: {a} is {now} years older at the moment, but {then} years older in {years} years.",
    ),
    (
        (
            "Between {a} and {b}, the elder being {a}, lie {now} years; after {years} years it is to be {then}. "
            "Compute how old {b} is."
        ),
        "{b} has a cousin {a}, {now} years older now and {then} years older {years} years on. Which age has {b}?",
    ),
    (
        "{a} 比 {b} 大 {now} 岁，{years} 年后大 {then} 岁，{b} 现在几岁？",
        "现在 {a} 比 {b} 年长 {now} 岁，再过 {years} 年年长 {then} 岁，求 {b} 的年龄。",
    ),
    ("已知 {a} 大 {b} {now} 岁，{years} 年以后则大 {then} 岁，{b} 多大？",),
)  # fmt: skip
ALL_GONE = Phrases(
    (
        "A bill of {sum} {cur} is shared evenly by those of {n} guests who are still here; {n} have left. What does each pay?",
        "{n} friends were to share {sum} {cur}. Now {n} of them have dropped out: how much is it for each who remains?",
        "Divide {sum} {cur} evenly among the members that are left when {n} of {n} resign. What is each share?",
        "We were {n}, and {n} cancelled. The {sum} {cur} are split by whoever comes: how much a head?",
    ),
    (
        "Of {n} participants {n} called in sick; {sum} {cur} must be borne in equal parts by the rest. Name one part.",
        "Once {n} out of {n} tenants move out, what does every remaining one owe of {sum} {cur}?",
    ),
    (
        "{n} 个人本来要平摊 {sum} {cur}，现在 {n} 个都退出了，剩下的每人付多少？",
        "账单 {sum} {cur} 由还在的客人平分，{n} 位客人走了 {n} 位，每人多少？",
    ),
    ("{n} 名成员里有 {n} 名退出，{sum} {cur} 由其余的人均摊，每人几何？",),
)  # fmt: skip


@family("math", 1, impossible=True)
def shared_by_nobody(b: Builder) -> None:
    """A sum to be shared by no one."""
    total, count, cur = price(b, 20.0, 900.0), number(b, 2, 30), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase(ALL_GONE, sum=total, n=count, cur=cur))
    math = mathematician(b, f"Divide {total} {cur} evenly among {count} people of whom {count} have left. What does each pay?")
    math.refused("calculate", "The sum by those who are left.", expression=f"{total} / ({count} - {count})")
    math.answer("It cannot be: nobody is left, and nothing can be divided by zero.", "A division by zero.")
    b.expect_refusal(*NOBODY, reject=NO_SOLUTION)
    b.finish(
        "That is impossible: nobody is left, so it would be a division by zero.",
        "无法计算：没有人剩下，不能除以零。",
        "Nobody pays; I say why.",
    )


@family("math", 1, impossible=True)
def never_equal(b: Builder) -> None:
    """Two costs that rise alike and never meet."""
    (one, two), each, cur = some_numbers(b, 2, 9, 190), price(b, 0.15, 4.8), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase(NEVER, a=one, b=two, p=each, cur=cur))
    task = f"For how many orders do {one} {cur} plus {each} an order and {two} {cur} plus {each} an order cost the same?"
    math = mathematician(b, task)
    equation = f"{one} + {each}*x = {two} + {each}*x"
    math.refused("solve_linear", "With x orders both costs are equal.", equation=equation)
    math.answer("It cannot be: the equation has no solution, the costs never meet.", "There is no such x.")
    b.expect_refusal(*NO_SOLUTION, reject=NOBODY)
    b.finish(
        "They cannot cost the same: both rise alike, so the costs are never equal.",
        "不可能，无法打平：两者每单费用相同，方程无解。",
        "There is no solution; I say why.",
    )


@family("math", 1, impossible=True)
def age_contradiction(b: Builder) -> None:
    """A difference of ages that would change."""
    (one, two), (now, then), years = b.rng.sample(FIRST_NAMES, 2), some_numbers(b, 2, 2, 30), number(b, 3, 40)
    w.ask(b, b.phrase(CONTRADICTION, a=one, b=two, now=now, then=then, years=years))
    task = f"{one} is {now} years older than {two}, and {then} years older in {years} years. How old is {two}?"
    math = mathematician(b, task)
    equation = f"x + {now} + {years} = x + {years} + {then}"
    math.refused("solve_linear", f"With x for {two}, the age of {one} in {years} years in two ways.", equation=equation)
    math.answer("It cannot be: the equation has no solution, a difference of ages never changes.", "The facts contradict.")
    b.expect_refusal(*NO_SOLUTION, reject=NOBODY)
    b.finish(
        "That is impossible: a difference of ages never changes, so there is no solution.",
        "不可能：年龄差不变，条件矛盾，无法求出。",
        "There is no solution; I say why.",
    )
