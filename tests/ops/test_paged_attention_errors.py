"""paged_attention on bad input: argument, expected, got."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_paged_attention import CASES, Inputs


def errors(x: Inputs) -> Sequence[tuple[str, type[Exception], dict[str, Any], dict[str, Any]]]:
    long, half = x.seq_lens.long(), x.q.half()
    return [
        (r"q: expected shape \[T, Hq, D\], got \[4, 32\]", ValueError, {"q": x.q[:, 0]}, {}),
        (r"q: expected a head dimension of 16 to 256 that is a multiple of 8, got 12", ValueError, {"q": x.q[..., :12]}, {}),
        (r"keys: expected shape \[blocks, block_size, Hk, 32\], got", ValueError, {"keys": x.keys[..., :16]}, {}),
        (r"keys: expected a number of heads that divides that of q \(3\), got 2", ValueError, {"q": x.q[:, :3]}, {}),
        (r"values: expected shape", ValueError, {"values": x.values[1:]}, {}),
        (r"values: expected dtype float16, got float32", TypeError, {"q": half, "keys": x.keys.half()}, {}),
        (r"q: expected stride 1 along the head dimension", ValueError, {"q": torch.cat([x.q, x.q], 2)[..., ::2]}, {}),
        (r"q: expected a tensor that needs no gradient", ValueError, {"q": x.q.clone().requires_grad_()}, {}),
        (r"cu_seqlens: expected shape \[N \+ 1\], got \[\]", ValueError, {"cu_seqlens": x.cu_seqlens[0]}, {}),
        (r"block_table: expected shape \[4, M\], got \[3, ", ValueError, {"block_table": x.block_table[:3]}, {}),
        (r"seq_lens: expected dtype int32, got int64", TypeError, {"seq_lens": long}, {}),
        (r"seq_lens: expected shape \[4\], got \[3\]", ValueError, {"seq_lens": x.seq_lens[:3]}, {}),
        (r"sinks: expected shape \[4\], got \[2\]", ValueError, {"sinks": x.q[0, 0, :2]}, {}),
        (r"window: expected a number > 0, got 0", ValueError, {}, {"window": 0}),
        (r"window: expected an int, got float", TypeError, {}, {"window": 2.0}),
        (r"softcap: expected a finite number > 0, got -1", ValueError, {}, {"softcap": -1.0}),
        (r"scale: expected a finite number, got inf", ValueError, {}, {"scale": float("inf")}),
    ]


def test_errors(device: torch.device) -> None:
    x = Inputs(CASES["siblings"], torch.float32, device)
    for message, kind, changes, options in errors(x):
        x.options = options
        with pytest.raises(kind, match=message):
            x.run(**changes)


@pytest.mark.parametrize(
    ("message", "name", "at", "value"),
    [
        (r"cu_seqlens: expected 0 first and 4 last, got 0 and 3", "cu_seqlens", 4, 3),
        (r"cu_seqlens: expected values that ascend, got 1 at index 3", "cu_seqlens", 3, 1),
        (
            r"seq_lens: expected 1, the sequence's queries, to 96, what its block table can hold, got 0 at index 2",
            "seq_lens",
            2,
            0,
        ),
        (r"seq_lens: expected 1, .*, got 97 at index 0", "seq_lens", 0, 97),
        (r"block_table\[1\]: expected values in \[0, 24\), got 24 at index 2", "block_table", (1, 2), 24),
        (r"block_table\[1\]: expected values in \[0, 24\), got -1 at index 0", "block_table", (1, 0), -1),
    ],
)
def test_values_out_of_range_on_the_cpu(
    message: str, name: str, at: Any, value: int, device: torch.device, triton_route: bool
) -> None:
    if triton_route:
        pytest.skip("on a GPU values are trusted")
    x = Inputs(CASES["siblings"], torch.float32, device)
    changed = getattr(x, name).clone()
    changed[at] = value
    if name == "cu_seqlens" and at == 3:
        changed[2] = 2
    with pytest.raises(ValueError, match=message):
        x.run(**{name: changed})
