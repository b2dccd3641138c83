"""The whole base store from a seed."""

import random
from typing import Any, NamedTuple

from trainer.hima_ecom.generation.customers import make_customers
from trainer.hima_ecom.generation.offers import make_coupons, make_promotions, make_weather
from trainer.hima_ecom.generation.orders import make_orders
from trainer.hima_ecom.generation.products import make_products, make_questions, make_reviews
from trainer.hima_ecom.policies import policies

TODAY = "2026-06-15"  # a Monday; the only "now" there is


class Size(NamedTuple):
    """How many rows of each."""

    products: int
    customers: int
    orders: int


SIZES: dict[str, Size] = {"small": Size(90, 40, 160), "full": Size(1200, 500, 1500)}


def generate(seed: int, size: str) -> dict[str, list[tuple[Any, ...]]]:
    """Rows by table. Each part draws from a stream of its own, so that changing one part leaves the others as they were."""
    if size not in SIZES:
        raise ValueError(f"size: expected one of {sorted(SIZES)}, got {size!r}")

    def stream(part: str) -> random.Random:
        return random.Random(f"{seed}/{part}")

    counts = SIZES[size]
    products = make_products(stream("products"), counts.products)
    products, reviews = make_reviews(stream("reviews"), products, counts.customers, TODAY)
    customers, addresses, methods = make_customers(stream("customers"), counts.customers, TODAY)
    rows: dict[str, list[tuple[Any, ...]]] = {
        "meta": [("seed", str(seed)), ("size", size), ("today", TODAY)],
        "products": products,
        "reviews": reviews,
        "customers": customers,
        "addresses": addresses,
        "payment_methods": methods,
        "promotions": make_promotions(stream("promotions"), TODAY),
        "coupons": make_coupons(stream("coupons"), TODAY),
        "policies": [(f"L{i:03d}", *policy) for i, policy in enumerate(policies(), 1)],
        "product_questions": make_questions(stream("questions"), products),
        "weather": make_weather(stream("weather"), TODAY),
    }
    return rows | make_orders(stream("orders"), rows, counts.orders, TODAY)
