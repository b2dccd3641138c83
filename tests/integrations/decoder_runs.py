"""Small random decoders, random tries, and the two ways to train on them: the packed tree, and one sequence at a time."""

import copy
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

import himakernels.integrations.transformers as hf
from himakernels import PackedTree, PolicyOptions, pack, vrgrpo_loss, vrgrpo_loss_reference
from himakernels.ops.token_logprobs.reference import token_logprobs_reference
from himakernels.testing import assert_gate

V = 61
WINDOW = 4  # shorter than the sequences
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "attention_dropout": 0.0,
}
SLIDING_AND_FULL = ["sliding_attention", "full_attention"]
FAMILIES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),  # biases of q, k and v
    "qwen3": Qwen3Config(**SIZES, tie_word_embeddings=True),  # norms of q and k
    "mistral": MistralConfig(**SIZES, sliding_window=WINDOW),
    "gemma2": Gemma2Config(  # softcaps of scores and of logits, a scale of its own
        **SIZES,
        sliding_window=WINDOW,
        layer_types=SLIDING_AND_FULL,
        query_pre_attn_scalar=9,
        attn_logit_softcapping=3.0,
        final_logit_softcapping=5.0,
    ),
    "gemma3": Gemma3TextConfig(**SIZES, sliding_window=WINDOW, layer_types=SLIDING_AND_FULL, query_pre_attn_scalar=9),
    "gpt_oss": GptOssConfig(  # sinks, experts
        **SIZES, sliding_window=WINDOW, layer_types=SLIDING_AND_FULL, num_local_experts=4, num_experts_per_tok=2
    ),
}
# Roundings to bf16 on the way through a layer, forward: Llama's makes 19 (two norms 4, projection, rotation 3, score and its
# scale 2, probability, value, projection, residual, two of the MLP's projections, activation 2, product, residual), Gemma 2's
# 31 with its four norms and its softcap, gpt-oss's 42 with biases, router and experts.
FORWARD = 2 * 42


class Sample(NamedTuple):
    """A token sequence; `trained` says which of its tokens (never the first) the policy sampled."""

    tokens: list[int]
    trained: list[bool]
    policy: int = 0


class Run(NamedTuple):
    """What a training step gives: the loss, log p of each trained token (sample by sample), each parameter's gradient."""

    loss: torch.Tensor
    logprobs: torch.Tensor
    grads: dict[str, torch.Tensor]


def make_model(
    family: str, dtype: torch.dtype = torch.float32, *, attention: str = hf.ATTENTION, seed: int = 0, **changes: Any
) -> PreTrainedModel:
    """A random model whose predictions are peaked; the same (bf16) values of its parameters in every dtype."""
    config = copy.deepcopy(FAMILIES[family])
    config.update(changes)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention, experts_implementation="eager")
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            x = torch.randn(parameter.shape, generator=g)
            if name.endswith("norm.weight"):
                x = parameter.float() + 0.1 * x
            elif parameter.dim() == 1:
                x = 0.3 * x
            elif "experts" in name or "router" in name:
                x = 0.5 * x / parameter.shape[1] ** 0.5
            elif "embed_tokens" in name or "lm_head" in name:
                x = 0.3 * x
            else:
                x = x / parameter.shape[-1] ** 0.5
            parameter.copy_(x.bfloat16())
    return model


class _AllDouble(TorchFunctionMode):
    """fp64 wherever the code of a model asks for fp32: in its norms, its softmax, its rotary embedding."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = [torch.float64 if a is torch.float32 else a for a in args]
        kwargs = {k: torch.float64 if a is torch.float32 else a for k, a in (kwargs or {}).items()}
        return func(*args, **kwargs)


def _finish(model: PreTrainedModel, loss: torch.Tensor, logprobs: torch.Tensor) -> Run:
    model.zero_grad(set_to_none=True)
    loss.backward()
    grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    return Run(loss.detach(), logprobs.detach(), grads)


def plain_logprobs(model: PreTrainedModel, samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """(log p, entropy) of the trained tokens, from the logits of one sequence at a time.

    Thousands of samples run 500 at a time: they must have the same lengths and train the same tokens.
    """
    size = 1 if len(samples) < 1000 else 500
    found = []
    for batch in (samples[i : i + size] for i in range(0, len(samples), size)):
        assert len({tuple(sample.trained) for sample in batch}) == 1
        at = torch.tensor([i for i, trained in enumerate(batch[0].trained) if trained], dtype=torch.int64)
        ids = torch.tensor([sample.tokens for sample in batch])
        logits = model(input_ids=ids, use_cache=False).logits[:, at - 1].flatten(0, 1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        found.append(token_logprobs_reference(logits, ids[:, at].flatten()))
    logprobs, entropy = zip(*found, strict=True)
    return torch.cat(logprobs), torch.cat(entropy)


def pack_samples(samples: list[Sample], **arguments: Any) -> PackedTree:
    """One micro-batch, a sample for each sequence."""
    (packed,) = pack(
        [sample.tokens for sample in samples],
        trained=[sample.trained for sample in samples],
        sample_id=list(range(len(samples))),
        policy_id=[sample.policy for sample in samples],
        **arguments,
    )
    return packed


def is_trained(samples: list[Sample]) -> torch.Tensor:
    """[sum of lengths] bool."""
    return torch.tensor([trained for sample in samples for trained in sample.trained])


def plain_run(model: PreTrainedModel, samples: list[Sample], old: torch.Tensor, advantages: torch.Tensor, **loss: Any) -> Run:
    """The step as plain transformers takes it: eager attention, logits, autograd on the formula. `old` [sum of lengths]."""
    logprobs, entropy = plain_logprobs(model, samples)
    counts = torch.tensor([sum(sample.trained) for sample in samples])
    value = vrgrpo_loss_reference(
        logprobs,
        entropy,
        sample_id=torch.arange(len(samples)).repeat_interleave(counts),
        options=PolicyOptions(),
        advantages=advantages,
        old_logprobs=old[is_trained(samples)],
        **loss,
    )
    return _finish(model, value, logprobs)


def true_run(model: PreTrainedModel, *batch: Any, **loss: Any) -> Run:
    """`plain_run` of a model in fp64, all of it."""
    with _AllDouble():
        return plain_run(model, *batch, **loss)


def packed_run(
    model: PreTrainedModel,
    samples: list[Sample],
    old: torch.Tensor,
    advantages: torch.Tensor,
    *,
    packed: PackedTree | None = None,
    **loss: Any,
) -> Run:
    """The step on the packed forest; `logprobs` come back in the samples' order."""
    packed = pack_samples(samples) if packed is None else packed
    value, logprobs, _ = vrgrpo_loss(
        hf.hidden_states(model, packed),
        labels=packed.labels,
        sample_id=packed.sample_id,
        advantages=advantages,
        old_logprobs=packed.gather(old),
        **hf.output_head(model)._asdict(),
        **loss,
    )
    every = logprobs.new_zeros(len(old)).index_copy_(0, packed.source, logprobs)
    return _finish(model, value, every[is_trained(samples)])


