"""Random episodes of writing calls: what must hold of money and stock after every call, and a replay is the same episode."""

import json
import random
from typing import Any

import pytest

from trainer.hima_ecom import Session, World

Call = tuple[str, dict[str, Any]]


def some_call(rng: random.Random, session: Session) -> Call:
    """A writing call with ids that fit together more often than not."""
    store = session.store
    customer = session.customer_id
    assert customer is not None
    orders = store.rows("orders", "customer_id", customer)
    pending = [row for row in orders if row["status"] == "pending"]
    order = rng.choice(pending if pending and rng.random() < 0.5 else orders)
    key = order["order_id"]
    items = store.rows("order_items", "order_id", key)
    item = rng.choice(items)
    kind = store.row("products", item["product_id"])["type"]
    same_type = [p.row["product_id"] for p in store.products() if p.row["type"] == kind]
    addresses = [*store.rows("addresses", "customer_id", customer), rng.choice(store.all("addresses"))]
    method = rng.choice(store.rows("payment_methods", "customer_id", customer))["payment_method_id"]
    return rng.choice(
        [
            ("cancel_order", {"order_id": key}),
            ("change_address", {"order_id": key, "address_id": rng.choice(addresses)["address_id"]}),
            ("change_payment_method", {"order_id": key, "payment_method_id": method}),
            ("apply_coupon", {"order_id": key, "code": rng.choice(store.all("coupons"))["code"]}),
            (
                "return_items",
                {
                    "order_id": key,
                    "item_ids": [i["item_id"] for i in rng.sample(items, rng.randint(1, len(items)))],
                    "condition": rng.choice(("unopened", "opened", "defective")),
                },
            ),
            (
                "exchange_item",
                {
                    "order_id": key,
                    "item_id": item["item_id"],
                    "new_product_id": rng.choice(same_type),
                    "payment_method_id": method,
                },
            ),
        ]
    )


def check(session: Session) -> None:
    """The books balance: what the store holds of an order is what the order still costs."""
    store = session.store
    for order in store.rows("orders", "customer_id", str(session.customer_id)):
        key = order["order_id"]
        held = sum(p["amount_cents"] * (1 if p["kind"] == "charge" else -1) for p in store.rows("payments", "order_id", key))
        refunds = sum(row["refund_cents"] for row in store.rows("returns", "order_id", key))
        differences = sum(row["difference_cents"] for row in store.rows("exchanges", "order_id", key))
        total = 0 if order["status"] == "cancelled" else order["total_cents"]
        assert held == total - refunds + differences
        assert order["total_cents"] == order["subtotal_cents"] - order["discount_cents"] + order["shipping_cents"] >= 0
        statuses = [row["status"] for row in store.rows("order_items", "order_id", key)]
        assert statuses.count("returned") == len(store.rows("returns", "order_id", key))
        assert statuses.count("exchanged") == len(store.rows("exchanges", "order_id", key))
        assert (order["status"] == "cancelled") == ("cancelled" in statuses)
        assert store.row("addresses", order["address_id"])["customer_id"] == session.customer_id
        assert [u["code"] for u in store.rows("coupon_uses", "order_id", key)] == (
            [order["coupon_code"]] if order["coupon_code"] and order["status"] != "cancelled" else []
        )
    assert all(p.row["stock"] >= 0 for p in store.products())
    methods = store.rows("payment_methods", "customer_id", str(session.customer_id))
    assert all(row["balance_cents"] is None or row["balance_cents"] >= 0 for row in methods)


@pytest.fixture(scope="module")
def done() -> dict[str, int]:
    """How often each tool did something."""
    return {}


@pytest.mark.parametrize("seed", range(6))
def test_random_episodes(world: World, done: dict[str, int], seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(10):
        customer = f"C{rng.randint(1, 40):04d}"
        session, calls, answers = world.session(customer), [], []
        for _ in range(12):
            call = some_call(rng, session)
            state = session.state_hash()
            answer = session.call(*call)
            refused = "error" in json.loads(answer)
            assert refused == (session.state_hash() == state)
            done[call[0]] = done.get(call[0], 0) + (not refused)
            check(session)
            calls.append(call)
            answers.append(answer)
            if rng.random() < 0.3:  # most orders would soon be cancelled
                session.restore(world.session(customer).snapshot())
                calls, answers = [], []
        replay = world.session(customer)
        assert [replay.call(*call) for call in calls] == answers
        assert replay.state_hash() == session.state_hash()


def test_every_writing_tool_did_something(done: dict[str, int]) -> None:
    if not done:
        pytest.skip("random episodes were not selected")
    assert min(done.values()) > 0, done
    assert len(done) == 6
