"""An episode's writes: seen by it alone, undone by restore, equal after a replay."""

import json
import time
from typing import Any

from trainer.hima_ecom import Session, World
from trainer.hima_ecom.overlay import Overlay


def cancellable(world: World) -> dict[str, Any]:
    return next(row for row in world.all("orders") if row["status"] == "pending")


def test_reads_see_writes_first(world: World) -> None:
    store = Overlay(world, None)
    order = cancellable(world)
    key, customer = order["order_id"], order["customer_id"]
    store.update("orders", order, status="cancelled")
    assert store.row("orders", key)["status"] == "cancelled"
    assert [r["status"] for r in store.rows("orders", "customer_id", customer) if r["order_id"] == key] == ["cancelled"]
    # A row that moves to another value of the column is found there and not here.
    store.update("orders", order, customer_id="C0002" if customer != "C0002" else "C0003")
    assert key not in [r["order_id"] for r in store.rows("orders", "customer_id", customer)]
    store.delete("orders", key)
    assert store.row("orders", key) is None
    assert len(store.all("orders")) == len(world.all("orders")) - 1
    assert world.row("orders", key) == order
    new = store.insert("reminders", "N", date="2026-07-01", time="09:00", text="a")
    assert store.all("reminders") == [{"reminder_id": new, "date": "2026-07-01", "time": "09:00", "text": "a"}]


def test_products_come_from_the_overlay(world: World) -> None:
    store = Overlay(world, None)
    store.update("products", world.row("products", "P0002"), stock=99)
    assert [p.row["stock"] for p in store.products() if p.row["product_id"] == "P0002"] == [99]
    assert world.products["P0002"].row["stock"] != 99


def test_keys_of_new_rows_follow_from_their_content(world: World) -> None:
    texts = [{"date": "2026-07-01", "text": text} for text in ("a", "b", "a")]
    states = []
    for order in ((0, 1, 2), (1, 0, 2), (0, 2, 1)):
        session = world.session()
        answers = [json.loads(session.call("set_reminder", texts[i])) for i in order]
        assert len({answer["reminder_id"] for answer in answers}) == 3
        states.append((session.state_hash(), session.changes()))
    # Independent writes commute.
    assert states[0] == states[1] == states[2]
    other = world.session()
    other.call("set_reminder", texts[0])
    assert other.state_hash() != states[0][0]


def test_snapshot_and_restore(world: World) -> None:
    order = cancellable(world)
    session = world.session(order["customer_id"])
    clean = session.snapshot()
    session.call("set_reminder", {"date": "2026-07-01", "text": "before"})
    middle, state = session.snapshot(), session.state_hash()
    for _ in range(3):
        assert "error" not in session.call("cancel_order", {"order_id": order["order_id"]})
        assert session.state_hash() != state
        session.restore(middle)
        assert session.state_hash() == state
        assert json.loads(session.call("get_order", {"order_id": order["order_id"]}))["status"] == "pending"
    session.restore(clean)
    assert session.changes() == {}
    # The snapshot serves another session as well.
    other = world.session()
    other.restore(middle)
    assert (other.state_hash(), other.customer_id) == (state, order["customer_id"])


def test_restore_takes_back_an_identification(world: World) -> None:
    session = world.session()
    before = session.snapshot()
    session.call("find_customer", {"email": world.row("customers", "C0001")["email"]})
    assert session.customer_id == "C0001"
    assert session.changes() == {}  # knowing who asks is not a change of the store
    session.restore(before)
    assert "no customer is identified" in session.call("list_orders", {})


def test_sessions_do_not_see_each_other(world: World) -> None:
    order = cancellable(world)
    sessions = [world.session(order["customer_id"]) for _ in range(3)]
    sessions[0].call("cancel_order", {"order_id": order["order_id"]})
    sessions[1].call("set_reminder", {"date": "2026-07-01", "text": "mine"})
    read = [json.loads(s.call("get_order", {"order_id": order["order_id"]}))["status"] for s in sessions]
    assert read == ["cancelled", "pending", "pending"]
    assert [json.loads(s.call("list_reminders", {}))["count"] for s in sessions] == [0, 1, 0]


def test_changes_are_canonical(world: World) -> None:
    order = cancellable(world)
    session = world.session(order["customer_id"])
    session.call("set_reminder", {"date": "2026-07-01", "text": "x"})
    session.call("cancel_order", {"order_id": order["order_id"]})
    changes = session.changes()
    assert list(changes) == sorted(changes)
    assert {"orders", "order_items", "payments", "products", "reminders"} <= set(changes)
    assert all(list(rows) == sorted(rows) for rows in changes.values())
    # What was written and written back is no change.
    store = session.store
    store.put("orders", order)
    assert "orders" not in session.changes()
    # The caller's copy is the caller's.
    changes["reminders"].popitem()[1]["text"] = "changed"
    assert "changed" not in json.dumps(session.changes())


def test_a_refused_call_leaves_no_trace(world: World) -> None:
    """Two items of which the second can not be returned: the first is not returned either."""
    for order in world.all("orders"):
        session = world.session(order["customer_id"])
        items = [row["item_id"] for row in world.rows("order_items", "order_id", order["order_id"])]
        alone = [session_after(world, order, [item]) for item in items]
        good = [i for i, s in zip(items, alone, strict=True) if s.changes()]
        bad = [i for i, s in zip(items, alone, strict=True) if not s.changes()]
        if good and bad:
            answer = session.call(
                "return_items", {"order_id": order["order_id"], "item_ids": [good[0], bad[0]], "condition": "opened"}
            )
            assert "error" in json.loads(answer)
            assert session.changes() == {}
            return
    raise AssertionError("no such order in this world")


def session_after(world: World, order: dict[str, Any], items: list[str]) -> Session:
    session = world.session(order["customer_id"])
    session.call("return_items", {"order_id": order["order_id"], "item_ids": items, "condition": "opened"})
    return session


def test_snapshot_and_restore_are_fast(world: World) -> None:
    """50 microseconds with 20 touched rows; four times that here, for slow machines: the bench has the number."""
    session = world.session()
    for i in range(20):
        session.call("set_reminder", {"date": "2026-07-01", "text": str(i)})
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(100):
            session.restore(session.snapshot())
        best = min(best, (time.perf_counter() - start) / 100)
    assert best < 200e-6
