"""Sequences that grow through a pool of blocks: what plain transformers makes of each alone, cached, shared, forked or not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from decoder_runs import FAMILIES, Sample, V, _AllDouble, make_model, plain_logprobs
from test_transformers_peft import RANKS, adapted

import himakernels.integrations.transformers as hf
import himakernels.integrations.transformers_paged as paged
from himakernels import pack, token_logprobs
from himakernels.integrations.peft import packed_adapters
from himakernels.ops.token_logprobs.reference import token_logprobs_reference
from himakernels.prefix_cache import PrefixCache
from himakernels.testing import assert_gate

FIRST = [(7 * i + 3) % V for i in range(21)]
SECOND = [*FIRST[:13], 5, 8, 13, 21, 34]


@dataclass(eq=False)
class Growing:
    """A sequence: its tokens, how many of them are computed, its blocks, and log p of those it has sampled."""

    tokens: list[int]
    computed: int
    table: list[int]
    node: int
    start: int
    logprobs: list[torch.Tensor] = field(default_factory=list)


class Greedy:
    """The least engine that there is: all sequences in one step, the likeliest token each."""

    def __init__(self, model: Any, block_size: int, blocks: int = 64) -> None:
        self.model = model
        self.cache = PrefixCache(blocks, block_size)
        self.pool = paged.kv_pool(model, num_blocks=blocks, block_size=block_size)
        self.hits = 0

    def start(self, prompt: list[int]) -> Growing:
        """The blocks of the prompt are in the tree before they are computed: who comes next in this step shares whole ones."""
        size = self.cache.block_size
        found = self.cache.match("qa", 0, prompt[:-1])
        known = found.num_cached_tokens
        begin = known // size * size
        self.hits += begin
        table = found.block_ids[: begin // size].tolist()
        table += self.cache.allocate(-(-len(prompt) // size) - len(table)).tolist()
        node = self.cache.insert(found.node, prompt[known:], table[begin // size :]).node
        return Growing(list(prompt), begin, table, node, len(prompt))

    def fork(self, sequence: Growing, n: int) -> list[Growing]:
        """Siblings of a prompt that is computed up to its last token."""
        copies = self.cache.fork(sequence.node, n)
        self.pool.copy(copies)
        tables = [list(sequence.table) for _ in range(n)]
        for table, target in zip(tables, copies.targets.tolist(), strict=False):
            table[-1] = target
        done = len(sequence.tokens) - 1
        return [Growing(list(sequence.tokens), done, table, sequence.node, sequence.start) for table in tables]

    def step(self, sequences: Sequence[Growing], sample: bool = True) -> None:
        size = self.cache.block_size
        for s in sequences:
            s.table += self.cache.allocate(-(-len(s.tokens) // size) - len(s.table)).tolist()
        table = np.full((len(sequences), max(len(s.table) for s in sequences)), -1, np.int32)
        for row, s in zip(table, sequences, strict=True):
            row[: len(s.table)] = s.table
        cached = [s.computed for s in sequences]
        counts = [len(s.tokens) - s.computed for s in sequences]
        ids = torch.tensor([t for s in sequences for t in s.tokens[s.computed :]])
        with torch.no_grad():
            logits = paged.logits(self.model, paged.PagedStep.of(self.pool, table, cached, counts), ids)
        for s, row in zip(sequences, logits, strict=True):
            s.computed = len(s.tokens)
            if sample:
                s.tokens.append(int(row.argmax()))
                s.logprobs.append(token_logprobs_reference(row[None].float(), torch.tensor(s.tokens[-1:]))[0][0])


def scenario(model: Any, block_size: int) -> tuple[list[Growing], Greedy]:
    """Two prompts that begin alike in one step; a third, and two siblings of a fourth, join while they decode."""
    engine = Greedy(model, block_size)
    running = [engine.start(FIRST), engine.start(SECOND)]
    for _ in range(3):
        engine.step(running)
    late = engine.start([*FIRST, 1, 2])
    running.append(late)
    engine.step(running)
    prompt = engine.start([*SECOND, 9])
    engine.step([*running, prompt])
    prompt.tokens.pop()
    siblings = engine.fork(prompt, 2)
    siblings[1].tokens[-1] = prompt.tokens[-1]
    running += siblings
    for _ in range(4):
        engine.step(running)
    return running, engine


def judge(family: str, dtype: torch.dtype, sequences: list[Growing]) -> None:
    changes = {"num_experts_per_tok": 4} if family == "gpt_oss" and dtype == torch.bfloat16 else {}
    truth, eager = (make_model(family, d, attention="eager", **changes).eval() for d in (torch.float64, dtype))
    for s in sequences:
        sample = Sample(s.tokens, [i >= s.start for i in range(len(s.tokens))])
        with torch.no_grad():
            plain = plain_logprobs(eager, [sample])[0]
            with _AllDouble():
                true = plain_logprobs(truth, [sample])[0]
                if dtype == torch.float32:
                    logits = truth(input_ids=torch.tensor([s.tokens]), use_cache=False).logits[0]
                    assert s.tokens[s.start :] == logits[s.start - 1 : -1].argmax(-1).tolist()
        assert_gate("logprobs", torch.stack(s.logprobs), true, plain, dtype=dtype, n=V)  # a sum over the vocabulary


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_generated_is_what_each_alone_would_be(family: str, dtype: torch.dtype) -> None:
    changes = {"num_experts_per_tok": 4} if family == "gpt_oss" and dtype == torch.bfloat16 else {}
    model = make_model(family, dtype, **changes).eval()
    sequences, engine = scenario(model, 4)
    judge(family, dtype, sequences)
    assert engine.hits == 12 + 20 + 16  # of the second prompt, of the third, of the fourth: in whole blocks
    engine.cache.check_integrity()


@pytest.mark.parametrize(("block_size", "hits"), [(1, 13 + 21 + 18), (16, 0 + 16 + 16)])
def test_any_block_size(block_size: int, hits: int) -> None:
    sequences, engine = scenario(make_model("qwen3").eval(), block_size)
    judge("qwen3", torch.float32, sequences)
    assert engine.hits == hits


def test_the_training_forward_gives_the_same_log_probabilities() -> None:
    """The model that has just generated runs its own samples as training does: what differs is the products' rounding."""
    model = make_model("qwen3").eval()
    sequences, _ = scenario(model, 16)
    trained = [[i >= s.start for i in range(len(s.tokens))] for s in sequences]
    (packed,) = pack([s.tokens for s in sequences], trained=trained, sample_id=range(len(sequences)))
    with torch.no_grad():
        hidden = hf.hidden_states(model, packed)
        got = token_logprobs(hidden, labels=packed.labels, **hf.output_head(model)._asdict()).logprobs
    sampled = torch.zeros(sum(len(s.tokens) for s in sequences))
    sampled[torch.tensor([t for row in trained for t in row])] = torch.stack([p for s in sequences for p in s.logprobs])
    torch.testing.assert_close(got, packed.gather(sampled), rtol=0, atol=2e-6)


