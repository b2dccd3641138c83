"""A GPU that nobody has: its tensors have shapes and a device but no values, and its kernel launches are only written down.

What runs on it is the host's code of the Triton route, as on a GPU. Mistakes show that a run on CPU tensors (the interpreter)
hides: tensors of two devices in one operation or launch, a value or a copy that the host waits for or reads too early, and an
operator that promises other shapes, strides or dtypes to torch.compile than it returns. A launch has to fit the kernel's
signature and the limits of a grid.

Everything is on the first of two devices while the second is the current one: what is made on a device's type alone, without
its index, is on another device than the rest.

For a process of its own that imports this first: the device is registered with torch, and himakernels looks for it.
"""

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend
from triton.backends.nvidia.compiler import CUDAOptions
from triton.runtime.jit import JITFunction

DEVICE = "pretended:0"
_BEHIND: dict[str, Callable[..., Any]] = {}  # the function behind each operator of himakernels
_LAUNCHED: list[str] = []
_WAITS: list[str] = []  # where the host waited for the device
_OURS = tuple(str(Path(__file__).parents[2] / part) for part in ("himakernels", "trainer", "tests/pretended_gpu"))


def _about(outputs: Any) -> list[tuple[Any, ...]]:
    return [(t.dtype, t.device, tuple(t.shape), t.stride()) for t in tree_leaves(outputs) if isinstance(t, torch.Tensor)]


def _is_there(thing: Any) -> bool:
    """Whether a tensor, or what an argument says, is the device."""
    if isinstance(thing, FakeTensor):
        thing = thing.fake_device  # the property `device` would be one more operator
    return isinstance(thing, torch.device) and thing.type == DEVICE.split(":")[0]


@cache
def _is_composite(func: Any) -> bool:
    """Whether torch makes it of other operators: below autograd, where himakernels' are, `to` and `item` come as they are."""
    return func.namespace == "aten" and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


class _Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def device_count(self) -> int:
        return 2

    def current_device(self) -> int:
        return 1

    def get_rng_state(self, device: Any) -> None:
        pass

    def set_rng_state(self, state: Any, device: Any) -> None:
        pass


