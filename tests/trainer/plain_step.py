"""A training step as anybody would write it: one policy at a time, a padded batch, transformers, PEFT, TRL's formula, torch."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tiny_policies import qwen3
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from trainer.learner import LearnerConfig, TrainSequence
from trainer.models import Policies


def wide_norm(self: Qwen3RMSNorm, x: torch.Tensor) -> torch.Tensor:
    """Qwen3's norm without its detour through fp32, so that a model in fp64 is one."""
    return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon))


class PlainPolicy:
    """One policy of `of` on a model of its own, in `dtype`, with its optimiser. `reference` is what the KL term looks at."""

    def __init__(self, of: Policies, policy: str, config: LearnerConfig, dtype: torch.dtype, attention: str) -> None:
        self.config = config
        model: Any = qwen3().to(dtype)
        model.set_attn_implementation(attention)
        self.reference = copy.deepcopy(model)
        if of.config.adapters:
            lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", bias="none", task_type="CAUSAL_LM")
            model = get_peft_model(model, lora)
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if of.config.adapters:  # in PEFT's order of an adapter's parameters: A and B of a layer, layer by layer
            named = {n: p for n, p in model.named_parameters() if p.requires_grad}
            theirs = [n for n, _ in of.base_of(policy).model.named_parameters() if f".{policy}." in n]
            self.parameters = [named[n.replace(f".{policy}.", ".default.")] for n in theirs]
            values = [dict(of.base_of(policy).model.named_parameters())[n] for n in theirs]
        else:
            values = list(of.parameters(policy))
        self.order = values
        with torch.no_grad():
            for mine, value in zip(self.parameters, values, strict=True):
                mine.copy_(value)
        groups = [
            {"params": [p for p in self.parameters if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in self.parameters if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW([g for g in groups if g["params"]], betas=config.betas, eps=config.eps, foreach=False)

    def logprobs(self, model: Any, batch: Sequence[TrainSequence]) -> tuple[torch.Tensor, torch.Tensor]:
        """(log p, mask), each [N, L - 1]."""
        longest = max(len(sequence.token_ids) for sequence in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.int64)
        attended, trained = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for n, sequence in enumerate(batch):
            length = len(sequence.token_ids)
            ids[n, :length], attended[n, :length] = torch.tensor(sequence.token_ids), 1
            trained[n, :length] = torch.from_numpy(sequence.mask())
        logits = model(input_ids=ids, attention_mask=attended, use_cache=False).logits[:, :-1] / self.config.temperature
        wide = torch.promote_types(logits.dtype, torch.float32)
        logprobs = logits.log_softmax(-1, dtype=wide).gather(2, ids[:, 1:, None])[..., 0]
        return logprobs, trained[:, 1:]

    def grpo(self, batch: Sequence[TrainSequence]) -> torch.Tensor:
        """The loss of all samples of one agent."""
        logprobs, mask = self.logprobs(self.model, batch)
        ratio = (logprobs - logprobs.detach()).exp()
        advantages = torch.tensor([sequence.advantage for sequence in batch], dtype=logprobs.dtype)[:, None]
        loss = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        if self.config.kl_coef:
            with torch.no_grad():
                d = self.logprobs(self.reference, batch)[0]
            d = d - logprobs
            loss = loss + self.config.kl_coef * (d.exp() - d - 1)
        return ((loss * mask).sum(1) / mask.sum(1)).mean()

    def cross_entropy(self, batch: Sequence[TrainSequence]) -> torch.Tensor:
        """The mean over all trained tokens of one agent."""
        logprobs, mask = self.logprobs(self.model, batch)
        return -(logprobs * mask).sum() / mask.sum()

    def step(self, batch: Sequence[TrainSequence], rate: float, *, sft: bool = False) -> tuple[float, float]:
        """(loss, gradient norm): each agent's loss of its sequences, summed."""
        self.adamw.zero_grad()
        total = torch.zeros(())
        for agent in sorted({sequence.agent for sequence in batch}):
            mine = [sequence for sequence in batch if sequence.agent == agent]
            total = total + (self.cross_entropy(mine) if sft else self.grpo(mine))
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        return float(total.detach()), float(norm)
