"""Tiny random policies, and sequences of theirs that share prompts."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trainer.dialogue import CHATML
from trainer.models import ModelConfig, Policies
from trainer.sequences import TrainSequence

AGENTS = ("master", "qa", "efc", "math")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(special + alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", chat_template=CHATML)


def qwen3(seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Peaked distributions; every weight a bf16 value, so that all dtypes have the same."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": 272,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
    }
    model = Qwen3ForCausalLM(Qwen3Config(**sizes | changes))
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return model


def policies(paradigm: str = "lora", *, agents: tuple[str, ...] = AGENTS, seed: int = 0, **config: Any) -> Policies:
    """Policies over `qwen3`; adapters that are not zero, bf16 values as well."""
    made = ModelConfig(paradigm=paradigm, lora_rank=4, lora_alpha=8, device="cpu", **config)  # type: ignore[arg-type]
    result = Policies.create(made, agents, tokenizer=byte_tokenizer(), models={"tiny": qwen3(seed)}, seed=seed)
    g = torch.Generator().manual_seed(seed)
    if made.adapters:
        with torch.no_grad():
            for policy in result.names:
                for parameter in result.parameters(policy):
                    parameter.copy_((0.2 * torch.randn(parameter.shape, generator=g)).bfloat16())
    return result


def values(result: Policies) -> dict[str, list[torch.Tensor]]:
    """A copy of every policy's parameters."""
    return {name: [p.detach().clone() for p in result.parameters(name)] for name in result.names}


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def sequences(
    of: Policies, agents: tuple[str, ...], *, groups: int = 2, siblings: int = 3, seed: int = 0
) -> list[TrainSequence]:
    """Groups of siblings, prompts of an agent with a common beginning, actions of 1 to 6 tokens, some beginning alike."""
    g = torch.Generator().manual_seed(seed)

    def draw(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, 258, (n,), generator=g).tolist())

    found = []
    for agent in agents:
        system = draw(12)
        for group in range(groups):
            prompt, first = system + draw(5 + group), draw(2)
            for sibling in range(siblings):
                action = (first if sibling % 2 else ()) + draw(1 + sibling)
                logprobs = tuple((-torch.rand(len(action), generator=g) * 5).tolist())
                advantage = float(torch.randn((), generator=g))
                found.append(
                    TrainSequence(of.policy_of[agent], agent, prompt + action, len(prompt), advantage, logprobs, group)
                )
    return found
