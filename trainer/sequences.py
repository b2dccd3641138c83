"""What policies are trained on: token sequences of agents, packed network by network into micro-batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from himakernels import PackedTree, pack
from trainer.models import Policies
from trainer.network import Base


@dataclass(frozen=True)
class TrainSequence:
    """A prompt and what its agent wrote after it: `TrainSequence("qa", "qa", (5, 6, 7, 8, 2), 3, advantage=1.2)` trains 8, 2.

    trained: the index of the first trained token, or a bool for each token. rollout_logprobs: one for each trained token, as
    sampled. group: of the siblings it was compared with, for whoever reads a batch that was kept.
    """

    policy: str
    agent: str
    token_ids: tuple[int, ...]
    trained: int | tuple[bool, ...]
    advantage: float = 0.0
    rollout_logprobs: tuple[float, ...] | None = None
    group: int = -1

    def mask(self) -> NDArray[np.bool_]:
        """Which tokens are trained."""
        if isinstance(self.trained, int):
            return np.arange(len(self.token_ids)) >= self.trained
        return np.array(self.trained, np.bool_)


class MicroBatch(NamedTuple):
    """A part of a batch that goes through one network at once. Samples are numbered within that network's part of the batch."""

    packed: PackedTree  # on the network's device; agent_id counts Policies.agents
    advantages: torch.Tensor  # [S] fp32 (fp64 for a network in fp64)
    rollout_logprobs: torch.Tensor | None  # [R], as advantages
    of_agent: dict[int, torch.Tensor | slice]  # the rows of each agent that has any


class Part(NamedTuple):
    """What of a batch runs on one network. indices: which of the batch's sequences, in the order of the samples' numbers."""

    base: Base
    indices: list[int]
    micro_batches: list[MicroBatch]


class Batch(NamedTuple):
    """A whole batch. Every count is over all of it; agents that have no sequence count 0."""

    parts: list[Part]
    policies: tuple[str, ...]  # those with a sequence
    num_samples: list[int]  # [A]
    num_tokens: list[int]  # [A], trained ones
    sequence_tokens: list[int]  # [A], all of the sequences, prompts too
    original_tokens: int
    packed_tokens: int


def check(sequence: TrainSequence, index: int, policy_of: Mapping[str, str]) -> NDArray[np.bool_]:
    """Its mask. Raises: ValueError."""
    where = f"sequences[{index}]"
    if sequence.agent not in policy_of:
        raise ValueError(f"{where}.agent: expected one of {', '.join(policy_of)}, got {sequence.agent!r}")
    if sequence.policy != policy_of[sequence.agent]:
        expected = policy_of[sequence.agent]
        raise ValueError(f"{where}.policy: expected {expected!r}, that of agent {sequence.agent!r}, got {sequence.policy!r}")
    mask = sequence.mask()
    if len(mask) != len(sequence.token_ids):
        raise ValueError(f"{where}.trained: expected one for each of {len(sequence.token_ids)} tokens, got {len(mask)}")
    count = int(mask.sum())
    if count == 0 or mask[0]:
        got = "the first of all" if count else "none"
        raise ValueError(f"{where}.trained: expected at least one token, and one before it that predicts it, got {got}")
    if sequence.rollout_logprobs is not None and len(sequence.rollout_logprobs) != count:
        sampled = len(sequence.rollout_logprobs)
        raise ValueError(f"{where}.rollout_logprobs: expected one for each of {count} trained tokens, got {sampled}")
    return mask


def make_batch(policies: Policies, sequences: Sequence[TrainSequence], token_budget: int | None) -> Batch:
    """Packs each network's sequences into forests of at most `token_budget` distinct tokens.

    Raises: ValueError for a sequence that does not fit its agent, its own lengths, or the budget.
    """
    masks = [check(sequence, i, policies.policy_of) for i, sequence in enumerate(sequences)]
    agent_of = {name: n for n, name in enumerate(policies.agents)}
    num_samples, num_tokens, sequence_tokens = ([0] * len(agent_of) for _ in range(3))
    of_base: dict[int, list[int]] = {}
    number = {policy: n for n, base in enumerate(policies.bases) for policy in base.policies}
    for i, (sequence, mask) in enumerate(zip(sequences, masks, strict=True)):
        of_base.setdefault(number[sequence.policy], []).append(i)
        a = agent_of[sequence.agent]
        num_samples[a] += 1
        num_tokens[a] += int(mask.sum())
        sequence_tokens[a] += len(mask)
    parts, original, distinct = [], 0, 0
    for n, indices in sorted(of_base.items()):
        base = policies.bases[n]
        mine = [sequences[i] for i in indices]
        packing = pack(
            [np.array(sequence.token_ids, np.int64) for sequence in mine],
            sample_id=np.arange(len(mine)),
            trained=[masks[i] for i in indices],
            policy_id=[base.policies.index(sequence.policy) for sequence in mine],
            num_policies=len(base.policies),
            agent_id=[agent_of[sequence.agent] for sequence in mine],
            token_budget=token_budget,
            vocab_size=base.vocab_size,
        )
        wide = torch.promote_types(base.dtype, torch.float32)
        advantages = torch.tensor([sequence.advantage for sequence in mine], dtype=wide).to(base.device, non_blocking=True)
        rollout = _flat(mine, [masks[i] for i in indices], wide)
        parts.append(Part(base, indices, [_micro_batch(packed, advantages, rollout, base.device) for packed in packing]))
        original, distinct = original + packing.original_tokens, distinct + packing.num_tokens
    present = {sequence.policy for sequence in sequences}
    names = tuple(policy for policy in policies.names if policy in present)
    return Batch(parts, names, num_samples, num_tokens, sequence_tokens, original, distinct)


def _flat(sequences: Sequence[TrainSequence], masks: Sequence[NDArray[np.bool_]], dtype: torch.dtype) -> torch.Tensor | None:
    """[sum of lengths]: rollout_logprobs where tokens are trained; None if a sequence has none."""
    found: list[NDArray[Any]] = []
    for sequence, mask in zip(sequences, masks, strict=True):
        if sequence.rollout_logprobs is None:
            return None
        found.append(np.zeros(len(mask)))
        found[-1][mask] = sequence.rollout_logprobs
    return torch.from_numpy(np.concatenate(found)).to(dtype)


def _micro_batch(
    packed: PackedTree, advantages: torch.Tensor, rollout: torch.Tensor | None, device: torch.device
) -> MicroBatch:
    assert packed.agent_id is not None
    agent_of_row = packed.agent_id[packed.sample_id].numpy()
    of_agent: dict[int, torch.Tensor | slice] = {}
    for agent in np.unique(agent_of_row).tolist():
        (rows,) = np.nonzero(agent_of_row == agent)
        if rows[-1] - rows[0] + 1 == len(rows):  # always where agents have policies of their own
            of_agent[agent] = slice(int(rows[0]), int(rows[-1]) + 1)
        else:
            of_agent[agent] = torch.from_numpy(rows).to(device, non_blocking=True)
    gathered = None if rollout is None else packed.gather(rollout).to(device, non_blocking=True)
    return MicroBatch(packed.to(device, non_blocking=True), advantages, gathered, of_agent)
