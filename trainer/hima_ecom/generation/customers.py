"""Customers with their addresses and payment methods."""

import random

from trainer.hima_ecom import names
from trainer.hima_ecom.generation.dates import before

Row = tuple[object, ...]


def make_customers(rng: random.Random, count: int, today: str) -> tuple[list[Row], list[Row], list[Row]]:
    """(customers, addresses, payment methods): one to three addresses in one country, two or three payment methods each."""
    customers: list[Row] = []
    addresses: list[Row] = []
    methods: list[Row] = []
    for number in range(1, count + 1):
        key = f"C{number:04d}"
        first, last = rng.choice(names.FIRST_NAMES), rng.choice(names.LAST_NAMES)
        email = f"{first}.{last.replace(chr(39), '')}{number}@{rng.choice(names.EMAIL_HOSTS)}".lower()
        phone = f"+1-555-{rng.randrange(1000, 10000)}"
        tier = rng.choice(("standard", "standard", "standard", "silver", "gold"))
        home = rng.choice(names.CITIES)
        default = f"A{len(addresses) + 1:05d}"
        for label in names.ADDRESS_LABELS[: rng.randint(1, 3)]:
            city = rng.choice([city for city in names.CITIES if city.country == home.country])
            street = f"{rng.randint(1, 240)} {rng.choice(names.STREETS)}"
            postal = f"{rng.randrange(10000, 100000)}"
            addresses.append((f"A{len(addresses) + 1:05d}", key, label, street, city.name, postal, city.country))
        kinds = rng.sample(("credit_card", "paypal", "gift_card"), rng.randint(2, 3))
        for kind in kinds:
            label = {
                "credit_card": f"{rng.choice(('Visa', 'Mastercard'))} ending in {rng.randrange(1000, 10000)}",
                "paypal": f"PayPal account {email}",
                "gift_card": f"Gift card {rng.randrange(100000, 1000000)}",
            }[kind]
            balance = rng.randrange(500, 60000) if kind == "gift_card" else None
            methods.append((f"M{len(methods) + 1:05d}", key, kind, label, balance))
        customers.append((key, first, last, email, phone, tier, before(today, rng.randint(30, 1500)), default))
    return customers, addresses, methods
