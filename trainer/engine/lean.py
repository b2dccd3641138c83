"""Llama-like decoders without what transformers does around them: the same parameters, a few operations a layer.

A step of a small network is dispatch more than arithmetic. Where a network is small, what is multiplied with the same input is
one matrix here, and an adapter is added to it; these copies belong to one generation of a policy's weights. Otherwise the
parameters themselves are used, and adapters go through transformers' layers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from himakernels import paged_attention
from himakernels.integrations.transformers_models import max_positions, output_head
from himakernels.integrations.transformers_paged import PagedStep

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
SMALL = 1 << 23  # parameters of all layers of a network that is copied for each policy
_LEAST_ROWS = 8  # a product of fewer rows has other bits
Pair = tuple[torch.Tensor, torch.Tensor | None]  # [out, in] and a bias


class Layer(NamedTuple):
    """What a layer multiplies with: one matrix or several, side by side in the output."""

    qkv: list[Pair]
    o: list[Pair]
    gate_up: list[Pair]
    down: list[Pair]


def is_lean(model: Any, adapters: bool) -> bool:
    """Whether a causal language model (without PEFT around it) can run here."""
    config = model.config
    known = type(model).__name__ in FAMILIES and getattr(config, "hidden_act", None) == "silu"
    weight = model.get_input_embeddings().weight
    if not known or weight.dtype != torch.float32 or getattr(config, "attention_sinks", None):
        return False
    return not adapters or is_small(model)


def is_small(model: Any) -> bool:
    """Whether its layers may be copied for each policy."""
    numbers: list[int] = [p.numel() for name, p in model.model.layers.named_parameters() if ".lora_" not in name]
    return sum(numbers) <= SMALL


class LeanDecoder:
    """`step` is a forward of packed sequences; policies are adapters' names, or one name for a network without adapters."""

    def __init__(self, model: Any, names: Sequence[str], adapters: bool) -> None:
        self.model, self.names, self.adapters = model, tuple(names), adapters
        config = model.config
        self.copies = adapters or is_small(model)
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.head = output_head(model)
        self.blocks = list(model.model.layers)
        every = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
        window = [getattr(block.self_attn, "sliding_window", every) for block in self.blocks]
        self.windows: list[int | None] = [int(w) if w else None for w in window]
        self._weights: dict[int, tuple[int, list[Layer]]] = {}  # of a policy: (its generation, its layers)
        self._turns = torch.empty(0), torch.empty(0)  # of the rotary embedding: cos and sin of all positions so far

    def forget(self) -> None:
        """Copies of weights are made anew."""
        self._weights.clear()

    def step(
        self,
        step: PagedStep,
        token_ids: torch.Tensor,
        parts: Sequence[tuple[int, int, int]],
        generations: Sequence[int],
        wanted: torch.Tensor,
    ) -> torch.Tensor:
        """The logits [W, V] behind the tokens `wanted` [W].

        Args:
            parts: (policy, begin, end) of the tokens [T], ascending.
            generations: of the policies: another number for other weights.
        """
        layers = {policy: self._of(policy, generations[policy]) for policy, _, _ in parts}
        heads, kv, D = self.heads, self.kv_heads, self.head_dim
        hidden: torch.Tensor = functional.embedding(token_ids, self.model.model.embed_tokens.weight)
        T = len(token_ids)
        cos, sin = self._rope(step.position_ids, step.longest)
        for i, block in enumerate(self.blocks):
            attention = block.self_attn
            x = functional.rms_norm(hidden, hidden.shape[-1:], block.input_layernorm.weight, self.eps)
            qkv = _multiply(x, [(layers[p][i].qkv, b, e) for p, b, e in parts]).view(T, heads + 2 * kv, D)
            q, k = qkv[:, :heads], qkv[:, heads : heads + kv]
            if hasattr(attention, "q_norm"):
                q = functional.rms_norm(q, (D,), attention.q_norm.weight, self.eps)
                k = functional.rms_norm(k, (D,), attention.k_norm.weight, self.eps)
            qk = torch.cat([q, k], 1)
            qk = torch.addcmul(qk * cos, qk.roll(D // 2, -1), sin)
            keys, values = step.pool.write(i, step.slots, qk[:, heads:], qkv[:, heads + kv :])
            y = paged_attention(
                qk[:, :heads], keys, values, step.block_table, step.cu_seqlens, step.seq_lens,
                scale=attention.scaling, window=self.windows[i],
            )  # fmt: skip
            hidden = hidden + _multiply(y.view(T, -1), [(layers[p][i].o, b, e) for p, b, e in parts])
            x = functional.rms_norm(hidden, hidden.shape[-1:], block.post_attention_layernorm.weight, self.eps)
            x = _multiply(x, [(layers[p][i].gate_up, b, e) for p, b, e in parts])
            half = x.shape[1] // 2
            x = functional.silu(x[:, :half]) * x[:, half:]
            hidden = hidden + _multiply(x, [(layers[p][i].down, b, e) for p, b, e in parts])
        x = functional.rms_norm(hidden[wanted], hidden.shape[-1:], self.model.model.norm.weight, self.eps)
        return _product(x, self.head.weight, self.head.bias)

    def _rope(self, positions: torch.Tensor, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin [T, 1, D] of `positions`, which are below `longest`, as `x cos + roll(x) sin` wants them."""
        if longest > len(self._turns[0]):
            most = max_positions(self.model.config) or 2 * longest
            at = torch.arange(max(longest, min(2 * longest, most)), device=positions.device)
            cos, sin = self.model.model.rotary_emb(self.model.model.embed_tokens.weight[:1], at[None])
            sign = torch.ones_like(sin[0, 0])
            sign[: self.head_dim // 2] = -1
            self._turns = cos[0][:, None], (sin[0] * sign)[:, None]
        cos, sin = self._turns
        return cos[positions], sin[positions]

    def _of(self, policy: int, generation: int) -> list[Layer]:
        """The weights of a policy."""
        known = self._weights.get(policy)
        if known is None or known[0] != generation:
            name = self.names[policy] if self.adapters else None
            known = self._weights[policy] = generation, [self._layer(block, name) for block in self.blocks]
        return known[1]

    def _layer(self, block: Any, adapter: str | None) -> Layer:
        attention, mlp = block.self_attn, block.mlp
        parts = (
            (attention.q_proj, attention.k_proj, attention.v_proj),
            (attention.o_proj,),
            (mlp.gate_proj, mlp.up_proj),
            (mlp.down_proj,),
        )
        return Layer(*(self._matrices([_matrix(layer, adapter) for layer in layers]) for layers in parts))

    def _matrices(self, pairs: list[Pair]) -> list[Pair]:
        if not self.copies or len(pairs) == 1:
            return pairs
        biases = [torch.zeros(len(w), dtype=w.dtype, device=w.device) if b is None else b for w, b in pairs]
        bias = None if all(b is None for _, b in pairs) else torch.cat(biases)
        return [(torch.cat([w for w, _ in pairs]), bias)]


def _matrix(layer: Any, adapter: str | None) -> Pair:
    """The weight of a linear layer, with the adapter added."""
    base = getattr(layer, "base_layer", layer)
    if adapter is None or layer is base or adapter not in layer.lora_A:
        return base.weight, base.bias
    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return torch.addmm(base.weight, b, a, alpha=layer.scaling[adapter]), base.bias


def _multiply(x: torch.Tensor, parts: list[tuple[list[Pair], int, int]]) -> torch.Tensor:
    """Each part of x [T, in] with its own matrices: [T, out]."""
    if len(parts) == 1:
        found = [_product(x, weight, bias) for weight, bias in parts[0][0]]
        return found[0] if len(found) == 1 else torch.cat(found, 1)
    out = x.new_empty(len(x), sum(len(weight) for weight, _ in parts[0][0]))
    for pairs, begin, end in parts:
        at = 0
        for weight, bias in pairs:
            out[begin:end, at : at + len(weight)] = _product(x[begin:end], weight, bias)
            at += len(weight)
    return out


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if len(x) < _LEAST_ROWS:
        return functional.linear(functional.pad(x, (0, 0, 0, _LEAST_ROWS - len(x))), weight, bias)[: len(x)]
    return functional.linear(x, weight, bias)
