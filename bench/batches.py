"""Generated packed batches, and the way between packed rows and the padded [B, L] batches that peers take."""

import math
from dataclasses import dataclass, replace

import torch

from bench.shapes import Shape


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """What `vrgrpo_loss` takes. R rows, S samples; H hidden, V vocab; `logits` [R, V] stand for hidden and weight."""

    hidden: torch.Tensor  # [R, H]
    weight: torch.Tensor  # [V, H]
    labels: torch.Tensor  # [R]
    sample_id: torch.Tensor  # [R]
    agent_id: torch.Tensor  # [S]
    group_id: torch.Tensor  # [S]
    rewards: torch.Tensor  # [S]
    advantages: torch.Tensor  # [S] or [R]
    old_logprobs: torch.Tensor | None = None  # [R]
    ref_logprobs: torch.Tensor | None = None  # [R]
    rollout_logprobs: torch.Tensor | None = None  # [R]
    logits: torch.Tensor | None = None  # [R, V]

    @property
    def leaves(self) -> list[torch.Tensor]:
        """The tensors whose gradients are asked for."""
        tensors = (self.hidden, self.weight) if self.logits is None else (self.logits,)
        return [t for t in tensors if t.requires_grad]

    @property
    def advantage_level(self) -> str:
        """ "token" where advantages are [R] instead of [S]."""
        return "sample" if self.advantages.shape == self.agent_id.shape else "token"

    def to(self, dtype: torch.dtype) -> "PackedBatch":
        """The same values with hidden, weight, logits and the log-probabilities in another dtype, as fresh leaves."""
        floats: dict[str, torch.Tensor | None] = {}
        for name in ("hidden", "weight", "logits"):
            t = getattr(self, name)
            floats[name] = None if t is None else t.detach().to(dtype, copy=True).requires_grad_(t.requires_grad)
        if dtype == torch.float64:
            for name in ("old_logprobs", "ref_logprobs", "rollout_logprobs", "advantages"):
                t = getattr(self, name)
                floats[name] = None if t is None else t.double()
        return replace(self, **floats)

    def with_logits(self, logits: torch.Tensor) -> "PackedBatch":
        """The same batch given by these logits instead of hidden and weight."""
        return replace(self, logits=logits)

    def from_logits(self) -> "PackedBatch":
        """The same batch given by its logits, a fresh leaf."""
        with torch.no_grad():
            logits = self.hidden @ self.weight.T
        return self.with_logits(logits.requires_grad_())

    def of_agent(self, agent: int) -> "PackedBatch":
        """One agent's samples and rows, renumbered. Hidden and weight stay in the graph of this batch."""
        samples = (self.agent_id == agent).nonzero()[:, 0]
        new_id = torch.full_like(self.agent_id, -1)
        new_id[samples] = torch.arange(len(samples), device=samples.device)
        rows = (new_id[self.sample_id] >= 0).nonzero()[:, 0]
        of_rows = {
            name: None if (t := getattr(self, name)) is None else t[rows]
            for name in ("hidden", "labels", "old_logprobs", "ref_logprobs", "rollout_logprobs", "logits")
        }
        of_samples = {name: getattr(self, name)[samples] for name in ("group_id", "rewards", "advantages")}
        agent_id = torch.zeros_like(samples)
        return replace(self, **of_rows, **of_samples, agent_id=agent_id, sample_id=new_id[self.sample_id[rows]])


