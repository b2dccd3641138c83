"""group_advantages: hand-computed numbers, the gate against the reference in fp64, properties, peers, contracts.

Runs three ways: plain (the C++ route), TRITON_INTERPRET=1 (the kernel on CPU tensors), and on a GPU.
"""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from himakernels import _core
from himakernels.backend import use_triton
from himakernels.ops.group_advantages import GroupAdvantages, group_advantages, group_advantages_reference
from himakernels.testing import assert_gate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NORMALIZE = ("std", "mean", "leave_one_out", "none")
NAN, INF = float("nan"), float("inf")
on_triton = use_triton(torch.empty(0, device=DEVICE))


def make(sizes: list[int], columns: int | None = None, *, seed: int = 0, offset: float = 0.0, nan: float = 0.0):
    """Groups of the given sizes in shuffled order: rewards [S] or [S, M], group_id [S]."""
    generator = torch.Generator().manual_seed(seed)
    group_id = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    group_id = group_id[torch.randperm(len(group_id), generator=generator)]
    shape = (len(group_id),) if columns is None else (len(group_id), columns)
    rewards = torch.randn(shape, generator=generator) + offset
    rewards[torch.rand(shape, generator=generator) < nan] = NAN
    return rewards.to(DEVICE), group_id.to(DEVICE)


CASES: dict[str, Callable[[], tuple[torch.Tensor, torch.Tensor]]] = {
    "ragged": lambda: make([3, 1, 7, 0, 5, 2, 24, 8]),  # any size, also one member and none
    "equal": lambda: make([8] * 6),  # what other trainers can do
    "one_group": lambda: make([40]),  # every program but the first has nothing to do
    "singles": lambda: make([1] * 9),  # no spread anywhere
    "failed_scorers": lambda: make([3, 4, 5, 1, 6], nan=0.4),  # groups shrink, some to nothing
    "columns": lambda: make([4, 6, 2, 9], 3, nan=0.25),  # several rewards, each fails by itself
    "offset": lambda: make([5, 3, 8], offset=1e6),  # the mean is a million spreads away
    "bf16": lambda: tuple(t if t.dtype == torch.int64 else t.bfloat16() for t in make([5, 3, 8])),  # type: ignore[dict-item]
}


def check(got: GroupAdvantages, rewards: torch.Tensor, group_id: torch.Tensor, **options) -> None:
    """The gate on all outputs. Rewards that are half enter truth and eager as the fp32 that they widen to."""
    truth = group_advantages_reference(rewards.double(), group_id, **options)
    eager = group_advantages_reference(rewards, group_id, **options)
    assert torch.equal(got.count, truth[1])
    for i, name in ((0, "advantages"), (2, "mean"), (3, "variance")):
        assert_gate(name, got[i], truth[i], eager[i], n=len(rewards))


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        # group 2: rewards 1, 2, 6 (mean 3, variance 7); group 0: 4 alone; group 1: nobody; group 3: 5, 5.
        ("std", [-2 / (7**0.5 + 1e-4), 0, 0, -1 / (7**0.5 + 1e-4), 0, 3 / (7**0.5 + 1e-4)]),
        ("mean", [-2, 0, 0, -1, 0, 3]),
        ("leave_one_out", [1 - 4, 0, 0, 2 - 3.5, 0, 6 - 1.5]),
        ("none", [1, 4, 5, 2, 5, 6]),
    ],
)
def test_hand_computed(normalize: str, expected: list[float]) -> None:
    rewards = torch.tensor([1.0, 4, 5, 2, 5, 6], device=DEVICE)
    group_id = torch.tensor([2, 0, 3, 2, 3, 2], device=DEVICE)
    got = group_advantages(rewards, group_id, num_groups=4, normalize=normalize)
    assert got.advantages.tolist() == pytest.approx(expected, rel=1e-6)
    assert got.count.tolist() == [1, 0, 3, 2]
    assert got.mean.tolist() == [4, 0, 3, 5]
    assert got.variance.tolist() == [0, 0, 7, 0]
    assert got.count.dtype == torch.int64
    inferred = group_advantages(rewards, group_id, normalize=normalize)
    assert all(torch.equal(a, b) for a, b in zip(got, inferred, strict=True))


