"""transformers' own batched `generate` behind the engine's interface, for comparison: padded, nothing reused between calls."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from trainer.engine.base import EngineStats, SamplingParams
from trainer.models import Policies
from trainer.types import Sample

BATCH = 64  # rows of one call of `generate`


class PlainEngine:
    """Samples of whole policies; the ends of samples and seeds of single requests are not its business."""

    def __init__(self, policies: Policies) -> None:
        self.policies, self.stats = policies, EngineStats()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        policy: str | Sequence[str],
        seeds: Sequence[int] | None = None,
    ) -> list[list[Sample]]:
        """See `Engine.generate`."""
        names = [policy] * len(prompts) if isinstance(policy, str) else list(policy)
        torch.manual_seed(seeds[0] if seeds else 0)
        found: list[list[Sample]] = [[] for _ in prompts]
        for name in dict.fromkeys(names):
            mine = [i for i, owner in enumerate(names) if owner == name]
            size = max(BATCH // n, 1)
            with self.policies.base_of(name).generating(name) as model:
                for first in range(0, len(mine), size):
                    part = mine[first : first + size]
                    longest = max(len(prompts[i]) for i in part)
                    pads = [longest - len(prompts[i]) for i in part]
                    ids = torch.tensor([[0] * pad + list(prompts[i]) for pad, i in zip(pads, part, strict=True)])
                    mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads])
                    out = model.generate(
                        ids, attention_mask=mask, do_sample=True, top_k=0, num_return_sequences=n, pad_token_id=0,
                        max_new_tokens=params.max_new_tokens, output_logits=True, return_dict_in_generate=True,
                    )  # fmt: skip
                    tokens = out.sequences[:, longest:]
                    logits = torch.stack(out.logits, dim=1).float()
                    logprobs = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
                    for row, (ids_row, told) in enumerate(zip(tokens.tolist(), logprobs.tolist(), strict=True)):
                        found[part[row // n]].append(Sample(tuple(ids_row), tuple(told), "length", 0))
        self.stats = replace(
            self.stats,
            prompt_tokens=self.stats.prompt_tokens + n * sum(map(len, prompts)),
            generated_tokens=self.stats.generated_tokens + sum(len(s.token_ids) for group in found for s in group),
        )
        return found

    def update_policy(self, policy: str) -> None:
        """It keeps nothing."""

    def reset(self) -> None:
        """It keeps nothing."""
