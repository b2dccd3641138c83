"""Math, impossible: there is no solution, and the right answer says so."""

from trainer.hima_ecom.names import FIRST_NAMES
from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.mathematics import CURRENCIES, number, price, some_numbers
from trainer.hima_ecom.tasks.template import Facts, Refusal, Template, refused, templates
from trainer.hima_ecom.tasks.texts import word_list


def _a_sum(b: Builder) -> Facts:
    return {"sum": price(b, 20.0, 900.0), "n": number(b, 2, 30), "cur": b.rng.choice(CURRENCIES)}


def _two_plans(b: Builder) -> Facts:
    (one, two), each, cur = some_numbers(b, 2, 9, 190), price(b, 0.15, 4.8), b.rng.choice(CURRENCIES)
    return {"a": one, "b": two, "p": each, "cur": cur}


def _two_ages(b: Builder) -> Facts:
    (one, two), (now, then), years = b.rng.sample(FIRST_NAMES, 2), some_numbers(b, 2, 2, 30), number(b, 3, 40)
    return {"a": one, "b": two, "now": now, "then": then, "years": years}


def _divided(facts: Facts) -> Facts:
    return {"words": word_list("reasons/nobody"), "others": word_list("reasons/no_solution")}


def _unsolvable(facts: Facts) -> Facts:
    return {"words": word_list("reasons/no_solution"), "others": word_list("reasons/nobody")}


templates(
    "math",
    "math_impossible",
    Template(
        "shared_by_nobody", 1, "A sum to be shared by no one.", _a_sum,
        refused("calculate", expression="{sum} / ({n} - {n})"),
        Refusal("{words}", reject="{others}"),
        read=_divided,
        impossible=True,
    ),
    Template(
        "never_equal", 1, "Two costs that rise alike and never meet.", _two_plans,
        refused("solve_linear", equation="{a} + {p}*x = {b} + {p}*x"),
        Refusal("{words}", reject="{others}"),
        read=_unsolvable,
        impossible=True,
    ),
    Template(
        "age_contradiction", 1, "A difference of ages that would change.", _two_ages,
        refused("solve_linear", equation="x + {now} + {years} = x + {years} + {then}"),
        Refusal("{words}", reject="{others}"),
        read=_unsolvable,
        impossible=True,
    ),
)  # fmt: skip