def make_batch(
    shape: Shape,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
    agents: int = 1,
    ragged: bool = True,
    shuffled: bool = False,
    ignored: float = 0.0,
    off_policy: float = 0.3,
    frozen_head: bool = False,
) -> PackedBatch:
    """A batch of groups of 8 siblings. Group g belongs to agent g % agents.

    It is drawn on `device`, as the CPU's serial generator takes half a minute for a large head: a seed gives other numbers
    on another kind of device.

    Args:
        ragged: samples of one half to one and a half of the mean length; otherwise all have rows / samples rows.
        shuffled: the rows of all samples lie in random order.
        ignored: the fraction of rows whose label is -100.
        off_policy: the standard deviation of logprobs - old_logprobs.
    """
    g = torch.Generator(device).manual_seed(seed)
    n, s = shape.rows, shape.samples
    shares = torch.rand(s, generator=g, device=device) + 0.5 if ragged else torch.ones(s, device=device)
    ends = (shares.cumsum(0) / shares.sum() * n).round().long()
    sample_id = torch.searchsorted(ends, torch.arange(n, device=device), right=True).clamp(max=s - 1)
    if shuffled:
        sample_id = sample_id[torch.randperm(n, generator=g, device=device)]
    group_id = torch.arange(s, device=device) // 8
    rewards = (torch.rand(s, generator=g, device=device) * 4).round() / 4
    grouped = torch.stack([rewards[group_id == i].mean() for i in group_id.tolist()])
    spread = torch.stack([rewards[group_id == i].std() for i in group_id.tolist()])

    # Logits have a standard deviation of about 2 nats, as a small language model's.
    hidden = torch.randn(n, shape.hidden, generator=g, device=device).to(dtype)
    weight = (torch.randn(shape.vocab, shape.hidden, generator=g, device=device) * (2 / math.sqrt(shape.hidden))).to(dtype)
    labels = torch.randint(shape.vocab, (n,), generator=g, device=device)
    labels[torch.rand(n, generator=g, device=device) < ignored] = -100
    # Normal logits have logsumexp = log V + variance / 2: near enough to place old_logprobs, without a matrix product.
    scale = 2 / math.sqrt(shape.hidden) * hidden.float().norm(dim=1)
    logprobs = (hidden.float() * weight[labels.clamp(min=0)].float()).sum(1) - math.log(shape.vocab) - scale**2 / 2
    noise = torch.randn(3, n, generator=g, device=device) * off_policy
    return PackedBatch(
        hidden=hidden.requires_grad_(),
        weight=weight.requires_grad_(not frozen_head),
        labels=labels,
        sample_id=sample_id,
        agent_id=group_id % agents,
        group_id=group_id,
        rewards=rewards,
        advantages=(rewards - grouped) / (spread + 1e-4),
        old_logprobs=logprobs + noise[0],
        ref_logprobs=logprobs + noise[1],
        rollout_logprobs=logprobs + noise[0] + noise[2] / 3,
    )


@dataclass(frozen=True)
class Padding:
    """Which packed row stands at [b, l] of the padded batch. Sample b is sample_id b; ignored rows are left out."""

    index: torch.Tensor  # [B, L] int64, 0 where nothing stands
    mask: torch.Tensor  # [B, L] int64, 1 where a row stands

    @staticmethod
    def of(batch: PackedBatch) -> "Padding":
        counted = (batch.labels != -100).nonzero()[:, 0]
        rows = counted[torch.argsort(batch.sample_id[counted], stable=True)]
        owner = batch.sample_id[rows]
        lengths = torch.bincount(owner, minlength=len(batch.agent_id))
        column = torch.arange(len(rows), device=rows.device) - (lengths.cumsum(0) - lengths)[owner]
        index = rows.new_zeros(len(lengths), max(1, int(lengths.max())))
        mask = torch.zeros_like(index)
        index[owner, column] = rows
        mask[owner, column] = 1
        return Padding(index, mask)

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """Packed [R, ...] to padded [B, L, ...], 0 where nothing stands; differentiable."""
        mask = self.mask.bool().reshape(*self.mask.shape, *[1] * (x.ndim - 1))
        return torch.where(mask, x[self.index], x.new_zeros(()))

    def unpad(self, y: torch.Tensor, rows: int) -> torch.Tensor:
        """Padded [B, L, ...] to packed [rows, ...], 0 on ignored rows; differentiable."""
        mask = self.mask.bool()
        return y.new_zeros(rows, *y.shape[2:]).index_put((self.index[mask],), y[mask])
