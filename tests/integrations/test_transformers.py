"""A step on the packed tree equals the step of plain transformers, one sequence at a time: loss, log p, every gradient."""

import functools
from dataclasses import replace

import pytest
import torch
from decoder_runs import (
    FAMILIES,
    Run,
    Sample,
    V,
    assert_step,
    is_trained,
    make_model,
    off_policy,
    pack_samples,
    packed_run,
    plain_logprobs,
    plain_run,
    tries,
    true_run,
)
from hypothesis import given, settings

import himakernels.integrations.transformers as hf
from himakernels import PackedTree, token_logprobs, vrgrpo_loss
from himakernels.testing import assert_gate

DTYPES = (torch.float32, torch.bfloat16)
few = settings(max_examples=12, deadline=None, derandomize=True, database=None)


@functools.cache
def models(family: str, dtype: torch.dtype):
    """(fp64 eager, eager, packed), of the same parameters. Experts are all taken in bf16: a near tie would be a coin's toss."""
    changes = {"num_experts_per_tok": 4} if family == "gpt_oss" and dtype == torch.bfloat16 else {}
    return (
        make_model(family, torch.float64, attention="eager", **changes),
        make_model(family, dtype, attention="eager", **changes),
        make_model(family, dtype, **changes),
    )


def three_runs(family: str, dtype: torch.dtype, samples: list[Sample]) -> tuple[Run, Run, Run]:
    truth, eager, ours = models(family, dtype)
    old, advantages = off_policy(truth, samples)
    batch = samples, old, advantages
    return packed_run(ours, *batch), true_run(truth, *batch), plain_run(eager, *batch)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_random_tries(family: str, dtype: torch.dtype) -> None:
    @few
    @given(tries())
    def check(samples: list[Sample]) -> None:
        assert_step(*three_runs(family, dtype, samples), dtype=dtype)

    check()


def action(prompt: list[int], *tokens: int) -> Sample:
    return Sample([*prompt, *tokens], [False] * len(prompt) + [True] * len(tokens))


PROMPT = list(range(1, 13))
SHAPES = {
    "siblings that leave each other in the action": [
        action(PROMPT, 20, 30, 40, 44, 48),
        action(PROMPT, 20, 30, 41, 45, 49),
        action(PROMPT, 20, 31, 42, 46),
    ],
    "the same sequence three times": [action(PROMPT, 20, 30)] * 3,
    "a sample inside another": [action(PROMPT, 20), action(PROMPT, 20, 30, 40)],
    "prompts that leave each other": [action(PROMPT[:5], 20, 30), action([*PROMPT[:4], 50], 20, 30)],
    "one trained token": [action(PROMPT, 20)],
    "a root and leaves": [action([7], 20), action([7], 30)],
    "no shared token": [action([1, 2, 3], 20), action([4, 5, 6], 20)],
}


