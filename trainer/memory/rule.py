"""The arithmetic of a memory's evolution: pure functions on plain numbers.

Source: arXiv 2506.19846, Algorithm 1 (alpha = beta = 1, the 2.5 % and 97.5 % points); the rest it leaves open.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, pstdev
from typing import NamedTuple

from trainer.memory.config import MemoryConfig


class Bounds(NamedTuple):
    """A reward of `high` or more teaches, one of `low` or less warns."""

    low: float
    high: float


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest of the values that at least a part q of them does not exceed: always one of the values.

    So a reward that reaches it exists. An interpolated quantile of rewards such as 0 and 2 is a number that no episode earns.
    """
    return sorted(values)[max(math.ceil(q * len(values) - 1e-9), 1) - 1]


def normal_bounds(rewards: Sequence[float], low_quantile: float, high_quantile: float) -> Bounds:
    """The two points of the normal distribution with the rewards' mean and deviation: mu -+ 1.96 sigma at 2.5 % and 97.5 %.

    With bounded rewards both can lie beyond what can be earned, and then nothing reaches them: `clamped` must follow.
    """
    mean, deviation = fmean(rewards), pstdev(rewards)
    normal = NormalDist()
    return Bounds(mean + normal.inv_cdf(low_quantile) * deviation, mean + normal.inv_cdf(high_quantile) * deviation)


def clamped(bounds: Bounds, lowest: float, highest: float) -> Bounds:
    """Both bounds moved into [lowest, highest]."""
    return Bounds(min(max(bounds.low, lowest), highest), min(max(bounds.high, lowest), highest))


def bounds_of(rewards: Sequence[float], config: MemoryConfig) -> Bounds | None:
    """The bounds for a window of rewards; None while it holds too few of them."""
    if config.thresholds == "fixed":
        return Bounds(config.fixed_low, config.fixed_high)
    if len(rewards) < config.min_window:
        return None
    if config.thresholds == "normal":
        bounds = normal_bounds(rewards, config.low_quantile, config.high_quantile)
    else:
        bounds = Bounds(quantile(rewards, config.low_quantile), quantile(rewards, config.high_quantile))
    return clamped(bounds, config.reward_min, config.reward_max)


def teaches(reward: float, bounds: Bounds | None) -> bool:
    """reward >= high. Where both bounds are one number, the reward must also exceed it: where all fail alike (or all
    succeed), an ordinary result is no lesson."""
    return bounds is not None and reward >= bounds.high and reward > bounds.low


def warns(reward: float, bounds: Bounds | None) -> bool:
    """reward <= low; where both bounds are one number, below it."""
    return bounds is not None and reward <= bounds.low and reward < bounds.high


def decay(dt: float, config: MemoryConfig) -> float:
    """alpha * dt / half_life: what a weight loses in dt optimiser steps."""
    return config.alpha * dt / config.half_life


def updated_weight(weight: float, dt: float, r: float, r_mean: float | None, config: MemoryConfig) -> float:
    """w - alpha * dt / half_life + beta * (r - r_mean).

    Args:
        weight: w, before.
        dt: optimiser steps since w was written.
        r: mean reward of the siblings that saw the entry.
        r_mean: the entry's running mean reward before r joins it; None (it never earned one): the second term is zero.
        config: alpha, half_life, beta.
    """
    return weight - decay(dt, config) + config.beta * (0.0 if r_mean is None else r - r_mean)


def running_mean(mean: float | None, count: int, value: float, new: int) -> float:
    """The mean of `count` earlier values and `new` values whose mean is `value`."""
    return value if mean is None else mean + (value - mean) * new / (count + new)
