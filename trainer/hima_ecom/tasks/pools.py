"""What a split may ask about: test products and test customers never occur in training."""

import hashlib
import random
from functools import cached_property

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.world import World

TEST_SHARE = 5  # one in five


def held_out(key: str) -> bool:
    """Whether a thing with this name belongs to the test split: a hash, so that no list has to be kept."""
    return hashlib.sha256(key.encode()).digest()[0] % TEST_SHARE == 0


def department(row: Row) -> str:
    """The department of a product."""
    return rules.department(row["brand"], row["category"])


class Pools:
    """The products, customers, orders and answered questions of one split of a world."""

    def __init__(self, world: World, split: str) -> None:
        self.world, self.test = world, split == "test"

    @cached_property
    def products(self) -> list[Row]:
        """Every variant of the families of this split, which is that of their department: its rules are held out with it."""
        return [p.row for p in self.world.products.values() if held_out(department(p.row)) == self.test]

    @cached_property
    def families(self) -> list[list[Row]]:
        """The same, by family."""
        by_family: dict[str, list[Row]] = {}
        for row in self.products:
            by_family.setdefault(row["family_id"], []).append(row)
        return list(by_family.values())

    @cached_property
    def customers(self) -> list[Row]:
        """The customers of this split."""
        return [row for row in self.world.all("customers") if held_out(row["customer_id"]) == self.test]

    @cached_property
    def orders(self) -> dict[str, list[Row]]:
        """status -> orders of this split's customers."""
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
        """A random order with one of the statuses (any if none is given)."""
        return rng.choice([row for status in statuses or tuple(self.orders) for row in self.orders.get(status, [])])
