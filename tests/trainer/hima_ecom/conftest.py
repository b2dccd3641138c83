"""A small world, and orders in it put into the state that a test needs."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from trainer.hima_ecom import Session, World, rules
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

    def return_days(self, item: Row) -> int:
        """Days in which an item may come back, for a standard customer."""
        product = self.store.row("products", item["product_id"])
        return rules.return_days(product["brand"], product["category"], "standard")

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


@pytest.fixture(scope="session")
def world() -> World:
    return World.in_memory(7)


@pytest.fixture
def case(world: World) -> Callable[..., Case]:
    return lambda **wanted: Case(world, **wanted)
