"""Random calls of the public ops: any shapes, strides, numbers and indices give a result of the promised form, or an error.

The environment variable HIMA_FUZZ_EXAMPLES sets how many calls each op gets. `make sanitize` makes many of them on an extension
that watches its memory and its arithmetic.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from himakernels import (
    group_advantages,
    pack,
    paged_attention,
    token_cross_entropy,
    token_logprobs,
    token_logprobs_from_logits,
    tree_attention,
    varlen_attention,
    vrgrpo_loss,
)
from himakernels.testing import INTERPRET, forest_of, policy_batch, random_depths

pytestmark = pytest.mark.skipif(INTERPRET, reason="the CPU route is what is fuzzed")
EXAMPLES = int(os.environ.get("HIMA_FUZZ_EXAMPLES", "25"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
HALF = (torch.float32, torch.bfloat16, torch.float16)
STRANGE = (float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e30, -1e9, 1e-45, 0.0)


class Draw:
    """Arguments out of hypothesis' choices; numbers out of a seed."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.g = torch.Generator().manual_seed(self.integer(0, 2**31))

    def integer(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    def one_of(self, *values: Any) -> Any:
        return self.data.draw(st.sampled_from(values))

    def floats(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Of any size, perhaps with numbers that no model makes, perhaps between other memory, with other strides or none."""
        x = torch.randn(shape, generator=self.g) * self.one_of(1.0, 1.0, 50.0, 1e4, 1e-6, 1e20)
        if x.numel() and self.one_of(False, False, True):
            x.view(-1)[self.integer(0, x.numel() - 1)] = self.one_of(*STRANGE)
        x = x.to(dtype)
        layout = self.one_of("plain", "plain", "inside", "swapped", "expanded")
        if layout == "inside" and len(shape) > 1:
            wide = torch.full((shape[0] + 2, *shape[1:-1], shape[-1] + 8), float("nan"), dtype=dtype)
            wide[1:-1, ..., : shape[-1]] = x
            return wide[1:-1, ..., : shape[-1]]
        if layout == "swapped" and len(shape) == 3:
            return x.transpose(0, 1).contiguous().transpose(0, 1)
        if layout == "expanded" and shape and shape[0]:
            return x[:1].expand(shape)
        return x

    def ids(self, count: int, low: int, high: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        """In [low, high); sometimes one that is not."""
        x = torch.randint(low, max(high, low + 1), (count,), generator=self.g).to(dtype)
        if count and self.one_of(*[False] * 9, True):
            x[self.integer(0, count - 1)] = self.one_of(-1, -100, high, 2**31 - 1, -(2**31))
        return x

    def options(self) -> dict[str, Any]:
        return {
            "scale": self.one_of(None, 0.3, -2.0, 0.0, 1e30),
            "window": self.one_of(None, None, 1, 7, 2**31 - 1, 2**70),
            "softcap": self.one_of(None, None, 1.5, 50.0, 1e9),
        }


def twice(call: Callable[[], list[torch.Tensor]]) -> list[torch.Tensor] | None:
    """The result of a call on one thread, equal to the bit on three; None where it is refused."""
    threads, runs = torch.get_num_threads(), []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            try:
                runs.append(call())
            except (ValueError, TypeError) as error:
                assert "expected" in str(error)  # noqa: PT017
                return None
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(*runs, strict=True):
        assert a.shape == b.shape
        assert torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0))
    return runs[0]


def with_gradients(call: Callable[..., torch.Tensor], *leaves: torch.Tensor | None) -> list[torch.Tensor]:
    inputs = [None if t is None else t.detach().requires_grad_() for t in leaves]
    out = call(*inputs)
    wanted = [t for t in inputs if t is not None]
    return [out.detach(), *torch.autograd.grad(out, wanted, torch.ones_like(out))]


@FUZZ
@given(st.data())
def test_attention(data: st.DataObject) -> None:
    d = Draw(data)
    T, Hk, D, dtype = d.integer(0, 70), d.integer(1, 3), 8 * d.integer(2, 9), d.one_of(*HALF)
    Hq = Hk * d.integer(1, 3)
    q, k, v = (d.floats(T, heads, D, dtype=dtype) for heads in (Hq, Hk, Hk))
    sinks = d.one_of(None, d.floats(Hq, dtype=dtype))
    options = d.options()
    if d.one_of(True, False):
        subtree_end, depths = forest_of(random_depths(T, seed=d.integer(0, 99)))
        if T and d.one_of(*[False] * 9, True):
            subtree_end[d.integer(0, T - 1)] = d.integer(-3, T + 3)
        if T and d.one_of(*[False] * 9, True):
            depths[d.integer(0, T - 1)] = d.one_of(-1, 2**31 - 1, -(2**31))

        def call(*leaves: Any) -> torch.Tensor:
            return tree_attention(*leaves[:3], subtree_end, position_ids=depths, sinks=leaves[3], **options)
    else:
        cuts = sorted(d.integer(0, T) for _ in range(d.integer(0, 4)))
        bounds = torch.tensor([0, *cuts, d.one_of(T, T, T, T, T + 1)], dtype=torch.int32)

        def call(*leaves: Any) -> torch.Tensor:
            return varlen_attention(*leaves[:3], bounds, sinks=leaves[3], **options)

    result = twice(lambda: with_gradients(call, q, k, v, sinks))
    if result is not None:
        assert [t.shape for t in result] == [q.shape, q.shape, k.shape, v.shape] + ([] if sinks is None else [sinks.shape])


@FUZZ
@given(st.data())
def test_paged_attention(data: st.DataObject) -> None:
    d = Draw(data)
    N, M, blocks, size = d.integer(0, 5), d.integer(0, 6), d.integer(1, 20), d.integer(1, 20)
    Hk, D, dtype = d.integer(1, 3), 8 * d.integer(2, 9), d.one_of(*HALF)
    Hq = Hk * d.integer(1, 3)
    queries = [d.integer(0, min(M * size, 20)) for _ in range(N)]
    lens = torch.tensor([d.integer(n, M * size) + d.one_of(*[0] * 9, 1, -1) for n in queries], dtype=torch.int32)
    bounds = torch.tensor([0, *torch.tensor(queries).cumsum(0).tolist()], dtype=torch.int32)
    q, keys, values = (d.floats(*shape, dtype=dtype) for shape in ((sum(queries), Hq, D), *[(blocks, size, Hk, D)] * 2))
    table = d.ids(N * M, 0, blocks).view(N, M)
    if N > 1 and d.one_of(True, False):
        table[1:] = table[:1]  # one prefix
    sinks, options = d.one_of(None, d.floats(Hq, dtype=dtype)), d.options()
    result = twice(lambda: [paged_attention(q, keys, values, table, bounds, lens, sinks=sinks, **options)])
    assert result is None or result[0].shape == q.shape


@FUZZ
@given(st.data())
def test_log_probabilities(data: st.DataObject) -> None:
    d = Draw(data)
    R, H, V, dtype = d.integer(0, 40), d.integer(1, 70), d.integer(1, 150), d.one_of(*HALF)
    hidden, weight, logits = (d.floats(*shape, dtype=dtype) for shape in ((R, H), (V, H), (R, V)))
    bias, labels = d.one_of(None, d.floats(V, dtype=dtype)), d.ids(R, 0, V, torch.int64)
    options = {"temperature": d.one_of(1.0, 0.7, 1e-3, 50.0), "softcap": d.one_of(None, 2.0, 30.0)}
    twice(
        lambda: with_gradients(lambda h, w, b: token_logprobs(h, w, labels, bias=b, **options).logprobs, hidden, weight, bias)
    )
    twice(lambda: with_gradients(lambda x: token_logprobs_from_logits(x, labels, **options).logprobs, logits))
    twice(
        lambda: with_gradients(lambda h, w, b: token_cross_entropy(h, w, labels, bias=b, **options).loss, hidden, weight, bias)
    )


@FUZZ
@given(st.data())
def test_policy_loss(data: st.DataObject) -> None:
    d = Draw(data)
    drift, scale = d.one_of(0.3, 30.0, 1e4), d.one_of(0.4, 20.0)
    batch = policy_batch(rows=d.integer(0, 40), samples=d.integer(1, 9), seed=d.integer(0, 99), scale=scale, drift=drift)
    loss_type, kl_coef = d.one_of("grpo", "dapo", "cispo", "sapo"), d.one_of(0.0, 0.1)
    labels = batch.labels.clone()
    if labels.numel() and d.one_of(*[False] * 9, True):
        labels[0] = d.one_of(-1, 53, 2**40)

    def call(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return vrgrpo_loss(
            hidden, weight, labels, advantages=batch.advantages, sample_id=batch.sample_id, old_logprobs=batch.old_logprobs,
            ref_logprobs=batch.ref_logprobs if kl_coef else None, loss_type=loss_type, kl_coef=kl_coef,
        ).loss  # fmt: skip

    result = twice(lambda: with_gradients(call, batch.hidden, batch.weight))
    assert result is None or all(bool(t.isfinite().all()) for t in result)


@FUZZ
@given(st.data())
def test_advantages(data: st.DataObject) -> None:
    d = Draw(data)
    S, groups, columns = d.integer(0, 60), d.integer(0, 9), d.integer(0, 3)
    rewards = d.floats(S, columns) if columns else d.floats(S)
    group_id = d.ids(S, 0, groups, d.one_of(torch.int64, torch.int32))
    normalize = d.one_of("std", "mean", "leave_one_out", "none")
    result = twice(lambda: [group_advantages(rewards, group_id, num_groups=groups, normalize=normalize).advantages])
    assert result is None or result[0].shape == (S,)


@FUZZ
@given(st.data())
def test_packing(data: st.DataObject) -> None:
    d = Draw(data)
    vocab = d.one_of(2, 3, 50)
    sequences = [d.ids(d.integer(0, 12), 0, vocab, torch.int64) for _ in range(d.integer(0, 12))]
    budget = d.one_of(None, None, 1, 12, 2**31 - 1, 2**62)
    try:
        packing = pack(sequences, token_budget=budget)
    except (ValueError, TypeError) as error:
        assert "expected" in str(error)  # noqa: PT017
        return
    assert budget is None or all(tree.num_tokens <= budget for tree in packing.micro_batches)
