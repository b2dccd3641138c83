"""The sequences that run, as columns: what a step does to all of them is a few operations on arrays."""

from bisect import bisect_left, insort
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLUMNS: dict[str, Any] = {
    "blocks": np.int64,  # how many of `table` are its
    "node": np.int64,  # its lock in the prefix cache
    "depth": np.int64,  # where that node ends
    "computed": np.int64,  # tokens whose keys and values are written
    "count": np.int64,  # tokens sampled
    "limit": np.int64,  # of them
    "last": np.int64,  # the token sampled last
    "policy": np.int64,
    "params": np.int64,
    "age": np.int64,  # who began later is preempted first
}


class Rows:
    """Columns by name, [capacity]; of a row also table [capacity, blocks] and what it samples, [capacity, tokens]."""

    blocks: NDArray[np.int64]
    node: NDArray[np.int64]
    depth: NDArray[np.int64]
    computed: NDArray[np.int64]
    count: NDArray[np.int64]
    limit: NDArray[np.int64]
    last: NDArray[np.int64]
    policy: NDArray[np.int64]
    params: NDArray[np.int64]
    age: NDArray[np.int64]

    def __init__(self) -> None:
        for name, dtype in _COLUMNS.items():
            setattr(self, name, np.zeros(64, dtype))
        self.table = np.zeros((64, 16), np.int32)
        self.tokens = np.zeros((64, 16), np.int64)
        self.logprobs = np.zeros((64, 16), np.float32)
        self.sampling = np.zeros((64, 16), np.float32)  # log-probabilities under what was drawn from
        self.u = np.zeros((64, 16), np.float64)
        self._free = list(range(63, -1, -1))

    def take(self, blocks: int, tokens: int) -> int:
        """A free row, with room for so many blocks and tokens."""
        if not self._free:
            size = len(self.blocks)
            self._free = list(range(2 * size - 1, size - 1, -1))
            for name in (*_COLUMNS, "table", "tokens", "logprobs", "sampling", "u"):
                setattr(self, name, _longer(getattr(self, name), 2 * size, 0))
        self.widen(blocks, tokens)
        return self._free.pop()

    def widen(self, blocks: int, tokens: int) -> None:
        """Makes room for so many blocks and tokens in every row."""
        if blocks > self.table.shape[1]:
            self.table = _longer(self.table, max(blocks, 2 * self.table.shape[1]), 1)
        if tokens > self.tokens.shape[1]:
            for name in ("tokens", "logprobs", "sampling", "u"):
                setattr(self, name, _longer(getattr(self, name), max(tokens, 2 * self.tokens.shape[1]), 1))

    def free(self, row: int) -> None:
        """The row is nobody's."""
        self._free.append(row)


class Order:
    """The rows that run, by policy and tokens: who shares a prefix stands side by side."""

    def __init__(self) -> None:
        self._sorted: list[tuple[int, bytes, int, int]] = []  # (policy, tokens, age, row)
        self._entries: dict[int, tuple[int, bytes, int, int]] = {}
        self._rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._sorted)

    @property
    def rows(self) -> NDArray[np.int64]:
        """In their order."""
        if self._rows is None:
            self._rows = np.array([entry[3] for entry in self._sorted], np.int64)
        return self._rows

    def enter(self, row: int, policy: int, tokens: NDArray[np.int64], age: int) -> None:
        """The row runs, behind these tokens."""
        self._entries[row] = policy, key_of(tokens), age, row
        insort(self._sorted, self._entries[row])
        self._rows = None

    def exit(self, row: int) -> None:
        """The row does not run."""
        del self._sorted[bisect_left(self._sorted, self._entries.pop(row))]
        self._rows = None


def key_of(tokens: NDArray[np.int64]) -> bytes:
    """Sorts as the tokens do."""
    return tokens.astype(">i4").tobytes()


def _longer(array: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    shape = list(array.shape)
    shape[axis] = size
    longer = np.zeros(shape, array.dtype)
    longer[tuple(slice(n) for n in array.shape)] = array
    return longer
