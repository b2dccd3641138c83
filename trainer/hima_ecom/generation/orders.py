"""Orders with their items, payments, shipments, events, and the coupons used on them."""

import random
from typing import Any

from trainer.hima_ecom import names, rules
from trainer.hima_ecom.generation.dates import after, before

Row = tuple[Any, ...]
TABLES = ("orders", "order_items", "payments", "shipments", "shipment_events", "coupon_uses")


class OrderMaker:
    """Collects the rows of one order after the other in `tables`."""

    def __init__(self, rng: random.Random, rows: dict[str, list[Row]], today: str) -> None:
        self.rng, self.today = rng, today
        self.products, self.customers, self.coupons = rows["products"], rows["customers"], rows["coupons"]
        self.addresses: dict[str, list[Row]] = {}
        self.methods: dict[str, list[Row]] = {}
        for address in rows["addresses"]:
            self.addresses.setdefault(address[1], []).append(address)
        for method in rows["payment_methods"]:
            self.methods.setdefault(method[1], []).append(method)
        self.used: set[tuple[str, str]] = set()  # (coupon, customer)
        self.tables: dict[str, list[Row]] = {table: [] for table in TABLES}

    def add(self, table: str, prefix: str, row: Row) -> str:
        """Appends a row under the next number; returns its key."""
        key = f"{prefix}{len(self.tables[table]) + 1:05d}"
        self.tables[table].append((key, *row))
        return key

    def order(self, customer: Row) -> None:
        """One order of `customer`, from its placing to wherever its status has taken it."""
        rng = self.rng
        status = rng.choices(("pending", "processing", "shipped", "delivered", "cancelled"), (14, 12, 12, 54, 8))[0]
        # Days ago that the parcel arrived, left, and that the order was placed.
        arrived = rng.randint(1, 70) if status == "delivered" else 0
        left = arrived + rng.randint(1, 4)
        placed = {"pending": rng.randint(0, 1), "processing": rng.randint(1, 2), "cancelled": rng.randint(3, 200)}.get(
            status, left + rng.randint(1, 3)
        )
        chosen = rng.sample(self.products, rng.randint(1, 4))
        lines = [(p[0], rng.choice((1, 1, 1, 2, 3, 4, 5, 6, 8, 10, 12)), p[8] - rng.choice((0, 0, 0, 200))) for p in chosen]
        subtotal = sum(quantity * price for _, quantity, price in lines)
        shipping = 0 if subtotal >= rules.FREE_SHIPPING_CENTS else rules.SHIPPING_CENTS
        code, discount = (None, 0)
        if status != "cancelled" and rng.random() < 0.15:
            code, discount = self.coupon(customer[0], lines, {p[0]: p[3] for p in chosen}, before(self.today, placed))
        total = subtotal - discount + shipping
        address, method = rng.choice(self.addresses[customer[0]]), rng.choice(self.methods[customer[0]])
        day = before(self.today, placed)
        order = self.add(
            "orders",
            "O",
            (customer[0], address[0], method[0], status, day, subtotal, discount, shipping, total, code),
        )
        for number, (product, quantity, price) in enumerate(lines, 1):
            state = "cancelled" if status == "cancelled" else "ordered"
            self.tables["order_items"].append((f"{order}-{number}", order, product, quantity, price, state))
        self.add("payments", "T", (order, method[0], "charge", total, day, "order"))
        if status == "cancelled":
            self.add("payments", "T", (order, method[0], "refund", total, day, "cancelled"))
        if code:
            self.add("coupon_uses", "U", (code, customer[0], order))
        if status in ("shipped", "delivered"):
            self.shipment(order, address, before(self.today, left), before(self.today, arrived) if arrived else None)

    def coupon(self, customer: str, lines: list[Row], category: dict[str, str], day: str) -> tuple[str | None, int]:
        """A coupon that the order may use on that day and its discount; (None, 0) if there is none."""
        for code, _, kind, value, minimum, meant_for, starts, expires, once in self.rng.sample(self.coupons, len(self.coupons)):
            amount = sum(q * price for p, q, price in lines if not meant_for or category[p] == meant_for)
            if amount and amount >= minimum and starts <= day <= expires and not (once and (code, customer) in self.used):
                self.used.add((code, customer))
                return code, amount * value // 100 if kind == "percent" else min(value, amount)
        return None, 0

    def shipment(self, order: str, address: Row, shipped: str, delivered: str | None) -> None:
        """A parcel on its way, with the scans that tell of it."""
        rng = self.rng
        carrier = rng.choice(names.CARRIERS)
        tracking = f"{carrier[:2].upper()}{len(self.tables['shipments']) + 1:04d}{rng.randrange(10**6):06d}"
        status = "delivered" if delivered else "in transit"
        key = self.add("shipments", "S", (order, carrier, tracking, status, shipped, delivered))
        end = delivered or self.today
        scans = [(f"{shipped} 08:{rng.randrange(60):02d}", "warehouse", "Parcel handed to the carrier")]
        if after(shipped, 1) < end:
            scans.append((f"{after(shipped, 1)} 05:{rng.randrange(60):02d}", "sorting centre", "Parcel sorted"))
        if delivered:
            scans.append((f"{delivered} 09:{rng.randrange(60):02d}", address[4], "Out for delivery"))
            scans.append((f"{delivered} 14:{rng.randrange(60):02d}", address[4], "Delivered"))
        for happened_at, location, description in scans:
            self.add("shipment_events", "E", (key, happened_at, location, description))


def make_orders(rng: random.Random, rows: dict[str, list[Row]], count: int, today: str) -> dict[str, list[Row]]:
    """`count` orders of random customers; every customer has at least one if there are enough."""
    maker = OrderMaker(rng, rows, today)
    customers = rows["customers"]
    for number in range(count):
        maker.order(customers[number] if number < len(customers) else rng.choice(customers))
    return maker.tables
