"""The rules of the tools that write: what each allows and what it refuses. `case(status=...)` is an order in a session."""

from collections.abc import Callable
from typing import Any

import pytest

from trainer.hima_ecom import rules

Row = dict[str, Any]
Make = Callable[..., Any]
Exchange = tuple[Any, Row, Row]


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_cancel(case: Make, status: str) -> None:
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
def test_cancel_is_refused_from_shipping_on(case: Make, status: str) -> None:
    case(status=status).refused("cancel_order", f"is {status}")


def test_a_cancelled_gift_card_order_and_its_coupon(case: Make) -> None:
    c = case(status="pending", coupon_code=None)
    card = c.method("gift_card", 100)
    c.store.insert("coupon_uses", "U", code="X", customer_id=c.order["customer_id"], order_id=c.id)
    c.set_order(payment_method_id=card)
    c.call("cancel_order")
    assert c.store.row("payment_methods", card)["balance_cents"] == 100 + c.order["total_cents"]
    assert c.store.rows("coupon_uses", "order_id", c.id) == []


def test_change_address(case: Make) -> None:
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


def test_change_payment_method(case: Make) -> None:
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


def coupon(c: Any, **changes: Any) -> None:
    row: Row = {"code": "TEST", "description": "a test", "kind": "percent", "value": 10, "minimum_cents": 0, "category": None}
    row |= {"starts_on": "2026-01-01", "expires_on": c.store.today, "once_per_customer": 1}
    c.store.put("coupons", row | changes)


def test_apply_coupon(case: Make) -> None:
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
        assert reason in c.call("check_coupon", code="TEST")["reason"]
    coupon(c, minimum_cents=subtotal, category="toys")
    assert c.call("check_coupon", code="TEST")["applicable"]
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


def test_a_fixed_coupon_takes_off_no_more_than_its_items_cost(case: Make) -> None:
    c = case(status="pending", coupon_code=None)
    coupon(c, kind="fixed", value=10**8)
    c.call("apply_coupon", code="TEST")
    assert c.store.row("orders", c.id)["total_cents"] == c.order["shipping_cents"]


@pytest.mark.parametrize("category", rules.CATEGORIES)
@pytest.mark.parametrize("tier", ["standard", "gold"])
def test_return_periods(case: Make, category: str, tier: str) -> None:
    c = case(status="delivered", coupon_code=None)
    c.set_category(category)
    c.set_tier(tier)
    item = c.items[0]
    rule = rules.return_rule(c.store.row("products", item["product_id"])["brand"], category)
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


def test_a_defect_is_a_reason_that_need_not_be_said_twice(case: Make) -> None:
    states = set()
    for given in ({}, {"reason": "defective"}, {"reason": "other"}):
        c = case(status="delivered")
        c.delivered_ago(3)
        c.call("return_items", item_ids=[c.items[0]["item_id"]], condition="defective", **given)
        assert c.store.rows("returns", "order_id", c.id)[0]["reason"] == "defective"
        states.add(c.session.state_hash())
    assert len(states) == 1


def test_returns(case: Make) -> None:
    c = case(status="delivered", coupon_code=None)
    c.set_category("home")
    c.delivered_ago(3)
    ids = [item["item_id"] for item in c.items]
    c.refused("return_items", "no item", item_ids=["O99999-1"], condition="unopened")
    c.refused("return_items", "named twice", item_ids=[ids[0], ids[0]], condition="unopened")
    # A third off: all parts together refund no more than was paid, and at most a cent an item less.
    discount = c.order["subtotal_cents"] // 3
    c.set_order(discount_cents=discount, total_cents=c.order["total_cents"] - discount)
    c.call("return_items", item_ids=ids, condition="unopened", reason="wrong_item")
    refunds = [row["refund_cents"] for row in c.store.rows("returns", "order_id", c.id)]
    assert len(refunds) == len(ids)
    assert c.order["subtotal_cents"] - discount - len(ids) <= sum(refunds) <= c.order["subtotal_cents"] - discount
    c.refused("return_items", "was already returned", item_ids=ids[:1], condition="unopened")
    c.refused("exchange_item", "was already returned", item_id=ids[0], new_product_id="P0001")


@pytest.mark.parametrize("status", ["pending", "processing", "shipped", "cancelled"])
def test_only_delivered_items_come_back(case: Make, status: str) -> None:
    c = case(status=status)
    item = c.items[0]["item_id"]
    c.refused("return_items", f"is {status}; only delivered", item_ids=[item], condition="defective")
    c.refused("exchange_item", f"is {status}; only delivered", item_id=item, new_product_id="P0001")


@pytest.fixture
def exchange(case: Make) -> Exchange:
    """A delivered item on the last day for it, and another product of its type, 8 more in stock than are needed."""
    c = case(status="delivered", coupon_code=None)
    c.set_category("home")
    c.set_tier("standard")
    item = c.items[0]
    c.delivered_ago(c.return_days(item))
    old = c.store.row("products", item["product_id"])
    new = next(p.row for p in c.store.products() if p.row["type"] == old["type"] and p.row["product_id"] != old["product_id"])
    new = c.store.update("products", new, stock=item["quantity"] + 8, price_cents=item["unit_price_cents"])
    return c, item, new


def test_exchange_for_the_same_price(exchange: Exchange) -> None:
    c, item, new = exchange
    before = c.balance()
    c.call("exchange_item", item_id=item["item_id"], new_product_id=new["product_id"])
    assert c.balance() == before
    assert c.store.row("products", new["product_id"])["stock"] == 8
    assert c.store.row("order_items", item["item_id"])["status"] == "exchanged"
    c.refused("exchange_item", "was already exchanged", item_id=item["item_id"], new_product_id=new["product_id"])


def test_exchange_with_a_difference(exchange: Exchange) -> None:
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


def test_exchanges_refused(exchange: Exchange) -> None:
    c, item, new = exchange
    arguments = {"item_id": item["item_id"], "new_product_id": new["product_id"]}
    c.refused("exchange_item", "is already product", **(arguments | {"new_product_id": item["product_id"]}))
    c.refused("exchange_item", "no product", **(arguments | {"new_product_id": "P9999"}))
    c.refused("exchange_item", "no item", **(arguments | {"item_id": "O99999-1"}))
    other = next(p.row for p in c.store.products() if p.row["type"] != new["type"])
    c.refused("exchange_item", "is of type", **(arguments | {"new_product_id": other["product_id"]}))
    c.store.update("products", new, stock=item["quantity"] - 1)
    c.refused("exchange_item", "in stock", **arguments)
    days = c.return_days(item)
    c.delivered_ago(days + 1)
    c.refused("exchange_item", f"can be exchanged within {days} days", **arguments)
    c.set_tier("gold")
    c.refused("exchange_item", "in stock", **arguments)
    c.set_category("grocery")
    c.refused("exchange_item", "can not be exchanged", **arguments)
