"""The numbers that the store's rules rest on: the tools enforce them, the policies are written from them."""

from typing import NamedTuple


class ReturnRule(NamedTuple):
    """Days after delivery within which an item may come back (0: never), and whether an opened item may."""

    days: int
    opened: bool


RETURN_RULES: dict[str, ReturnRule] = {
    "electronics": ReturnRule(15, False),
    "home": ReturnRule(30, True),
    "clothing": ReturnRule(30, True),
    "beauty": ReturnRule(14, False),
    "toys": ReturnRule(30, False),
    "sports": ReturnRule(45, True),
    "grocery": ReturnRule(0, False),
}
DEFECT_DAYS = 60  # a defective item of any category, opened or not
GOLD_EXTRA_DAYS = 10  # for returns and exchanges of gold members, not for defects
FREE_SHIPPING_CENTS = 5000
SHIPPING_CENTS = 599
# What may be changed while an order has which status.
CANCELLABLE = ("pending", "processing")
ADDRESS_CHANGEABLE = ("pending", "processing")
PAYMENT_CHANGEABLE = ("pending",)
COUPON_APPLICABLE = ("pending",)


def return_days(category: str, tier: str, *, defective: bool = False) -> int:
    """Days after delivery within which a customer of `tier` may return an item; 0: never."""
    if defective:
        return DEFECT_DAYS
    days = RETURN_RULES[category].days
    return days + GOLD_EXTRA_DAYS if days and tier == "gold" else days