def test_hand_computed_columns() -> None:
    rewards = torch.tensor([[1.0, 0.0], [3.0, NAN], [NAN, NAN], [5.0, 2.0]], device=DEVICE)
    group_id = torch.tensor([0, 0, 0, 0], device=DEVICE)
    weights = torch.tensor([1.0, 10.0], device=DEVICE)
    # Totals 1, 3, failed, 25; columns 1, 3, 5 and 0, 2.
    summed = group_advantages(rewards, group_id, weights=weights, normalize="mean")
    assert summed.advantages.tolist() == pytest.approx([1 - 29 / 3, 3 - 29 / 3, 0, 25 - 29 / 3])
    apart = group_advantages(rewards, group_id, weights=weights, normalize="mean", combine="normalize_then_sum")
    assert apart.advantages.tolist() == pytest.approx([-2 - 10, 0, 0, 2 + 10])
    for got in (summed, apart):
        assert got.count.tolist() == [3]
        assert got.mean.tolist() == pytest.approx([29 / 3])
    scaled = group_advantages(
        rewards, group_id, weights=weights, normalize="mean", combine="normalize_then_sum", scale_by_batch_std=True
    )
    assert scaled.advantages.tolist() == pytest.approx([-12 / (12 + 1e-4), 0, 0, 12 / (12 + 1e-4)])


@pytest.mark.parametrize("scale_by_batch_std", [False, True])
@pytest.mark.parametrize("combine", ["sum_then_normalize", "normalize_then_sum"])
@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("case", CASES)
def test_gate(case: str, normalize: str, combine: str, scale_by_batch_std: bool) -> None:
    rewards, group_id = CASES[case]()
    weights = torch.tensor([0.5, -1.0, 2.0], device=DEVICE) if rewards.dim() == 2 else None
    options = {
        "num_groups": int(group_id.max()) + 2,  # the last one is empty
        "normalize": normalize,
        "weights": weights,
        "combine": combine,
        "scale_by_batch_std": scale_by_batch_std,
    }
    check(group_advantages(rewards, group_id, **options), rewards, group_id, **options)


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_fp64_in_fp64_out(normalize: str) -> None:
    rewards, group_id = make([3, 1, 7, 5])
    rewards = rewards.double() + 0.1
    got = group_advantages(rewards, group_id, num_groups=4, normalize=normalize)
    assert got.advantages.dtype == got.mean.dtype == got.variance.dtype == torch.float64
    truth = group_advantages_reference(rewards, group_id, num_groups=4, normalize=normalize)
    for a, b in zip(got, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.skipif(not on_triton, reason="the C++ route reads the samples in their own order at any size")
@pytest.mark.parametrize("case", CASES)
def test_gate_with_sorted_ids(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the kernel does with more than 2^24 samples x groups.
    monkeypatch.setattr("himakernels.ops.group_advantages.kernels._SCAN_PAIRS", -1)
    rewards, group_id = CASES[case]()
    options = {"num_groups": int(group_id.max()) + 2}
    check(group_advantages(rewards, group_id, **options), rewards, group_id, **options)


# --- numerics ---------------------------------------------------------------------------------------------------------


def exact_std_advantages(rewards: list[float], eps: float) -> list[float]:
    """One group in rational arithmetic, rounded at the end."""
    values = [Fraction(r) for r in rewards]
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return [float(v - mean) / (float(variance) ** 0.5 + eps) for v in values]


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_exact_at_an_offset(offset: float) -> None:
    rewards = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.0, 0.75, 0.0], device=DEVICE) + offset
    got = group_advantages(rewards, torch.zeros(7, dtype=torch.int64, device=DEVICE), num_groups=1)
    expected = torch.tensor(exact_std_advantages(rewards.tolist(), 1e-4), dtype=torch.float32)
    torch.testing.assert_close(got.advantages.cpu(), expected, rtol=2e-7, atol=0)
    if offset:
        # The statistics of one pass, E[x^2] - E[x]^2, are lost there; TRL's two passes in fp32 are not exact either.
        spread = (rewards.square().mean() - rewards.mean().square()) * 7 / 6
        assert not torch.allclose(spread.clamp(min=0), got.variance[0], rtol=0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_members_have_no_variance(dtype: torch.dtype) -> None:
    # 0.1 + 0.1 + 0.1 is not three times 0.1 in fp64: a mean by division alone would leave a variance of 1e-34.
    rewards = torch.full((3, 2), 0.1, dtype=dtype, device=DEVICE)
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64, device=DEVICE)
    for column, weight in ((rewards[:, 0], None), (rewards, weights)):
        got = group_advantages(column, torch.zeros(3, dtype=torch.int32, device=DEVICE), num_groups=1, weights=weight)
        assert got.variance.tolist() == [0]
        assert got.advantages.tolist() == [0, 0, 0]


