"""Products, customers and orders by split: those of the test split never occur in training."""

import hashlib
import random
from functools import cached_property

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.world import World

TEST_SHARE = 5  # one in five


def held_out(key: str) -> bool:
    """Return True if the thing with this name belongs to the test split. A hash decides, so no list has to be kept."""
    return hashlib.sha256(key.encode()).digest()[0] % TEST_SHARE == 0


def department(row: Row) -> str:
    """Return the department of a product."""
    return rules.department(row["brand"], row["category"])


class Pools:
    """The products, customers, orders and answered questions of one split of a world."""

    def __init__(self, world: World, split: str) -> None:
        self.world, self.test = world, split == "test"

    @cached_property
    def products(self) -> list[Row]:
        """Products of this split. The split of a department is that of all its products, so its rules are held out with it."""
        return [p.row for p in self.world.products.values() if held_out(department(p.row)) == self.test]

    @cached_property
    def families(self) -> list[list[Row]]:
        """Products of this split by family: the variants of one product."""
        by_family: dict[str, list[Row]] = {}
        for row in self.products:
            by_family.setdefault(row["family_id"], []).append(row)
        return list(by_family.values())

    @cached_property
    def customers(self) -> list[Row]:
        """Customers of this split."""
        return [row for row in self.world.all("customers") if held_out(row["customer_id"]) == self.test]

    @cached_property
    def orders(self) -> dict[str, list[Row]]:
        """Orders of this split's customers by status."""
        mine = {row["customer_id"] for row in self.customers}
        found: dict[str, list[Row]] = {}
        for row in self.world.all("orders"):
            if row["customer_id"] in mine:
                found.setdefault(row["status"], []).append(row)
        return found

    @cached_property
    def questions(self) -> list[Row]:
        """Answered questions about products of this split."""
        mine = {row["product_id"] for row in self.products}
        return [row for row in self.world.all("product_questions") if row["product_id"] in mine]

    def order(self, rng: random.Random, *statuses: str) -> Row:
        """Draw an order with one of the statuses (any if none is given)."""
        return rng.choice([row for status in statuses or tuple(self.orders) for row in self.orders.get(status, [])])
