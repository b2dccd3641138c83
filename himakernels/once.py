"""What follows from a few small tensors, computed once while they live and nobody writes to them.

All layers of a network ask an operator for the same things: which blocks of a forest meet, which rows of a step share their
keys. On a GPU these are a dozen launches each, in every layer.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _state(tensors: list[torch.Tensor]) -> tuple[Any, ...] | None:
    """What a kept value is good for: shapes, versions and, on a GPU, the stream; None where that can't be known.

    Inference tensors count no versions. A stream that is captured will see other values when it is replayed.
    """
    if any(t.is_inference() for t in tensors):
        return None
    state = tuple((t._version, *t.shape, *t.stride()) for t in tensors)
    if not tensors[0].is_cuda:
        return state
    if torch.cuda.is_current_stream_capturing():
        return None
    return (*state, torch.cuda.current_stream(tensors[0].device).cuda_stream)


def once(make: Callable[_P, _T]) -> Callable[_P, _T]:
    """`make`, of a tensor first, then of tensors, numbers and None, all by position, whose result nobody writes to.

    For each tensor that comes first it keeps one result a choice of numbers, the last. Writes that torch does not count show
    in none: through `.data`, through numpy's view of the memory, by a kernel of somebody's own, by the replay of a graph.
    """
    kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    @wraps(make)
    def made(*args: Any, **none: Any) -> Any:
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        state = _state(tensors)
        if state is None:
            return make(*args, **none)
        of_first = kept.setdefault(args[0], {})
        numbers = tuple("tensor" if isinstance(a, torch.Tensor) else a for a in args[1:])
        if numbers in of_first:
            refs, then, value = of_first[numbers]
            if then == state and all(ref() is t for ref, t in zip(refs, tensors[1:], strict=True)):
                return value
        value = make(*args, **none)
        of_first[numbers] = ([TensorWeakRef(t) for t in tensors[1:]], state, value)
        return value

    return made
