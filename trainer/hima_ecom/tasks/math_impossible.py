"""Math, impossible: there is no solution, and the right answer says so."""

from trainer.hima_ecom.names import FIRST_NAMES
from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.mathematics import CURRENCIES, mathematician, number, price, some_numbers
from trainer.hima_ecom.tasks.texts import word_list


@family("math", 1, "A sum to be shared by no one.", impossible=True)
def shared_by_nobody(b: Builder) -> None:
    total, count, cur = price(b, 20.0, 900.0), number(b, 2, 30), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase("math_impossible/shared_by_nobody", sum=total, n=count, cur=cur))
    math = mathematician(b, f"Divide {total} {cur} evenly among {count} people of whom {count} have left. What does each pay?")
    math.refused("calculate", "The sum by those who are left.", expression=f"{total} / ({count} - {count})")
    math.answer("It cannot be: nobody is left, and nothing can be divided by zero.", "A division by zero.")
    b.expect_refusal(*word_list("reasons/nobody"), reject=word_list("reasons/no_solution"))
    b.finish(
        "That is impossible: nobody is left, so it would be a division by zero.",
        "无法计算：没有人剩下，不能除以零。",
        "Nobody pays; I say why.",
    )


@family("math", 1, "Two costs that rise alike and never meet.", impossible=True)
def never_equal(b: Builder) -> None:
    (one, two), each, cur = some_numbers(b, 2, 9, 190), price(b, 0.15, 4.8), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase("math_impossible/never_equal", a=one, b=two, p=each, cur=cur))
    task = f"For how many orders do {one} {cur} plus {each} an order and {two} {cur} plus {each} an order cost the same?"
    math = mathematician(b, task)
    equation = f"{one} + {each}*x = {two} + {each}*x"
    math.refused("solve_linear", "With x orders both costs are equal.", equation=equation)
    math.answer("It cannot be: the equation has no solution, the costs never meet.", "There is no such x.")
    b.expect_refusal(*word_list("reasons/no_solution"), reject=word_list("reasons/nobody"))
    b.finish(
        "They cannot cost the same: both rise alike, so the costs are never equal.",
        "不可能，无法打平：两者每单费用相同，方程无解。",
        "There is no solution; I say why.",
    )


@family("math", 1, "A difference of ages that would change.", impossible=True)
def age_contradiction(b: Builder) -> None:
    (one, two), (now, then), years = b.rng.sample(FIRST_NAMES, 2), some_numbers(b, 2, 2, 30), number(b, 3, 40)
    w.ask(b, b.phrase("math_impossible/age_contradiction", a=one, b=two, now=now, then=then, years=years))
    task = f"{one} is {now} years older than {two}, and {then} years older in {years} years. How old is {two}?"
    math = mathematician(b, task)
    equation = f"x + {now} + {years} = x + {years} + {then}"
    math.refused("solve_linear", f"With x for {two}, the age of {one} in {years} years in two ways.", equation=equation)
    math.answer("It cannot be: the equation has no solution, a difference of ages never changes.", "The facts contradict.")
    b.expect_refusal(*word_list("reasons/no_solution"), reject=word_list("reasons/nobody"))
    b.finish(
        "That is impossible: a difference of ages never changes, so there is no solution.",
        "不可能：年龄差不变，条件矛盾，无法求出。",
        "There is no solution; I say why.",
    )