def off_policy(truth: PreTrainedModel, samples: list[Sample], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(old_logprobs [sum of lengths], advantages [S]): ratios well inside and well outside the clip range, both signs.

    Samples that share most of their tokens do not cancel each other: then a gradient would be a small difference of large
    ones, and its rounding, for either way to compute it, of no fixed size.
    """
    g = torch.Generator().manual_seed(seed)
    trained = is_trained(samples)
    with torch.no_grad(), _AllDouble():
        logprobs = plain_logprobs(truth, samples)[0]
    drift = torch.tensor([-0.8, -0.02, 0.01, 0.03, 0.8])[torch.randint(5, logprobs.shape, generator=g)]
    old = torch.zeros(len(trained)).masked_scatter(trained, logprobs.float() - drift)
    return old, torch.tensor([1.0, 0.7, -0.3])[torch.randint(3, (len(samples),), generator=g)]


def assert_step(ours: Run, truth: Run, eager: Run, *, dtype: torch.dtype, tokens: int = 2 * V) -> None:
    """The gate on loss, log-probabilities and each parameter's gradient; in bf16, where that is weak, all gradients as one
    vector are also at most twice as far from the truth as eager's, and two roundings more: a few per cent.

    The gradient of a query that sees one key is 0 in exact arithmetic, and otherwise a difference of rounded terms as large
    as gradients are elsewhere in the model: that is the least scale. A weight's gradient has `tokens` terms, or more, each of
    them a sum over the hidden size, or over the vocabulary.
    """
    narrow = dtype != torch.float32
    n = tokens * SIZES["hidden_size"]
    assert_gate("logprobs", ours.logprobs, truth.logprobs, eager.logprobs, dtype=dtype, n=SIZES["hidden_size"])
    losses = (run.loss.reshape(1) for run in (ours, truth, eager))
    assert_gate("loss", *losses, dtype=dtype, n=n, roundings=FORWARD if narrow else 1)
    scale = float(torch.cat([g.flatten() for g in truth.grads.values()]).square().mean().sqrt())
    for name, grad in ours.grads.items():
        # Backward, each operation has two products for one.
        roundings = 3 * FORWARD if narrow else 1
        assert_gate(f"d{name}", grad, truth.grads[name], eager.grads[name], dtype=dtype, n=n, roundings=roundings, scale=scale)
    whole = [torch.cat([run.grads[name].double().flatten() for name in truth.grads]) for run in (ours, truth, eager)]
    size, mine, other = (float(x.norm()) for x in (whole[1], whole[0] - whole[1], whole[2] - whole[1]))
    assert not narrow or mine <= 2 * other + 2 * torch.finfo(dtype).eps * size, (mine / size, other / size)


@st.composite
def tries(draw: st.DrawFn) -> list[Sample]:
    """Samples that leave earlier ones anywhere: in the prompt, in the action, at the end (duplicates), in the first token.

    Four tokens are possible at a depth, and not the same four at the next: a path whose tokens are all the same has the same
    values everywhere, and gradients of queries and keys that are exactly zero.
    """
    choice = st.integers(0, 3)
    samples: list[Sample] = []
    for _ in range(draw(st.integers(1, 5))):
        tokens: list[int] = []
        if samples:
            earlier = draw(st.sampled_from(samples)).tokens
            tokens = earlier[: draw(st.integers(0, len(earlier)))]
        more = draw(st.lists(choice, min_size=max(2 - len(tokens), 0), max_size=9))
        tokens = tokens + [(4 * (len(tokens) + i) + c) % V for i, c in enumerate(more)]
        start = draw(st.integers(1, len(tokens) - 1))
        skipped = draw(st.integers(0, len(tokens)))
        samples.append(Sample(tokens, [i >= start and i != skipped for i in range(len(tokens))]))
    if not any(any(sample.trained) for sample in samples):
        samples[0].trained[-1] = True
    return samples
