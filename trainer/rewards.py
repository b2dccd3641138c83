"""R = R_A + R_F - R_E: what a sampled action earns, each term a pure function.

R_A in [0, 1]: accuracy, by the task's checker. R_F in {0, 1}: whether the sampled action is in the grammar. R_E: the cost of
calls beyond the fewest that solve the task, lambda * R_A * max(0, calls - minimal calls) / max calls. It is a share below 1 of
R_A: among answers of equal accuracy the shorter earns more, and a wrong short answer never more than a right long one.

Source: arXiv 2506.19846 has the three terms; their ranges and R_E's formula are ours.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from trainer.react import Malformed, parse


@dataclass(frozen=True, kw_only=True)
class RewardWeights:
    """format: what an action in the grammar earns. efficiency: lambda. max_calls: of an episode; at that many beyond the fewest
    the whole lambda * R_A is lost; by default the most nodes that an episode may have (`trainer.episode.Limits`)."""

    format: float = 1.0
    efficiency: float = 0.2
    max_calls: int = 64

    def __post_init__(self) -> None:
        if not 0.0 <= self.format < math.inf:
            raise ValueError(f"weights.format: expected at least 0, got {self.format}")
        if not 0.0 <= self.efficiency < 1.0:
            raise ValueError(f"weights.efficiency: expected 0 to below 1, got {self.efficiency}")
        if self.max_calls < 1:
            raise ValueError(f"weights.max_calls: expected at least 1, got {self.max_calls}")


class Reward(NamedTuple):
    """The terms of one action's reward: `Reward(accuracy=1.0, format=1.0, cost=0.025).total == 1.975`."""

    accuracy: float
    format: float
    cost: float

    @property
    def total(self) -> float:
        """R_A + R_F - R_E."""
        return self.accuracy + self.format - self.cost

    @property
    def for_memory(self) -> float:
        """R_A + R_F: what the agents' memories learn from."""
        return self.accuracy + self.format


def format_reward(text: str) -> float:
    """R_F: 1.0 for a text that `trainer.react.parse` reads as an action or an answer, else 0.0."""
    return float(not isinstance(parse(text), Malformed))


def efficiency_cost(accuracy: float, calls: int, minimal_calls: int, weights: RewardWeights = RewardWeights()) -> float:
    """R_E = lambda * R_A * max(0, calls - minimal_calls) / max_calls.

    Args: calls: actions of the episode, of tools and of sub-agents (`Outcome.actions`). minimal_calls: the fewest that do.
    Raises: ValueError for an accuracy outside [0, 1], or calls outside 0 to max_calls. NaN (a scorer that failed) gives NaN.
        Where lambda is 0 nothing is taken off an accuracy of any size.
    """
    if weights.efficiency == 0.0:
        return 0.0
    if not (math.isnan(accuracy) or 0.0 <= accuracy <= 1.0):
        raise ValueError(f"accuracy: expected 0 to 1 or NaN, got {accuracy}")
    if not 0 <= calls <= weights.max_calls:
        raise ValueError(f"calls: expected 0 to max_calls = {weights.max_calls}, got {calls}")
    if minimal_calls < 0:
        raise ValueError(f"minimal_calls: expected at least 0, got {minimal_calls}")
    return weights.efficiency * accuracy * max(0, calls - minimal_calls) / weights.max_calls


def action_reward(
    format: float, accuracy: float, *, calls: int, minimal_calls: int, weights: RewardWeights = RewardWeights()
) -> Reward:
    """The reward of a sampled action, completed to an episode of that accuracy and so many calls. Raises: as `efficiency_cost`.

    Args: format: the action's `format_reward`. An episode that it ended by being malformed has accuracy 0.
    """
    cost = efficiency_cost(accuracy, calls, minimal_calls, weights)
    return Reward(accuracy, weights.format * format, cost)
