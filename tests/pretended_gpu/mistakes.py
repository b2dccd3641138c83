"""Mistakes that the pretended GPU must notice."""

from collections.abc import Callable
from typing import Any

import torch
from device import DEVICE, lie
from ops import advantages, heads_first, paged, randn

from himakernels.lm_head.logits_kernels import logits_stats_fwd
from himakernels.lm_head.row_kernels import scale_kernel


def scaled(numel: tuple[Any, ...] = (20,), programs: int = 1, **block: int) -> None:
    """A launch as `scale_` makes it, or not."""
    x = torch.randn(20, device=DEVICE)
    scale_kernel[(programs,)](x, x[:1], *numel, **block or {"BLOCK": 32})


def promise_of_strides() -> None:
    """As paged attention's fake would be with `torch.empty_like`."""
    torch.library.register_fake("himakernels::paged_attention", lambda q, *_: torch.empty_like(q), allow_override=True)
    paged(heads_first)


def false_promise() -> None:
    lie("group_advantages")
    advantages()


def put(mask: bool, values: torch.Tensor) -> None:
    x = torch.zeros(20, device=DEVICE)
    x[x > 0 if mask else torch.arange(20)] = values


MISTAKES: dict[str, Callable[[], Any]] = {
    "read": lambda: float(randn(20).sum()),
    "read in a list": lambda: randn(20).tolist(),
    "new values": lambda: torch.tensor([1.0], device=DEVICE),
    "move": lambda: torch.ones(20).to(DEVICE, torch.bfloat16),
    "copy": lambda: torch.zeros(20, device=DEVICE).copy_(torch.ones(20)),
    "copy back": lambda: torch.zeros(20).copy_(torch.ones(20, device=DEVICE)),
    "values by a mask": lambda: put(True, torch.randn(20, device=DEVICE)),
    "index of the CPU": lambda: randn(20)[torch.arange(3)],
    "values by an index of the CPU": lambda: put(False, torch.randn(20, device=DEVICE)),
    "too early": lambda: torch.ones(20, device=DEVICE).to("cpu", non_blocking=True),
    "two devices": lambda: randn(20, 53) + torch.ones(20, 53),
    "another index": lambda: randn(20) + torch.ones(20, device=torch.device(DEVICE).type),
    "launch": lambda: logits_stats_fwd(torch.randn(20, 53, device=DEVICE), torch.zeros(20, dtype=torch.int64)),
    "launch without an argument": lambda: scaled(()),
    "launch with another name": lambda: scaled(BLOCK_R=32),
    "launch with a tensor for a number": lambda: scaled((torch.randn(20, device=DEVICE),)),
    "launch of no program": lambda: scaled(programs=0),
    "kernel that nobody expects": advantages,
    "promise": false_promise,
    "promise of strides": promise_of_strides,
}
