"""Small random decoders, policies over them, and what plain transformers makes of the same requests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import count
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

import himakernels.integrations.transformers as hf
from trainer.engine.local import LocalConfig, LocalEngine

V, POSITIONS, WINDOW = 97, 96, 5
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.3,  # so that distributions are peaked, and greedy choices far from ties
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
# Embeddings are the head's weights too, and scaled up: with larger ones a model repeats its last token.
GEMMA = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
    "initializer_range": 0.08,
    "tie_word_embeddings": False,
}
FAMILIES: dict[str, tuple[PreTrainedConfig, str]] = {
    "qwen3": (Qwen3Config(**SIZES, tie_word_embeddings=True), "sdpa"),
    "llama": (LlamaConfig(**SIZES), "sdpa"),
    "mistral": (MistralConfig(**SIZES, sliding_window=WINDOW), "sdpa"),  # one window, one mask
    "gemma3": (Gemma3TextConfig(**SIZES | GEMMA), "sdpa"),  # two kinds of layers, a mask for each
    "gemma2": (Gemma2Config(**SIZES | GEMMA), "eager"),  # softcaps, which SDPA has not
}


def tiny(family: str = "qwen3", seed: int = 0) -> PreTrainedModel:
    config, attention = FAMILIES[family]
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(deepcopy(config), attn_implementation=attention)
    return model.eval()


class Base:
    """One network for one policy, which is a plain model outside of steps."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @contextmanager
    def decoding(self) -> Iterator[PreTrainedModel]:
        plain = self.model.config._attn_implementation
        self.model.set_attn_implementation(hf.ATTENTION)
        try:
            with torch.no_grad():
                yield self.model
        finally:
            self.model.set_attn_implementation(plain)


class Policies:
    """{policy: model}."""

    def __init__(self, **models: PreTrainedModel) -> None:
        self.bases = {name: Base(model) for name, model in models.items()}
        self.versions = dict.fromkeys(models, 0)
        self._ids = dict(zip(models, count(1), strict=False))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.bases)

    def base_of(self, policy: str) -> Base:
        return self.bases[policy]

    def weights_id(self, policy: str) -> int:
        return self._ids[policy]

    def renew_weights_id(self, policy: str) -> None:
        self._ids[policy] = max(self._ids.values()) + 1


def one(model: PreTrainedModel | None = None, **options: Any) -> tuple[LocalEngine, Base]:
    """An engine with the one policy "qa"."""
    policies = Policies(qa=tiny() if model is None else model)
    return LocalEngine(policies, LocalConfig(**options)), policies.bases["qa"]


def prompts(*lengths: int, seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(V, (length,), generator=generator).tolist() for length in lengths]


def logprobs_of(model: PreTrainedModel, prompt: Sequence[int], token_ids: Sequence[int], temperature: float) -> torch.Tensor:
    """log softmax(logits / temperature) of `token_ids` after `prompt`: one plain forward of the whole sequence."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *token_ids]])).logits[0, len(prompt) - 1 : -1]
    # A softcap is part of the logits; the engine's scores are fp32.
    scores = logits.log_softmax(-1) if temperature == 1 else (logits / temperature).log_softmax(-1)
    return scores.gather(-1, torch.tensor(token_ids)[:, None])[:, 0]
