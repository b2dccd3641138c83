"""The kinds of things that an answer names: an answer to a question about one of them is no list of all."""

import re
from collections.abc import Iterable

from trainer.hima_ecom.quantities import DATE, kind_of, quantities

MOST_KINDS = 2  # that neither the query nor the checker has
_CLOCK = re.compile(r"\b\d{1,2}:\d{2}\b|\d\s?[ap]\.?m\b", re.IGNORECASE)
_ID = re.compile(r"\b([A-Za-z]+)\d[\dA-Z]{3,}\b")
_ISO = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")


def kinds(text: str) -> set[str]:
    """Which kinds of ids, dates, times of day and quantities with units stand in a text."""
    found = {kind_of(quantity.unit) for quantity in quantities(text) if quantity.unit is not None}
    found |= {f"id {prefix.upper()}" if len(prefix) == 1 else "code" for prefix in _ID.findall(text)}
    if _ISO.search(text) or DATE.search(text):
        found.add("date")
    if _CLOCK.search(text):
        found.add("clock")
    return found


def is_dump(answer: str, query: str, wanted: Iterable[str], units: Iterable[str]) -> bool:
    """Whether an answer names more than MOST_KINDS kinds of things that nobody asked for: such a list may contain anything."""
    named = kinds(answer)
    if len(named) <= MOST_KINDS:
        return False
    asked = kinds(query) | {kind_of(unit) for unit in units}
    for text in wanted:
        asked |= kinds(text)
    return len(named - asked) > MOST_KINDS
