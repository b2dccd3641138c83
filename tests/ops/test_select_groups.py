"""select_groups: hand-computed masks, equality with the specification, and contracts. Plain torch on every device."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from himakernels.ops.select_groups import select_groups, select_groups_reference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("variance", "per", "top_k", "expected"),
    [
        ([1.0, 3.0, 2.0, 4.0], None, 2, [0, 1, 0, 1]),  # highest first
        ([2.0, 5.0, 2.0, 2.0], None, 2, [1, 1, 0, 0]),  # a tie goes to the lower index
        ([0.0, 1.0, 0.0, 0.0], None, 3, [0, 1, 0, 0]),  # no spread, nothing to learn: fewer than top_k
        ([NAN, 1.0, INF, NAN], None, 1, [0, 0, 1, 0]),  # NaN never; inf is the highest
        ([1.0, 0.0, NAN, 2.0], None, None, [1, 0, 0, 1]),  # no limit
        ([1.0, 2.0, 3.0, 4.0, 5.0], [7, -1, 7, -1, 7], 1, [0, 0, 0, 1, 1]),  # top_k inside each key
        ([3.0, 3.0, 0.0, 3.0, 1.0], [2, 2, 1, 2, 1], 2, [1, 1, 0, 0, 1]),  # ties and zeros inside keys
        ([1.0, 0.0, 2.0], [0, 0, 9], None, [1, 0, 1]),  # keys without a limit change nothing
    ],
)
def test_hand_computed(variance: list[float], per: list[int] | None, top_k: int | None, expected: list[int]) -> None:
    keys = None if per is None else torch.tensor(per, device=DEVICE)
    mask = select_groups(torch.tensor(variance, device=DEVICE), top_k=top_k, per=keys)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [bool(e) for e in expected]


# Few distinct values, so that ties, zeros and NaN are common.
groups = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, NAN, INF, -1.0]), st.integers(-2, 2)), max_size=24)


def run(select: Callable[..., torch.Tensor], pairs: list, top_k: int | None, keyed: bool) -> list[bool]:
    variance = torch.tensor([v for v, _ in pairs], dtype=torch.float32, device=DEVICE)
    per = torch.tensor([k for _, k in pairs], dtype=torch.int32, device=DEVICE) if keyed else None
    return select(variance, top_k=top_k, per=per).tolist()


@settings(max_examples=150, deadline=None)
@given(groups, st.none() | st.integers(1, 30), st.booleans())
def test_equals_the_specification(pairs: list, top_k: int | None, keyed: bool) -> None:
    assert run(select_groups, pairs, top_k, keyed) == run(select_groups_reference, pairs, top_k, keyed)


@settings(max_examples=50, deadline=None)
@given(groups, st.integers(1, 5), st.randoms(use_true_random=False))
def test_selected_variances_do_not_depend_on_order(pairs: list, top_k: int, random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)

    def chosen(order: list) -> list:
        return sorted(p for p, taken in zip(order, run(select_groups, order, top_k, True), strict=True) if taken)

    assert chosen(pairs) == chosen(shuffled)


@settings(max_examples=50, deadline=None)
@given(groups, st.integers(1, 5), st.permutations(range(5)))
def test_the_names_of_keys_do_not_matter(pairs: list, top_k: int, label: list[int]) -> None:
    renamed = [(v, label[k + 2] * 1000 - 7) for v, k in pairs]
    assert run(select_groups, pairs, top_k, True) == run(select_groups, renamed, top_k, True)


def plain_topk(variance: torch.Tensor, *, top_k: int | None, per: torch.Tensor | None = None) -> torch.Tensor:
    """Zero-variance groups fill up the places."""
    mask = torch.zeros_like(variance, dtype=torch.bool)
    mask[variance.nan_to_num(nan=-1.0).topk(min(top_k or len(variance), len(variance))).indices] = True
    return mask


def global_topk(variance: torch.Tensor, *, top_k: int | None, per: torch.Tensor | None = None) -> torch.Tensor:
    """Forgets the keys."""
    return select_groups(variance, top_k=top_k)


@pytest.mark.parametrize("wrong", [plain_topk, global_topk])
def test_the_specification_rejects(wrong: Callable[..., torch.Tensor]) -> None:
    pairs = [(0.0, 0), (2.0, 0), (0.0, 0), (1.0, 1), (3.0, 0), (NAN, 1)]
    assert run(select_groups, pairs, 2, True) == run(select_groups_reference, pairs, 2, True)
    assert run(wrong, pairs, 2, True) != run(select_groups_reference, pairs, 2, True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_and_strides(dtype: torch.dtype) -> None:
    variance = torch.tensor([1.0, 9.0, 3.0, 9.0, 2.0, 9.0], dtype=dtype, device=DEVICE)[::2]
    per = torch.tensor([0, 9, 1, 9, 0, 9], device=DEVICE)[::2]
    assert select_groups(variance, top_k=1, per=per).tolist() == [False, True, True]
    assert select_groups(variance.requires_grad_(), top_k=1).tolist() == [False, True, False]


@pytest.mark.parametrize("n", [0, 1])
def test_empty_and_one(n: int) -> None:
    variance = torch.ones(n, device=DEVICE)
    per = torch.zeros(n, dtype=torch.int64, device=DEVICE)
    for kwargs in ({"top_k": None}, {"top_k": 3}, {"top_k": 3, "per": per}):
        assert select_groups(variance, **kwargs).tolist() == [True] * n


def test_deterministic() -> None:
    variance = torch.randint(0, 4, (3000,), device=DEVICE).float()
    per = torch.randint(0, 7, (3000,), device=DEVICE)
    want = select_groups(variance, top_k=50, per=per)
    assert torch.equal(want, select_groups_reference(variance, top_k=50, per=per))
    assert all(torch.equal(want, select_groups(variance, top_k=50, per=per)) for _ in range(3))


@pytest.mark.once
@pytest.mark.parametrize("keyed", [False, True])
def test_compiles_as_one_graph(keyed: bool) -> None:
    compiled = torch.compile(select_groups, fullgraph=True, backend="aot_eager")
    for n in (9, 17):
        variance = torch.rand(n, device=DEVICE)
        per = torch.arange(n, device=DEVICE) % 3 if keyed else None
        assert torch.equal(compiled(variance, top_k=2, per=per), select_groups(variance, top_k=2, per=per))


V = torch.ones(4)


@pytest.mark.parametrize(
    ("error", "match", "variance", "kwargs"),
    [
        (TypeError, r"variance: expected a torch.Tensor, got list", [1.0], {"top_k": 1}),
        (TypeError, r"variance: expected dtype float32 or .*, got int64", V.long(), {"top_k": 1}),
        (ValueError, r"variance: expected shape \[n\], got \[2, 2\]", V.view(2, 2), {"top_k": 1}),
        (TypeError, r"top_k: expected int or None, got float", V, {"top_k": 1.0}),
        (TypeError, r"top_k: expected int or None, got bool", V, {"top_k": True}),
        (ValueError, r"top_k: expected a number > 0 or None, got 0", V, {"top_k": 0}),
        (TypeError, r"per: expected dtype int64 or int32, got float32", V, {"top_k": 1, "per": V}),
        (ValueError, r"per: expected shape \[4\], got \[3\]", V, {"top_k": 1, "per": V[:3].long()}),
        (ValueError, r"per: expected device cpu, got meta", V, {"top_k": 1, "per": V.long().to("meta")}),
    ],
)
def test_bad_arguments(error: type[Exception], match: str, variance: torch.Tensor, kwargs: dict) -> None:
    with pytest.raises(error, match=match):
        select_groups(variance, **kwargs)
