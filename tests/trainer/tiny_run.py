"""A run of seconds: two small columns, a network of two layers that is made here, with a tokenizer of words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trainer.agents import Agent
from trainer.config import TrainConfig
from trainer.dialogue import CHATML
from trainer.hima_ecom.dataset.samples import Sample
from trainer.prompts import system_prompt


def create(
    samples: Sequence[Sample], agents: Mapping[str, Agent], seed: int, *, style: Any = "compact"
) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    """What `trainer.tiny.create` gives, smaller."""
    texts = [message["content"] for sample in samples for message in sample.messages]
    texts += [system_prompt(agent, style=style) for agent in agents.values()]
    special = ["<|im_start|>", "<|im_end|>"]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=1500, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", chat_template=CHATML)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
        )
        return tokenizer, Qwen3ForCausalLM(config)


def config(folder: Path, *changes: str) -> TrainConfig:
    """Two steps of two queries, a checkpoint after each."""
    base = [
        f"output_dir={folder}",
        "data.world=small",
        "data.columns=[efc, math]",
        "data.languages=[en]",
        "data.sft_tasks=8",
        "data.rl_tasks=6",
        "data.test_tasks=2",
        "sft.epochs=2",
        "sft.learning_rate=1e-2",
        "sft.batch_tokens=400",
        "sft.warmup_steps=2",
        "model.lora_rank=4",
        "model.device=cpu",
        "sampling.max_new_tokens=24",
        "limits.nodes=4",
        "rl.group_size=3",
        "rl.efficiency=0",
        "learner.learning_rate=1e-2",
        "queries_per_step=2",
        "max_steps=3",
        "save_steps=1",
        "memory.min_window=1",
    ]
    return TrainConfig.load(None, [*base, *changes])