def test_five_adapters_of_one_base_in_one_step() -> None:
    """Policies stand in segments, as in training; each gives what it gives alone."""
    model = adapted(torch.float32, hf.ATTENTION).eval()
    prompts = [[*FIRST[: 5 + i], 30 + i] for i in range(5)]
    tokens = torch.tensor([t for prompt in prompts for t in prompt])
    bounds = np.concatenate([[0], np.cumsum([len(prompt) for prompt in prompts])])
    pool = paged.kv_pool(model, num_blocks=15, block_size=4)
    table = np.arange(15, dtype=np.int32).reshape(5, 3)
    step = paged.PagedStep.of(pool, table, [0] * 5, np.diff(bounds))
    with torch.no_grad(), packed_adapters(model, list(RANKS), torch.from_numpy(bounds.astype(np.int32))):
        together = paged.logits(model, step, tokens)
    plain = adapted(torch.float32, "eager").eval()
    for name, prompt, got in zip(RANKS, prompts, together, strict=True):
        plain.set_adapter(name)
        with torch.no_grad():
            want = plain(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)


def test_errors() -> None:
    model = make_model("llama").eval()
    pool = paged.kv_pool(model, num_blocks=8, block_size=4)
    table = np.zeros((2, 2), np.int32)
    for message, cached, counts in (
        (r"expected shapes \[N, M\], \[N\] and \[N\], got \[2, 2\], \[1\] and \[2\]", [0], [1, 1]),
        (r"cached: expected numbers >= 0, got -1 at index 1", [0, -1], [1, 1]),
        (r"counts: expected numbers >= 1, got 0 at index 0", [3, 3], [0, 1]),
        (
            r"cached \+ counts: expected numbers <= 8, what a row of block_table has blocks for, got 9 at index 1",
            [0, 8],
            [1, 1],
        ),
    ):
        with pytest.raises(ValueError, match=message):
            paged.PagedStep.of(pool, table, cached, counts)
    step = paged.PagedStep.of(pool, table, [0, 0], [1, 2])
    ids = torch.tensor([1, 2, 3])
    with pytest.raises(ValueError, match=r"model: expected eval mode and torch\.no_grad\(\)"):
        paged.logits(model, step, ids)
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"token_ids: expected shape \[3\], got \[2\]"):
            paged.logits(model, step, ids[:2])
        with pytest.raises(TypeError, match="token_ids: expected dtype int64, got int32"):
            paged.logits(model, step, ids.int())
        with pytest.raises(ValueError, match=rf"token_ids: expected values in \[0, {V}\), got {V} at index 1"):
            paged.logits(model, step, torch.tensor([1, V, 3]))
        short = make_model("llama", max_position_embeddings=7, attention=hf.ATTENTION).eval()
        with pytest.raises(ValueError, match="step: expected at most 7 tokens a sequence, the model's positions, got 8"):
            paged.logits(short, paged.PagedStep.of(pool, table, [7, 0], [1, 2]), ids)
        with pytest.raises(ValueError, match="keys: expected shape"):
            paged.logits(
                model, paged.PagedStep.of(paged.kv_pool(wide(), num_blocks=8, block_size=4), table, [0, 0], [1, 2]), ids
            )
        with pytest.raises(ValueError, match="expected attn_implementation 'himakernels', got 'eager'"):
            paged.logits(make_model("llama", attention="eager").eval(), step, ids)
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(NotImplementedError, match="rotary frequencies that don't depend on the longest sequence"):
        paged.kv_pool(make_model("llama", rope_parameters=dynamic), num_blocks=1, block_size=1)


def wide() -> Any:
    return make_model("llama", head_dim=24)
