"""tree_attention: the gate, every gradient, edges, strides, errors, compile. Invariance and properties stand beside it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from himakernels import tree_attention, tree_attention_reference
from himakernels.ops.tree_attention import op
from himakernels.testing import assert_gate, forest_of, random_depths

pytestmark = [
    pytest.mark.usefixtures("poison"),
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),  # numpy, inside the interpreter, on NaN and inf
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NAN = float("nan")
NAMES = ("dq", "dk", "dv", "dsinks")
# heads: query heads, key heads.
CASES: dict[str, dict[str, Any]] = {
    # A prompt with siblings that branch off in the middle of a block: what training packs.
    "branches": {"depths": [*range(38), *[*range(38, 47)] * 4], "heads": (4, 2), "D": 32},
    # Several trees with branches at any depth, heads not grouped, a head dimension that is no power of two.
    "forest": {"depths": random_depths(70, seed=1), "heads": (2, 2), "D": 40},
    # Sliding window: depths, not packed indices, are compared; narrower than a block.
    "window": {"depths": [*range(30), *[*range(30, 40)] * 4], "heads": (2, 1), "D": 16, "window": 7},
    # Gemma 2: the cap bites, and with it its slope.
    "softcap": {"depths": random_depths(50, seed=2), "heads": (2, 1), "D": 16, "softcap": 1.5},
    # gpt-oss: a sink a head, some above all scores.
    "sinks": {"depths": random_depths(50, seed=3), "heads": (4, 2), "D": 16, "sinks": True},
    # All options at once, with a scale of the caller's.
    "everything": {
        "depths": random_depths(70, seed=4), "heads": (6, 2), "D": 24, "window": 9, "softcap": 4.0, "sinks": True, "scale": 0.4,
    },
    # Many trees of one to three tokens: several to a block, almost everything masked.
    "tiny_chains": {"depths": [d for n in (1, 3, 2, 1, 2) * 8 for d in range(n)], "heads": (2, 1), "D": 16},
    # Wide heads that all read one key head.
    "wide_heads": {"depths": [*range(30), *range(20, 32)], "heads": (3, 1), "D": 136},
}  # fmt: skip


class Inputs:
    """Operands of a case in `dtype`, the options for tree_attention, and an upstream gradient."""

    def __init__(self, case: dict[str, Any], dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        (query_heads, key_heads), D, T = case["heads"], case["D"], len(case["depths"])

        def randn(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).to(device)

        self.q, self.k, self.v = (randn(T, heads, D) for heads in (query_heads, key_heads, key_heads))
        self.dout = randn(T, query_heads, D)
        self.sinks = randn(query_heads) * 3 if case.get("sinks") else None
        self.subtree_end, self.position_ids = forest_of(case["depths"], device)
        self.options = {name: case[name] for name in ("window", "softcap", "scale") if name in case}

    @property
    def leaves(self) -> list[torch.Tensor]:
        return [self.q, self.k, self.v] + ([] if self.sinks is None else [self.sinks])

    def run(
        self, attention: Callable[..., torch.Tensor], dtype: torch.dtype | None = None, **changes: Any
    ) -> list[torch.Tensor]:
        """out and the gradients of q, k, v and, where there are any, sinks; in `dtype` on the CPU if one is given."""
        to = (lambda t: t.cpu().to(dtype)) if dtype else (lambda t: t.clone())
        leaves = [to(t.detach()).requires_grad_() for t in self.leaves]
        forest = {"subtree_end": self.subtree_end, "position_ids": self.position_ids}
        forest = {name: t.to(leaves[0].device) for name, t in {**forest, **changes}.items()}
        sinks = leaves[3] if len(leaves) > 3 else None
        out = attention(*leaves[:3], **forest, sinks=sinks, **self.options)
        return [out.detach(), *torch.autograd.grad(out, leaves, to(self.dout))]


def check_gate(x: Inputs, got: list[torch.Tensor]) -> None:
    dtype, (T, _, D) = x.q.dtype, x.q.shape
    truth, eager = (x.run(tree_attention_reference, precision) for precision in (torch.float64, dtype))
    for name, a, b, c in zip(("out", *NAMES), got, truth, eager, strict=False):
        assert a.dtype == dtype
        assert a.is_contiguous()
        assert_gate(name, a, b, c, n=T * D)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_gate(name: str, dtype: torch.dtype, device: torch.device) -> None:
    x = Inputs(CASES[name], dtype, device)
    check_gate(x, x.run(tree_attention))


def test_default_scale_and_wide_sinks(device: torch.device) -> None:
    """sinks in fp32 beside bf16 operands, as gpt-oss may keep them: their gradient is fp32 as well."""
    x = Inputs(CASES["sinks"], torch.bfloat16, device)
    assert x.sinks is not None
    wide = x.sinks.float()
    for sinks in (x.sinks.requires_grad_(), wide.requires_grad_()):
        tree_attention(x.q, x.k, x.v, x.subtree_end, sinks=sinks, scale=16**-0.5).backward(x.dout)
    assert wide.grad is not None
    assert wide.grad.dtype == torch.float32
    assert torch.equal(wide.grad.bfloat16(), x.sinks.grad)
    plain = tree_attention(x.q, x.k, x.v, x.subtree_end, sinks=wide)
    assert torch.equal(plain, tree_attention(x.q, x.k, x.v, x.subtree_end, sinks=wide, scale=0.25))


@pytest.mark.once
def test_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("himakernels.ops.tree_attention.double._BLOCK", 4)
    case = {"depths": [0, 1, 2, 2, 3, 1, 0, 1, 1], "heads": (2, 1), "D": 16, "sinks": True}
    x = Inputs(case, torch.float64)
    leaves = [t.requires_grad_() for t in x.leaves]
    for options in ({}, {"window": 2, "softcap": 2.0, "scale": 0.7}):

        def ours(
            q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: torch.Tensor, options: Any = options
        ) -> torch.Tensor:
            return tree_attention(q, k, v, x.subtree_end, position_ids=x.position_ids, sinks=sinks, **options)

        assert torch.autograd.gradcheck(ours, leaves)
        x.options = options
        torch.testing.assert_close(x.run(tree_attention), x.run(tree_attention_reference), rtol=1e-12, atol=1e-13)


def test_only_what_is_asked_for(device: torch.device) -> None:
    x = Inputs({**CASES["everything"], "depths": random_depths(20, seed=4), "heads": (2, 1)}, torch.float32, device)
    every = x.run(tree_attention)[1:]
    for wanted in ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 1, 0), (0, 1, 0, 1)):
        leaves = [t.clone().requires_grad_(bool(want)) for t, want in zip(x.leaves, wanted, strict=True)]
        out = tree_attention(
            *leaves[:3], x.subtree_end, position_ids=x.position_ids, sinks=leaves[3], **x.options
        )  # fmt: skip
        out.backward(x.dout)
        for leaf, grad, want in zip(leaves, every, wanted, strict=True):
            assert (leaf.grad is not None) == bool(want)
            if want:
                assert torch.equal(leaf.grad, grad)
    with torch.no_grad():
        assert not tree_attention(*leaves[:3], x.subtree_end).requires_grad


def test_a_second_derivative_raises(device: torch.device) -> None:
    x = Inputs(CASES["forest"], torch.float32, device)
    q = x.q.requires_grad_()
    with pytest.raises(RuntimeError, match="create_graph: expected False"):
        torch.autograd.grad(tree_attention(q, x.k, x.v, x.subtree_end).square().sum(), q, create_graph=True)


def test_the_graph_may_be_run_backward_again(device: torch.device) -> None:
    x = Inputs(CASES["sinks"], torch.float32, device)
    leaves = [t.requires_grad_() for t in x.leaves]
    out = tree_attention(*leaves[:3], x.subtree_end, sinks=leaves[3])
    first, second = (torch.autograd.grad(out, leaves, x.dout, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_token_sees_itself(dtype: torch.dtype, device: torch.device) -> None:
    x = Inputs({"depths": [0], "heads": (4, 2), "D": 16, "window": 1}, dtype, device)
    out, dq, dk, dv = x.run(tree_attention)
    torch.testing.assert_close(out, x.v.repeat_interleave(2, dim=1))
    torch.testing.assert_close(dv, x.dout.view(1, 2, 2, 16).sum(2))
    # The difference of two equal numbers, of which out has been rounded.
    assert float(torch.stack([dq.abs().max(), dk.abs().max()]).max()) <= 64 * torch.finfo(dtype).eps


def test_no_tokens(device: torch.device) -> None:
    x = Inputs({"depths": [], "heads": (4, 2), "D": 16, "window": 3, "sinks": True}, torch.bfloat16, device)
    grads = x.run(tree_attention)
    assert [list(g.shape) for g in grads] == [[0, 4, 16], [0, 4, 16], [0, 2, 16], [0, 2, 16], [4]]
    assert grads[4].tolist() == [0, 0, 0, 0]


def test_strided_inputs(device: torch.device) -> None:
    """Views of a fused projection, heads before tokens, one key head expanded, and an expanded upstream gradient."""
    T, query_heads, key_heads, D = 41, 4, 2, 16
    subtree_end, _ = forest_of(random_depths(T, seed=5), device)
    g = torch.Generator().manual_seed(7)
    fused = torch.randn(T, query_heads + 2 * key_heads, D, generator=g).to(device)
    q, k, v = fused.split([query_heads, key_heads, key_heads], dim=1)
    first = [t.transpose(0, 1).contiguous().transpose(0, 1) for t in (q, k, v)]
    spread = [q, k[:, :1].expand(T, 4, D), v[:, :1].expand(T, 4, D)]
    for views in ((q, k, v), first, spread):
        assert not all(t.is_contiguous() for t in views)
        results = []
        for leaves in (views, [t.contiguous() for t in views]):
            leaves = [t.detach().requires_grad_() for t in leaves]
            out = tree_attention(*leaves, subtree_end)
            results.append([out, *torch.autograd.grad(out.sum(), leaves)])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    with pytest.raises(ValueError, match=r"k: expected stride 1 along the head dimension, got strides \[64, 32, 2\]"):
        tree_attention(q, torch.zeros(T, 2, 32, device=device)[:, :, ::2], v, subtree_end)


def test_nan_in_q_shows(device: torch.device) -> None:
    x = Inputs(CASES["forest"], torch.float32, device)
    clean = tree_attention(x.q, x.k, x.v, x.subtree_end)
    x.q[33, 1, 3] = NAN
    out = tree_attention(x.q, x.k, x.v, x.subtree_end)
    assert bool(out[33, 1].isnan().all())
    out[33, 1] = clean[33, 1]
    assert torch.equal(out, clean)


@pytest.mark.parametrize("size", [1e3, 1e5, 1e8])
def test_large_scores(size: float, device: torch.device) -> None:
    """One key takes everything: no overflow, and the gradient of the scores vanishes."""
    x = Inputs(CASES["branches"], torch.float32, device)
    x.options = {"scale": size}
    out, dq, dk, dv = x.run(tree_attention)
    truth = x.run(tree_attention_reference, torch.float64)
    scores = torch.einsum("qhd,khd->hqk", x.q.double(), x.k.double().repeat_interleave(2, dim=1))
    second = scores.masked_fill(~(torch.ones(74, 74, device=device).tril() > 0), -torch.inf).topk(2).values
    clear = ((second[..., 0] - second[..., 1]) * size > 50).t()  # [T, Hq]
    assert bool(clear[1:].float().mean() > 0.9)
    torch.testing.assert_close(out[clear].cpu().double(), truth[0].to(device)[clear].cpu(), rtol=1e-5, atol=1e-6)
    assert all(bool(t.isfinite().all()) for t in (out, dq, dk, dv))


def arguments(**changes: Any) -> dict[str, Any]:
    x = Inputs({"depths": [0, 1, 1, 2, 0], "heads": (4, 2), "D": 16}, torch.float32)
    plain = {"q": x.q, "k": x.k, "v": x.v, "subtree_end": x.subtree_end, "position_ids": x.position_ids}
    return {**plain, **changes}


Z = torch.zeros
I32 = torch.int32
ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "q: expected a torch.Tensor, got list", {"q": [1.0]}),
    (ValueError, r"q: expected shape \[T, Hq, D\], got \[5, 64\]", {"q": Z(5, 64)}),
    (TypeError, "q: expected dtype float32 or bfloat16 or float16 or float64, got int64", {"q": Z(5, 4, 16).long()}),
    (ValueError, "q: expected a head dimension of 16 to 256 that is a multiple of 8, got 20", {"q": Z(5, 4, 20)}),
    (ValueError, "q: expected a head dimension of 16 to 256 that is a multiple of 8, got 8", {"q": Z(5, 4, 8)}),
    (ValueError, "q: expected a head dimension of 16 to 256 that is a multiple of 8, got 264", {"q": Z(5, 4, 264)}),
    (ValueError, r"k: expected shape \[5, Hk, 16\], got \[4, 2, 16\]", {"k": Z(4, 2, 16)}),
    (ValueError, r"k: expected a number of heads that divides that of q \(4\), got 3", {"k": Z(5, 3, 16)}),
    (ValueError, r"k: expected a number of heads that divides that of q \(4\), got 0", {"k": Z(5, 0, 16)}),
    (TypeError, "k: expected dtype float32, got bfloat16", {"k": Z(5, 2, 16).bfloat16()}),
    (ValueError, r"v: expected shape \[5, 2, 16\], got \[5, 4, 16\]", {"v": Z(5, 4, 16)}),
    (ValueError, "v: expected device cpu, got meta", {"v": Z(5, 2, 16, device="meta")}),
    (ValueError, r"subtree_end: expected shape \[5\], got \[4\]", {"subtree_end": Z(4, dtype=I32)}),
    (TypeError, "subtree_end: expected a torch.Tensor, got NoneType", {"subtree_end": None}),
    (TypeError, "subtree_end: expected dtype int32, got int64", {"subtree_end": Z(5).long()}),
    (TypeError, "position_ids: expected dtype int32, got int64", {"position_ids": Z(5).long()}),
    (ValueError, "position_ids: expected a tensor with window=3, got None", {"position_ids": None, "window": 3}),
    (ValueError, r"position_ids: expected values in .* got -1 at index 0", {"position_ids": Z(5, dtype=I32) - 1, "window": 3}),
    (ValueError, "window: expected a number > 0, got 0", {"window": 0}),
    (TypeError, "window: expected an int, got float", {"window": 2.0}),
    (TypeError, "window: expected an int, got bool", {"window": True}),
    (ValueError, "softcap: expected a finite number > 0, got 0", {"softcap": 0}),
    (ValueError, "softcap: expected a finite number > 0, got -2.0", {"softcap": -2.0}),
    (ValueError, "scale: expected a finite number, got inf", {"scale": float("inf")}),
    (ValueError, r"sinks: expected shape \[4\], got \[2\]", {"sinks": Z(2)}),
    (TypeError, "sinks: expected dtype float32, got bfloat16", {"sinks": Z(4).bfloat16()}),
]
FORESTS = {
    "a subtree that leaves its parent's": [2, 4, 3, 4, 5],
    "a subtree that ends before it begins": [5, 1, 3, 4, 5],
    "a subtree beyond the last token": [6, 2, 3, 4, 5],
    "a negative end": [5, -7, 3, 4, 5],
}


@pytest.mark.parametrize(("error", "match", "changes"), ERRORS)
def test_bad_arguments(error: type[Exception], match: str, changes: dict[str, Any]) -> None:
    with pytest.raises(error, match=match):
        tree_attention(**arguments(**changes))


@pytest.mark.parametrize("name", FORESTS)
def test_a_forest_that_is_none(name: str) -> None:
    """Checked on the CPU; also inside a compiled function."""
    torch._dynamo.reset()
    bad = arguments(subtree_end=torch.tensor(FORESTS[name], dtype=I32))
    for run in (tree_attention, torch.compile(tree_attention, fullgraph=True, backend="aot_eager")):
        with pytest.raises(ValueError, match=r"subtree_end: expected nested ranges"):
            run(**bad)


@pytest.mark.once
@pytest.mark.parametrize("name", ["branches", "everything"])
def test_compile(name: str, device: torch.device) -> None:
    torch._dynamo.reset()
    x = Inputs(CASES[name], torch.float32, device)

    def step(q: torch.Tensor, *rest: torch.Tensor, **options: Any) -> torch.Tensor:
        return tree_attention(q * 1.0, *rest, **options) * 2

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert all(torch.equal(a, b) for a, b in zip(x.run(step), x.run(compiled), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(device: torch.device, dtype: torch.dtype) -> None:
    x = Inputs(CASES["everything"], dtype, device)
    tree = (x.subtree_end, x.position_ids, x.sinks, 0.3, 9, 4.0)
    results = op._op(x.q, x.k, x.v, *tree, True)
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(op._op, (x.q, x.k, x.v, *tree, True), test_utils=checks)
    for needs in ([True] * 4, [False, True, False, True]):
        torch.library.opcheck(op._op_bwd, (x.dout, x.q, x.k, x.v, *results, *tree, needs), test_utils=checks)
