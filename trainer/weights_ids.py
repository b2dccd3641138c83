"""The identity of weights: a number for each policy of a network that other weights never have, whatever their version."""

from collections.abc import Iterable
from itertools import count

_numbers = count(1)  # over all networks of this process: none is used twice, nor saved


class WeightsIds:
    """`ids[policy]` of the present weights: what was computed under another number is stale."""

    def __init__(self, policies: Iterable[str]) -> None:
        self._of: dict[str, int] = {}
        self.renew(*policies)

    def __getitem__(self, policy: str) -> int:
        return self._of[policy]

    def renew(self, *policies: str) -> None:
        """Declare that the weights of these change. Before the first value does, so that no interrupt leaves an old number."""
        self._of |= {policy: next(_numbers) for policy in policies}