class _Operators(TorchDispatchMode):
    """Runs the function behind an operator, which FakeTensorMode alone would leave out, and compares what it promised."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        told = tree_leaves((args, kwargs))
        if not any(map(_is_there, told)):
            with unset_fake_temporarily():  # between CPU tensors everything is as ever
                return func(*args, **kwargs)
        if _is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            _wait()
            return 1.0 if args[0].dtype.is_floating_point else 1
        if func is torch.ops.aten._to_copy.default:
            target = kwargs.get("device", args[0].device)
            if _is_there(target) != _is_there(args[0]):
                return _arrived(args[0], target, kwargs.get("dtype") or args[0].dtype, kwargs.get("non_blocking", False))
        if func.namespace != "himakernels":
            if _copies(func, args, kwargs, told) or _looks_at_a_mask(func, args):
                _wait()
            return func(*args, **kwargs)
        name = func.name().removeprefix("himakernels::").split(".")[0]
        with self:
            out = _BEHIND[name](*args, **kwargs)
        got, promised = _about(out), _about(func(*args, **kwargs))
        if got != promised:
            raise AssertionError(f"{name}: its fake gives {promised}, the function {got}")
        return out


def _arrived(tensor: torch.Tensor, target: torch.device, dtype: torch.dtype, non_blocking: bool) -> torch.Tensor:
    """`tensor` from the CPU to the device or back. What the host finds in what came back is ones."""
    if not non_blocking:
        _wait()
    elif not _is_there(target):
        raise AssertionError("a copy to the CPU with non_blocking: the host would read it before it has arrived")
    if _is_there(target):
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device=target)
    with unset_fake_temporarily():
        return torch.ones(tensor.shape, dtype=dtype)


def _copies(func: Any, args: Any, kwargs: Any, told: list[Any]) -> bool:
    """Whether a tensor of the CPU meets one of the device, to be copied (an index to it, say), and the host waits for that."""
    tensors = [x for x in told if isinstance(x, torch.Tensor)]
    if func.overloadpacket in (torch.ops.aten.copy_, torch.ops.aten._foreach_copy_):
        if all(map(_is_there, tensors)):
            return False
        non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        if non_blocking and not _is_there(tree_leaves(args[0])[0]):
            raise AssertionError("a copy to the CPU with non_blocking: the host would read it before it has arrived")
        return not non_blocking
    return any(t.dim() and not _is_there(t) for t in tensors)  # one number is an argument of the launch


def _looks_at_a_mask(func: Any, args: Any) -> bool:
    """Whether values are put where a mask says: but for a single one, CUDA looks for its true elements and waits."""
    if "index_put" not in func.name():
        return False
    _, indices, values, *accumulate = args
    masks = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)
    return masks and (values.numel() != 1 or any(accumulate[:1]))


def _wait() -> None:
    """Before the host reads a tensor of the device, or sends it one from memory that may change."""
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack() if frame.filename != __file__]
    _WAITS.append(([f for f in frames if f.startswith(_OURS)] or frames)[-1])


_OPTIONS = {field.name for field in fields(CUDAOptions)}
_MOST = (2**31 - 1, 65535, 65535)  # programs in each dimension of a grid, CUDA's limits


def _launch(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
    name = self.fn.__name__
    try:
        bound = self.signature.bind(*args, **{key: value for key, value in kwargs.items() if key not in _OPTIONS})
    except TypeError as error:
        raise AssertionError(f"{name}: launched with {error}") from None
    for key, value in bound.arguments.items():
        if isinstance(value, torch.Tensor) and not key.endswith("_ptr"):
            raise AssertionError(f"{name}: launched with a tensor for {key}")
        if key.endswith("_ptr") and not isinstance(value, torch.Tensor | None):
            raise AssertionError(f"{name}: launched with {value!r} for {key}")
    tensors = [value for value in bound.arguments.values() if isinstance(value, torch.Tensor)]
    if len({t.device for t in tensors} | {torch.device(DEVICE)}) > 1:
        raise AssertionError(f"{name}: launched with tensors on {[str(t.device) for t in tensors]}")
    if not 1 <= len(grid) <= 3 or any(type(n) is not int or not 0 < n <= most for n, most in zip(grid, _MOST, strict=False)):
        raise AssertionError(f"{name}: launched on a grid of {grid}")
    _LAUNCHED.append(name)


def kernels() -> set[str]:
    """Those of himakernels, by name."""
    found = [vars(module).values() for name, module in list(sys.modules.items()) if name.startswith("himakernels.")]
    functions = [f.fn.__name__ for values in found for f in values if isinstance(f, JITFunction)]
    return {name for name in functions if name.endswith("_kernel")}


def ghost(tensor: torch.Tensor) -> torch.Tensor:
    """What stands for `tensor` on the device; inside `launches`."""
    there = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=DEVICE)
    return torch.nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else there


def move(model: torch.nn.Module) -> torch.nn.Module:
    """Puts a real model there, tied weights tied; inside `launches`."""
    moved: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # the first keeps its id from being used again

    def there(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in moved:
            moved[id(tensor)] = tensor, ghost(tensor)
        return moved[id(tensor)][1]

    for module in model.modules():
        for own in (module._parameters, module._buffers, vars(module)):
            own.update({name: there(value) for name, value in own.items() if isinstance(value, torch.Tensor)})
    return model


def lie(name: str) -> None:
    """From now on the operator returns its first output in fp64."""
    function = _BEHIND[name]

    def other(*args: Any) -> Any:
        first, *rest = function(*args)
        return first.double(), *rest

    _BEHIND[name] = other


def launches(run: Callable[[], Any]) -> tuple[set[str], list[str]]:
    """The kernels that `run` launches on the device, and where the host waits for it."""
    _LAUNCHED.clear()
    _WAITS.clear()
    with ExitStack() as modes:
        modes.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        modes.enter_context(_Operators())
        run()
    return set(_LAUNCHED), list(_WAITS)


def _register() -> None:
    """Makes the device, and makes himakernels take its Triton route there."""
    assert "himakernels" not in sys.modules
    _setup_privateuseone_for_python_backend(DEVICE.split(":")[0], backend_module=_Backend())
    define = torch.library.Library.impl

    def impl(self: Any, name: Any, function: Any, key: str = "", **kwargs: Any) -> Any:
        if self.ns == "himakernels" and key == "CPU":
            _BEHIND[name] = function
        return define(self, name, function, key, **kwargs)

    torch.library.Library.impl = impl
    import himakernels

    for module in pkgutil.walk_packages(himakernels.__path__, "himakernels."):
        importlib.import_module(module.name)
    for name, loaded in list(sys.modules.items()):
        if name.startswith("himakernels."):
            if hasattr(loaded, "use_triton"):
                loaded.use_triton = lambda t: _is_there(t) and t.dtype != torch.float64
            if hasattr(loaded, "arch_of"):
                loaded.arch_of = lambda t: "sm_90"

    JITFunction.run = _launch
    # Neither of these two reaches a dispatch mode before it needs memory on the device, or values.
    make, listed = torch.tensor, torch.Tensor.tolist

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
        here = make(data, **kwargs)
        return here if device is None else here.to(device)

    def tolist(self: torch.Tensor) -> Any:
        if not _is_there(self):
            return listed(self)
        _wait()
        return torch.ones(self.shape).tolist()

    torch.tensor = tensor
    torch.Tensor.tolist = FakeTensor.tolist = tolist


_register()
