"""The packed forest of token sequences that training runs over, and its micro-batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from himakernels.checks import check_device, check_dtype, check_shape, check_tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedTree:
    """Packed sequences: each distinct (policy, prefix, token) once, in depth-first order, T tokens in all.

    The attention rule is one line: query q sees key k iff k <= q < subtree_end[k]. The children of a token, the trees of a
    policy and the sequences that end at one token stand in order of first appearance; policies ascend.

    Each token that a sample trains has one of R loss rows, so a token that several samples train has several. Rows stand
    sequence after sequence, in the order of `sequence_id`, and along each sequence.
    """

    token_ids: torch.Tensor  # [T] int64
    position_ids: torch.Tensor  # [T] int32, depth in its tree
    subtree_end: torch.Tensor  # [T] int32, exclusive
    rows: torch.Tensor  # [R] int64, the packed position whose hidden state predicts the trained token
    labels: torch.Tensor  # [R] int64, the trained token
    sample_id: torch.Tensor  # [R] int64, the caller's numbers
    source: torch.Tensor  # [R] int64, where the trained token stands in all the caller's sequences, one after another
    segments: torch.Tensor  # [P+1] int32, the tokens of policy p are [segments[p], segments[p+1]); always on the CPU
    sequence_id: torch.Tensor  # [n] int64, which of the caller's sequences are here, in packed order
    leaf: torch.Tensor  # [n] int64, the packed position of each one's last token
    agent_id: torch.Tensor | None  # [S] int64, of every sample of the packing
    original_tokens: int  # of the sequences that are here, each on its own
    shortest: int  # tokens of the shortest sequence that is here, 0 if none is
    longest: int
    lengths: tuple[int, ...] = field(repr=False)  # of all the caller's sequences, here or not

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.token_ids.shape[0]

    @property
    def num_rows(self) -> int:
        """R."""
        return self.rows.shape[0]

    @property
    def saved_tokens(self) -> int:
        """original_tokens - num_tokens."""
        return self.original_tokens - self.num_tokens

    @property
    def share_saved(self) -> float:
        """saved_tokens / original_tokens, 0 for an empty tree."""
        return self.saved_tokens / max(self.original_tokens, 1)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "PackedTree":
        """The same on `device`, except for `segments`, which only the host reads: so a step on a GPU waits for nothing.

        A copy to the CPU is always waited for: the host would read it before it has arrived.
        """
        non_blocking = non_blocking and torch.device(device).type != "cpu"
        moved: dict[str, Any] = {
            f.name: value.to(device, non_blocking=non_blocking)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), torch.Tensor) and f.name != "segments"
        }
        return replace(self, **moved)

    def passes(self, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """Count the sequences that each token is in: the sum over its subtree of the sequences that end there.

        Args:
            chosen: [n] bool, which sequences count, in packed order; None: all.

        Returns:
            [T] int64. Its sum is `original_tokens` where all are counted.

        Raises:
            ValueError, TypeError: `chosen` of another shape, dtype or device.
        """
        ends = torch.ones_like(self.leaf)
        if chosen is not None:
            check_shape("chosen", chosen, (len(self.leaf),))
            check_dtype("chosen", chosen, (torch.bool,))
            check_device("chosen", chosen, self.leaf.device)
            ends = chosen.to(torch.int64)
        before = torch.zeros(self.num_tokens + 1, dtype=torch.int64, device=self.leaf.device)
        before = before.index_add_(0, self.leaf + 1, ends).cumsum(0)  # [T+1] sequences that end before a position
        return before[self.subtree_end.long()] - before[:-1]

    def gather(self, values: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """values[source]: what the caller has for each token (old_logprobs, say), brought to the rows; differentiable.

        Args:
            values: [sum of lengths, ...], all the caller's sequences one after another; or a tensor [length, ...] for each.
                On the device of this tree.

        Returns:
            [R, ...], the dtype of `values`.

        Raises:
            ValueError: lengths that disagree, another device.
            TypeError: no tensors.
        """
        if not isinstance(values, torch.Tensor):
            values = [check_tensor(f"values[{n}]", value) for n, value in enumerate(values)]
            scalars = [n for n, value in enumerate(values) if value.dim() == 0]
            if scalars:
                raise ValueError(f"values[{scalars[0]}]: expected shape [length, ...], got []")
            got = tuple(len(value) for value in values)
            if len(got) != len(self.lengths):
                raise ValueError(f"values: expected one tensor for each of {len(self.lengths)} sequences, got {len(got)}")
            if got != self.lengths:
                n = next(n for n, (a, b) in enumerate(zip(got, self.lengths, strict=True)) if a != b)
                raise ValueError(f"values[{n}]: expected {self.lengths[n]} values, got {got[n]}")
            if not got:
                raise ValueError("values: expected a tensor [0, ...] where there are no sequences, got an empty list")
            values = torch.cat(values)
        if values.dim() == 0 or values.shape[0] != sum(self.lengths):
            raise ValueError(f"values: expected shape [{sum(self.lengths)}, ...], got {list(values.shape)}")
        check_device("values", values, self.source.device)
        return values[self.source]


@dataclass(frozen=True, kw_only=True, eq=False)
class Packing:
    """Micro-batches, and how many tokens they save. Behaves as the sequence of its micro-batches."""

    micro_batches: tuple[PackedTree, ...]
    num_samples: int  # S
    original_tokens: int  # before: every sequence on its own
    num_tokens: int  # after: the sum of the micro-batches' T
    repeated_tokens: int  # of num_tokens, those that stand in an earlier micro-batch already
    split_samples: tuple[int, ...]  # samples with rows in more than one micro-batch

    @property
    def saved_tokens(self) -> int:
        """original_tokens - num_tokens."""
        return self.original_tokens - self.num_tokens

    @property
    def share_saved(self) -> float:
        """saved_tokens / original_tokens, 0 for nothing."""
        return self.saved_tokens / max(self.original_tokens, 1)

    def __len__(self) -> int:
        return len(self.micro_batches)

    def __iter__(self) -> Iterator[PackedTree]:
        return iter(self.micro_batches)

    def __getitem__(self, index: int) -> PackedTree:
        return self.micro_batches[index]

    def __str__(self) -> str:
        sizes = [tree.num_tokens for tree in self]
        sequences, rows = sum(len(tree.leaf) for tree in self), sum(tree.num_rows for tree in self)
        saved = f"{self.saved_tokens:,} saved ({self.share_saved:.1%})"
        lines = [
            f"{sequences:,} sequences, {self.original_tokens:,} tokens -> {self.num_tokens:,} packed: {saved}",
            f"{len(self):,} micro-batches of {min(sizes):,} to {max(sizes):,} tokens, {self.repeated_tokens:,} tokens repeated",
            f"{rows:,} loss rows of {self.num_samples:,} samples",
        ]
        if self.split_samples:
            lines.append(f"{len(self.split_samples):,} samples have rows in several micro-batches")
        return "\n".join(lines)
