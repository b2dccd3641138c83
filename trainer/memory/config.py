"""What can be chosen about a memory."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

Thresholds = Literal["quantile", "normal", "fixed"]


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """How a memory retrieves, learns and forgets; every number is checked.

    Raises:
        TypeError, ValueError: a field is not what its sentence says: name, expected, got.
    """

    m: int = 3
    """At most so many entries are retrieved for a query."""
    floor: float = 0.25
    """Only entries with cosine * sigmoid(weight) >= floor are retrieved; in [-1, 1]."""
    capacity: int = 1000
    """At most so many entries an agent; those of the lowest weight leave."""
    initial_weight: float = 1.0
    """The weight of a new entry."""
    min_weight: float = -1.0
    """An entry whose weight falls below is deleted; below initial_weight."""
    alpha: float = 1.0
    """What an entry's weight loses in half_life optimiser steps, used or not."""
    half_life: float = 100.0
    """Optimiser steps in which a weight falls by alpha; above zero."""
    beta: float = 1.0
    """Factor of r - r_mean when an entry was used: the siblings' mean reward minus the entry's running mean."""
    penalty: float = 0.5
    """What a used entry's weight loses on top of that where r <= low."""
    duplicate: float = 0.95
    """Two keys of one agent with a cosine of at least this are one entry; in (0, 1]."""
    thresholds: Thresholds = "quantile"
    """Where low and high come from: empirical quantiles of the window, mean and deviation of the window as if it were
    normal, or two fixed numbers. The first two are clamped to the attainable rewards."""
    low_quantile: float = 0.025
    """The part of the window's rewards that counts as low."""
    high_quantile: float = 0.975
    """The part of the window's rewards that lies below high."""
    window: int = 1024
    """How many of an agent's latest rewards the thresholds are taken from."""
    min_window: int = 32
    """With fewer rewards than this in the window nothing is added or penalised (fixed thresholds do not wait)."""
    fixed_low: float = 0.5
    """low where thresholds = "fixed"."""
    fixed_high: float = 1.5
    """high where thresholds = "fixed"; above fixed_low."""
    reward_min: float = 0.0
    """The lowest attainable R_A + R_F."""
    reward_max: float = 2.0
    """The highest attainable R_A + R_F."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "thresholds":
                continue
            kind = int if field.type is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind):
                raise TypeError(f"{field.name}: expected {'an int' if kind is int else 'a number'}, got {value!r}")
            if not math.isfinite(value):
                raise ValueError(f"{field.name}: expected a finite number, got {value!r}")
        self._check("m", self.m >= 0, ">= 0")
        self._check("floor", -1 <= self.floor <= 1, "in [-1, 1]")
        self._check("capacity", self.capacity >= 1, ">= 1")
        self._check("min_weight", self.min_weight < self.initial_weight, f"< initial_weight = {self.initial_weight}")
        self._check("alpha", self.alpha >= 0, ">= 0")
        self._check("half_life", self.half_life > 0, "> 0")
        self._check("beta", self.beta >= 0, ">= 0")
        self._check("penalty", self.penalty >= 0, ">= 0")
        self._check("duplicate", 0 < self.duplicate <= 1, "in (0, 1]")
        self._check("thresholds", self.thresholds in get_args(Thresholds), f"one of {', '.join(get_args(Thresholds))}")
        self._check("low_quantile", 0 < self.low_quantile < 1, "in (0, 1)")
        self._check("high_quantile", self.low_quantile < self.high_quantile < 1, f"in ({self.low_quantile}, 1)")
        self._check("window", self.window >= 1, ">= 1")
        self._check("min_window", 1 <= self.min_window <= self.window, f"in [1, window = {self.window}]")
        self._check("reward_max", self.reward_max > self.reward_min, f"> reward_min = {self.reward_min}")
        attainable = f"in [reward_min, reward_max] = [{self.reward_min}, {self.reward_max}]"
        self._check("fixed_low", self.reward_min <= self.fixed_low <= self.reward_max, attainable)
        self._check("fixed_high", self.reward_min <= self.fixed_high <= self.reward_max, attainable)
        self._check("fixed_high", self.fixed_high > self.fixed_low, f"> fixed_low = {self.fixed_low}")

    def _check(self, name: str, fits: bool, expected: str) -> None:
        if not fits:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")
