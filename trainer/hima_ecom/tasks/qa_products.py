"""QA about products: what the knowledge base answers."""

import re
from typing import Any

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.care import ADVICE
from trainer.hima_ecom.catalog import ORIGINS
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.families import family

# What is asked of a product: (words of the question, the answer's pattern, unit)
_WARRANTY = ("How long is the warranty on the ", r"warranty of (\d+) months")
_ORIGIN = ("Where is the ", r"made in (.+)\.")
_WEIGHT = ("How heavy is the ", r"weighs (\d+) grams")
_CARE = ("How should I clean the ", r": (.+)\.")


def find(expert: Expert, query: str, title: str) -> Row:
    """The document with that title among what a search for `query` finds. Raises: Skip where it is not found."""
    found = expert.call("search_knowledge", "I search the knowledge base.", query=query)
    for document in found["documents"]:
        if document["title"] == title:
            return dict(document)
    raise Skip(f"no document {title!r} for {query!r}")


def product_name(row: Row) -> str:
    """The name of a product's family: its own without the variant in brackets."""
    return str(row["name"]).partition(" (")[0]


def fact(builder: Builder, question: str) -> tuple[str, Row]:
    """A random product of this split that has an answer to `question`: (its name, the knowledge row)."""
    rows = [row for row in builder.pools.questions if row["question"].startswith(question)]
    row = builder.rng.choice(rows)
    return row["question"][len(question) :].removesuffix(" made?").removesuffix("?"), row


def look_up(expert: Expert, question: str, pattern: str, name: str, row: Row) -> str:
    """The value that the knowledge base gives for a question about a product."""
    words = {_WARRANTY[0]: "warranty", _ORIGIN[0]: "made", _WEIGHT[0]: "heavy", _CARE[0]: "clean"}[question]
    document = find(expert, f"{name} {words}", row["question"])
    match = re.search(pattern, document["excerpt"])
    if match is None:
        raise Skip("the excerpt is cut")
    return match.group(1)


def _product(builder: Builder, ask: str, kind: tuple[str, str], task: str) -> tuple[str, str]:
    """A question about one product: (name, value)."""
    name, row = fact(builder, kind[0])
    builder.ask(builder.phrase(ask, name=name))
    expert = builder.delegate("qa", task.format(name=name), "A question about a product; the qa agent knows.")
    value = look_up(expert, *kind, name, row)
    expert.answer(row["answer"])
    return name, value


def _expect_country(b: Builder, country: str) -> None:
    others = tuple(name for pair in ORIGINS.items() if pair[0] != country for name in pair)
    b.expect_text(country, ORIGINS[country], reject=others)


@family("qa", 1)
def warranty(b: Builder) -> None:
    """Months of warranty of a product."""
    name, months = _product(b, "qa_products/warranty", _WARRANTY, "How long is the warranty on the {name}?")
    b.expect_number(months, "month", "0")
    b.finish(f"The {name} has a warranty of {months} months.", f"{name} 的保修期是 {months} 个月。")


@family("qa", 1)
def origin(b: Builder) -> None:
    """The country in which a product is made."""
    name, country = _product(b, "qa_products/origin", _ORIGIN, "Where is the {name} made?")
    _expect_country(b, country)
    b.finish(f"The {name} is made in {country}.", f"{name} 的产地是{ORIGINS[country]}。")


@family("qa", 1)
def weight(b: Builder) -> None:
    """Grams of a packed product."""
    name, grams = _product(b, "qa_products/weight", _WEIGHT, "How heavy is the {name}?")
    b.expect_number(grams, "g", "0")
    b.finish(f"The {name} weighs {grams} grams with its packaging.", f"{name} 连包装重 {grams} 克。")


@family("qa", 1)
def care(b: Builder) -> None:
    """How a product is cleaned."""
    name, advice = _product(b, "qa_products/care", _CARE, "How should the {name} be cleaned?")
    chinese, _, keys = ADVICE[advice]
    b.expect_text(advice, *keys, reject=tuple(key for other in ADVICE.values() if other.keys != keys for key in other.keys))
    b.finish(f"For the {name}: {advice}.", f"{name} 的清洁方法：{chinese}。")