def test_nan_reward_counts_for_nothing() -> None:
    rewards, group_id = make([5, 4, 1])
    failed = torch.tensor([0, 3, 7], device=DEVICE)
    holed = rewards.index_fill(0, failed, NAN)
    keep = torch.ones(10, dtype=torch.bool, device=DEVICE).index_fill(0, failed, False)
    for normalize in NORMALIZE:
        got = group_advantages(holed, group_id, num_groups=3, normalize=normalize)
        without = group_advantages(rewards[keep], group_id[keep], num_groups=3, normalize=normalize)
        assert torch.equal(got.advantages[keep], without.advantages)
        assert got.advantages[failed].tolist() == [0, 0, 0]
        assert all(torch.equal(a, b) for a, b in zip(got[1:], without[1:], strict=True))


@pytest.mark.parametrize("bad", [INF, -INF])
@pytest.mark.parametrize("normalize", NORMALIZE)
def test_infinite_reward_is_never_a_silent_zero(bad: float, normalize: str) -> None:
    rewards = torch.tensor([1.0, bad, NAN, 2.0, 4.0, bad], device=DEVICE)
    group_id = torch.tensor([0, 0, 0, 1, 1, 2], device=DEVICE)
    got = group_advantages(rewards, group_id, num_groups=3, normalize=normalize)
    hit = torch.tensor([True, True, False, False, False, True], device=DEVICE)
    if normalize == "none":
        assert got.advantages[hit].tolist() == [1, bad, bad]
    else:
        assert torch.equal(got.advantages.isnan(), hit)
    assert got.advantages[2] == 0
    assert got.mean.isnan().tolist() == got.variance.isnan().tolist() == [True, False, True]
    assert got.count.tolist() == [2, 2, 1]
    # In one column of two: the sum over columns carries it.
    both = torch.stack([rewards, torch.ones_like(rewards)], dim=1)
    for combine in ("sum_then_normalize", "normalize_then_sum"):
        advantages = group_advantages(both, group_id, num_groups=3, normalize=normalize, combine=combine).advantages
        assert not bool(advantages[hit][1:].isfinite().any())


# --- properties -------------------------------------------------------------------------------------------------------

# Multiples of 1/8 below 100: every sum is exact, so that equalities hold bitwise.
batches = st.lists(st.tuples(st.integers(-800, 800).map(lambda i: i / 8), st.integers(0, 5)), min_size=1, max_size=40).map(
    lambda pairs: ([r for r, _ in pairs], [g for _, g in pairs])
)
options = st.fixed_dictionaries({"normalize": st.sampled_from(NORMALIZE), "scale_by_batch_std": st.booleans()})


def run(rewards: list[float], group_id: list[int], **kwargs) -> GroupAdvantages:
    ids = torch.tensor(group_id, device=DEVICE)
    return group_advantages(torch.tensor(rewards, device=DEVICE), ids, num_groups=6, **kwargs)


@settings(max_examples=20, deadline=None)
@given(batches, options, st.randoms(use_true_random=False))
def test_order_does_not_matter(batch, kwargs, random) -> None:
    rewards, group_id = batch
    order = list(range(len(rewards)))
    random.shuffle(order)
    got = run(rewards, group_id, **kwargs)
    shuffled = run([rewards[i] for i in order], [group_id[i] for i in order], **kwargs)
    torch.testing.assert_close(shuffled.advantages, got.advantages[order], rtol=2e-7, atol=1e-7)
    assert torch.equal(shuffled.mean, got.mean)
    assert torch.equal(shuffled.count, got.count)


