"""Cooperation: two to four agents whose results feed each other.

A task is a chain: a source (a number or a date from the store or the knowledge base) and one to three steps, each of which
takes the value before it. Chains are drawn from all whose types fit; some are held out for the test split.
"""

from collections.abc import Callable
from typing import NamedTuple

from trainer.hima_ecom.tasks import cooperation_sources as sources
from trainer.hima_ecom.tasks import cooperation_steps as steps
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.cooperation_sources import Value
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.pools import held_out

MINIMUM_NODES = 7


class Source(NamedTuple):
    """The beginning of a chain: the type it gives, and the function that writes it."""

    gives: str
    write: Callable[[Builder], Value]


class Link(NamedTuple):
    """A step: the type it takes, the type it gives, and the function that writes it."""

    takes: str
    gives: str
    write: Callable[[Builder, Value], Value]


SOURCES: dict[str, Source] = {
    "order_total": Source("USD", sources.order_total),
    "product_price": Source("USD", sources.product_price),
    "cancel_refund": Source("USD", sources.cancel_refund),
    "orders_sum": Source("USD", sources.orders_sum),
    "weight": Source("g", sources.weight),
    "delivered_on": Source("delivery", sources.delivered_on),
}
LINKS: dict[str, Link] = {
    "currency": Link("USD", "money", steps.currency),
    "share": Link("USD", "USD", steps.share),
    "pieces": Link("USD", "USD", steps.pieces),
    "split_bill": Link("money", "money", steps.split_bill),
    "pounds": Link("g", "lb", steps.pounds),
    "postage": Link("g", "USD", steps.postage),
    "return_until": Link("delivery", "date", steps.return_until),
    "days_later": Link("date", "date", steps.days_later),
    "day_name": Link("date", "", steps.day_name),
    "remind": Link("date", "", steps.remind),
    "remind_amount": Link("money", "", steps.remind_amount),
}
ALSO = {"money": "USD", "date": "delivery"}  # steps that take any money take dollars; those that take any date, a delivery's


def chains(test: bool) -> list[tuple[str, ...]]:
    """Return (source, step, ...) of every chain of two to four parts whose types fit and that belongs to the split, sorted."""
    found: list[tuple[str, ...]] = []

    def grow(chain: tuple[str, ...], gives: str) -> None:
        if len(chain) > 1 and held_out("+".join(chain)) == test:
            found.append(chain)
        if len(chain) < 4:
            for name, link in LINKS.items():
                if gives in (link.takes, ALSO.get(link.takes)) and name not in chain:
                    grow((*chain, name), link.gives)

    for name, source in SOURCES.items():
        grow((name,), source.gives)
    return sorted(found)


def _write(b: Builder, parts: int) -> None:
    chain = b.rng.choice([chain for chain in chains(b.pools.test) if len(chain) == parts])
    value = SOURCES[chain[0]].write(b)
    for name in chain[1:]:
        value = LINKS[name].write(b, value)
    if len(b.nodes) + 1 < MINIMUM_NODES:
        raise Skip("too short")
    b.compose()


@family("cooperation", 1, "A source and one step.")
def two_agents(b: Builder) -> None:
    _write(b, 2)


@family("cooperation", 2, "A source and two steps.")
def three_parts(b: Builder) -> None:
    _write(b, 3)


@family("cooperation", 3, "A source and three steps.")
def four_parts(b: Builder) -> None:
    _write(b, 4)
