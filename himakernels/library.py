"""The torch.library registrations of himakernels, all in the namespace `himakernels`."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

_LIBRARY = torch.library.Library("himakernels", "DEF")


def _on_its_device(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` with the device of its first argument current: Triton launches on the current device."""

    @wraps(run)
    def on_device(first: torch.Tensor, *args: Any) -> Any:
        with torch.cuda.device_of(first):
            return run(first, *args)

    return on_device


def define_op(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Defines `himakernels::<name>` for CPU and CUDA and returns it as a callable.

    `define` with `impl` costs a quarter of the time a call of what `custom_op` costs (measured, torch 2.13).
    """
    name = schema.split("(", 1)[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, run, "CPU")
    _LIBRARY.impl(name, _on_its_device(run), "CUDA")
    torch.library.register_fake(f"himakernels::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.himakernels, name).default


def refuse_second_derivative() -> None:
    """RuntimeError where a backward runs to be differentiated itself: its operators have no derivatives, so autograd would
    take them for constants. Not inside a compiled function, whose backward is traced before anyone can ask for this.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("create_graph: expected False (the operators of himakernels have no second derivatives), got True")


def bump_version(tensor: torch.Tensor) -> None:
    """Tells autograd that an operator wrote to `tensor`: who saved it for its backward is then refused, not misled."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)