@settings(max_examples=20, deadline=None)
@given(batches, options, st.permutations(range(6)))
def test_labels_do_not_matter(batch, kwargs, label) -> None:
    rewards, group_id = batch
    got = run(rewards, group_id, **kwargs)
    relabelled = run(rewards, [label[g] for g in group_id], **kwargs)
    torch.testing.assert_close(relabelled.advantages, got.advantages, rtol=2e-7, atol=1e-7)
    for a, b in zip(relabelled[1:], got[1:], strict=True):
        assert torch.equal(a[list(label)], b)


@settings(max_examples=20, deadline=None)
@given(batches, st.sampled_from(NORMALIZE[:3]), st.integers(-1000, 1000))
def test_a_shift_of_all_rewards_does_not_matter(batch, normalize, shift) -> None:
    rewards, group_id = batch
    got = run(rewards, group_id, normalize=normalize)
    shifted = run([r + shift for r in rewards], group_id, normalize=normalize)
    torch.testing.assert_close(shifted.advantages, got.advantages, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(shifted.variance, got.variance, rtol=1e-6, atol=0)


@settings(max_examples=20, deadline=None)
@given(batches)
def test_advantages_of_a_group_sum_to_zero(batch) -> None:
    rewards, group_id = batch
    for normalize in NORMALIZE[:3]:
        advantages = run(rewards, group_id, normalize=normalize).advantages.double().cpu()
        for g in set(group_id):
            mine = advantages[torch.tensor(group_id) == g]
            assert abs(float(mine.sum())) <= 1e-6 * float(mine.abs().sum()) + 1e-12


# --- wrong versions that the gate must reject -------------------------------------------------------------------------


def biased_std(rewards: torch.Tensor, group_id: torch.Tensor) -> GroupAdvantages:
    """ddof = 0."""
    good = group_advantages(rewards, group_id, num_groups=5)
    variance = good.variance * (good.count - 1).clamp(min=0) / good.count.clamp(min=1)
    centred = group_advantages(rewards, group_id, num_groups=5, normalize="mean").advantages
    return good._replace(advantages=centred / (variance.sqrt()[group_id] + 1e-4), variance=variance)


def failed_is_zero(rewards: torch.Tensor, group_id: torch.Tensor) -> GroupAdvantages:
    """A failed scorer taken for a reward of zero."""
    return group_advantages(rewards.nan_to_num(nan=0.0), group_id, num_groups=5)


def eps_inside_the_root(rewards: torch.Tensor, group_id: torch.Tensor) -> GroupAdvantages:
    good = group_advantages(rewards, group_id, num_groups=5)
    centred = group_advantages(rewards, group_id, num_groups=5, normalize="mean").advantages
    return good._replace(advantages=centred / (good.variance + 1e-4).sqrt()[group_id])


@pytest.mark.parametrize("wrong", [biased_std, failed_is_zero, eps_inside_the_root])
def test_gate_rejects(wrong: Callable[..., GroupAdvantages]) -> None:
    rewards, group_id = CASES["failed_scorers"]()
    with pytest.raises(AssertionError):
        check(wrong(rewards, group_id), rewards, group_id, num_groups=5)


# --- TRL 1.16 ---------------------------------------------------------------------------------------------------------


def trl_advantages(rewards: torch.Tensor, weights: torch.Tensor, size: int, combine: str, scale: str) -> torch.Tensor:
    """What TRL's GRPOTrainer makes of rewards [S, M] in equal groups that stand in order, with its own nanstd."""
    from trl.trainer.utils import nanstd as trl_nanstd

    def nanstd(x: torch.Tensor, **kwargs) -> torch.Tensor:
        torch.set_default_dtype(torch.float64)  # its n / (n - 1) is a division of ints: fp32 else, also for fp64 rewards
        try:
            return trl_nanstd(x, **kwargs)
        finally:
            torch.set_default_dtype(torch.float32)

    failed = rewards.isnan().all(dim=1)
    if combine == "sum_then_normalize":
        total = (rewards * weights).nansum(dim=1).masked_fill(failed, NAN)
        groups = total.view(-1, size)
        advantages = total - groups.nanmean(dim=1).repeat_interleave(size)
        if scale == "group":
            advantages = advantages / (nanstd(groups, dim=1).repeat_interleave(size) + 1e-4)
        elif scale == "batch":
            advantages = advantages / (nanstd(total) + 1e-4)
    else:
        groups = rewards.view(-1, size, rewards.shape[1])
        each = (groups - groups.nanmean(dim=1, keepdim=True)) / (nanstd(groups, dim=1, keepdim=True) + 1e-4)
        total = (each.view(rewards.shape) * weights).nansum(dim=1).masked_fill(failed, NAN)
        advantages = (total - total.nanmean()) / (nanstd(total) + 1e-4)
    return advantages.nan_to_num(nan=0.0)


@pytest.mark.parametrize(
    ("combine", "scale", "ours"),
    [
        ("sum_then_normalize", "group", {"normalize": "std"}),
        ("sum_then_normalize", "none", {"normalize": "mean"}),
        ("sum_then_normalize", "batch", {"normalize": "std", "scale_by_batch_std": True}),
        ("normalize_then_sum", "group", {"normalize": "std", "scale_by_batch_std": True}),
    ],
)
@pytest.mark.parametrize("nan", [0.0, 0.2])
def test_equals_trl(combine: str, scale: str, ours: dict, nan: float) -> None:
    generator = torch.Generator().manual_seed(3)
    rewards = torch.randn(48, 3, generator=generator).double()
    rewards[torch.rand(48, 3, generator=generator) < nan] = NAN
    if nan:
        rewards[11] = NAN  # nothing scored this one
    weights = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    group_id = torch.arange(6).repeat_interleave(8)
    truth = trl_advantages(rewards, weights, 8, combine, scale)
    order = torch.randperm(48, generator=generator)  # ours takes them in any order
    got = group_advantages(
        rewards[order].to(DEVICE), group_id[order].to(DEVICE), weights=weights.to(DEVICE), combine=combine, **ours
    )
    torch.testing.assert_close(got.advantages.cpu(), truth[order], rtol=1e-10, atol=1e-11)
    narrow = group_advantages(
        rewards[order].float().to(DEVICE),
        group_id[order].to(DEVICE),
        weights=weights.to(DEVICE),
        combine=combine,
        **ours,
    )
    torch.testing.assert_close(narrow.advantages.cpu().double(), truth[order], rtol=1e-5, atol=1e-6)


# --- contracts --------------------------------------------------------------------------------------------------------


def test_empty_and_one() -> None:
    none = torch.empty(0, device=DEVICE)
    no_id = torch.empty(0, dtype=torch.int64, device=DEVICE)
    for num_groups, n in ((None, 0), (0, 0), (3, 3)):
        got = group_advantages(none, no_id, num_groups=num_groups)
        assert got.advantages.shape == (0,)
        assert got.count.tolist() == got.mean.tolist() == got.variance.tolist() == [0] * n
    got = group_advantages(none.reshape(0, 2), no_id, num_groups=2, combine="normalize_then_sum", scale_by_batch_std=True)
    assert got.advantages.shape == (0,)
    one = torch.tensor([3.0], device=DEVICE)
    zero = torch.tensor([0], device=DEVICE)
    for scale in (False, True):
        for normalize in NORMALIZE[:3]:
            got = group_advantages(one, zero, normalize=normalize, scale_by_batch_std=scale)
            assert (got.advantages.item(), got.count.item(), got.mean.item(), got.variance.item()) == (0, 1, 3, 0)
    assert group_advantages(one, zero, normalize="none").advantages.item() == 3


def test_strides_do_not_matter() -> None:
    rewards, group_id = make([4, 6, 2, 9], 3)
    weights = torch.rand(3, device=DEVICE)
    for combine in ("sum_then_normalize", "normalize_then_sum"):
        want = group_advantages(rewards, group_id, weights=weights, combine=combine)
        strided = group_advantages(
            rewards.T.contiguous().T,
            group_id.repeat_interleave(2)[::2],
            weights=weights.repeat_interleave(3)[::3],
            combine=combine,
        )
        assert all(torch.equal(a, b) for a, b in zip(want, strided, strict=True))
    column = group_advantages(rewards[:, 1], group_id.int())
    assert torch.equal(column.advantages, group_advantages(rewards[:, 1].contiguous(), group_id).advantages)


def test_nothing_is_differentiable() -> None:
    rewards, group_id = make([4, 6])
    got = group_advantages(rewards.requires_grad_(), group_id)
    assert not any(t.requires_grad for t in got)


def test_id_out_of_range() -> None:
    rewards = torch.tensor([1.0, 2.0, 3.0, 5.0, 9.0], device=DEVICE)
    for bad in (-1, 2, 3, 2**40):
        group_id = torch.tensor([0, bad, 0, 1, 1], device=DEVICE)
        for kwargs in ({}, {"scale_by_batch_std": True}, {"combine": "normalize_then_sum", "scale_by_batch_std": True}):
            if not on_triton:
                with pytest.raises(ValueError, match=rf"group_id: expected values in \[0, 2\), got {bad} at index 1"):
                    group_advantages(rewards, group_id, num_groups=2, **kwargs)
                continue
            got = group_advantages(rewards, group_id, num_groups=2, **kwargs)
            assert got.advantages.isnan().tolist() == [False, True, False, False, False]
            assert got.count.tolist() == [2, 2]
            assert got.mean.tolist() == [2, 7]
    if not on_triton:
        with pytest.raises(ValueError, match=r"got -3 at index 0"):
            group_advantages(rewards[:1], torch.tensor([-3]))


@pytest.mark.skipif(not on_triton, reason="the C++ route raises instead: test_id_out_of_range")
def test_id_out_of_range_with_sorted_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("himakernels.ops.group_advantages.kernels._SCAN_PAIRS", -1)
    rewards, group_id = make([60] * 14)
    for num_groups in (0, 1, 9, 11):
        group_id = group_id - 1  # the first groups fall out below, the last ones above
        got = group_advantages(rewards, group_id, num_groups=num_groups)
        assert torch.equal(got.advantages.isnan(), (group_id < 0) | (group_id >= num_groups))
        assert got.count.tolist() == torch.bincount(group_id.clamp(min=-1) + 1, minlength=40)[1 : num_groups + 1].tolist()


R, G = torch.zeros(4), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("error", "match", "args", "kwargs"),
    [
        (TypeError, r"rewards: expected a torch.Tensor, got list", ([1.0], G), {}),
        (TypeError, r"rewards: expected dtype float32 or .*, got int64", (G, G), {}),
        (ValueError, r"rewards: expected shape \[S\] or \[S, M\], got \[4, 1, 1\]", (R.view(4, 1, 1), G), {}),
        (ValueError, r"rewards: expected at least one column, got \[4, 0\]", (R.view(4, 1)[:, :0], G), {}),
        (TypeError, r"group_id: expected dtype int64 or int32, got float32", (R, R), {}),
        (ValueError, r"group_id: expected shape \[4\], got \[3\]", (R, G[:3]), {}),
        (ValueError, r"group_id: expected device cpu, got meta", (R, G.to("meta")), {}),
        (ValueError, r"normalize: expected one of 'std', .*, got 'max'", (R, G), {"normalize": "max"}),
        (ValueError, r"combine: expected one of 'sum_then_normalize', .*, got 'sum'", (R, G), {"combine": "sum"}),
        (ValueError, r"eps: expected a finite number > 0, got 0", (R, G), {"eps": 0}),
        (ValueError, r"weights: expected None with rewards of shape \[S\]", (R, G), {"weights": R[:1]}),
        (ValueError, r"weights: expected shape \[2\], got \[4\]", (R.view(4, 1).expand(4, 2), G), {"weights": R}),
        (TypeError, r"weights: expected dtype float32 or .*, got int64", (R.view(4, 1), G), {"weights": G[:1]}),
        (TypeError, r"num_groups: expected int or None, got float", (R, G), {"num_groups": 2.0}),
        (ValueError, r"num_groups: expected a number >= 0, got -1", (R, G), {"num_groups": -1}),
    ],
)
def test_bad_arguments(error: type[Exception], match: str, args: tuple, kwargs: dict) -> None:
    with pytest.raises(error, match=match):
        group_advantages(*args, **kwargs)


