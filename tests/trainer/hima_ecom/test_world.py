"""The base store: the same from a seed, consistent in itself, read-only, shared."""

import multiprocessing
import pickle
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainer.hima_ecom import World, rules
from trainer.hima_ecom.schema import COLUMNS, PRIMARY_KEY


def test_a_seed_gives_one_store(tmp_path: Path, world: World) -> None:
    created = World.create(tmp_path / "a.db", 7)
    assert created.dump() == World.open(tmp_path / "a.db").dump() == world.dump()
    assert World.in_memory(8).dump() != world.dump()
    # Over whatever stood there, and nothing is left beside it.
    assert World.create(tmp_path / "a.db", 8).dump() != world.dump()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_the_content_of_a_seed_does_not_drift_with_the_process() -> None:
    """Sets and hashes are seeded anew in every process; the store must not see that."""
    code = "from trainer.hima_ecom import World; print(World.in_memory(7).dump())"
    root = Path(__file__).resolve().parents[3]
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_needs_neither_torch_nor_himakernels() -> None:
    code = "import sys, trainer.hima_ecom; assert not {'torch', 'himakernels', 'numpy'} & set(sys.modules)"
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, check=True)


def test_the_full_size() -> None:
    world = World.in_memory(0, "full")
    assert [len(world.all(t)) for t in ("products", "customers", "orders")] == [1200, 500, 1500]
    statuses = {row["status"] for row in world.all("orders")}
    assert statuses == {"pending", "processing", "shipped", "delivered", "cancelled"}


def test_every_reference_is_there(world: World) -> None:
    for table, columns in COLUMNS.items():
        for row in world.all(table):
            for other, key in PRIMARY_KEY.items():
                if key in columns and other != table and row[key] is not None:
                    assert world.row(other, row[key]) is not None, (table, row)


def test_orders_add_up(world: World) -> None:
    for order in world.all("orders"):
        key = order["order_id"]
        items = world.rows("order_items", "order_id", key)
        subtotal = sum(item["quantity"] * item["unit_price_cents"] for item in items)
        assert subtotal == order["subtotal_cents"] > 0
        assert order["shipping_cents"] == (0 if subtotal >= rules.FREE_SHIPPING_CENTS else rules.SHIPPING_CENTS)
        assert order["total_cents"] == subtotal - order["discount_cents"] + order["shipping_cents"]
        paid = sum(p["amount_cents"] * (1 if p["kind"] == "charge" else -1) for p in world.rows("payments", "order_id", key))
        assert paid == (0 if order["status"] == "cancelled" else order["total_cents"])
        shipments = world.rows("shipments", "order_id", key)
        assert bool(shipments) == (order["status"] in ("shipped", "delivered"))
        assert all(
            order["placed_on"] <= s["shipped_on"] <= (s["delivered_on"] or world.today) <= world.today for s in shipments
        )
        assert all(
            world.row(t, order[k])["customer_id"] == order["customer_id"]
            for t, k in (("addresses", "address_id"), ("payment_methods", "payment_method_id"))
        )
        uses = world.rows("coupon_uses", "order_id", key)
        assert [use["code"] for use in uses] == ([order["coupon_code"]] if order["coupon_code"] else [])


def test_every_family_has_variants_and_every_rule_a_case(world: World) -> None:
    families: dict[str, int] = {}
    for product in world.all("products"):
        families[product["family_id"]] = families.get(product["family_id"], 0) + 1
    assert sum(count < 2 for count in families.values()) <= 1  # the last may be cut
    assert {p["category"] for p in world.all("products")} == set(rules.CATEGORIES)
    coupons = world.all("coupons")
    assert any(c["expires_on"] < world.today for c in coupons)
    assert any(c["starts_on"] > world.today for c in coupons)
    assert {bool(c["once_per_customer"]) for c in coupons} == {True, False}
    titles = {row["title"] for row in world.all("policies")}
    assert len(titles) == len(world.all("policies"))


def test_the_base_is_read_only(tmp_path: Path, world: World) -> None:
    for base in (world, World.create(tmp_path / "a.db", 7)):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            base.connection.execute("DELETE FROM orders")


def test_threads_share_a_world(tmp_path: Path, world: World) -> None:
    expected = world.session("C0001").call("list_orders", {})
    for base in (world, World.create(tmp_path / "a.db", 7)):
        with ThreadPoolExecutor(8) as pool:
            results = pool.map(lambda _, base=base: base.session("C0001").call("list_orders", {}), range(64))
            assert set(results) == {expected}


def _orders(world: World) -> str:
    return world.session("C0001").call("list_orders", {})


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_a_world(tmp_path: Path, method: str) -> None:
    world = World.create(tmp_path / "a.db", 7)
    expected = _orders(world)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert set(pool.map(_orders, [world] * 4)) == {expected}


def test_a_world_pickles(world: World) -> None:
    assert pickle.loads(pickle.dumps(world)).dump() == world.dump()


def test_errors(tmp_path: Path, world: World) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        World.open(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database at all, only some text that is longer than a header" * 9)
    with pytest.raises(sqlite3.DatabaseError):
        World.open(tmp_path / "text.db")
    with pytest.raises(ValueError, match=r"size: expected one of \['full', 'small'\], got 'huge'"):
        World.create(tmp_path / "a.db", 0, size="huge")
    assert [path.name for path in tmp_path.iterdir()] == ["text.db"]
    with pytest.raises(ValueError, match="customer_id: expected an existing customer or None, got 'C9999'"):
        world.session("C9999")
