"""What changes nothing: neighbours, order, names, chunks, threads, splitting; what is not held; what compiles nothing new."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from himakernels import vrgrpo_loss
from himakernels.lm_head import cpu
from himakernels.testing import INTERPRET, PolicyBatch, policy_batch

pytestmark = pytest.mark.usefixtures("poison")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
CPU_ONLY = pytest.mark.skipif(INTERPRET, reason="a property of the CPU route's threads or memory")
PROPERTY = settings(
    max_examples=2 if INTERPRET else 20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
LOSSES: list[dict[str, Any]] = [
    {"loss_type": "grpo", "kl_coef": 0.1, "entropy_coef": 0.02},
    {"loss_type": "dapo", "ratio_level": "sequence", "importance": "token_mask"},
    {"loss_type": "vespo", "importance": "sequence_truncate"},
]


def run(b: PolicyBatch, **options: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(loss, logprobs, dhidden, dweight)."""
    hidden, weight = b.hidden.clone().requires_grad_(), b.weight.clone().requires_grad_()
    if "rewards" not in options:
        options = {"advantages": b.advantages, **options}
    if options.get("kl_coef"):
        options["ref_logprobs"] = b.ref_logprobs
    if options.get("importance"):
        options["rollout_logprobs"] = b.rollout_logprobs
    out = vrgrpo_loss(hidden, weight, b.labels, sample_id=b.sample_id, old_logprobs=b.old_logprobs, **options)
    out.loss.backward()
    return out.loss.detach(), out.logprobs, hidden.grad, weight.grad


def rows_of(b: PolicyBatch, rows: torch.Tensor) -> PolicyBatch:
    """The batch with only these rows, in this order."""
    names = ("hidden", "labels", "sample_id", "token_advantages", "old_logprobs", "ref_logprobs", "rollout_logprobs")
    return b._replace(**{name: getattr(b, name)[rows] for name in names})


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6 * max(float(b.abs().max()) if b.numel() else 0.0, 1e-3))


# ---------------------------------------------------------------------------------------------------------- bitwise


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_the_others(dtype: torch.dtype, device: torch.device, many_chunks: None) -> None:
    """Logprobs and dhidden, bit by bit: in three chunks, alone, at other places, across the border of a chunk."""
    b = policy_batch(rows=40, dtype=dtype, device=device)
    options = {"loss_type": "dapo", "num_tokens": 40.0, "kl_coef": 0.1, "entropy_coef": 0.02}
    every = torch.arange(40, device=device)
    _, logprobs, dhidden, _ = run(b, **options)
    for rows in (every.flip(0), every[14:19], every[33:34]):
        _, some, dsome, _ = run(rows_of(b, rows), **options)
        assert torch.equal(some, logprobs[rows])
        assert torch.equal(dsome, dhidden[rows])


@pytest.mark.once
@pytest.mark.parametrize("options", LOSSES)
def test_twice_the_same_bits(options: dict[str, Any], device: torch.device, many_chunks: None) -> None:
    b = policy_batch(rows=40, dtype=torch.bfloat16, device=device)
    assert same(run(b, **options), run(b, **options))


