"""Products in families of variants, their reviews and the answered questions about them."""

import json
import random
from collections.abc import Sequence
from itertools import product

from trainer.hima_ecom import catalog
from trainer.hima_ecom.care import CARE
from trainer.hima_ecom.generation.dates import before

Row = tuple[object, ...]


def make_products(rng: random.Random, count: int) -> list[Row]:
    """`count` products: families of up to four variants that differ in one or two attributes, types taken in turn."""
    rows: list[Row] = []
    family = 0
    names = set()
    while len(rows) < count:
        kind = catalog.TYPES[family % len(catalog.TYPES)]
        brand, line = rng.choice(catalog.BRANDS), rng.choice(catalog.LINES)
        if (kind.name, brand, line) in names:
            continue
        names.add((kind.name, brand, line))
        family += 1
        shared = {name: rng.choice(values) for name, values in kind.shared.items()}
        combinations = list(product(*kind.varied.values()))
        rng.shuffle(combinations)
        price = rng.randrange(kind.low_cents // 100, kind.high_cents // 100) * 100 + 99
        # At least two variants, so that something can be exchanged for another of its family.
        for values in combinations[: min(rng.randint(2, 4), count - len(rows))]:
            varied = dict(zip(kind.varied, values, strict=True))
            attributes = shared | varied
            colour = catalog.COLOURS_ZH.get(varied.get("colour", ""), "")
            rows.append(
                (
                    f"P{len(rows) + 1:04d}",
                    f"F{family:03d}",
                    kind.name,
                    kind.category,
                    brand,
                    f"{brand} {line} {kind.name} ({', '.join(values)})",
                    f"{brand} {line} {colour}{kind.name_zh}",
                    json.dumps(attributes, ensure_ascii=False),
                    price + 500 * rng.randrange(0, 5),
                    0 if rng.random() < 0.12 else rng.randint(1, 80),
                    0.0,  # the mean of its reviews, set by make_reviews
                    f"{kind.name.capitalize()} by {brand}: "
                    + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in attributes.items())
                    + ".",
                )
            )
    return rows


def make_reviews(rng: random.Random, products: list[Row], customers: int, today: str) -> tuple[list[Row], list[Row]]:
    """Up to 36 reviews a product; returns (products with their mean rating to one decimal, reviews)."""
    reviews: list[Row] = []
    rated: list[Row] = []
    for row in products:
        mood = rng.choice((2, 3, 4, 4, 5))
        stars = [min(5, max(1, mood + rng.randint(-1, 1))) for _ in range(rng.randint(1, 36))]
        for value in stars:
            title, body = rng.choice(catalog.REVIEWS[value])
            author = f"C{rng.randint(1, customers):04d}"
            reviews.append(
                (
                    f"R{len(reviews) + 1:05d}",
                    row[0],
                    author,
                    value,
                    title,
                    body.format(name=row[2]),
                    before(today, rng.randint(1, 700)),
                )
            )
        # Half up in integers: the tenths of the mean.
        tenths = (20 * sum(stars) + len(stars)) // (2 * len(stars))
        rated.append((*row[:10], tenths / 10, row[11]))
    return rated, reviews


class _Deck:
    """Deals values from a shuffled deck; a new one when all are dealt."""

    def __init__(self, rng: random.Random, values: Sequence[str]) -> None:
        self._rng, self._values, self._left = rng, values, [""][:0]

    def deal(self) -> str:
        """The next value."""
        if not self._left:
            self._left = self._rng.sample(self._values, len(self._values))
        return self._left.pop()


def make_questions(rng: random.Random, products: list[Row]) -> list[Row]:
    """Every question that fits the first variant of each family, answered. Each kind of answer is dealt from shuffled decks, so
    that none is frequent."""
    rows: list[Row] = []
    months, countries = _Deck(rng, catalog.MONTHS), _Deck(rng, tuple(catalog.ORIGINS))
    care = {category: _Deck(rng, advice) for category, advice in CARE.items()}
    seen = set()
    for row in products:
        if row[1] in seen:
            continue
        seen.add(row[1])
        attributes = json.loads(str(row[7]))
        shared = next(iter(attributes.items()))
        category = str(row[3])
        fitting = [pair for pair in catalog.QUESTIONS if category in catalog.ONLY_FOR.get(pair[0], (category,))]
        for question, answer in fitting:
            facts = {
                "name": str(row[5]).partition(" (")[0],
                "attribute": shared[0].replace("_", " "),
                "value": shared[1],
                "months": months.deal() if "{months}" in answer else "",
                "country": countries.deal() if "{country}" in answer else "",
                "grams": rng.randrange(*catalog.GRAMS[str(row[2])], 10),
                "care": care[category].deal() if "{care}" in answer else "",
            }
            rows.append((f"K{len(rows) + 1:04d}", row[0], question.format(**facts), answer.format(**facts)))
    return rows
