"""Token log-probabilities and token cross-entropy with their gradients beside plain torch, TRL and torch's own fusion."""

from collections.abc import Callable

import pytest
import torch

from bench.batches import PackedBatch
from bench.bench_vrgrpo_loss import run
from bench.contenders import DTYPES, LINEAR, batch_for
from bench.shapes import Shape
from himakernels import token_cross_entropy, token_logprobs
from himakernels.ops.token_logprobs.reference import token_logprobs_reference
from himakernels.testing import assert_gate

Scalar = Callable[[PackedBatch], torch.Tensor]


def _eager_logprobs(batch: PackedBatch) -> torch.Tensor:
    log_p = torch.log_softmax(batch.hidden @ batch.weight.T, -1, dtype=torch.float32)
    return log_p.gather(1, batch.labels[:, None])[:, 0]


def _trl_logprobs(batch: PackedBatch) -> torch.Tensor:
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE as CHUNK

    return ChunkedLogProbFunction.apply(batch.hidden, batch.weight, None, batch.labels, 1.0, CHUNK, None, 1.0, ())[0]


def _torch_cross_entropy(batch: PackedBatch, *, chunked: bool, reduction: str) -> torch.Tensor:
    options = torch.nn.LinearCrossEntropyOptions() if chunked else None
    return torch.nn.functional.linear_cross_entropy(
        batch.hidden, batch.weight, batch.labels, reduction=reduction, options=options
    )


# Every entry is a scalar, so that all are asked for the same backward: each row's log-probability counts alike.
LOGPROBS: dict[str, Scalar] = {
    "himakernels": lambda b: token_logprobs(b.hidden, b.weight, b.labels).logprobs.mean(),
    "eager torch": lambda b: _eager_logprobs(b).mean(),
    "F.linear_cross_entropy": lambda b: -_torch_cross_entropy(b, chunked=False, reduction="none").float().mean(),
    "TRL chunked": lambda b: _trl_logprobs(b).mean(),
}
CROSS_ENTROPY: dict[str, Scalar] = {
    "himakernels": lambda b: token_cross_entropy(b.hidden, b.weight, b.labels).loss,
    "eager torch": lambda b: torch.nn.functional.cross_entropy((b.hidden @ b.weight.T).float(), b.labels),
    "F.linear_cross_entropy": lambda b: _torch_cross_entropy(b, chunked=False, reduction="mean"),
    "F.linear_cross_entropy, chunked": lambda b: _torch_cross_entropy(b, chunked=True, reduction="mean"),
}


def _gate(ours: Scalar, sign: int, dtype: torch.dtype) -> None:
    """Gradients of a small batch against fp64."""

    def reference(batch: PackedBatch) -> torch.Tensor:
        return sign * token_logprobs_reference(batch.hidden @ batch.weight.T, batch.labels)[0].mean()

    batch = batch_for(Shape("gate", 96, 64, 1_000, 8), dtype, "linear")
    results = []
    for function, precision in ((ours, dtype), (reference, torch.float64), (reference, dtype)):
        judged = batch.to(precision)
        value = function(judged)
        results.append([value, *torch.autograd.grad(value, judged.leaves)])
    for name, actual, truth, eager in zip(("value", "dhidden", "dweight"), *results, strict=True):
        assert_gate(name, actual, truth, eager, dtype=dtype, n=1_000)


def _skip_unless_installed(name: str) -> None:
    """Who computes log-probabilities or cross-entropy is a contender for the loss, too, under the same name."""
    if not LINEAR[name].installed:
        pytest.skip(f"{LINEAR[name].needs} is not installed")


def _contend(benchmark, settings: dict, scalar: Scalar, shape: Shape, dtype: str, group: str, *, slow: bool) -> None:
    batch = batch_for(shape, DTYPES[dtype], "linear")

    def step() -> None:
        for leaf in batch.leaves:
            leaf.grad = None
        scalar(batch).backward()

    median = run(benchmark, step, f"{group} {shape.name} {dtype}", slow=slow)
    benchmark.extra_info.update(settings)
    if median is not None:
        benchmark.extra_info["tokens_per_s"] = shape.rows / median


@pytest.mark.parametrize("name", LOGPROBS)
def bench_token_logprobs(benchmark, settings: dict, shape: Shape, dtype: str, name: str) -> None:
    _skip_unless_installed(name)
    _gate(LOGPROBS["himakernels"], 1, DTYPES[dtype])
    _contend(benchmark, settings, LOGPROBS[name], shape, dtype, "token_logprobs", slow=name == "TRL chunked")


@pytest.mark.parametrize("name", CROSS_ENTROPY)
def bench_token_cross_entropy(benchmark, settings: dict, shape: Shape, dtype: str, name: str) -> None:
    _skip_unless_installed(name)
    _gate(CROSS_ENTROPY["himakernels"], -1, DTYPES[dtype])
    _contend(benchmark, settings, CROSS_ENTROPY[name], shape, dtype, "token_cross_entropy", slow=False)
