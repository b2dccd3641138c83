"""The tools as declared: schemas, wrong calls, who may see what."""

import json
from typing import Any

import pytest

from trainer.hima_ecom import TOOLS, WRITING_TOOLS, Session, World, tool_names


def call(session: Session, name: str, **arguments: Any) -> Any:
    return json.loads(session.call(name, arguments))


def refused(session: Session, name: str, reason: str, **arguments: Any) -> None:
    """The call is refused for that reason and leaves the state as it was."""
    state = session.state_hash()
    answer = call(session, name, **arguments)
    assert set(answer) == {"error"}, answer
    assert reason in answer["error"], answer
    assert session.state_hash() == state


def test_schemas_are_openai_functions() -> None:
    names = []
    for agent, schemas in TOOLS.items():
        assert tuple(s["function"]["name"] for s in schemas) == tool_names(agent)
        for schema in schemas:
            assert set(schema) == {"type", "function"}
            parameters = schema["function"]["parameters"]
            assert set(parameters["required"]) <= set(parameters["properties"])
            assert parameters["additionalProperties"] is False
            assert all(p["description"] for p in parameters["properties"].values())
            assert len(schema["function"]["description"]) > 10
            names.append(schema["function"]["name"])
        json.dumps(schemas)
    assert len(names) == len(set(names)) == 35
    writing = ["apply_coupon", "cancel_order", "change_address", "change_payment_method", "exchange_item", "return_items"]
    assert sorted(WRITING_TOOLS) == [*writing, "set_reminder"]
    with pytest.raises(ValueError, match="agent: expected one of qa, efc, gfc, math, got 'chef'"):
        tool_names("chef")


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("no_such_tool", {}, "unknown tool 'no_such_tool'"),
        (None, {}, "unknown tool null"),
        (["get_order"], {}, "unknown tool a list"),
        ("get_today", None, "arguments: expected an object, got null"),
        ("get_today", "{}", "arguments: expected an object, got '{}'"),
        ("get_order", {}, "missing argument 'order_id'"),
        ("get_order", {"order_id": None}, "missing argument 'order_id'"),
        ("get_order", {"order_id": 1}, "argument 'order_id': expected a string, got 1"),
        ("get_order", {"order_id": "O00001", "id": 1}, "unknown argument 'id'; get_order takes: order_id"),
        ("get_order", {"order_id": "x" * 300}, "expected at most 200 characters, got 300"),
        ("get_order", {"order_id": "\ud800"}, "valid Unicode"),
        ("get_order", {"order_id": "O' OR 1=1"}, "no order 'O' OR 1=1' of this customer"),
        ("list_orders", {"limit": 0}, "expected a number from 1 to 20, got 0"),
        ("list_orders", {"limit": True}, "expected an integer, got true"),
        ("list_orders", {"limit": 2.0}, "expected an integer, got 2.0"),
        ("list_orders", {"status": "lost"}, "expected one of pending, processing, shipped, delivered, cancelled, got 'lost'"),
        ("statistics", {"values": [1, float("nan")], "what": "sum"}, "finite number"),
        ("statistics", {"values": [10**5000], "what": "sum"}, "got a number of more than 20 digits"),
        ("statistics", {"values": [], "what": "sum"}, "a list of 1 to 200 items, got a list"),
        ("search_products", {"attributes": {"colour": 1}}, "argument 'attributes': expected a string, got 1"),
        ("search_products", {"in_stock": 1}, "expected true or false, got 1"),
    ],
)
def test_wrong_calls(world: World, name: Any, arguments: Any, reason: str) -> None:
    answer = json.loads(world.session("C0001").call(name, arguments))
    assert reason in answer["error"], answer


def test_an_agent_knows_its_own_tools_only(world: World) -> None:
    session = world.session()
    assert "unknown tool" in session.call("get_today", {}, agent="math")
    assert "2026-06-15" in session.call("get_today", {}, agent="gfc")


def test_identification(world: World) -> None:
    customer, other = world.row("customers", "C0001"), world.row("customers", "C0002")
    postal = world.rows("addresses", "customer_id", "C0001")[-1]["postal_code"]
    session = world.session()
    order = world.rows("orders", "customer_id", "C0001")[0]["order_id"]
    refused(session, "get_order", "no customer is identified", order_id=order)
    refused(session, "find_customer", "no customer matches", email="nobody@example.com")
    refused(session, "find_customer", "give the e-mail address", first_name="A")
    refused(session, "find_customer", "not both", email=customer["email"], first_name="A")
    names = {k: customer[k] for k in ("first_name", "last_name")}
    refused(session, "find_customer", "no customer matches", **names, postal_code="0")
    assert call(session, "find_customer", **names, postal_code=postal)["customer_id"] == "C0001"
    assert call(session, "find_customer", email=customer["email"].upper())["customer_id"] == "C0001"
    refused(session, "find_customer", "belongs to another customer", email=other["email"])
    assert call(session, "get_order", order_id=order)["order_id"] == order
    theirs = next(row for row in world.all("orders") if row["customer_id"] != "C0001")
    refused(session, "get_order", "of this customer", order_id=theirs["order_id"])
    refused(session, "cancel_order", "of this customer", order_id=theirs["order_id"])
    parcel = next(s for s in world.all("shipments") if world.row("orders", s["order_id"])["customer_id"] != "C0001")
    refused(session, "track_shipment", "of this customer", tracking_number=parcel["tracking_number"])
