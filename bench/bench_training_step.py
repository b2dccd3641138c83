"""A whole training step with a shared prefix, beside plain packing, the padded batch and PrefixGrouper."""

import pytest
import torch

from bench.measure import synchronized
from bench.training_step import CONTENDERS, Group, gate, qwen3, step

_passed: set[str] = set()


@pytest.mark.parametrize("name", CONTENDERS)
def bench_training_step(benchmark, settings: dict, dtype: str, name: str) -> None:
    precision: torch.dtype = getattr(torch, dtype)
    if dtype not in _passed:
        gate(precision)
        _passed.add(dtype)
    small = benchmark.disabled
    vocab, prompt, action = (96, 24, 6) if small else (32_000, 768, 64)
    model = qwen3(hidden=192 if small else 768, layers=2 if small else 12, vocab=vocab, dtype=precision)
    group = Group.random(vocab, prompt, 8, action)
    tree = group.pack(share=True)
    benchmark.group = f"training step, prompt {prompt}, 8 x {action}, {dtype}"
    benchmark.pedantic(synchronized(step(model, group, CONTENDERS[name])), rounds=3, iterations=1, warmup_rounds=1)
    benchmark.extra_info.update(settings, share_saved=tree.share_saved, tokens=tree.original_tokens, distinct=tree.num_tokens)
    if benchmark.stats is not None:
        benchmark.extra_info["tokens_per_s"] = tree.original_tokens / benchmark.stats.stats.median
