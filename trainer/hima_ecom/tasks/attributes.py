"""Attributes of products in words, in both languages: "with 256 GB of storage"."""

from trainer.hima_ecom.catalog import COLOURS_ZH
from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.texts import table


def can_be_said(name: str) -> bool:
    """Return True if an attribute has a phrase."""
    return name in table("attributes/attributes")


def said(b: Builder, attributes: dict[str, str]) -> tuple[str, str]:
    """Return attributes in words: in English, for the sub-agents, and in the language of the query."""
    words = table("attributes/attributes")
    english = " and ".join(words[name][0].format(value) for name, value in attributes.items())
    chinese = "、".join(words[name][1].format(COLOURS_ZH.get(value, value)) for name, value in attributes.items())
    return english, chinese if b.zh else english
