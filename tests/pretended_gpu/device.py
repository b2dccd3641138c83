"""A GPU that nobody has: its tensors have shapes and a device but no values, and its kernel launches are only written down.

What runs on it is the host's code of the Triton route, as on a GPU. Three mistakes show that a run on CPU tensors (the
interpreter) hides: tensors of two devices in one operation or launch, a value or a copy that the host waits for, and an
operator that promises other shapes, strides or dtypes to torch.compile than it returns.

For a process of its own: the device is registered with torch, and himakernels looks for it.
"""

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

DEVICE = "pretended"
_BEHIND: dict[str, Callable[..., Any]] = {}  # the function behind each operator of himakernels
_LAUNCHED: list[str] = []
_WAITS: list[str] = []  # where the host waited for the device


def _about(outputs: Any) -> list[tuple[Any, ...]]:
    return [(t.dtype, t.device, tuple(t.shape), t.stride()) for t in tree_leaves(outputs) if isinstance(t, torch.Tensor)]


class _Operators(TorchDispatchMode):
    """Runs the function behind an operator, which FakeTensorMode alone would leave out, and compares what it promised."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        told = tree_leaves((args, kwargs))
        if not any(isinstance(x, FakeTensor) or (isinstance(x, torch.device) and x.type == DEVICE) for x in told):
            with unset_fake_temporarily():  # between CPU tensors everything is as ever
                return func(*args, **(kwargs or {}))
        if func is torch.ops.aten._local_scalar_dense.default:
            _wait(args[0])
            return 1.0 if args[0].dtype.is_floating_point else 1
        if func is torch.ops.aten._to_copy.default and kwargs and torch.device("cpu") == kwargs.get("device"):
            _wait(args[0])
            with unset_fake_temporarily():
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype", args[0].dtype))
        if func.namespace != "himakernels":
            return func(*args, **(kwargs or {}))
        name = func.name().removeprefix("himakernels::").split(".")[0]
        with self:
            out = _BEHIND[name](*args, **(kwargs or {}))
        got, promised = _about(out), _about(func(*args, **(kwargs or {})))
        if got != promised:
            raise AssertionError(f"{name}: its fake gives {promised}, the function {got}")
        return out


def _wait(tensor: torch.Tensor) -> None:
    """Before the host reads a tensor of the device; what it finds there is ones."""
    if tensor.device.type == DEVICE:
        frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()]
        _WAITS.append(next(f for f in reversed(frames) if "/himakernels/" in f or "/trainer/" in f or "/cases.py" in f))


def _launch(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    if any(t.device.type != DEVICE for t in tensors):
        raise AssertionError(f"{self.fn.__name__}: launched with tensors on {[str(t.device) for t in tensors]}")
    _LAUNCHED.append(self.fn.__name__)


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


def register() -> None:
    """Makes the device, and makes himakernels take its Triton route there. Before himakernels is imported."""
    assert "himakernels" not in sys.modules
    _setup_privateuseone_for_python_backend(DEVICE)
    backend = getattr(torch, DEVICE)
    backend.get_rng_state, backend.set_rng_state = (lambda device: None), (lambda state, device: None)
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
                loaded.use_triton = lambda t: t.device.type == DEVICE and t.dtype != torch.float64
            if hasattr(loaded, "arch_of"):
                loaded.arch_of = lambda t: "sm_90"

    from triton.runtime.jit import JITFunction

    JITFunction.run = _launch
    # Values reach a device by these two, which no dispatch mode sees. They wait for all that was launched before, unless
    # they are told not to.
    make, to = torch.tensor, torch.Tensor.to

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
        here = make(data, **kwargs)
        return here if device is None else here.to(device)

    def moved(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        target = kwargs.get("device", args[0] if args else None)
        if isinstance(target, torch.Tensor):
            target, kwargs = target.device, {"dtype": target.dtype, **kwargs}
        arrives = isinstance(target, (str, torch.device)) and torch.device(target).type == DEVICE
        if not arrives or self.device.type == DEVICE:
            return to(self, *args, **kwargs) if args else to(self, **kwargs)
        there = ghost(self).to(kwargs.get("dtype", self.dtype))
        if not kwargs.get("non_blocking"):
            _wait(there)
        return there

    def tolist(self: torch.Tensor) -> Any:
        _wait(self)
        return torch.ones(self.shape).tolist() if isinstance(self, FakeTensor) else listed(self)

    listed = torch.Tensor.tolist
    torch.tensor, torch.Tensor.to = tensor, moved
    torch.Tensor.tolist = FakeTensor.tolist = tolist
