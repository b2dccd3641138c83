"""varlen_attention: ours against the reference, what other libraries are called with, and what they refuse."""

import inspect
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention.varlen import varlen_attn

from himakernels import tree_attention, varlen_attention, varlen_attention_reference
from himakernels.ops.varlen_attention import op
from himakernels.ops.varlen_attention.backends import BACKENDS
from himakernels.testing import assert_gate

pytestmark = pytest.mark.usefixtures("poison")
LENGTHS = {
    "ragged": [7, 1, 30, 12],
    "one_sequence": [40],
    "empty_ones": [0, 5, 0, 0, 9, 0],  # boundaries that coincide, also at both ends
    "single_tokens": [1] * 20,
}


def bounds(lengths: list[int], device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int().to(device)


def operands(T: int, heads: tuple[int, int] = (4, 2), dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(T)
    return [torch.randn(T, h, 16, generator=g).to(dtype) for h in (heads[0], heads[1], heads[1])]


@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("options", [{}, {"window": 4, "softcap": 2.0, "scale": 0.3, "sinks": torch.tensor([0.0, 1, -1, 3])}])
@pytest.mark.parametrize("name", LENGTHS)
def test_gate(name: str, options: dict[str, Any], index_dtype: torch.dtype, device: torch.device) -> None:
    x, cu_seqlens = operands(sum(LENGTHS[name])), bounds(LENGTHS[name]).to(index_dtype)
    runs = []
    for attention, where, dtype in (
        (varlen_attention, device, torch.float32),
        (varlen_attention_reference, torch.device("cpu"), torch.float64),
        (varlen_attention_reference, torch.device("cpu"), torch.float32),
    ):
        leaves = [t.to(where, dtype).requires_grad_() for t in x]
        moved = {key: t.to(where, dtype) if isinstance(t, torch.Tensor) else t for key, t in options.items()}
        out = attention(*leaves, cu_seqlens.to(where), **moved)
        runs.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for what, ours, truth, eager in zip(("out", "dq", "dk", "dv"), *runs, strict=True):
        if name == "single_tokens" and what in ("dq", "dk") and not options:
            assert float(ours.abs().max()) < 1e-5  # exactly zero in truth: nothing to judge by
        else:
            assert_gate(what, ours, truth, eager, n=640)


def test_no_tokens(device: torch.device) -> None:
    x = [t.to(device) for t in operands(0)]
    assert varlen_attention(*x, bounds([], device)).shape == (0, 4, 16)
    assert varlen_attention(*x, bounds([0, 0], device)).shape == (0, 4, 16)


def test_it_is_tree_attention_on_chains(device: torch.device) -> None:
    x = [t.to(device) for t in operands(8)]
    subtree_end, position_ids = op._op(bounds([3, 0, 4, 1], device), 8)
    assert subtree_end.tolist() == [3, 3, 3, 7, 7, 7, 7, 8]
    assert position_ids.tolist() == [0, 1, 2, 0, 1, 2, 3, 0]
    assert subtree_end.dtype == position_ids.dtype == torch.int32
    strided = torch.stack([bounds([3, 0, 4, 1], device)] * 2, 1)[:, 0]
    assert all(torch.equal(a, b) for a, b in zip(op._op(strided, 8), (subtree_end, position_ids), strict=True))
    ours = varlen_attention(*x, bounds([3, 0, 4, 1], device), window=2)
    assert torch.equal(ours, tree_attention(*x, subtree_end, position_ids=position_ids, window=2))


def test_compile_and_opcheck(device: torch.device) -> None:
    torch._dynamo.reset()
    x, cu_seqlens = [t.to(device) for t in operands(20)], bounds([8, 12], device)
    compiled = torch.compile(varlen_attention, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*x, cu_seqlens, window=3), varlen_attention(*x, cu_seqlens, window=3))
    torch.library.opcheck(op._op, (cu_seqlens, 20), test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"))


X = dict(zip(("q", "k", "v"), operands(9), strict=True)) | {"cu_seqlens": bounds([4, 5])}
HALF = {name: t.half() for name, t in X.items() if name != "cu_seqlens"}
ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (ValueError, "backend: expected one of 'himakernels', 'flash_attn', .*, got 'cudnn'", {"backend": "cudnn"}),
    (ValueError, r"cu_seqlens: expected shape \[N \+ 1\], got \[2, 1\]", {"cu_seqlens": bounds([9])[:, None]}),
    (TypeError, "cu_seqlens: expected dtype int64 or int32, got float32", {"cu_seqlens": torch.zeros(3)}),
    (ValueError, "cu_seqlens: expected device cpu, got meta", {"cu_seqlens": torch.zeros(3, device="meta").int()}),
    (ValueError, "cu_seqlens: expected at least 2 boundaries, got 1", {"cu_seqlens": bounds([])}),
    (ValueError, "cu_seqlens: expected boundaries from 0 to 9, got 0 to 8", {"cu_seqlens": bounds([4, 4])}),
    (ValueError, "cu_seqlens: expected boundaries from 0 to 9, got 1 to 9", {"cu_seqlens": bounds([4, 5]).clamp(min=1)}),
    (ValueError, "cu_seqlens: expected no boundary below .*, got 3 at index 2", {"cu_seqlens": torch.tensor([0, 5, 3, 9])}),
    (ValueError, r"v: expected shape \[9, 2, 16\], got \[9, 4, 16\]", {"v": X["q"]}),
    (ValueError, "window: expected a number > 0, got -1", {"window": -1}),
]
# What a library can't do.
REFUSALS: list[tuple[str, str, dict[str, Any]]] = [
    ("flash_attn", "q: expected dtype float16 or bfloat16 with backend='flash_attn', got float32", {}),
    ("torch", "q: expected dtype float16 or bfloat16 with backend='torch', got float32", {}),
    ("xformers", "q: expected device cuda with backend='xformers', got cpu", {}),
    ("flash_attn", "q: expected device cuda with backend='flash_attn', got cpu", HALF),
    ("torch", "q: expected device cuda with backend='torch', got cpu", HALF),
    ("flash_attn", "sinks: expected None with backend='flash_attn', got a tensor", {"sinks": torch.zeros(4)}),
    ("torch", "sinks: expected None with backend='torch', got a tensor", {"sinks": torch.zeros(4)}),
    ("xformers", "softcap: expected None with backend='xformers', got 2.0", {"softcap": 2.0}),
    ("torch", "softcap: expected None with backend='torch', got 2.0", {"softcap": 2.0}),
]


@pytest.mark.parametrize(("error", "match", "changes"), ERRORS)
def test_bad_arguments(error: type[Exception], match: str, changes: dict[str, Any]) -> None:
    with pytest.raises(error, match=match):
        varlen_attention(**{**X, **changes})


@pytest.mark.parametrize(("backend", "match", "changes"), REFUSALS)
def test_what_a_library_cannot_do(backend: str, match: str, changes: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match=match):
        varlen_attention(**{**X, **changes}, backend=backend)


@pytest.mark.usefixtures("no_gpu_needed")
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_tokens_for_any_library(backend: str) -> None:
    q, k, v = (torch.zeros(0, 4, 16, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    out = varlen_attention(q, k, v, torch.zeros(1, dtype=torch.int32), backend=backend)
    assert out.shape == (0, 4, 16)
    out.sum().backward()


@pytest.fixture
def no_gpu_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit to CUDA lifted, so that the call itself is reached with a stand-in for the library."""
    for name, backend in BACKENDS.items():
        monkeypatch.setitem(BACKENDS, name, replace(backend, devices=("cpu", "cuda")))


@pytest.mark.usefixtures("no_gpu_needed")
@pytest.mark.parametrize(("backend", "package"), [("flash_attn", "flash_attn"), ("xformers", "xformers")])
def test_a_library_that_is_not_installed(backend: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("himakernels.ops.varlen_attention.backends.importlib.import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=f"backend: expected {package} to be installed, got no such package"):
        varlen_attention(**{**X, **HALF}, backend=backend)


@pytest.mark.usefixtures("no_gpu_needed")
def test_what_a_library_lacks_itself_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'einops'", name="einops")

    monkeypatch.setattr("himakernels.ops.varlen_attention.backends.importlib.import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="No module named 'einops'"):
        varlen_attention(**{**X, **HALF}, backend="flash_attn")


def check_against_ours(backend: str, dtype: torch.dtype, options: dict[str, Any]) -> None:
    """A stand-in computes the reference from what it is handed: with the right arguments that is our result."""
    q, k, v = operands(19, dtype=dtype)
    cu_seqlens = bounds([4, 9, 6])
    out = varlen_attention(q, k, v, cu_seqlens.long(), backend=backend, **options)
    torch.testing.assert_close(out, varlen_attention_reference(q, k, v, cu_seqlens, **options))


@pytest.mark.usefixtures("no_gpu_needed")
@pytest.mark.parametrize("options", [{}, {"window": 3, "softcap": 2.0, "scale": 0.2}])
def test_the_call_of_flash_attn(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def flash_attn_varlen_func(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens_q: torch.Tensor, cu_seqlens_k: torch.Tensor,
        max_seqlen_q: int, max_seqlen_k: int, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
        window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0, alibi_slopes: Any = None, deterministic: bool = False,
        return_attn_probs: bool = False, block_table: Any = None,
    ) -> torch.Tensor:  # fmt: skip
        """The signature of flash-attn 2. A window of (left, right) shows the keys from i - left to i + right."""
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert torch.equal(cu_seqlens_q, cu_seqlens_k)
        assert (max_seqlen_q, max_seqlen_k, causal, dropout_p) == (9, 9, True, 0.0)
        left, right = window_size
        assert right == (-1 if left == -1 else 0)
        window = None if left == -1 else left + 1
        return varlen_attention_reference(
            q, k, v, cu_seqlens_q, scale=softmax_scale, window=window, softcap=softcap or None
        )  # fmt: skip

    module = ModuleType("flash_attn")
    module.flash_attn_varlen_func = flash_attn_varlen_func  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    check_against_ours("flash_attn", torch.bfloat16, options)


@pytest.mark.usefixtures("no_gpu_needed")
@pytest.mark.parametrize("options", [{}, {"window": 3, "scale": 0.2}])
def test_the_call_of_xformers(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class BlockDiagonalCausalMask:
        """A window shows the keys whose index is greater than i - window_size."""

        def __init__(self, lengths: list[int], window: int | None = None) -> None:
            self.lengths, self.window = lengths, window

        @classmethod
        def from_seqlens(cls, q_seqlen: list[int], kv_seqlen: list[int] | None = None) -> "BlockDiagonalCausalMask":
            assert all(type(n) is int for n in q_seqlen)
            assert kv_seqlen is None
            return cls(q_seqlen)

        def make_local_attention(self, window_size: int) -> "BlockDiagonalCausalMask":
            return type(self)(self.lengths, window_size)

    def memory_efficient_attention(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_bias: Any = None, p: float = 0.0,
        scale: float | None = None, *, op: Any = None,
    ) -> torch.Tensor:  # fmt: skip
        assert query.shape == key.shape == value.shape == (1, 19, 4, 16)  # [B, M, H, K], heads repeated
        assert isinstance(attn_bias, BlockDiagonalCausalMask)
        at = bounds(attn_bias.lengths)
        return varlen_attention_reference(query[0], key[0], value[0], at, scale=scale, window=attn_bias.window)[None]

    modules = {
        name: ModuleType(name) for name in ("xformers", "xformers.ops", "xformers.ops.fmha", "xformers.ops.fmha.attn_bias")
    }
    modules["xformers.ops"].memory_efficient_attention = memory_efficient_attention  # type: ignore[attr-defined]
    modules["xformers.ops.fmha.attn_bias"].BlockDiagonalCausalMask = BlockDiagonalCausalMask  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    check_against_ours("xformers", torch.float32, options)


@pytest.mark.usefixtures("no_gpu_needed")
def test_a_torch_without_grouped_heads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch 2.11's varlen_attn is."""

    def old(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any, scale: float | None) -> torch.Tensor:
        raise AssertionError("called")

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", old)
    with pytest.raises(NotImplementedError, match=r"expected a varlen_attn with enable_gqa \(torch 2\.13\), got torch"):
        varlen_attention(**{**X, **HALF}, backend="torch")


@pytest.mark.usefixtures("no_gpu_needed")
@pytest.mark.skipif("enable_gqa" not in inspect.signature(varlen_attn).parameters, reason="this torch is refused")
@pytest.mark.parametrize("options", [{}, {"window": 3, "scale": 0.2}])
def test_the_call_of_torch(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to the kernel's operator, below torch's own public function: it is that one which has no CPU kernel."""
    calls = []

    def kernel(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_q: torch.Tensor, cu_k: torch.Tensor, max_q: int, max_k: int,
        is_causal: bool, scale: float | None, window_size: list[int], *rest: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        assert torch.equal(cu_q, cu_k)
        assert (max_q, max_k, window_size[1]) == (9, 9, 0)
        calls.append(is_causal)
        window = None if window_size[0] == -1 else window_size[0] + 1
        return varlen_attention_reference(q, k, v, cu_q, scale=scale, window=window), torch.zeros(0), torch.zeros(0)

    monkeypatch.setattr("torch.nn.attention.varlen.torch.ops", SimpleNamespace(torch_attn=SimpleNamespace(_varlen_attn=kernel)))
    check_against_ours("torch", torch.float16, options)
    assert calls
