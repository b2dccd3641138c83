"""Random decoders of families that vLLM runs on a CPU (heads of 32 at least), as policies, and the gate on their samples."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from engines import logprobs_of
from tiny_policies import byte_tokenizer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from himakernels.testing import assert_gate
from trainer.engine.vllm import VLLMEngine
from trainer.engine.vllm_network import VLLMConfig
from trainer.models import ModelConfig, Policies
from trainer.types import Sample

V, POSITIONS, WINDOW = 272, 160, 48
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.3,  # so that distributions are peaked, and greedy choices far from ties
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
WINDOWS: dict[str, Any] = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
GEMMA: dict[str, Any] = WINDOWS | {"initializer_range": 0.08, "query_pre_attn_scalar": 32}
FAMILIES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    # Without a head_dim of its own; a wider network with weights as large would have scores that magnify every rounding.
    "qwen2": Qwen2Config(**{k: SIZES[k] for k in SIZES if k != "head_dim"} | {"hidden_size": 128, "initializer_range": 0.2}),
    "qwen3": Qwen3Config(**SIZES),
    "qwen3-tied": Qwen3Config(**SIZES, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, sliding_window=WINDOW),
    "gemma2": Gemma2Config(**SIZES | GEMMA),  # softcaps, two kinds of layers
    "gemma3": Gemma3TextConfig(**SIZES | GEMMA),
}


def model_of(family: str, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    eager = "eager" if family == "gemma2" else "sdpa"
    model: PreTrainedModel = AutoModelForCausalLM.from_config(deepcopy(FAMILIES[family]), attn_implementation=eager)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # Qwen2's begin as zeros
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def policies_of(family: str, paradigm: str = "full", agents: Sequence[str] = ("qa",), **config: Any) -> Policies:
    """Adapters are random as well."""
    made = ModelConfig(paradigm=paradigm, lora_rank=4, lora_alpha=8, device="cpu", **config)  # type: ignore[arg-type]
    policies = Policies.create(made, agents, tokenizer=byte_tokenizer(), models={"tiny": model_of(family)})
    if made.adapters:
        for policy in policies.names:
            change(policies, policy, 0.2)
    return policies


@torch.no_grad()
def change(policies: Policies, policy: str, by: float = 0.02) -> None:
    """An update, without a learner."""
    for parameter in policies.parameters(policy):
        parameter.add_(by * torch.randn(parameter.shape))
    policies.base_of(policy).publish()


def engine_of(policies: Policies, **config: Any) -> VLLMEngine:
    return VLLMEngine(policies, VLLMConfig(**{"kv_cache_gib": 0.05, **config}))


def prompts(*lengths: int, seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(V, (length,), generator=generator).tolist() for length in lengths]


def judge(
    policies: Policies,
    names: Sequence[str],
    asked: Sequence[Sequence[int]],
    samples: Sequence[Sequence[Sample]],
    temperature: float = 1.0,
) -> None:
    """The gate on all log-probabilities: as near to fp64 as the trainer's own plain fp32 forward, but for what two layers round
    elsewhere (a dozen operations each)."""
    ours, truth, eager = [], [], []
    for name, prompt, group in zip(names, asked, samples, strict=True):
        with policies.base_of(name).generating(name) as model:
            double = deepcopy(model).double()
            for sample in group:
                ours.append(torch.tensor(sample.rollout_logprobs))
                truth.append(logprobs_of(double, prompt, sample.token_ids, temperature))
                eager.append(logprobs_of(model, prompt, sample.token_ids, temperature))
    assert_gate("rollout_logprobs", torch.cat(ours), torch.cat(truth), torch.cat(eager), dtype=torch.float32, n=V, roundings=24)
