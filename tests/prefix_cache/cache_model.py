"""What a prefix cache must do, written from the contract with dictionaries: an entry for every token that a tree holds."""

from collections import Counter
from dataclasses import dataclass, field

Prefix = tuple[int, ...]


@dataclass
class Entry:
    """One token: the block that keeps it, and when it was last used."""

    block: int
    used: int


@dataclass(eq=False)
class Tree:
    """One version of one policy."""

    live: bool
    entries: dict[Prefix, Entry] = field(default_factory=dict)
    locks: Counter[Prefix] = field(default_factory=Counter)

    def locked(self, prefix: Prefix) -> bool:
        return any(lock[: len(prefix)] == prefix for lock in self.locks)

    def sweep(self) -> None:
        """A retired tree keeps what is locked."""
        if not self.live:
            self.entries = {prefix: entry for prefix, entry in self.entries.items() if self.locked(prefix)}


class CacheModel:
    """The same methods as PrefixCache, where a node is its tree and its prefix."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self.trees: list[Tree] = []
        self.newest: dict[str, tuple[int, Tree | None]] = {}
        self.held: set[int] = set()
        self.clock = 0

    def match(self, policy: str, version: int, tokens: Prefix) -> tuple[Tree, int]:
        newest, tree = self.newest.get(policy, (-1, None))
        if version > newest:
            self.reset(policy)
        if version < newest:
            tree = Tree(live=False)
            self.trees.append(tree)
        elif version > newest or tree is None:
            tree = Tree(live=True)
            self.trees.append(tree)
            self.newest[policy] = (version, tree)
        known = next((n for n in range(len(tokens), 0, -1) if tokens[:n] in tree.entries), 0)
        tree.locks[tokens[:known]] += 1
        self.touch(tree, tokens[:known])
        return tree, known

    def insert(self, tree: Tree, start: Prefix, tokens: Prefix, blocks: list[int]) -> int:
        whole = start + tokens
        new = [n for n in range(len(start) + 1, len(whole) + 1) if whole[:n] not in tree.entries]
        for n in new:
            block = blocks[(n - 1) // self.block_size - len(start) // self.block_size]
            tree.entries[whole[:n]] = Entry(block, 0)
        tree.locks[whole] += 1
        self.unlock(tree, start)
        self.touch(tree, whole)
        return len(new)

    def unlock(self, tree: Tree, prefix: Prefix, count: int = 1) -> None:
        tree.locks[prefix] -= count
        tree.locks += Counter()  # drops zeros
        tree.sweep()

    def touch(self, tree: Tree, prefix: Prefix) -> None:
        self.clock += 1
        for n in range(1, len(prefix) + 1):
            tree.entries[prefix[:n]].used = self.clock

    def blocks(self, tree: Tree, prefix: Prefix) -> list[int]:
        """The block table of a path: of each block the last token's."""
        ends = [min(end, len(prefix)) for end in range(self.block_size, len(prefix) + self.block_size, self.block_size)]
        return [tree.entries[prefix[:end]].block for end in ends]

    def kept(self) -> set[int]:
        return {entry.block for tree in self.trees for entry in tree.entries.values()}

    def free(self) -> int:
        return self.num_blocks - len(self.kept() | self.held)

    def evictable(self) -> int:
        pinned = {e.block for tree in self.trees for prefix, e in tree.entries.items() if tree.locked(prefix)}
        return len(self.kept() - pinned - self.held)

    def evict(self, count: int) -> int:
        """The least recently used leaf first, of a leaf the tokens in its last block."""
        goal = self.free() + min(count, self.evictable())
        before = self.free()
        while self.free() < goal:
            leaves = [(e.used, prefix, tree) for tree in self.trees for prefix, e in tree.entries.items()]
            leaves = [leaf for leaf in leaves if self.is_free_leaf(leaf[2], leaf[1])]
            used, prefix, tree = min(leaves, key=lambda leaf: leaf[0])
            block = tree.entries[prefix].block
            while prefix and self.is_free_leaf(tree, prefix) and tree.entries[prefix] == Entry(block, used):
                del tree.entries[prefix]
                prefix = prefix[:-1]
        return self.free() - before

    def is_free_leaf(self, tree: Tree, prefix: Prefix) -> bool:
        inner = any(len(other) == len(prefix) + 1 and other[:-1] == prefix for other in tree.entries)
        return not inner and not tree.locked(prefix)

    def reset(self, policy: str) -> None:
        version, tree = self.newest.get(policy, (-1, None))
        if tree is not None:
            tree.live = False
            tree.sweep()
            self.newest[policy] = (version, None)