@CPU_ONLY
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", LOSSES)
def test_threads_change_no_bit(options: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    b = policy_batch(rows=700, samples=40, hidden_size=64, vocab=131, dtype=dtype)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        results.append(run(b, **options))
    assert same(results[0], results[1])
    assert same(results[0], results[2])


# ------------------------------------------------------------------------------------------------------- properties


@PROPERTY
@given(seed=st.integers(0, 2**20), options=st.sampled_from(LOSSES))
def test_order_and_names(seed: int, options: dict[str, Any], device: torch.device) -> None:
    """Rows in another order, samples, agents and groups under other numbers."""
    b = policy_batch(rows=20, samples=8, seed=seed, device=device)
    g = torch.Generator().manual_seed(seed)
    order, samples, agents = (torch.randperm(n, generator=g).to(device) for n in (20, 8, 3))
    want = run(b, agent_id=b.agent_id, num_agents=3, **options)
    moved = rows_of(b, order)
    per_sample = {
        name: torch.empty_like(getattr(b, name)).index_copy(0, samples, getattr(b, name)) for name in ("advantages", "agent_id")
    }
    moved = moved._replace(sample_id=samples[moved.sample_id], **per_sample)
    got = run(moved, agent_id=agents[moved.agent_id], num_agents=3, **options)
    close(got[0], want[0])
    close(got[1], want[1][order])
    close(got[2], want[2][order])
    close(got[3], want[3])


@PROPERTY
@given(seed=st.integers(0, 2**20), shift=st.sampled_from([-3.0, 0.5, 1024.0]))
def test_a_shift_of_the_rewards_and_other_group_ids(seed: int, shift: float, device: torch.device) -> None:
    b = policy_batch(rows=20, samples=8, seed=seed, device=device)
    want = run(b, rewards=b.rewards, group_id=b.group_id, top_k=2)
    got = run(b, rewards=b.rewards + shift, group_id=b.group_id * 2 + 1, num_groups=12, top_k=2)
    for x, y in zip(got, want, strict=True):
        close(x, y)


@PROPERTY
@given(seed=st.integers(0, 2**20), options=st.sampled_from(LOSSES))
def test_ignored_rows_change_nothing(seed: int, options: dict[str, Any], device: torch.device) -> None:
    b = policy_batch(rows=20, samples=5, seed=seed, device=device)
    want = run(b, **options)
    rows = (b.labels != -100).nonzero()[:, 0]
    got = run(rows_of(b, rows), **options)
    close(got[0], want[0])
    close(got[2], want[2][rows])
    close(got[3], want[3])


@PROPERTY
@given(seed=st.integers(0, 2**20), options=st.sampled_from(LOSSES))
def test_packed_agents_are_the_sum_of_their_own_calls(seed: int, options: dict[str, Any], device: torch.device) -> None:
    b = policy_batch(rows=20, samples=8, seed=seed, device=device)
    want = run(b, agent_id=b.agent_id, num_agents=3, **options)
    loss, dweight = torch.zeros_like(want[0]), torch.zeros_like(want[3])
    for agent in range(3):
        mine = (b.agent_id == agent).nonzero()[:, 0]
        rows = (b.agent_id[b.sample_id] == agent).nonzero()[:, 0]
        number = torch.zeros(8, dtype=torch.int64, device=device).index_copy(0, mine, torch.arange(len(mine), device=device))
        alone = rows_of(b, rows)
        alone = alone._replace(sample_id=number[alone.sample_id], advantages=b.advantages[mine])
        part = run(alone, **options)
        loss, dweight = loss + part[0], dweight + part[3]
        close(part[2], want[2][rows])
    close(loss, want[0])
    close(dweight, want[3])


@PROPERTY
@given(seed=st.integers(0, 2**20), options=st.sampled_from(LOSSES), agents=st.booleans())
def test_micro_batches_and_ranks_sum_to_one_call(
    seed: int, options: dict[str, Any], agents: bool, device: torch.device
) -> None:
    """Samples dealt to two ranks of two micro-batches each, with the global normalisers: the sum is the one call."""
    b = policy_batch(rows=20, samples=8, seed=seed, device=device)
    shared: dict[str, Any] = {"num_agents": 3, "agent_id": b.agent_id} if agents else {}
    want = run(b, **shared, **options)
    with torch.no_grad():
        m = vrgrpo_loss(b.hidden, b.weight, b.labels, sample_id=b.sample_id, advantages=b.advantages, **shared).metrics
    place = torch.randint(4, (8,), generator=torch.Generator().manual_seed(seed)).to(device)
    loss, dweight = torch.zeros_like(want[0]), torch.zeros_like(want[3])
    for part in range(4):
        rows = (place[b.sample_id] == part).nonzero()[:, 0]
        normalisers = {"num_samples": m.num_samples, "num_tokens": m.num_tokens}
        got = run(rows_of(b, rows), **shared, **normalisers, **options)
        loss, dweight = loss + got[0], dweight + got[3]
        close(got[2], want[2][rows])
    close(loss, want[0])
    close(dweight, want[3])


# ------------------------------------------------------------------------------------------------ memory and products


@CPU_ONLY
def test_no_more_logits_than_one_chunk(monkeypatch: pytest.MonkeyPatch, many_chunks: None) -> None:
    b = policy_batch(rows=200, samples=20)
    asked: list[int] = []
    plain = cpu.empty_logits
    monkeypatch.setattr(cpu, "empty_logits", lambda head, rows: (asked.append(rows), plain(head, rows))[1])
    for options, times in ((LOSSES[0], 1), (LOSSES[1], 2)):  # looking at whole samples forms the logits twice
        asked.clear()
        run(b, **options)
        assert asked == [16] * times


@CPU_ONLY
def test_inactive_rows_leave_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the samples have advantage zero: half of the rows enter the two backward products."""
    b = policy_batch(rows=64, samples=8)
    b = b._replace(sample_id=torch.arange(64) % 8, labels=b.labels.clamp(min=0), advantages=torch.arange(8) % 2 * 1.0)
    shapes: list[tuple[int, ...]] = []
    plain = cpu.gemm
    monkeypatch.setattr(cpu, "gemm", lambda a, *rest, **kw: (shapes.append(tuple(a.shape)), plain(a, *rest, **kw))[1])
    hidden, weight = b.hidden.clone().requires_grad_(), b.weight.clone().requires_grad_()
    out = vrgrpo_loss(hidden, weight, b.labels, sample_id=b.sample_id, advantages=b.advantages)
    assert shapes == [(64, 12), (32, 53), (53, 32)]
    assert float(out.metrics.active_rows) == 32
    out.loss.backward()
    assert bool((hidden.grad[b.advantages[b.sample_id] == 0] == 0).all())


# --------------------------------------------------------------------------------------------------- specialisation


@pytest.mark.once
def test_lengths_temperature_and_bounds_compile_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of the launches on meta tensors: the policy kernel, and every kernel of the head over several chunks."""
    pytest.importorskip("triton")
    from bench.launches import record_launches
    from himakernels.lm_head import triton_route
    from himakernels.lm_head.head import _chunks
    from himakernels.lm_head.types import Head, Needs, RowStats
    from himakernels.ops.vrgrpo_loss.kernels import policy_logits_fwd
    from himakernels.ops.vrgrpo_loss.options import PolicyOptions
    from himakernels.ops.vrgrpo_loss.rows import Rows, Samples

    monkeypatch.setattr("himakernels.lm_head.head.use_triton", lambda t: True)
    monkeypatch.setattr(triton_route, "_CHUNK_BYTES", 1)

    def keys(R: int, temperature: float, softcap: float | None, **options: Any) -> tuple[set[str], set[str]]:
        f32 = {"device": "meta", "dtype": torch.float32}
        logits = torch.empty(R, 1024, device="meta", dtype=torch.bfloat16)
        labels = torch.empty(R, device="meta", dtype=torch.int64)
        row = torch.empty(R, **f32)
        rows = Rows(row, row, row, row, row, row, Samples(labels, labels, 1, None, None))
        o = PolicyOptions(kl_coef=options.pop("kl_coef", 0.1), importance="token_mask", **options)
        with record_launches("sm_90") as policy:
            policy_logits_fwd(logits, logits, labels, rows, o, temperature=temperature, softcap=softcap)
        head = Head(
            torch.empty(R, 64, device="meta", dtype=torch.bfloat16),
            logits.new_empty(1024, 64),
            None,
            labels,
            temperature,
            softcap,
        )
        with record_launches("sm_90") as launches:
            grads = triton_route.GradSum(head, Needs(True, True, True), 2)
            for begin, end in _chunks(head):
                part = head.rows(begin, end)
                out = triton_route.head_logits(part, logits)
                stats = triton_route.logits_stats(out, part.labels, temperature, softcap)
                cut = RowStats(*(row[begin:end] for _ in stats))
                grads.add(begin, out, cut, row[begin:end], row[begin:end])
        return {x.key for x in policy}, {x.key for x in launches}

    first = keys(64, 1.0, None)
    assert len(first[0]) == 1
    for R in (33, 100, 1000, 4096 + 16):
        assert (
            keys(R, 0.7 + R / 1e4, None, clip_low=R / 1e5, clip_high=0.28, delta=2.0, kl_coef=0.3, importance_max=1.5) == first
        ), R
    assert keys(64, 1.0, 30.0)[0] == keys(640, 1.3, 15.0)[0] != first[0]
    assert keys(64, 1.0, None, loss_type="sapo")[0] != first[0]
