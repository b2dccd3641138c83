"""grouped_lora: its errors, its operators under torch.library and torch.compile."""

from typing import Any

import pytest
import torch

from himakernels.ops.grouped_lora import grouped_lora
from himakernels.ops.grouped_lora.launch import device_table

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def arguments(**changed: Any) -> dict[str, Any]:
    g = torch.Generator().manual_seed(0)
    values = {
        "x": torch.randn(9, 6, generator=g).to(DEVICE),
        "a": [torch.randn(r, 6, generator=g).to(DEVICE) for r in (2, 3)],
        "b": [torch.randn(5, r, generator=g).to(DEVICE) for r in (2, 3)],
        "segments": torch.tensor([0, 4, 9], dtype=torch.int32, device=DEVICE),
        "scaling": [2.0, 0.5],
        "base": torch.randn(9, 5, generator=g).to(DEVICE),
    }
    return values | changed


def call(values: dict[str, Any]) -> torch.Tensor:
    return grouped_lora(**values)


two = torch.zeros(2, 6, device=DEVICE), torch.zeros(3, 6, device=DEVICE)
ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": [1.0]}, TypeError, r"x: expected a torch.Tensor, got list"),
    ({"x": torch.zeros(9, device=DEVICE)}, ValueError, r"x: expected shape \[T, H_in\], got \[9\]"),
    ({"x": torch.zeros(9, 6, dtype=torch.int64, device=DEVICE)}, TypeError, r"x: expected dtype .*, got int64"),
    ({"a": [], "b": [], "scaling": []}, ValueError, r"a: expected at least one adapter, got none"),
    ({"b": []}, ValueError, r"b: expected 2 entries, one for each of a, got 0"),
    ({"scaling": [1.0]}, ValueError, r"scaling: expected 2 entries, one for each of a, got 1"),
    ({"scaling": [1.0, float("nan")]}, ValueError, r"scaling\[1\]: expected a number, got nan"),
    ({"scaling": torch.ones(2)}, TypeError, r"scaling\[0\]: expected a number, got Tensor"),
    ({"a": [two[0], torch.zeros(3, 7, device=DEVICE)]}, ValueError, r"a\[1\]: expected shape \[r, 6\], got \[3, 7\]"),
    ({"a": [two[1], two[1]]}, ValueError, r"b\[0\]: expected shape \[H_out, 3\], got \[5, 2\]"),
    (
        {"b": [torch.zeros(5, 2, device=DEVICE), torch.zeros(4, 3, device=DEVICE)]},
        ValueError,
        r"b\[1\]: expected shape \[5, 3\], got \[4, 3\]",
    ),
    ({"a": [two[0].half(), two[1]]}, TypeError, r"a\[0\]: expected dtype float32, got float16"),
    ({"a": [two[0], two[1].half()]}, TypeError, r"a\[1\]: expected dtype float32, got float16"),
    ({"x": torch.zeros(9, 6, dtype=torch.float16, device=DEVICE)}, TypeError, r"base: expected dtype float16, got float32"),
    ({"segments": torch.tensor([0, 9], dtype=torch.int32)}, ValueError, r"segments: expected shape \[3\], got \[2\]"),
    ({"segments": torch.tensor([0, 4, 9])}, TypeError, r"segments: expected dtype int32, got int64"),
    (
        {"segments": torch.zeros(3, dtype=torch.int32, device="meta")},
        ValueError,
        rf"segments: expected device {DEVICE.type}.*, got meta",
    ),
    ({"base": torch.zeros(9, 4, device=DEVICE)}, ValueError, r"base: expected shape \[9, 5\], got \[9, 4\]"),
]


@pytest.mark.parametrize(("changed", "error", "message"), ERRORS)
def test_errors(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(arguments(**changed))


def test_adapters_narrower_than_x_are_refused() -> None:
    with pytest.raises(TypeError, match=r"a\[0\]: expected dtype bfloat16 or float32, got float16"):
        call(arguments(x=torch.zeros(9, 6, dtype=torch.bfloat16, device=DEVICE), a=[t.half() for t in two]))


@pytest.mark.parametrize("needs", [[True] * 5, [True] + [False] * 4, [False, False, True, False, False], [False] * 4 + [True]])
def test_opcheck(needs: list[bool]) -> None:
    values = arguments()
    x, base, a, b = values["x"], values["base"], values["a"], values["b"]
    rest = (values["segments"], values["scaling"])
    op, op_bwd = torch.ops.himakernels.grouped_lora.default, torch.ops.himakernels.grouped_lora_bwd.default
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(op, (x, base, a, b, *rest), test_utils=tests)
    torch.library.opcheck(op, (x, None, a, b, *rest), test_utils=tests)
    _, h = op(x, base, a, b, *rest)
    torch.library.opcheck(op_bwd, (base, x, h, a, b, *rest, needs), test_utils=tests)


@pytest.mark.once
def test_tables_where_another_device_is_the_default() -> None:
    """On a GPU they are pinned first, which only the host's memory can be."""
    with torch.device("meta"):
        starts, scaling = device_table.__wrapped__((3, 5), (0.5, 2.0), torch.device("cpu"))
    assert (starts.tolist(), scaling.tolist()) == ([0, 3, 8], [0.5, 2.0])


@pytest.mark.once
def test_compile() -> None:
    """One graph, forward and backward, the same bits as eager; another number of tokens does not compile for ever."""

    def loss(x: torch.Tensor, base: torch.Tensor, a: list[torch.Tensor], b: list[torch.Tensor], segments: torch.Tensor):
        return grouped_lora(x * 2, a, b, segments, [2.0, 0.5], base=base).square().sum()

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in (9, 17):
        g = torch.Generator().manual_seed(tokens)
        x, base = torch.randn(tokens, 6, generator=g).to(DEVICE), torch.randn(tokens, 5, generator=g).to(DEVICE)
        values = arguments(x=x, base=base, segments=torch.tensor([0, 4, tokens], dtype=torch.int32, device=DEVICE))
        leaves = [x, base, *values["a"], *values["b"]]
        for t in leaves:
            t.requires_grad_()
        runs = []
        for run in (loss, compiled):
            value = run(x, base, values["a"], values["b"], values["segments"])
            runs.append([value, *torch.autograd.grad(value, leaves)])
        assert all(torch.equal(p, q) for p, q in zip(*runs, strict=True))
