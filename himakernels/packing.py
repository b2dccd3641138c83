"""Token sequences packed into a forest that stores every shared prefix once, cut into micro-batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from himakernels import _core
from himakernels.arrays import vector_of
from himakernels.checks import INTS, check_range
from himakernels.packed_tree import PackedTree, Packing

__all__ = ["PackedTree", "Packing", "pack"]

# What the extension returns for a micro-batch, in its order.
_TENSORS = (
    "token_ids", "position_ids", "subtree_end", "rows", "labels", "sample_id", "source", "segments", "sequence_id", "leaf",
)  # fmt: skip

Vector = torch.Tensor | NDArray[Any] | Sequence[int]


def _entries(name: str, value: Any) -> list[Any]:
    """One for each sequence."""
    try:
        return list(value)
    except TypeError as error:
        raise TypeError(f"{name}: expected a sequence of vectors, got {type(value).__name__}") from error


def _per_sequence(name: str, value: object, count: int) -> NDArray[np.int64]:
    array = vector_of(name, value)
    if len(array) != count:
        raise ValueError(f"{name}: expected one entry for each of {count} sequences, got {len(array)}")
    return array.astype(np.int64)


def _per_token(name: str, value: Sequence[Any], lengths: NDArray[np.int64], dtypes: tuple[torch.dtype, ...]) -> NDArray[Any]:
    """One vector for each sequence, as long as it is: all of them one after another."""
    entries = _entries(name, value)
    if len(entries) != len(lengths):
        raise ValueError(f"{name}: expected one entry for each of {len(lengths)} sequences, got {len(entries)}")
    arrays = [vector_of(f"{name}[{n}]", entry, dtypes) for n, entry in enumerate(entries)]
    for n, (array, length) in enumerate(zip(arrays, lengths, strict=True)):
        if len(array) != length:
            raise ValueError(f"{name}[{n}]: expected length {length}, that of sequences[{n}], got {len(array)}")
    wide = np.bool_ if dtypes == (torch.bool,) else np.int64
    return np.concatenate(arrays, dtype=wide) if arrays else np.empty(0, wide)


# Samples and policies are counted from 0: something is kept for each number up to the largest; of a policy a root of the
# trie, and a segment of every micro-batch.
_MOST_SAMPLES = 2**24
_MOST_POLICIES = 2**16
_MOST_TOKENS = 2**62


def _limit(name: str, value: object, least: int, most: int) -> int:
    """An integer in [least, most]; None stands for no limit and gives -1."""
    if value is None:
        return -1
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected int or None, got {type(value).__name__}")
    if not least <= value <= most:
        bound = f">= {least}" if value < least else f"<= {most}"
        raise ValueError(f"{name}: expected a number {bound}, got {value}")
    return int(value)


def _samples(
    sample_id: Any, trained: Sequence[Vector] | None, lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """The sample of each token of all sequences, -1 for none; and with `trained`, of each sequence."""
    if trained is None:
        return None if sample_id is None else _per_token("sample_id", sample_id, lengths, INTS), None
    if sample_id is None:
        raise ValueError("sample_id: expected a number for each sequence with trained, got None")
    of_sequence = _per_sequence("sample_id", sample_id, len(lengths))
    mask = _per_token("trained", trained, lengths, (torch.bool,))
    of_token = np.repeat(of_sequence, lengths)
    if (nobody := mask & (of_token < 0)).any():
        n = int(np.searchsorted(np.cumsum(lengths), nobody.argmax(), side="right"))
        raise ValueError(f"sample_id: expected values >= 0 where sequences are trained, got {of_sequence[n]} at index {n}")
    return np.where(mask, of_token, -1), of_sequence


def _agents(agent_id: NDArray[np.int64], samples: NDArray[np.int64], sequences: NDArray[np.int64], size: int) -> torch.Tensor:
    """[S]: the agent of each sample, where samples[i] stands in sequences[i]."""
    if (agent_id < 0).any():
        n = int((agent_id < 0).argmax())
        raise ValueError(f"agent_id: expected values >= 0, got {agent_id[n]} at index {n}")
    of_sample = np.full(size, -1, np.int64)
    sequences, samples = sequences[samples >= 0], samples[samples >= 0]
    of_sample[samples] = agent_id[sequences]
    if (other := of_sample[samples] != agent_id[sequences]).any():
        i = int(other.argmax())
        got = f"{agent_id[sequences[i]]} and {of_sample[samples[i]]}"
        raise ValueError(f"agent_id: expected one agent for all sequences of sample {samples[i]}, got {got}")
    if (of_sample < 0).any():
        raise ValueError(f"agent_id: expected a sequence for each of {size} samples, got none for {int(of_sample.argmin())}")
    return torch.from_numpy(of_sample)


def pack(
    sequences: Sequence[Vector],
    *,
    sample_id: Sequence[Vector] | Vector | None = None,
    trained: Sequence[Vector] | None = None,
    policy_id: Vector | None = None,
    num_policies: int | None = None,
    agent_id: Vector | None = None,
    num_samples: int | None = None,
    token_budget: int | None = None,
    vocab_size: int | None = None,
) -> Packing:
    """Packs N token sequences so that each prefix that several of them share is stored once.

    Args:
        sequences: N vectors of token ids (int64 or int32 tensors or arrays on the CPU, or lists of int), none of them empty.
        sample_id: N vectors as long as their sequences: the sample that trains the token, -1 where none does. None: nothing
            is trained. With `trained`, [N]: one number a sequence.
        trained: N bool vectors, True where the sequence's sample trains the token.
        policy_id: [N] which policy runs the sequence, in [0, num_policies); sequences of different policies share nothing.
            None: all run policy 0.
        num_policies: P, at most 65,536; None: the largest policy_id + 1.
        agent_id: [N] which agent the sequence belongs to. It comes back as `agent_id` [S] of the samples. Sequences of one
            policy share their prefix whoever their agents are.
        num_samples: S; None: the largest sample number + 1.
        token_budget: the most distinct tokens that a micro-batch may hold; None: one micro-batch.
        vocab_size: token ids must be below it; None: they must be >= 0.

    Returns:
        Packing: one PackedTree, or as many as the budget asks for; an empty one for no sequences.

    Micro-batches are runs of the sequences in depth-first order of their trie, so a prefix is repeated once for each cut
    through it, and no sequence is ever cut. Of all ways to cut that order within the budget, the one taken is best in, one
    after the other: the least sum over cuts of the samples that have rows on both sides, the fewest tokens in all, the fewest
    micro-batches, the smallest largest one, the largest smallest one. So all samples that are spread over several sequences
    stay whole if some way to cut allows it. Otherwise one that two cuts cross counts twice, so the number of samples cut need
    not be the least. `Packing.split_samples` names them: losses that look at a whole sample (the mean of grpo and sapo,
    sequence ratios, vespo) then do not add up to that of one call.

    A sample has one loss row for a distinct (policy, prefix, token) that it trains, also when several of its sequences train
    it (a trajectory given twice counts once); `source` is then the first in packed order. Different samples have a row each.

    Cost: O(tokens), and O(N log token_budget) for the cuts. The same input gives the same packing.

    Raises:
        ValueError: an empty sequence, lengths that disagree, ids out of range, a trained first token (nothing predicts it), a
            budget below the longest sequence, samples whose agent is not known or not one.
        TypeError: vectors that are not integers (`trained`: not bool), limits that are not int.
    """
    arrays = [vector_of(f"sequences[{n}]", sequence) for n, sequence in enumerate(_entries("sequences", sequences))]
    lengths = np.array([len(array) for array in arrays], np.int64)
    N = len(arrays)
    policies = np.zeros(N, np.int64) if policy_id is None else _per_sequence("policy_id", policy_id, N)
    of_token, of_sequence = _samples(sample_id, trained, lengths)
    for name, numbers, most in (
        ("sample_id", of_token, _MOST_SAMPLES),
        ("sample_id", of_sequence, _MOST_SAMPLES),
        ("policy_id", policies, _MOST_POLICIES),
    ):
        if numbers is not None and numbers.max(initial=-1) >= most:
            raise ValueError(f"{name}: expected numbers below {most}, counted from 0, got {numbers.max()}")
    S, P = _limit("num_samples", num_samples, 0, _MOST_SAMPLES), _limit("num_policies", num_policies, 1, _MOST_POLICIES)
    if S < 0:
        S = max(int(s.max(initial=-1)) + 1 for s in (of_token, of_sequence, np.empty(0, np.int64)) if s is not None)
    if of_sequence is not None:
        check_range("sample_id", torch.from_numpy(of_sequence), S, ignore=-1)
    batches, distinct, split = _core.token_trie(
        np.concatenate([*arrays, np.empty(0, np.int64)]),
        of_token,
        np.concatenate([[0], np.cumsum(lengths)]),
        policies,
        max(int(policies.max(initial=0)) + 1, 1) if P < 0 else P,
        _limit("vocab_size", vocab_size, 1, _MOST_TOKENS),
        S,
        _limit("token_budget", token_budget, 1, _MOST_TOKENS),
    )
    agents: torch.Tensor | None = None
    if agent_id is not None:
        samples, owners = of_sequence, np.arange(N)
        if samples is None:
            samples, owners = (np.empty(0, np.int64),) * 2 if of_token is None else (of_token, np.repeat(owners, lengths))
        agents = _agents(_per_sequence("agent_id", agent_id, N), samples, owners, S)
    trees, all_lengths = [], tuple(lengths.tolist())
    for batch in batches:
        tensors = dict(zip(_TENSORS, map(torch.from_numpy, batch), strict=True))
        here = lengths[batch[-2]]
        ends = (int(here.min()), int(here.max())) if len(here) else (0, 0)
        trees.append(
            PackedTree(
                **tensors,
                agent_id=agents,
                original_tokens=int(here.sum()),
                shortest=ends[0],
                longest=ends[1],
                lengths=all_lengths,
            )
        )
    num_tokens = sum(tree.num_tokens for tree in trees)
    return Packing(
        micro_batches=tuple(trees),
        num_samples=S,
        original_tokens=int(lengths.sum()),
        num_tokens=num_tokens,
        repeated_tokens=num_tokens - distinct,
        split_samples=tuple(split),
    )
