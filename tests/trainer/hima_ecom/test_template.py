"""Families that are entries of a table: what templates stand for, and entries that are played."""

import random

import pytest

from trainer.hima_ecom import World
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.pools import Pools
from trainer.hima_ecom.tasks.template import (
    Call,
    Called,
    Expected,
    Facts,
    Number,
    Refusal,
    Template,
    Text,
    call,
    fill,
    play,
    refused,
)
from trainer.hima_ecom.tasks.texts import Sentences

SAID = Sentences(
    task="What does {product} cost?",
    why="It is about {product}.",
    thoughts=("I look at {product}.",),
    answer="It costs {seen[price]}.",
    en="{seen[price]} USD.",
    zh="{seen[price]} 美元。",
)


def template(calls: Call | tuple[Call, ...], *expect: Expected, **options: object) -> Template:
    def draw(b: Builder) -> Facts:
        return {"product": b.pools.products[0]["product_id"], "names": ["x", "y"]}

    return Template("f", 1, "A price.", draw, calls, expect, ask=("efc_products/product_price",), **options)


def played(world: World, entry: Template, said: Sentences = SAID) -> Builder:
    builder = Builder(Pools(world, "train"), random.Random(0), "train", "en")
    play(builder, entry, said, "efc")
    return builder


def test_a_template_that_is_one_field_stands_for_the_fact() -> None:
    facts = {"n": 3, "row": {"price": "2.50", "ids": [1, 2]}, "name": "lamp"}
    assert fill("{n}", facts) == 3
    assert fill("{row[ids]}", facts) == [1, 2]
    assert fill("{n} of {row[price]}", facts) == "3 of 2.50"
    assert fill({"a": ["{name}"], "limit": 2, "open": True}, facts) == {"a": ["lamp"], "limit": 2, "open": True}
    assert fill("", facts) == ""
    with pytest.raises(KeyError, match="colour"):
        fill("{colour}", facts)


def test_an_entry_is_played(world: World) -> None:
    look = call("get_product", product_id="{product}")
    builder = played(
        world, template(look, Text("{names}", accept="{seen[name]}", reject="{names}"), Number("{seen[price]}", "USD"))
    )
    row = builder.pools.products[0]
    key, price = row["product_id"], f"{row['price_cents'] / 100:.2f}"
    assert key in builder.query
    assert [node["agent"] for node in builder.nodes] == ["master", "efc", "efc", "master"]
    texts = [node["text"] for node in builder.nodes]
    assert f"It is about {key}." in texts[0]
    assert f"What does {key} cost?" in texts[0]
    assert f"I look at {key}." in texts[1]
    assert f"It costs {price}." in texts[2]
    assert builder.final_response == f"{price} USD."
    assert builder.parts == [
        {"kind": "text", "value": "x", "accept": [row["name"]], "reject": ["x", "y"]},
        {"kind": "text", "value": "y", "accept": [row["name"]], "reject": ["x", "y"]},
        {"kind": "number", "value": price, "unit": "USD", "tolerance": "0.005"},
    ]


def test_a_call_that_is_refused_gives_its_reason(world: World) -> None:
    said = SAID._replace(answer="No: {reason}.", en="{words[0]}", zh="")
    entry = template(
        refused("get_product", product_id="P0"), Refusal("{words}", ("other",)), read=lambda facts: {"words": [facts["reason"]]}
    )
    builder = played(world, entry, said)
    (part,) = builder.parts
    assert part == {"kind": "refusal", "reasons": [builder.final_response], "reject": ["other"]}
    assert "P0" in builder.final_response


def test_what_makes_no_task_is_skipped(world: World) -> None:
    def none(facts: Facts) -> Facts:
        raise Skip("nothing to see")

    with pytest.raises(Skip, match="does not refuse"):
        played(world, template(refused("get_product", product_id="{product}")))
    with pytest.raises(Skip, match="P0"):
        played(world, template(call("get_product", product_id="P0")))
    with pytest.raises(Skip, match="nothing to see"):
        played(world, template(call("get_product", product_id="{product}"), read=none))


def test_calls_may_be_required_and_an_expectation_may_be_a_function(world: World) -> None:
    look = call("get_product", product_id="{product}")
    entry = template(look, Called(), Called(("get_reviews",)), lambda b, facts: b.expect_number(facts["seen"]["stock"]))
    builder = played(world, entry)
    key = builder.pools.products[0]["product_id"]
    every, none, stock = builder.parts
    assert every == {"kind": "calls", "calls": [{"agent": "efc", "name": "get_product", "arguments": {"product_id": key}}]}
    assert none == {"kind": "calls", "calls": []}
    assert stock["kind"] == "number"


def test_what_follows_from_a_call_is_known_to_the_next(world: World) -> None:
    first = call("get_product", into="one", product_id="{product}", then=lambda facts: {"again": facts["one"]["product_id"]})
    entry = template((first, call("get_product", product_id="{again}")), Text("{seen[product_id]}"))
    builder = played(world, entry, SAID._replace(thoughts=("One.", "Again {again}.")))
    key = builder.pools.products[0]["product_id"]
    assert f"Again {key}." in builder.nodes[2]["text"]
    assert builder.parts[0]["value"] == key


def test_in_gfc_and_math_the_query_does_not_say_the_answer(world: World) -> None:
    builder = Builder(Pools(world, "train"), random.Random(0), "train", "en")
    today = template(call("get_today"), Text("{product}"))
    with pytest.raises(Skip, match="the query says the answer"):
        play(builder, today, SAID._replace(answer="a", en="a", zh="a"), "gfc")


def test_every_call_has_a_thought(world: World) -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        played(world, template(call("get_product", product_id="{product}")), SAID._replace(thoughts=()))
