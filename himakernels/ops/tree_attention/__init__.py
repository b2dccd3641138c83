"""Attention over a packed forest of token sequences."""
