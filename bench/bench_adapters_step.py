"""Five agents' adapters in a whole training step: packed, and one PEFT pass after the other."""

import pytest

from bench.adapters_step import AGENTS, CONTENDERS, Work, adapted, gate, step
from bench.contenders import DTYPES
from bench.measure import synchronized
from bench.training_step import qwen3

_passed: set[str] = set()


@pytest.mark.parametrize("name", CONTENDERS)
def bench_adapters_step(benchmark, settings: dict, dtype: str, name: str) -> None:
    if dtype not in _passed:
        gate(DTYPES[dtype])
        _passed.add(dtype)
    small = benchmark.disabled
    vocab, samples, length = (96, 3, 12) if small else (151_936, 4, 64)
    model = qwen3(hidden=192 if small else 512, layers=2 if small else 12, vocab=vocab, dtype=DTYPES[dtype])
    work = Work.random(vocab, samples, length)
    benchmark.group = f"five adapters x {samples * length} tokens, {dtype}"
    run = step(adapted(model, DTYPES[dtype]), work, CONTENDERS[name])
    benchmark.pedantic(synchronized(run), rounds=3, iterations=1, warmup_rounds=1)
    benchmark.extra_info.update(settings, tokens=len(AGENTS) * samples * length)