def _compare(b: Builder, ask: str, kind: tuple[str, str], task: str) -> tuple[str, str]:
    """Two products by a number: (the one with more, its value)."""
    (a, first), (c, second) = fact(b, kind[0]), fact(b, kind[0])
    if a == c:
        raise Skip("one product twice")
    b.ask(b.join(b.phrase(ask, a=a, b=c), b.phrase("qa_products/value")))
    expert = b.delegate("qa", task.format(a=a, b=c), "Two products are compared; the qa agent knows both.")
    x, y = int(look_up(expert, *kind, a, first)), int(look_up(expert, *kind, c, second))
    if x == y:
        raise Skip("equal")
    more, value = (a, x) if x > y else (c, y)
    expert.answer(f"{first['answer']} {second['answer']} So it is the {more}.", f"{max(x, y)} is more than {min(x, y)}.")
    b.expect_text(more, reject=(c if more == a else a,))
    return more, str(value)


@family("qa", 2)
def heavier(b: Builder) -> None:
    """Which of two products weighs more."""
    more, grams = _compare(b, "qa_products/heavier", _WEIGHT, "Which is heavier, the {a} or the {b}, and what is its weight?")
    b.expect_number(grams, "g", "0")
    b.finish(f"The {more} is heavier, with {grams} grams.", f"更重的是 {more}，{grams} 克。")


@family("qa", 2)
def longer_warranty(b: Builder) -> None:
    """Which of two products has the longer warranty."""
    more, months = _compare(
        b, "qa_products/longer_warranty", _WARRANTY, "Which has the longer warranty, the {a} or the {b}, and how long is it?"
    )
    b.expect_number(months, "month", "0")
    b.finish(f"The {more} has the longer warranty, {months} months.", f"保修期更长的是 {more}，{months} 个月。")


# Of two things that may be asked of one product: (how it is asked, its kind, the unit of a number, what is delegated).
_ASKED = {
    "warranty": ("qa_products/warranty", _WARRANTY, "month", "How long is the warranty on the {name}?"),
    "origin": ("qa_products/origin", _ORIGIN, "", "Where is the {name} made?"),
    "weight": ("qa_products/weight", _WEIGHT, "g", "How heavy is the {name}?"),
}


@family("qa", 2)
def two_facts(b: Builder) -> None:
    """Two facts about one product."""
    kinds = b.rng.sample(tuple(_ASKED), 2)
    name, first = fact(b, _ASKED[kinds[0]][1][0])
    rows = [first, *(row for row in b.pools.questions if row["product_id"] == first["product_id"])]
    asked = [
        (_ASKED[kind], next((row for row in rows if row["question"].startswith(_ASKED[kind][1][0])), None)) for kind in kinds
    ]
    b.ask(b.join(*(b.phrase(ask, name=name) for (ask, *_), _ in asked)))
    task = " ".join(told.format(name=name) for (*_, told), _ in asked)
    expert = b.delegate("qa", task, "Two questions about a product; the qa agent knows.")
    english, chinese = [], []
    for (_, kind, unit, _), row in asked:
        if row is None:
            raise Skip("not known of this product")
        value = look_up(expert, *kind, name, row)
        if unit:
            b.expect_number(value, unit, "0")
        else:
            _expect_country(b, value)
        english.append(row["answer"])
        chinese.append({"month": f"保修期 {value} 个月", "g": f"连包装重 {value} 克"}.get(unit) or f"产地是{ORIGINS[value]}")
    expert.answer(" ".join(english))
    b.finish(" ".join(english), f"{name}：{'，'.join(chinese)}。")


def knowledge_value(expert: Expert, kind: str, name: str, row: Row) -> Any:
    """A number that the knowledge base holds of a product, for tasks that go on with it: "warranty" or "weight"."""
    return int(look_up(expert, *{"warranty": _WARRANTY, "weight": _WEIGHT}[kind], name, row))


def knowledge_question(kind: str) -> str:
    """How the question of that kind begins, for `fact`."""
    return {"warranty": _WARRANTY, "weight": _WEIGHT}[kind][0]
