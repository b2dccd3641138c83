"""Promotions, coupons (valid, expired and not yet valid ones) and the weather."""

import random
from typing import Any

from trainer.hima_ecom import names, rules
from trainer.hima_ecom.generation.dates import after, before
from trainer.hima_ecom.money import decimal

Row = tuple[Any, ...]
WEATHER_DAYS = (-7, 14)  # first and last day of the weather table, counted from today


def make_promotions(rng: random.Random, today: str) -> list[Row]:
    """Three promotions a category: running, over, to come."""
    rows: list[Row] = []
    for category in rules.CATEGORIES:
        for name, starts, ends in (("Spring", -90, -30), ("June", -10, 14), ("Summer", 20, 60)):
            percent = rng.choice((5, 10, 15, 20, 25))
            rows.append(
                (
                    f"D{len(rows) + 1:03d}",
                    f"{name} {category} offer",
                    category,
                    percent,
                    after(today, starts),
                    after(today, ends),
                )
            )
    return rows


def make_coupons(rng: random.Random, today: str) -> list[Row]:
    """Coupons of every kind of rule: percent or fixed, with a minimum, for a category, once a customer, expired, to come."""
    rows: list[Row] = []
    categories = (None, None, *rules.CATEGORIES)
    for number in range(24):
        category = categories[number % len(categories)]
        percent = rng.random() < 0.6
        value = rng.choice((5, 10, 15, 20)) if percent else rng.choice((500, 1000, 1500))
        minimum = rng.choice((0, 2500, 5000, 10000))
        once = int(rng.random() < 0.5)
        starts, ends = rng.choice(((-120, 30), (-120, 30), (-60, 10), (-120, -5), (7, 40)))
        off = f"{value} percent off" if percent else f"{decimal(value)} USD off"
        text = (
            f"{off} {category or 'all'} items"
            + (f" from {decimal(minimum)} USD" if minimum else "")
            + (", once per customer" if once else "")
        )
        code = f"{(category or 'store')[:5].upper()}{value if percent else value // 100}{'P' if percent else 'F'}{number:02d}"
        kind = "percent" if percent else "fixed"
        rows.append((code, text, kind, value, minimum, category, after(today, starts), after(today, ends), once))
    return rows


def make_weather(rng: random.Random, today: str) -> list[Row]:
    """Each city, each day of WEATHER_DAYS."""
    rows: list[Row] = []
    first, last = WEATHER_DAYS
    for city in names.CITIES:
        for offset in range(first, last + 1):
            day = before(today, -offset)
            high = city.celsius + rng.randint(-4, 4)
            condition = rng.choice(names.CONDITIONS)
            rain = rng.randrange(60, 100, 5) if condition in ("rain", "thunderstorm") else rng.randrange(0, 50, 5)
            rows.append((f"{city.name}|{day}", city.name, day, condition, high, high - rng.randint(5, 11), rain))
    return rows
