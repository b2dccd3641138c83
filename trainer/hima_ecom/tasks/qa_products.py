"""QA about products: questions that the knowledge base answers."""

import re
from collections.abc import Callable
from typing import NamedTuple

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.care import ADVICE
from trainer.hima_ecom.catalog import ORIGINS
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.template import Call, Facts, Number, Template, Text, call, templates
from trainer.hima_ecom.tasks.texts import sentences, translations


class Kind(NamedTuple):
    """A kind of fact about a product that the knowledge base holds."""

    question: str  # how the title of its document begins; the product's name follows
    pattern: str  # what finds the value in the answer
    keyword: str  # searched for beside the name
    unit: str | None = None


KINDS = {
    "warranty": Kind("How long is the warranty on the ", r"warranty of (\d+) months", "warranty", "month"),
    "origin": Kind("Where is the ", r"made in (.+)\.", "made"),
    "weight": Kind("How heavy is the ", r"weighs (\d+) grams", "heavy", "g"),
    "care": Kind("How should I clean the ", r": (.+)\.", "clean"),
}


def find(expert: Expert, query: str, title: str) -> Row:
    """Search for `query` and return the document with that title. Raises: Skip where it is not found."""
    return document(expert.call("search_knowledge", "I search the knowledge base.", query=query), query, title)


def product_name(row: Row) -> str:
    """Return the name of a product's family: its own without the variant in brackets."""
    return str(row["name"]).partition(" (")[0]


def fact(b: Builder, kind: str) -> tuple[str, Row]:
    """Draw a product of this split with a known fact of a kind; return (its name, the knowledge row)."""
    question = KINDS[kind].question
    row = b.rng.choice([row for row in b.pools.questions if row["question"].startswith(question)])
    return row["question"][len(question) :].removesuffix(" made?").removesuffix("?"), row


def look_up(expert: Expert, kind: str, name: str, row: Row) -> str:
    """Search for a fact about a product and return its value. Raises: Skip."""
    query = f"{name} {KINDS[kind].keyword}"
    return value(kind, expert.call("search_knowledge", "I search the knowledge base.", query=query), name, row)


def document(found: Row, query: str, title: str) -> Row:
    """Return the document with that title among those found by `query`. Raises: Skip where there is none."""
    for seen in found["documents"]:
        if seen["title"] == title:
            return dict(seen)
    raise Skip(f"no document {title!r} for {query!r}")


def value(kind: str, found: Row, name: str, row: Row) -> str:
    """Return a fact about a product from the documents found. Raises: Skip."""
    excerpt = document(found, f"{name} {KINDS[kind].keyword}", row["question"])["excerpt"]
    match = re.search(KINDS[kind].pattern, excerpt)
    if match is None:
        raise Skip("the excerpt is cut")
    return match.group(1)


def search(kind: str, name: str = "{name}", into: str = "seen") -> Call:
    """Return the search for a fact about a product."""
    return call("search_knowledge", into=into, query=f"{name} {KINDS[kind].keyword}")


def _a_fact(kind: str) -> Callable[[Builder], Facts]:
    return lambda b: dict(zip(("name", "row"), fact(b, kind), strict=True))


def _read(kind: str) -> Callable[[Facts], Facts]:
    return lambda facts: {"value": value(kind, facts["seen"], facts["name"], facts["row"])}


def _origin(facts: Facts) -> Facts:
    return _country(value("origin", facts["seen"], facts["name"], facts["row"]))


def _country(country: str) -> Facts:
    others = [name for pair in ORIGINS.items() if pair[0] != country for name in pair]
    return {"value": country, "chinese": ORIGINS[country], "others": others}


def _care(facts: Facts) -> Facts:
    advice = value("care", facts["seen"], facts["name"], facts["row"])
    chinese, _, keys = ADVICE[advice]
    others = [key for other in ADVICE.values() if other.keys != keys for key in other.keys]
    return {"value": advice, "chinese": chinese, "keys": keys, "others": others}


def _two_products(kind: str) -> Callable[[Builder], Facts]:
    def draw(b: Builder) -> Facts:
        (one, first), (two, second) = fact(b, kind), fact(b, kind)
        if one == two:
            raise Skip("one product twice")
        return {"a": one, "b": two, "first": first, "second": second}

    return draw


def _compare(kind: str) -> Callable[[Facts], Facts]:
    def read(facts: Facts) -> Facts:
        one, two = facts["a"], facts["b"]
        x, y = int(value(kind, facts["one"], one, facts["first"])), int(value(kind, facts["two"], two, facts["second"]))
        if x == y:
            raise Skip("equal")
        more, less = (one, two) if x > y else (two, one)
        return {"more": more, "less": less, "most": max(x, y), "least": min(x, y)}

    return read


templates(
    "qa",
    "qa_products",
    Template(
        "warranty", 1, "Months of warranty of a product.", _a_fact("warranty"), search("warranty"),
        Number("{value}", "month", "0"),
        read=_read("warranty"),
    ),
    Template(
        "origin", 1, "The country in which a product is made.", _a_fact("origin"), search("origin"),
        Text("{value}", accept="{chinese}", reject="{others}"),
        read=_origin,
    ),
    Template(
        "weight", 1, "Grams of a packed product.", _a_fact("weight"), search("weight"),
        Number("{value}", "g", "0"),
        read=_read("weight"),
    ),
    Template(
        "care", 1, "How a product is cleaned.", _a_fact("care"), search("care"),
        Text("{value}", accept="{keys}", reject="{others}"),
        read=_care,
    ),
    Template(
        "heavier", 2, "Which of two products weighs more.", _two_products("weight"),
        (search("weight", "{a}", "one"), search("weight", "{b}", "two")),
        (Text("{more}", reject="{less}"), Number("{most}", "g", "0")),
        read=_compare("weight"),
        ask=("qa_products/heavier", "qa_products/value"),
    ),
    Template(
        "longer_warranty", 2, "Which of two products has the longer warranty.", _two_products("warranty"),
        (search("warranty", "{a}", "one"), search("warranty", "{b}", "two")),
        (Text("{more}", reject="{less}"), Number("{most}", "month", "0")),
        read=_compare("warranty"),
        ask=("qa_products/longer_warranty", "qa_products/value"),
    ),
)  # fmt: skip


@family("qa", 2, "Two facts about one product.")
def two_facts(b: Builder) -> None:
    kinds = b.rng.sample(("warranty", "origin", "weight"), 2)
    name, first = fact(b, kinds[0])
    rows = [first, *(row for row in b.pools.questions if row["product_id"] == first["product_id"])]
    known = [next((row for row in rows if row["question"].startswith(KINDS[kind].question)), None) for kind in kinds]
    b.ask(b.join(*(b.phrase(f"qa_products/{kind}", name=name) for kind in kinds)))
    task = " ".join(sentences(f"qa_products/{kind}").task.format(name=name) for kind in kinds)
    expert = b.delegate("qa", task, "Two questions about a product; the qa agent knows.")
    english, chinese = [], []
    for kind, row in zip(kinds, known, strict=True):
        if row is None:
            raise Skip("not known of this product")
        found = look_up(expert, kind, name, row)
        if KINDS[kind].unit:
            b.expect_number(found, KINDS[kind].unit, "0")
        else:
            country = _country(found)
            b.expect_text(found, country["chinese"], reject=tuple(country["others"]))
        english.append(row["answer"])
        chinese.append(translations("qa_products/two_facts")[kind].format(value=ORIGINS.get(found, found)))
    expert.answer(" ".join(english))
    b.finish(" ".join(english), f"{name}：{'，'.join(chinese)}。")
