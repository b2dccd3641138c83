"""Calls of every op, with tensors of the pretended GPU."""

from collections.abc import Callable
from typing import Any

import torch
from device import DEVICE

import himakernels as hk


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, device=DEVICE, requires_grad=True)


def ids(most: int, n: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.randint(most, (n,), device=DEVICE, dtype=dtype)


def attention(dtype: torch.dtype, *, sinks: bool = False, **options: Any) -> None:
    q, k, v = (randn(70, heads, 64, dtype=dtype) for heads in (4, 2, 2))
    extra = {"sinks": randn(4)} if sinks else {}
    out = hk.tree_attention(
        q, k, v, ids(70, 70, torch.int32), position_ids=ids(70, 70, torch.int32), **extra, **options
    )  # fmt: skip
    out.backward(torch.randn_like(out))


def fused(tokens: int) -> list[torch.Tensor]:
    """q, k and v as slices of one projection."""
    return list(randn(tokens, 8, 64).split([4, 2, 2], 1))


def heads_first(tokens: int) -> list[torch.Tensor]:
    """q, k and v that lie in memory as [H, T, D]: `torch.empty_like` would keep these strides."""
    return [randn(heads, tokens, 64).transpose(0, 1) for heads in (4, 2, 2)]


def attention_views(views: Callable[[int], list[torch.Tensor]]) -> None:
    hk.tree_attention(*views(70), ids(70, 70, torch.int32)).sum().backward()


def varlen() -> None:
    hk.varlen_attention(randn(30, 4, 64), randn(30, 2, 64), randn(30, 2, 64), ids(30, 3, torch.int32)).sum().backward()


def paged(views: Callable[[int], list[torch.Tensor]], **options: Any) -> None:
    pool = torch.randn(16, 8, 2, 64, device=DEVICE)
    table, bounds, lens = (ids(9, n, torch.int32) for n in (6, 3, 2))
    q, *_ = views(6)
    hk.paged_attention(q.detach(), pool, pool, table.view(2, 3), bounds, lens, **options)


def lora(dtypes: tuple[torch.dtype, torch.dtype], *, base: bool) -> None:
    a, b = ([randn(*shape(r), dtype=dtypes[1]) for r in (4, 0, 8)] for shape in (lambda r: (r, 32), lambda r: (24, r)))
    shared = randn(40, 24, dtype=dtypes[0]) if base else None
    y = hk.grouped_lora(randn(40, 32, dtype=dtypes[0]), a, b, ids(40, 4, torch.int32), [1.0, 2.0, 0.5], base=shared)
    y.sum().backward()


def loss(form: str, **options: Any) -> None:
    rows, samples = 20, 5
    values: dict[str, Any] = {
        "advantages": torch.randn(samples, device=DEVICE),
        "old_logprobs": torch.randn(rows, device=DEVICE),
    }
    values |= {name: torch.randn(rows, device=DEVICE) for name in options.pop("rows", ())} | options
    if options.pop("rewards", False):
        values |= {"advantages": None, "rewards": torch.randn(samples, device=DEVICE), "group_id": ids(2, samples)}
    if "num_agents" in options:
        values["agent_id"] = ids(options["num_agents"], samples)
    labels, sample_id = ids(53, rows), ids(samples, rows)
    if form == "linear":
        bias = randn(53) if values.pop("bias", False) else None
        out = hk.vrgrpo_loss(randn(rows, 32), randn(53, 32), labels, bias=bias, sample_id=sample_id, **values)
    else:
        logits = randn(rows, 53) * 1.0  # with `inplace`, no leaf
        out = hk.vrgrpo_loss_from_logits(logits, labels, sample_id=sample_id, **values)
    out.loss.backward()


def logprobs() -> None:
    hidden, weight, labels = randn(20, 32), randn(53, 32), ids(53, 20)
    out = hk.token_logprobs(hidden, weight, labels, return_entropy=True)
    (out.logprobs.sum() + out.entropy.sum()).backward()
    hk.token_logprobs_from_logits(randn(20, 53), labels).logprobs.sum().backward()
    hk.token_cross_entropy(hidden, weight, labels, softcap=9.0).loss.backward()


def advantages() -> None:
    out = hk.group_advantages(torch.randn(20, device=DEVICE), ids(4, 20), num_groups=4)
    hk.select_groups(out.variance, top_k=2, per=ids(2, 4))
