"""The embedded model: a tokenizer learned from the SFT samples, and a decoder small enough to be trained on a laptop.

Its weights are random, but for attention, which begins as the circuit that copies (induction heads, arXiv 2209.11895): agents
pass on ids, amounts and names, and a network as small as this finds out how only after minutes of training. The heads of the
first layer look back by fixed numbers of tokens; those of the last look for tokens that stand behind one like the present one,
and say them again. Setting weights to what training would make of them: mimetic initialisation, arXiv 2305.09828.

tokenizer, model = create(read_samples("sft.jsonl"), hima_ecom_agents(), seed=0)
policies = Policies.create(ModelConfig(name="tiny"), agents, tokenizer=tokenizer, models={"tiny": model})
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as algorithms
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trainer.agents import Agent
from trainer.hima_ecom.dataset.samples import Sample
from trainer.prompts import Style, system_prompt

NAME = "tiny"
PAD, END = "<|pad|>", "<|end|>"
_ROLES = ("system", "user", "assistant")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """How large the embedded model is: a Qwen3 with tied embeddings."""

    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 384
    layers: int = 2
    heads: int = 4  # of attention; keys and values have as many
    look_back: tuple[int, ...] = (1, 2, 3, 4)  # tokens, for each head of the first layer; the first copies
    positions: int = 4096
    rope_theta: float = 1e6

    def __post_init__(self) -> None:
        if self.layers < 2:
            raise ValueError(f"layers: expected at least 2, one that looks back and one that copies, got {self.layers}")
        if self.heads < 3 or self.hidden_size % (2 * self.heads):
            expected = f"at least 3 that divide hidden_size = {self.hidden_size} into even parts"
            raise ValueError(f"heads: expected {expected}, got {self.heads}")
        if len(self.look_back) != self.heads or self.look_back[0] != 1:
            raise ValueError(f"look_back: expected 1 and then {self.heads - 1} more distances, got {self.look_back}")


def create(
    samples: Sequence[Sample],
    agents: Mapping[str, Agent],
    seed: int,
    *,
    style: Style = "brief",
    config: TinyConfig | None = None,
) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    """A tokenizer that has seen the samples' texts and the agents' system prompts, and a Qwen3 with random weights.

    Digits are tokens of their own: numbers that never stood in a sample are spelled with the same ten. The same samples and
    seed give the same model. Raises: ValueError for no samples.
    """
    if not samples:
        raise ValueError("samples: expected at least one to learn a tokenizer from, got none")
    config = config or TinyConfig()
    tokenizer = _tokenizer(samples, agents, style, config.vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                head_dim=config.hidden_size // config.heads,
                max_position_embeddings=config.positions,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                tie_word_embeddings=True,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
            )
        )
        induction_heads(model, config.look_back)
    return tokenizer, model


@torch.no_grad()
def induction_heads(model: Qwen3ForCausalLM, look_back: Sequence[int]) -> None:
    """Sets the attention of the first and the last layer of a Qwen3 so that what stood once is said again.

    Every token's embedding gets a common part, c. Queries and keys of the first layer are made of c alone, so that the scores
    of a head depend on the distance: sum_f a_f cos(theta_f (distance - look_back)), over the fastest rotary frequencies
    theta_f. The first head carries a part of the embeddings, `reads`, of the token that it sees into another part of the
    stream, `writes`. The last layer's queries read the one, its keys the other, over the slow frequencies, that is at any
    distance; its values say again the token that they find.
    """
    config: Any = model.config
    width, size, std = config.hidden_size, config.head_dim, config.initializer_range
    first, last = model.model.layers[0].self_attn, model.model.layers[-1].self_attn
    common = torch.randint(0, 2, (width,)).float() * 2 - 1
    blind = torch.eye(width) - torch.outer(common, common) / width  # projects c away
    basis = torch.linalg.qr(torch.cat([common[:, None], torch.randn(width, width - 1)], 1)).Q[:, 1:]
    reads, writes = basis[:, :size], basis[:, size : 2 * size]

    def near(heads: torch.Tensor) -> torch.Tensor:
        return heads + 0.005 * torch.randn_like(heads)

    embedding = model.model.embed_tokens.weight
    embedding.copy_(embedding @ blind + std * common)
    speeds = config.rope_parameters["rope_theta"] ** (-torch.arange(0, size, 2) / size)
    amplitudes = torch.zeros(size // 2)
    amplitudes[:4] = torch.tensor([8.0, 6.0, 4.0, 2.0])
    slow = (speeds < 0.02).float().repeat(2)
    say = torch.linalg.qr(torch.randn(width, width)).Q @ blind
    for head, distance in enumerate(look_back):
        rows = slice(head * size, (head + 1) * size)
        for projection, angle in ((first.q_proj, -distance * speeds), (first.k_proj, 0 * speeds)):
            pairs = torch.cat([amplitudes.sqrt() * angle.cos(), amplitudes.sqrt() * angle.sin()])
            projection.weight[rows] = near(torch.outer(pairs / pairs.square().mean().sqrt(), common) / width)
        seen, told = (reads, 4.0 * writes) if head == 0 else (_orthonormal(blind, size), 0.3 * _orthonormal(blind, size))
        first.v_proj.weight[rows], first.o_proj.weight[:, rows] = seen.T, std * told
        last.q_proj.weight[rows], last.k_proj.weight[rows] = near(reads.T * slow[:, None]), near(writes.T * slow[:, None])
        last.v_proj.weight[rows], last.o_proj.weight[:, rows] = say[rows], 3.0 * std * say[rows].T
    for layer in model.model.layers[1:-1]:  # what lies between adds nothing yet
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    for attention, score in ((first, float(amplitudes.sum())), (last, 20.0)):  # the largest scores that the norms allow
        for norm in (attention.q_norm, attention.k_norm):
            norm.weight.fill_((score / size**0.5) ** 0.5)


def _orthonormal(blind: torch.Tensor, columns: int) -> torch.Tensor:
    """[width, columns], blind for c."""
    found: torch.Tensor = torch.linalg.qr(blind @ torch.randn(len(blind), columns)).Q
    return found


def _tokenizer(
    samples: Sequence[Sample], agents: Mapping[str, Agent], style: Style, vocab_size: int
) -> PreTrainedTokenizerFast:
    def texts() -> Iterator[str]:
        yield from (system_prompt(agent, style=style) for agent in agents.values())
        yield from (message["content"] for sample in samples for message in sample.messages)

    tokenizer = Tokenizer(algorithms.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    marks = [f"<|{role}|>" for role in _ROLES]
    learning = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END, *marks],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), learning)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=marks,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
