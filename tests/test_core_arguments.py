"""Numbers that the extension adds or multiplies: those that would overflow are refused, whoever calls it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from himakernels import _core

MOST = 2**31 - 1


def trie(policies: int) -> Any:
    none = np.zeros(0, np.int64)
    return _core.token_trie(none, None, np.zeros(1, np.int64), none, policies, -1, -1, -1)


def advantages(groups: int, threads: int = 1) -> Any:
    ids = np.zeros(2, np.int64)
    return _core.group_advantages(np.zeros(2, np.float32), ids, groups, None, "std", 1e-4, False, False, threads)


def product(threads: int) -> None:
    a = np.zeros((2, 2), np.float32)
    _core.gemm(a, "float32", a, "float32", a.copy(), "float32", False, threads)


def tree(window: int) -> None:
    x, ends, out = np.zeros((2, 1, 16), np.float32), np.array([2, 2], np.int32), np.zeros((2, 1, 16), np.float32)
    softmax = np.zeros((2, 1, 2), np.float32)
    _core.tree_attention_fwd(x, x, x, "float32", ends, ends, None, 1.0, window, 0.0, out, softmax, 1)


def paged(block_size: int = 1, table_width: int = 1, window: int = 0) -> None:
    """Shapes without memory behind them: numpy's strides may be 0."""
    q, out = np.zeros((1, 1, 16), np.float32), np.zeros((1, 1, 16), np.float32)
    keys = np.broadcast_to(np.zeros((1, 1, 1, 16), np.float32), (1, block_size, 1, 16))
    table = np.zeros((1, 1), np.int32) if table_width == 1 else np.zeros((0, table_width), np.int32)
    n = len(table)
    _core.paged_attention(
        q[:n], keys, keys, "float32", table, np.arange(n + 1, dtype=np.int32), np.ones(n, np.int32), None, 1.0, window, 0.0,
        out[:n], 1,
    )  # fmt: skip


CASES: list[tuple[str, Callable[[], Any]]] = [
    (f"num_policies: expected a number <= {MOST}, got {2**63 - 1}", lambda: trie(2**63 - 1)),
    ("num_policies: expected a number >= 0, got -1", lambda: trie(-1)),
    (f"num_groups: expected a number <= {MOST}, got {2**63 - 1}", lambda: advantages(2**63 - 1)),
    ("num_groups: expected a number >= 0, got -1", lambda: advantages(-1)),
    ("threads: expected a number >= 1, got 0", lambda: advantages(1, threads=0)),
    ("threads: expected a number <= 65536, got 2147483647", lambda: advantages(1, threads=MOST)),
    ("threads: expected a number <= 65536, got 2147483647", lambda: product(MOST)),
    ("window: expected a number >= 0, got -1", lambda: tree(-1)),
    (f"keys: block_size: expected a number <= {MOST}, got {2**40}", lambda: paged(block_size=2**40)),
    (f"block_table: blocks of a sequence: expected a number <= {MOST}, got {2**40}", lambda: paged(table_width=2**40)),
    ("window: expected a number >= 0, got -2", lambda: paged(window=-2)),
]


@pytest.mark.parametrize(("message", "call"), CASES)
def test_refused(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


def test_the_largest_that_are_taken() -> None:
    """The same calls with numbers that are in order."""
    assert trie(3)[1] == 0
    assert advantages(2, threads=65_536)[0].tolist() == [0, 0]
    product(65_536)
    tree(MOST)
    paged(block_size=MOST, window=MOST)
    paged(table_width=MOST)
