"""Which blocks of a pool keep the keys and values of which tokens, so that no prefix of a version is computed twice.

The cache knows numbers only: token ids, and blocks from 0 to num_blocks - 1. Block i of a sequence holds its tokens
[i * block_size, (i + 1) * block_size); what is in a block is the caller's (`himakernels.kv_pool.KVPool`).

    cache = PrefixCache(num_blocks=1024, block_size=16)
    found = cache.match("qa", 3, prompt[:-1])             # its last token must run: its logits are wanted
    begin = found.num_cached_tokens
    head = cache.fork(found.node)                         # where the match ends inside a block, a copy to write on
    pool.copy(head)
    table = [*found.block_ids[: begin // 16], *head.targets]
    table += cache.allocate(num_blocks_for(prompt) - len(table)).tolist()
    ... keys and values of prompt[begin:] go to the blocks of `table` ...
    node, _, kept = cache.insert(found.node, prompt[begin:], table[begin // 16 :])
    table[begin // 16 :] = kept                           # the same, unless another thread was faster
    tails = cache.fork(node, n)                           # n siblings, each with its own copy of the prompt's last block
    pool.copy(tails)
    ... each sibling allocates what it writes, inserts what it has generated, and at last
    cache.unlock(node)
    cache.release(what it and the prompt have allocated)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from himakernels import _core
from himakernels.arrays import vector_of
from himakernels.packing import Vector

OutOfBlocksError = _core.OutOfBlocksError

_INTEGERS = {np.dtype(dtype).char for dtype in (np.int64, np.int32)}

__all__ = ["BlockCopies", "CacheStats", "Insertion", "Match", "OutOfBlocksError", "PrefixCache"]


class Match(NamedTuple):
    """What of a sequence is cached."""

    node: int  # where it ends; locked
    num_cached_tokens: int
    block_ids: NDArray[np.int32]  # [ceil(num_cached_tokens / block_size)] the blocks that keep them, to be read only


class Insertion(NamedTuple):
    """What an insertion has stored."""

    node: int  # where the sequence ends; it has the lock now
    num_new_tokens: int  # the last of the given tokens; those before were in the tree already
    block_ids: NDArray[np.int32]  # as many as were given: those that the tree keeps


class BlockCopies(NamedTuple):
    """c copies: the first num_tokens[i] tokens of block sources[i] are to be copied to block targets[i]."""

    sources: NDArray[np.int32]  # [c]
    targets: NDArray[np.int32]  # [c]
    num_tokens: NDArray[np.int32]  # [c], below the block size


class CacheStats(NamedTuple):
    """Where the blocks are, and what has happened since the cache was made."""

    num_blocks: int
    free_blocks: int
    evictable_blocks: int  # kept for tokens that nobody has locked
    num_nodes: int
    num_tokens: int  # in all trees, each once
    num_locks: int
    queried_tokens: int  # given to match
    matched_tokens: int  # found by match
    evicted_blocks: int  # freed by allocate, fork and evict

    @property
    def available_blocks(self) -> int:
        """What allocate can give now."""
        return self.free_blocks + self.evictable_blocks

    @property
    def hit_rate(self) -> float:
        """matched_tokens / queried_tokens; 0 before the first match."""
        return self.matched_tokens / self.queried_tokens if self.queried_tokens else 0.0


class PrefixCache:
    """A pool of blocks, and a radix tree over token ids for each policy.

    **Versions.** A tree belongs to a policy name and a policy_version. The first `match` with a newer version drops the tree
    of the one before: nothing of it ever matches again, and its blocks return to the pool (those that are locked, when they
    are unlocked: what runs can go on, and share with its own siblings). A match with an older version than the newest finds
    nothing, and nobody finds what is inserted behind it. So versions of a name must only go up, also when old weights come
    back, and what changes keys and values without being a token (an adapter, a salt) belongs in the name.

    **Nodes and locks.** `match` gives a locked node: the place in the tree where the sequence ends for now. What leads to it
    is not evicted while it is locked. A sequence that runs has one lock; `insert` moves it along, `fork` makes n of one,
    `unlock` ends it. What a sequence computed can only be inserted behind its own node, so it can't get into the tree of
    another version.

    **Blocks.** What `allocate` and `fork` give is the caller's to write to until `release`, behind what was inserted of it;
    inserted blocks stay with the tree after that. All others are only read: to go on inside one of them, `fork`, or begin
    again where it begins, in a block of one's own. A block may be inserted before it is written, so that sequences of one step
    share what one of them is about to compute; until it is written nobody can copy from it, so whole blocks only. Should
    that computation fail, `reset` the policy.

    **Eviction.** When the pool runs out, unlocked leaves give up blocks: the least recently used leaf first, of a leaf the
    last block first. Used means matched or inserted, and counts for all that leads there.

    Matching, inserting and forking take O(tokens + blocks), eviction O(log leaves) a leaf; no work is done per token in
    Python. Methods may be called from several threads, and each is done at once. The GIL is released. After an error nothing
    has changed. The child of a fork has a copy of its own, as it was between two calls of any thread.

    Args:
        num_blocks: how many there are.
        block_size: tokens a block; 1 shares every token and copies nothing.

    Raises:
        ValueError, TypeError: from all methods, for arguments that can't be: argument, expected, got.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self._core = _core.PrefixCache(_integer("num_blocks", num_blocks), _integer("block_size", block_size))
        self.num_blocks, self.block_size = num_blocks, block_size

    def match(self, policy: str, policy_version: int, token_ids: Vector) -> Match:
        """The longest cached beginning of a sequence, and a lock on where it ends.

        Args:
            token_ids: [n] int64 or int32. Where the logits of the last token are wanted, leave it out.
        """
        if not isinstance(policy, str):
            raise TypeError(f"policy: expected str, got {type(policy).__name__}")
        return Match(*self._core.match(policy, _integer("policy_version", policy_version), _vector("token_ids", token_ids)))

    def insert(self, node: int, token_ids: Vector, block_ids: Vector) -> Insertion:
        """Stores the tokens that follow a node, and moves one lock from it to where they end.

        Args:
            node: locked, at depth d.
            token_ids: [n], those at depths d to d + n.
            block_ids: [ceil((d + n) / block_size) - d // block_size], the blocks of these depths: `table[d // block_size :]`
                of the sequence's block table. Those with tokens that are new to the tree must be allocated, and keep no other
                tokens in it; of tokens that the tree has already, it keeps its own blocks.
        """
        return Insertion(
            *self._core.insert(_integer("node", node), _vector("token_ids", token_ids), _vector("block_ids", block_ids))
        )

    def lock(self, node: int, count: int = 1) -> None:
        """`count` more locks on a locked node."""
        self._core.lock(_integer("node", node), _integer("count", count))

    def unlock(self, node: int, count: int = 1) -> None:
        """`count` locks less; without any, the node is no longer the caller's to name."""
        self._core.unlock(_integer("node", node), _integer("count", count))

    def fork(self, node: int, n: int = 1) -> BlockCopies:
        """One lock on a node becomes n, for n sequences that go on from it, each with a block to go on in.

        Returns:
            BlockCopies: `targets[i]` is the last block of sequence i, allocated; the caller copies what it must hold. None
            where the node ends with its block.

        Raises:
            OutOfBlocksError: fewer than n blocks are free or evictable.
        """
        return BlockCopies(*self._core.fork(_integer("node", node), _integer("n", n)))

    def allocate(self, count: int) -> NDArray[np.int32]:
        """`count` blocks [count] that are now the caller's. Evicts if it must.

        Raises:
            OutOfBlocksError: fewer are free or evictable; nothing is evicted.
        """
        return self._core.allocate(_integer("count", count))

    def release(self, block_ids: Vector) -> None:
        """Gives allocated blocks back: those that no tree keeps are free."""
        self._core.release(_vector("block_ids", block_ids))

    def evict(self, count: int) -> int:
        """Frees `count` blocks, or as many as are evictable; returns how many."""
        return self._core.evict(_integer("count", count))

    def reset(self, policy: str | None = None) -> int:
        """Forgets all tokens of a policy (None: of all), as if its version had changed; returns how many blocks that freed.

        Its newest version stays in memory: older ones still match nothing.
        """
        if policy is not None and not isinstance(policy, str):
            raise TypeError(f"policy: expected str or None, got {type(policy).__name__}")
        return self._core.reset(policy)

    @property
    def stats(self) -> CacheStats:
        """As of now."""
        return CacheStats(*self._core.stats())

    def check_integrity(self) -> None:
        """RuntimeError unless nodes, edges, locks, blocks and the queue of leaves agree with each other; O(everything)."""
        self._core.check_integrity()


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected int, got {type(value).__name__}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}: expected a number of 64 bits, got {value}")
    return int(value)


def _vector(name: str, value: Vector) -> NDArray[np.int64]:
    plain = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.char in _INTEGERS  # most often, and cheap to see
    return np.ascontiguousarray(value if plain else vector_of(name, value), np.int64)