@pytest.mark.parametrize("samples", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("family", ["gemma2", "gpt_oss"])
def test_shapes(family: str, samples: list[Sample]) -> None:
    """Each shape by name, on the two families with the most in their attention."""
    assert_step(*three_runs(family, torch.float32, samples), dtype=torch.float32)


def test_thousands_of_branches() -> None:
    """2,000 samples leave one token, whose row has 2,000 gradients."""
    dtype = torch.float32
    size, prompt = 2000, [0, 1, 2]
    samples = [action(prompt, 3 + b, 5 + b) for b in range(size)]
    packed = pack_samples(samples)
    assert packed.num_tokens == len(prompt) + 2 * size
    g = torch.Generator().manual_seed(0)
    batch = samples, torch.randn(5 * size, generator=g) - 8, torch.rand(size, generator=g) + 0.1
    changes = {"num_hidden_layers": 1, "vocab_size": size + 5}
    truth, eager = (make_model("llama", d, attention="eager", **changes) for d in (torch.float64, dtype))
    ours = packed_run(make_model("llama", dtype, **changes), *batch, packed=packed)
    assert_step(ours, true_run(truth, *batch), plain_run(eager, *batch), dtype=dtype, tokens=packed.num_tokens)


def test_the_gradients_of_a_shared_row_are_summed_in_fp32() -> None:
    """A sum in bf16 would stop at 256."""
    hidden = torch.zeros(2, 700, dtype=torch.bfloat16, requires_grad=True)
    hf._Rows.apply(hidden, torch.ones(1000, dtype=torch.int64)).sum().backward()
    assert torch.equal(hidden.grad, torch.tensor([0, 1000], dtype=torch.bfloat16)[:, None].expand(2, 700))


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt_oss"])
def test_gradient_checkpointing_changes_nothing(family: str) -> None:
    model = make_model(family)
    samples = SHAPES["siblings that leave each other in the action"]
    batch = samples, torch.full((len(is_trained(samples)),), -4.0), torch.tensor([1.0, -0.5, 0.7])
    plain = packed_run(model.train(), *batch)
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    checkpointed = packed_run(model, *batch)
    assert torch.equal(plain.loss, checkpointed.loss)
    assert all(torch.equal(g, checkpointed.grads[name]) for name, g in plain.grads.items())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_ratio_is_one(family: str, dtype: torch.dtype) -> None:
    """Log p of tokens that the plain model sampled, from the tree and from the plain run: within the gate of one operation."""
    truth, eager, ours = models(family, dtype)
    g = torch.Generator().manual_seed(3)
    samples = []
    for _ in range(4):
        tokens = list(PROMPT)
        for _ in range(6):
            with torch.no_grad():
                p = eager(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].float().softmax(0)
            tokens.append(int(torch.multinomial(p, 1, generator=g)))
        samples.append(action(PROMPT, *tokens[len(PROMPT) :]))
    with torch.no_grad():
        sampled, true = (plain_logprobs(model, samples)[0] for model in (eager, truth))
        packed = pack_samples(samples)
        hidden = hf.hidden_states(ours, packed)
    logprobs = token_logprobs(hidden, labels=packed.labels, **hf.output_head(ours)._asdict()).logprobs
    old = torch.zeros(len(is_trained(samples)))
    assert len(packed.token_ids) < len(old)
    every = old.index_copy(0, packed.source, logprobs)[is_trained(samples)]
    assert sampled.exp().mean() > 2 / V  # peaked, or nothing would show
    assert_gate("logprobs", every, true, sampled, dtype=dtype)
    loss = vrgrpo_loss(
        hidden,
        labels=packed.labels,
        sample_id=packed.sample_id,
        advantages=torch.ones(4),
        old_logprobs=packed.gather(old.masked_scatter(is_trained(samples), sampled.float())),
        **hf.output_head(ours)._asdict(),
    )
    assert float(loss.metrics.clip_frac_low) == float(loss.metrics.clip_frac_high) == 0


def test_five_policies_on_one_base() -> None:
    """Policies share no token, also where their prompts are the same; with agent_id each has its own normaliser."""
    samples = [action(PROMPT, 20 + i, 30 + i % 2)._replace(policy=p) for p in range(5) for i in range(p + 1)]
    agent_id = torch.tensor([sample.policy for sample in samples])
    truth, eager, ours = models("qwen3", torch.float32)
    batch = (samples, *off_policy(truth, samples))
    packed = pack_samples(samples, num_policies=5)
    tokens = [len(PROMPT) + 2 * (p + 1) for p in range(5)]
    assert packed.segments.diff().tolist() == tokens
    runs = [packed_run(ours, *batch, packed=packed, agent_id=agent_id)]
    runs += [true_run(truth, *batch, agent_id=agent_id), plain_run(eager, *batch, agent_id=agent_id)]
    assert_step(*runs, dtype=torch.float32)


def test_experts_are_the_same() -> None:
    """The router of gpt-oss sends a packed token to the experts that take it in the plain run."""
    _, eager, ours = models("gpt_oss", torch.float32)
    samples = SHAPES["siblings that leave each other in the action"]
    seen: list[torch.Tensor] = []
    handles = [
        layer.mlp.router.register_forward_hook(lambda module, inputs, output: seen.append(output[2].sort().values))
        for model in (eager, ours)
        for layer in model.model.layers
    ]
    packed = pack_samples(samples)
    with torch.no_grad():
        hf.hidden_states(ours, packed)
        tree, seen = seen, []
        for sample, leaf in zip(samples, packed.leaf.tolist(), strict=True):
            plain_logprobs(eager, [sample])
            path = (torch.arange(leaf + 1) < leaf + 1) & (packed.subtree_end[: leaf + 1] > leaf)
            for layer, experts in enumerate(seen[-2:]):
                assert torch.equal(tree[layer][: leaf + 1][path], experts)
    for handle in handles:
        handle.remove()
    assert len({tuple(row) for row in tree[0].tolist()}) > 1


def packed_index_as_position(packed: PackedTree) -> PackedTree:
    return replace(packed, position_ids=torch.arange(len(packed.token_ids), dtype=torch.int32))


def siblings_see_each_other(packed: PackedTree) -> PackedTree:
    return replace(packed, subtree_end=torch.full_like(packed.subtree_end, len(packed.token_ids)))


def the_next_row(packed: PackedTree) -> PackedTree:
    return replace(packed, rows=packed.rows + 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wrong", [packed_index_as_position, siblings_see_each_other, the_next_row])
def test_a_wrong_tree_is_caught(wrong, family: str, dtype: torch.dtype) -> None:
    truth, eager, ours = models(family, dtype)
    samples = SHAPES["siblings that leave each other in the action"]
    batch = (samples, *off_policy(truth, samples))
    others = true_run(truth, *batch), plain_run(eager, *batch)
    assert_step(packed_run(ours, *batch), *others, dtype=dtype)
    bad = packed_run(ours, *batch, packed=wrong(pack_samples(samples)))
    with pytest.raises(AssertionError, match="outside the gate"):
        assert_step(bad, *others, dtype=dtype)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3", "gpt_oss"])
def test_a_window_of_packed_indices_is_caught(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that counts packed tokens, not depths, hides a branch's own prompt from it."""
    truth, eager, ours = models(family, torch.float32)
    samples = SHAPES["siblings that leave each other in the action"]
    batch = (samples, *off_policy(truth, samples))
    attention = hf.tree_attention

    def by_index(q, k, v, subtree_end, *, position_ids, **others):
        return attention(q, k, v, subtree_end, position_ids=torch.arange(len(q), dtype=torch.int32), **others)

    monkeypatch.setattr(hf, "tree_attention", by_index)
    with pytest.raises(AssertionError, match="outside the gate"):
        assert_step(packed_run(ours, *batch), true_run(truth, *batch), plain_run(eager, *batch), dtype=torch.float32)
