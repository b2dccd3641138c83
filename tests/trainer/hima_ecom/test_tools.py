"""The rules of the tools: what each allows and what it refuses."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trainer.hima_ecom import TOOLS, WRITING_TOOLS, Session, World, rules, tool_names
from trainer.hima_ecom.generation.dates import before

Row = dict[str, Any]


def call(session: Session, name: str, **arguments: Any) -> Any:
    return json.loads(session.call(name, arguments))


def refused(session: Session, name: str, reason: str, **arguments: Any) -> None:
    """The call is refused for that reason and leaves the state as it was."""
    state = session.state_hash()
    answer = call(session, name, **arguments)
    assert set(answer) == {"error"}, answer
    assert reason in answer["error"], answer
    assert session.state_hash() == state


class Case:
    """An order of the world, put into the state that a test needs, in a session of its customer."""

    def __init__(self, world: World, **wanted: Any) -> None:
        self.order = next(row for row in world.all("orders") if all(row[k] == v for k, v in wanted.items()))
        self.id: str = self.order["order_id"]
        self.session = world.session(self.order["customer_id"])
        self.store = self.session.store
        self.items = self.store.rows("order_items", "order_id", self.id)

    def set_order(self, **changes: Any) -> None:
        self.store.update("orders", self.store.row("orders", self.id), **changes)

    def set_category(self, category: str) -> None:
        for item in self.items:
            self.store.update("products", self.store.row("products", item["product_id"]), category=category)

    def set_tier(self, tier: str) -> None:
        self.store.update("customers", self.store.row("customers", self.order["customer_id"]), tier=tier)

    def delivered_ago(self, days: int) -> None:
        shipment = self.store.rows("shipments", "order_id", self.id)[0]
        self.store.update("shipments", shipment, delivered_on=before(self.store.today, days))

    def call(self, name: str, **arguments: Any) -> Any:
        answer = call(self.session, name, order_id=self.id, **arguments)
        assert "error" not in answer, answer
        return answer

    def refused(self, name: str, reason: str, **arguments: Any) -> None:
        refused(self.session, name, reason, order_id=self.id, **arguments)

    def balance(self) -> int:
        """What the store holds of this order, over all payment methods."""
        rows = self.store.rows("payments", "order_id", self.id)
        return sum(row["amount_cents"] * (1 if row["kind"] == "charge" else -1) for row in rows)

    def method(self, kind: str, cents: int | None = None) -> str:
        """A payment method of that kind with that balance, not the one that the order has."""
        return self.store.insert(
            "payment_methods", "M", customer_id=self.order["customer_id"], kind=kind, label=f"new {kind}", balance_cents=cents
        )


@pytest.fixture
def case(world: World) -> Callable[..., Case]:
    return lambda **wanted: Case(world, **wanted)


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
    assert WRITING_TOOLS == set(
        "cancel_order return_items exchange_item change_address apply_coupon change_payment_method set_reminder".split()
    )
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


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_cancel(case: Callable[..., Case], status: str) -> None:
    c = case(status=status, coupon_code=None)
    stock = [c.store.row("products", item["product_id"])["stock"] for item in c.items]
    answer = c.call("cancel_order", reason="found_cheaper")
    assert float(answer["refund"]) * 100 == pytest.approx(c.order["total_cents"])
    assert c.balance() == 0
    after = [c.store.row("products", item["product_id"])["stock"] for item in c.items]
    assert after == [n + item["quantity"] for n, item in zip(stock, c.items, strict=True)]
    assert {row["status"] for row in c.store.rows("order_items", "order_id", c.id)} == {"cancelled"}
    c.refused("cancel_order", "is cancelled; it can be cancelled only while it is pending or processing")


@pytest.mark.parametrize("status", ["shipped", "delivered", "cancelled"])
def test_cancel_is_refused_from_shipping_on(case: Callable[..., Case], status: str) -> None:
    case(status=status).refused("cancel_order", f"is {status}")


def test_a_cancelled_gift_card_order_and_its_coupon(case: Callable[..., Case]) -> None:
    c = case(status="pending", coupon_code=None)
    card = c.method("gift_card", 100)
    c.store.insert("coupon_uses", "U", code="X", customer_id=c.order["customer_id"], order_id=c.id)
    c.set_order(payment_method_id=card)
    c.call("cancel_order")
    assert c.store.row("payment_methods", card)["balance_cents"] == 100 + c.order["total_cents"]
    assert c.store.rows("coupon_uses", "order_id", c.id) == []


def test_change_address(case: Callable[..., Case]) -> None:
    c = case(status="processing")
    old = c.store.row("addresses", c.order["address_id"])
    new = {"street": "1 New Street", "city": "Newtown", "postal_code": "12345", "country": old["country"]}
    c.refused("change_address", "missing: street, city, postal_code, country")
    c.refused("change_address", "missing: city", **(new | {"city": "  "}))
    c.refused("change_address", "not both", address_id=old["address_id"], **new)
    c.refused("change_address", "already goes to that address", address_id=old["address_id"])
    c.refused("change_address", "already goes", **{k: old[k] for k in new})
    c.refused("change_address", "only within that country", **(new | {"country": "Atlantis"}))
    c.refused("change_address", "of this customer", address_id="A99999")
    other = next(a for a in c.store.all("addresses") if a["customer_id"] != c.order["customer_id"])
    c.refused("change_address", "of this customer", address_id=other["address_id"])
    address = c.call("change_address", **new)["address"]
    assert {k: address[k] for k in new} == new
    assert c.store.row("orders", c.id)["address_id"] == address["address_id"]
    c.call("change_address", address_id=old["address_id"])
    c.call("change_address", **new)  # the same text again is the same address
    assert c.store.row("orders", c.id)["address_id"] == address["address_id"]
    c.set_order(status="shipped")
    c.refused("change_address", "is shipped; its address can be changed only while", address_id=old["address_id"])


def test_change_payment_method(case: Callable[..., Case]) -> None:
    c = case(status="pending")
    total = c.order["total_cents"]
    low, enough, paypal = c.method("gift_card", total - 1), c.method("gift_card", total), c.method("paypal")
    c.refused("change_payment_method", "already paid with", payment_method_id=c.order["payment_method_id"])
    c.refused("change_payment_method", "of this customer", payment_method_id="M99999")
    c.refused("change_payment_method", "has a balance of", payment_method_id=low)
    c.call("change_payment_method", payment_method_id=enough)
    assert c.store.row("payment_methods", enough)["balance_cents"] == 0
    c.call("change_payment_method", payment_method_id=paypal)
    assert c.store.row("payment_methods", enough)["balance_cents"] == total
    assert c.balance() == total
    assert c.store.row("orders", c.id)["payment_method_id"] == paypal
    c.set_order(status="processing")
    c.refused("change_payment_method", "is processing; its payment method can be changed only while", payment_method_id=enough)


def coupon(c: Case, **changes: Any) -> None:
    row: Row = {"code": "TEST", "description": "a test", "kind": "percent", "value": 10, "minimum_cents": 0, "category": None}
    row |= {"starts_on": "2026-01-01", "expires_on": c.store.today, "once_per_customer": 1}
    c.store.put("coupons", row | changes)


def test_apply_coupon(case: Callable[..., Case]) -> None:
    c = case(status="pending", coupon_code=None)
    c.set_category("toys")
    subtotal = c.order["subtotal_cents"]
    c.refused("apply_coupon", "no coupon 'TEST'", code="TEST")
    for changes, reason in (
        ({"starts_on": "2026-06-16"}, "valid from 2026-06-16"),
        ({"expires_on": "2026-06-14"}, "expired on 2026-06-14"),
        ({"minimum_cents": subtotal + 1}, "needs items of"),
        ({"category": "beauty"}, "is for beauty items; the order has none"),
    ):
        coupon(c, **changes)
        c.refused("apply_coupon", reason, code="TEST")
        assert reason in call(c.session, "check_coupon", code="TEST", order_id=c.id)["reason"]
    coupon(c, minimum_cents=subtotal, category="toys")
    assert call(c.session, "check_coupon", code="TEST", order_id=c.id)["applicable"]
    c.call("apply_coupon", code="TEST")
    after = c.store.row("orders", c.id)
    assert after["discount_cents"] == subtotal // 10
    assert after["total_cents"] == c.order["total_cents"] - subtotal // 10 == c.balance()
    c.refused("apply_coupon", "already has the coupon TEST", code="TEST")
    # Once per customer: not on another order either, until the first is cancelled.
    c.set_order(coupon_code=None)
    c.refused("apply_coupon", "was already used", code="TEST")
    coupon(c, once_per_customer=0)
    c.call("apply_coupon", code="TEST")
    c.set_order(coupon_code=None, status="processing")
    c.refused("apply_coupon", "only while it is pending", code="TEST")


def test_a_fixed_coupon_takes_off_no_more_than_its_items_cost(case: Callable[..., Case]) -> None:
    c = case(status="pending", coupon_code=None)
    coupon(c, kind="fixed", value=10**8)
    c.call("apply_coupon", code="TEST")
    assert c.store.row("orders", c.id)["total_cents"] == c.order["shipping_cents"]


@pytest.mark.parametrize("category", list(rules.RETURN_RULES))
@pytest.mark.parametrize("tier", ["standard", "gold"])
def test_return_periods(case: Callable[..., Case], category: str, tier: str) -> None:
    c = case(status="delivered", coupon_code=None)
    c.set_category(category)
    c.set_tier(tier)
    rule = rules.RETURN_RULES[category]
    item = c.items[0]
    days = rule.days + (rules.GOLD_EXTRA_DAYS if tier == "gold" and rule.days else 0)
    arguments = {"item_ids": [item["item_id"]], "condition": "unopened"}
    c.delivered_ago(days + 1)
    c.refused(
        "return_items",
        "can not be returned" if not days else f"within {days} days of delivery; {days + 1} have passed",
        **arguments,
    )
    c.delivered_ago(days)
    if days:
        start = c.session.snapshot()
        answer = c.call("return_items", **arguments)
        assert round(float(answer["refund"]) * 100) == item["quantity"] * item["unit_price_cents"]
        c.session.restore(start)
        if rule.opened:
            c.call("return_items", **(arguments | {"condition": "opened"}))
            c.session.restore(start)
        else:
            c.refused("return_items", "only unopened", **(arguments | {"condition": "opened"}))
    c.delivered_ago(rules.DEFECT_DAYS + 1)
    c.refused("return_items", "within 60 days", **(arguments | {"condition": "defective"}))
    c.delivered_ago(rules.DEFECT_DAYS)
    c.call("return_items", **(arguments | {"condition": "defective"}))


def test_returns(case: Callable[..., Case]) -> None:
    c = case(status="delivered", coupon_code=None)
    c.set_category("home")
    c.delivered_ago(3)
    ids = [item["item_id"] for item in c.items]
    c.refused("return_items", "no item", item_ids=["O99999-1"], condition="opened")
    c.refused("return_items", "named twice", item_ids=[ids[0], ids[0]], condition="opened")
    # A third off: all parts together refund no more than was paid, and at most a cent an item less.
    discount = c.order["subtotal_cents"] // 3
    c.set_order(discount_cents=discount, total_cents=c.order["total_cents"] - discount)
    c.call("return_items", item_ids=ids, condition="opened", reason="wrong_item")
    refunds = [row["refund_cents"] for row in c.store.rows("returns", "order_id", c.id)]
    assert len(refunds) == len(ids)
    assert c.order["subtotal_cents"] - discount - len(ids) <= sum(refunds) <= c.order["subtotal_cents"] - discount
    c.refused("return_items", "was already returned", item_ids=ids[:1], condition="opened")
    c.refused("exchange_item", "was already returned", item_id=ids[0], new_product_id="P0001")


@pytest.mark.parametrize("status", ["pending", "processing", "shipped", "cancelled"])
def test_only_delivered_items_come_back(case: Callable[..., Case], status: str) -> None:
    c = case(status=status)
    item = c.items[0]["item_id"]
    c.refused("return_items", f"is {status}; only delivered", item_ids=[item], condition="defective")
    c.refused("exchange_item", f"is {status}; only delivered", item_id=item, new_product_id="P0001")


@pytest.fixture
def exchange(case: Callable[..., Case]) -> Iterator[tuple[Case, Row, Row]]:
    """A delivered item and another product of its type, 10 in stock."""
    c = case(status="delivered", coupon_code=None)
    c.set_category("home")
    c.set_tier("standard")
    c.delivered_ago(30)
    item = c.items[0]
    old = c.store.row("products", item["product_id"])
    new = next(p.row for p in c.store.products() if p.row["type"] == old["type"] and p.row["product_id"] != old["product_id"])
    new = c.store.update("products", new, stock=10, price_cents=item["unit_price_cents"])
    yield c, item, new


def test_exchange_for_the_same_price(exchange: tuple[Case, Row, Row]) -> None:
    c, item, new = exchange
    before = c.balance()
    c.call("exchange_item", item_id=item["item_id"], new_product_id=new["product_id"])
    assert c.balance() == before
    assert c.store.row("products", new["product_id"])["stock"] == 10 - item["quantity"]
    assert c.store.row("order_items", item["item_id"])["status"] == "exchanged"
    c.refused("exchange_item", "was already exchanged", item_id=item["item_id"], new_product_id=new["product_id"])


def test_exchange_with_a_difference(exchange: tuple[Case, Row, Row]) -> None:
    c, item, new = exchange
    before, quantity = c.balance(), item["quantity"]
    arguments = {"item_id": item["item_id"], "new_product_id": new["product_id"]}
    start = c.session.snapshot()
    c.store.update("products", new, price_cents=new["price_cents"] - 100)
    c.call("exchange_item", **arguments)
    assert c.balance() == before - 100 * quantity
    c.session.restore(start)
    c.store.update("products", new, price_cents=new["price_cents"] + 100)
    c.refused("exchange_item", "more; give a payment_method_id", **arguments)
    c.refused("exchange_item", "of this customer", **arguments, payment_method_id="M99999")
    low = c.method("gift_card", 100 * quantity - 1)
    c.refused("exchange_item", "has a balance of", **arguments, payment_method_id=low)
    c.call("exchange_item", **arguments, payment_method_id=c.method("paypal"))
    assert c.balance() == before + 100 * quantity


def test_exchanges_refused(exchange: tuple[Case, Row, Row]) -> None:
    c, item, new = exchange
    arguments = {"item_id": item["item_id"], "new_product_id": new["product_id"]}
    c.refused("exchange_item", "is already product", **(arguments | {"new_product_id": item["product_id"]}))
    c.refused("exchange_item", "no product", **(arguments | {"new_product_id": "P9999"}))
    c.refused("exchange_item", "no item", **(arguments | {"item_id": "O99999-1"}))
    other = next(p.row for p in c.store.products() if p.row["type"] != new["type"])
    c.refused("exchange_item", "is of type", **(arguments | {"new_product_id": other["product_id"]}))
    c.store.update("products", new, stock=item["quantity"] - 1)
    c.refused("exchange_item", "in stock", **arguments)
    c.delivered_ago(31)
    c.refused("exchange_item", "can be exchanged within 30 days", **arguments)
    c.set_tier("gold")
    c.refused("exchange_item", "in stock", **arguments)
    c.set_category("grocery")
    c.refused("exchange_item", "can not be exchanged", **arguments)
