"""The arithmetic of evolution against numbers computed by hand."""

import math

import pytest

from trainer.memory import MemoryConfig, rule
from trainer.memory.rule import Bounds

# 100 rewards of an agent that mostly succeeds: mean 1.83, deviation 0.4713.
MOSTLY_RIGHT = [0.0] * 4 + [1.0] * 9 + [2.0] * 87


def test_weights_by_hand() -> None:
    config = MemoryConfig(alpha=1, beta=1, half_life=20)
    # 1 - 1 * 5 / 20 + 1 * (1.5 - 1.2)
    assert rule.updated_weight(1.0, 5, 1.5, 1.2, config) == pytest.approx(1.05)
    # No reward earned before: only the time counts.
    assert rule.updated_weight(1.0, 5, 1.5, None, config) == pytest.approx(0.75)
    # One half-life costs alpha; beta scales the reward's part: 0.5 - 0.8 + 3 * (0 - 0.5)
    config = MemoryConfig(alpha=0.8, beta=3, half_life=20)
    assert rule.decay(20, config) == pytest.approx(0.8)
    assert rule.updated_weight(0.5, 20, 0.0, 0.5, config) == pytest.approx(-1.8)


def test_decay_is_additive_in_time() -> None:
    """Ten steps at once are ten single ones: a step without observations changes nothing else."""
    config = MemoryConfig(half_life=64)
    assert rule.decay(10, config) == sum(rule.decay(1, config) for _ in range(10))


def test_running_means_by_hand() -> None:
    assert rule.running_mean(None, 1, 1.5, 2) == 1.5
    # Three values of mean 1.0, then two of mean 2.0: 7 / 5.
    assert rule.running_mean(1.0, 3, 2.0, 2) == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("x", "expected"), [(0.0, 0.5), (1.0, 0.7310585786300049), (-1.0, 0.2689414213699951), (800.0, 1.0), (-800.0, 0.0)]
)
def test_sigmoid(x: float, expected: float) -> None:
    assert rule.sigmoid(x) == pytest.approx(expected)


def test_quantiles_are_rewards_that_were_earned() -> None:
    values = [float(i) for i in range(40, 0, -1)]
    assert rule.quantile(values, 0.025) == 1.0  # 1 of 40 is 2.5 %
    assert rule.quantile(values, 0.975) == 39.0  # 39 of 40 are 97.5 %
    assert rule.quantile(values, 0.976) == 40.0
    assert rule.quantile([3.0], 0.025) == rule.quantile([3.0], 0.975) == 3.0
    # 3 % of successes lie above the 97 % point, not between 0 and 2.
    assert rule.quantile([0.0] * 97 + [2.0] * 3, 0.975) == 2.0


def test_the_trap_of_bounded_rewards() -> None:
    """mu + 1.96 sigma = 2.75 while 2 is the best that can be earned: by that rule nothing is ever added."""
    mean = sum(MOSTLY_RIGHT) / 100
    deviation = math.sqrt(sum((r - mean) ** 2 for r in MOSTLY_RIGHT) / 100)
    naive = rule.normal_bounds(MOSTLY_RIGHT, 0.025, 0.975)
    assert naive.high == pytest.approx(mean + 1.959964 * deviation, abs=1e-5)
    assert naive.high > 2.7
    assert not any(rule.teaches(r, naive) for r in MOSTLY_RIGHT)
    # And with failures the rule: mu - 1.96 sigma is below zero, so nothing is ever penalised.
    mostly_wrong = [2 - r for r in MOSTLY_RIGHT]
    assert not any(rule.warns(r, rule.normal_bounds(mostly_wrong, 0.025, 0.975)) for r in mostly_wrong)

    for thresholds in ("quantile", "normal"):
        config = MemoryConfig(thresholds=thresholds)
        bounds = rule.bounds_of(MOSTLY_RIGHT, config)
        assert [r for r in (0.0, 1.0, 2.0) if rule.teaches(r, bounds)] == [2.0], thresholds
        bounds = rule.bounds_of(mostly_wrong, config)
        assert [r for r in (0.0, 1.0, 2.0) if rule.warns(r, bounds)] == [0.0], thresholds


