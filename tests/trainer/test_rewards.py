"""R = R_A + R_F - R_E against numbers worked out by hand."""

import math
from itertools import product

import pytest

from trainer.episode import Limits
from trainer.rewards import Reward, RewardWeights, action_reward, efficiency_cost, format_reward

ANSWER, MALFORMED = "Final Answer: yes", "yes"
WEIGHTS = RewardWeights(max_calls=16)


def reward(accuracy: float, calls: int, text: str = ANSWER) -> Reward:
    return action_reward(format_reward(text), accuracy, calls=calls, minimal_calls=4, weights=WEIGHTS)


def test_by_hand() -> None:
    # 0.2 * 1 * (6 - 4) / 16 = 0.025; 0.2 * 0.5 * (8 - 4) / 16 = 0.025; 0.2 * 1 * (16 - 4) / 16 = 0.15.
    assert reward(1.0, 6) == pytest.approx((1.0, 1.0, 0.025))
    assert reward(1.0, 6).total == pytest.approx(1.975)
    assert reward(1.0, 6).for_memory == 2.0
    assert reward(0.5, 8).total == pytest.approx(1.475)
    assert reward(1.0, 16).total == pytest.approx(1.85)
    # At the fewest calls, below them, and for a wrong answer nothing is taken off.
    assert [reward(1.0, 4).total, reward(1.0, 2).total, reward(0.0, 16).total] == [2.0, 2.0, 1.0]
    # A malformed action has ended its episode with accuracy 0.
    assert reward(0.0, 3, MALFORMED) == (0.0, 0.0, 0.0)


def test_shorter_wins_among_equals_and_right_beats_wrong() -> None:
    for accuracy in (0.25, 0.5, 1.0):
        totals = [reward(accuracy, calls).total for calls in range(4, 17)]
        assert totals == sorted(set(totals), reverse=True)
    for short, long in product(range(17), repeat=2):
        assert reward(0.0, short).total < reward(1.0, long).total
    # The same at the limit of the weight and with no fewest number of calls.
    greedy = RewardWeights(efficiency=0.999, max_calls=16)
    assert efficiency_cost(1.0, 16, 0, greedy) < 1.0


def test_format() -> None:
    assert [format_reward(text) for text in (ANSWER, 'Action: f\nAction Input: {"x": 1}', MALFORMED, "", "Final Answer:")] == [
        1.0,
        1.0,
        0.0,
        0.0,
        0.0,
    ]
    half = RewardWeights(format=0.5)
    assert action_reward(1.0, 1.0, calls=4, minimal_calls=4, weights=half).total == 1.5


def test_without_efficiency_an_accuracy_may_have_any_size() -> None:
    free = RewardWeights(efficiency=0.0, max_calls=16)
    assert action_reward(1.0, -3.5, calls=99, minimal_calls=4, weights=free) == (-3.5, 1.0, 0.0)


def test_a_failed_scorer_stays_visible() -> None:
    assert math.isnan(reward(math.nan, 6).total)
    assert math.isnan(reward(math.nan, 4).total)


def test_an_episode_cannot_make_more_calls_than_the_default() -> None:
    assert RewardWeights().max_calls == Limits().nodes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 4, 4), "accuracy: expected 0 to 1 or NaN, got 1.5"),
        ((-0.1, 4, 4), "accuracy: expected 0 to 1 or NaN, got -0.1"),
        ((1.0, 17, 4), "calls: expected 0 to max_calls = 16, got 17"),
        ((1.0, -1, 4), "calls: expected 0 to max_calls = 16, got -1"),
        ((1.0, 4, -1), "minimal_calls: expected at least 0, got -1"),
    ],
)
def test_what_is_refused(arguments: tuple[float, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        efficiency_cost(*arguments, WEIGHTS)


def test_weights_are_checked() -> None:
    with pytest.raises(ValueError, match=r"weights.format: expected at least 0, got -1"):
        RewardWeights(format=-1)
    with pytest.raises(ValueError, match=r"weights.efficiency: expected 0 to below 1, got 1"):
        RewardWeights(efficiency=1.0)
    with pytest.raises(ValueError, match=r"weights.max_calls: expected at least 1, got 0"):
        RewardWeights(max_calls=0)
