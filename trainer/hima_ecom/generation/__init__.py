"""Seeded generation of the base store: rows by table, a pure function of the seed and the size."""

from trainer.hima_ecom.generation.store import SIZES, generate

__all__ = ["SIZES", "generate"]