def test_extension_checks_its_arrays() -> None:
    rest = (2, None, "std", 1e-4, False, False, 1)
    rewards, ids = R.numpy(), G.numpy()
    with pytest.raises(TypeError, match=r"rewards: expected dtype float32 or float64, got int64"):
        _core.group_advantages(ids, ids, *rest)
    with pytest.raises(TypeError, match=r"group_id: expected dtype int32 or int64, got float32"):
        _core.group_advantages(rewards, rewards, *rest)
    with pytest.raises(ValueError, match=r"group_id: expected shape \[4\], got \[2\]"):
        _core.group_advantages(rewards, ids[:2], *rest)
    with pytest.raises(ValueError, match=r"rewards: expected 1 or 2 dimensions, got 3"):
        _core.group_advantages(rewards.reshape(4, 1, 1), ids, *rest)
    with pytest.raises(ValueError, match=r"normalize: expected one of .*, got 'max'"):
        _core.group_advantages(rewards, ids, 2, None, "max", 1e-4, False, False, 1)
    with pytest.raises(TypeError, match=r"weights: expected a float64 array or None"):
        _core.group_advantages(rewards, ids, 2, rewards, "std", 1e-4, False, False, 1)


@pytest.mark.parametrize("columns", [None, 2])
def test_opcheck(columns: int | None) -> None:
    rewards, group_id = make([3, 4, 2], columns)
    weights = None if columns is None else torch.rand(columns, device=DEVICE)
    op = torch.ops.himakernels.group_advantages.default
    for then_sum in (False, True):
        torch.library.opcheck(op, (rewards, group_id, 4, weights, "std", 1e-4, then_sum, True))