def test_a_clamp_moves_only_what_is_outside() -> None:
    assert rule.clamped(Bounds(-0.3, 2.75), 0, 2) == Bounds(0, 2)
    assert rule.clamped(Bounds(0.4, 1.9), 0, 2) == Bounds(0.4, 1.9)
    assert rule.clamped(Bounds(2.5, 3.0), 0, 2) == Bounds(2, 2)


def test_where_all_are_alike_nothing_is_learnt() -> None:
    """At the start of training every reward may be 0: then 0 is the 97.5 % point, and no lesson."""
    config = MemoryConfig()
    zero = rule.bounds_of([0.0] * 99 + [2.0], config)
    assert zero == Bounds(0.0, 0.0)
    assert not rule.teaches(0.0, zero)
    assert rule.teaches(2.0, zero)
    assert not rule.warns(0.0, zero)
    best = rule.bounds_of([0.0] + [2.0] * 99, config)
    assert best == Bounds(2.0, 2.0)
    assert not rule.teaches(2.0, best)
    assert rule.warns(0.0, best)
    assert not rule.warns(2.0, best)


def test_a_short_window_has_no_bounds() -> None:
    config = MemoryConfig(min_window=32)
    assert rule.bounds_of([0.0, 2.0] * 15, config) is None
    assert rule.bounds_of([0.0, 2.0] * 16, config) == Bounds(0.0, 2.0)
    assert not rule.teaches(2.0, None)
    assert not rule.warns(0.0, None)


def test_fixed_thresholds_wait_for_nothing() -> None:
    config = MemoryConfig(thresholds="fixed", fixed_low=0.25, fixed_high=1.75)
    assert rule.bounds_of([], config) == Bounds(0.25, 1.75)
    assert rule.teaches(1.75, rule.bounds_of([], config))
    assert rule.warns(0.25, rule.bounds_of([], config))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("m", -1, r"m: expected >= 0, got -1"),
        ("floor", 1.5, r"floor: expected in \[-1, 1\], got 1\.5"),
        ("capacity", 0, r"capacity: expected >= 1, got 0"),
        ("min_weight", 1.0, r"min_weight: expected < initial_weight = 1\.0, got 1\.0"),
        ("alpha", -1.0, r"alpha: expected >= 0"),
        ("beta", -1.0, r"beta: expected >= 0"),
        ("penalty", -1.0, r"penalty: expected >= 0"),
        ("half_life", 0, r"half_life: expected > 0, got 0"),
        ("half_life", math.inf, r"half_life: expected a finite number, got inf"),
        ("duplicate", 0.0, r"duplicate: expected in \(0, 1\]"),
        ("thresholds", "gauss", r"thresholds: expected one of quantile, normal, fixed, got 'gauss'"),
        ("low_quantile", 0.0, r"low_quantile: expected in \(0, 1\)"),
        ("high_quantile", 0.01, r"high_quantile: expected in \(0\.025, 1\), got 0\.01"),
        ("window", 0, r"window: expected >= 1"),
        ("min_window", 2000, r"min_window: expected in \[1, window = 1024\], got 2000"),
        ("reward_max", -1.0, r"reward_max: expected > reward_min = 0\.0"),
        ("fixed_low", -0.5, r"fixed_low: expected in \[reward_min, reward_max\] = \[0\.0, 2\.0\]"),
        ("fixed_high", 2.5, r"fixed_high: expected in \[reward_min, reward_max\]"),
        ("fixed_high", 0.5, r"fixed_high: expected > fixed_low = 0\.5"),
    ],
)
def test_numbers_that_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemoryConfig(**{field: value})


@pytest.mark.parametrize(("field", "value"), [("m", 2.0), ("capacity", True), ("alpha", "1"), ("window", None)])
def test_kinds_that_are_refused(field: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{field}: expected"):
        MemoryConfig(**{field: value})
