"""The numbers that the store's rules rest on: the tools enforce them, the policies are written from them."""

import hashlib
from functools import lru_cache
from typing import NamedTuple


class ReturnRule(NamedTuple):
    """Days after delivery within which an item may come back (0: never), and whether an opened item may."""

    days: int
    opened: bool


CATEGORIES = ("electronics", "home", "clothing", "beauty", "toys", "sports", "grocery")
NEVER_RETURNED = ("grocery",)
RETURN_DAYS = range(10, 60)  # what a department may grant
DEFECT_DAYS = 60  # a defective item of any category, opened or not
GOLD_EXTRA_DAYS = 10  # for returns and exchanges of gold members, not for defects
FREE_SHIPPING_CENTS = 5000
SHIPPING_CENTS = 599
# What may be changed while an order has which status.
CANCELLABLE = ("pending", "processing")
ADDRESS_CHANGEABLE = ("pending", "processing")
PAYMENT_CHANGEABLE = ("pending",)
COUPON_APPLICABLE = ("pending",)


def department(brand: str, category: str) -> str:
    """What a rule for returns is about: "Velden electronics"."""
    return f"{brand} {category}"


@lru_cache(maxsize=1024)
def return_rule(brand: str, category: str) -> ReturnRule:
    """The rule of a department. Each has numbers of its own, by a hash of its name, so that knowing some tells nothing of
    others."""
    if category in NEVER_RETURNED:
        return ReturnRule(0, False)
    digest = hashlib.sha256(f"returns/{department(brand, category)}".encode()).digest()
    return ReturnRule(RETURN_DAYS[int.from_bytes(digest[:4]) % len(RETURN_DAYS)], digest[4] % 2 == 0)


def return_days(brand: str, category: str, tier: str, *, defective: bool = False) -> int:
    """Days after delivery within which a customer of `tier` may return an item; 0: never."""
    if defective:
        return DEFECT_DAYS
    days = return_rule(brand, category).days
    return days + GOLD_EXTRA_DAYS if days and tier == "gold" else days