@pytest.mark.once
def test_compiles_as_one_graph() -> None:
    def double_advantages(rewards: torch.Tensor, group_id: torch.Tensor, num_groups: int) -> torch.Tensor:
        got = group_advantages(rewards * 2, group_id, num_groups=num_groups, normalize="leave_one_out")
        return got.advantages + got.mean[group_id] * got.count[group_id]

    compiled = torch.compile(double_advantages, fullgraph=True, backend="aot_eager")
    for sizes in ([3, 4, 2], [5, 1, 6, 2]):
        rewards, group_id = make(sizes)
        n = len(sizes)
        torch.testing.assert_close(compiled(rewards, group_id, n), double_advantages(rewards, group_id, n))


def test_bits_are_the_same_on_every_run_and_with_any_number_of_threads() -> None:
    rewards, group_id = make([40 if on_triton else 7000] * 10)  # the C++ route starts threads from 65,536 samples on
    threads = torch.get_num_threads()
    want = group_advantages(rewards, group_id, num_groups=10)
    try:
        for n in (1, 2, 3, threads):
            torch.set_num_threads(n)
            again = group_advantages(rewards, group_id, num_groups=10)
            assert all(torch.equal(a, b) for a, b in zip(want, again, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_every_element_is_written() -> None:
    rewards, group_id = CASES["failed_scorers"]()
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills torch.empty with NaN
    try:
        got = group_advantages(rewards, group_id, num_groups=9)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not any(bool(t.isnan().any()) for t in (got.advantages, got.mean, got.variance))


@pytest.mark.once
def test_lengths_add_no_kernel_specialisation() -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    from himakernels.ops.group_advantages.kernels import group_advantages_fwd_kernel as kernel

    bind = create_function_from_signature(kernel.signature, kernel.params, make_backend(GPUTarget("cuda", 90, 32)))
    flags = {"NORMALIZE": "std", "HAS_WEIGHTS": False, "SORTED": False, "BLOCK_G": 4, "BLOCK_S": 512}

    def key(samples: int, columns: int, num_groups: int, eps: float) -> list:
        x = torch.empty(16)
        lengths = (columns, 1, 1, 1, columns, samples, samples, columns, num_groups, eps)
        return bind(*[x] * 9, *lengths, **flags)[1]

    keys = [key(*shape) for shape in ((1, 1, 1, 1.0), (16, 1, 16, 1e-4), (8191, 3, 511, 1e-6), (2**33, 16, 2**20, 0.5))]
    assert all(k == keys[0] for k in keys)
