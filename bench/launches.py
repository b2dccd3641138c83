"""What a launcher would launch: its kernels' arguments are recorded on meta tensors, nothing runs.

A launcher is called as the library calls it; the kernel's own specialisation machinery then says, for any target, which
types, constants and alignments a real launch would compile for. So what is compiled ahead of time is what runs, and two
launches compile once exactly when their keys are equal.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


@dataclass
class Launch:
    """One recorded kernel launch, for the target whose name is `arch`."""

    kernel: JITFunction
    arch: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    grid: tuple[int, ...]
    specialization: list[Any] = field(init=False)
    source: ASTSource = field(init=False)
    options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        backend = make_backend(TARGETS[self.arch])
        kwargs = {**self.kwargs, "debug": False}
        bind = create_function_from_signature(self.kernel.signature, self.kernel.params, backend)
        bound, self.specialization, options = bind(*self.args, **kwargs)
        options, signature, constants, attrs = self.kernel._pack_args(backend, kwargs, bound, self.specialization, options)
        self.source = ASTSource(self.kernel, signature, constants, attrs)
        self.options = vars(options)

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__

    @property
    def key(self) -> str:
        """Two launches share a compiled kernel exactly when this is equal."""
        options = {k: self.options[k] for k in ("num_warps", "num_stages")}
        return f"{self.name} {self.specialization} {options}"


@contextmanager
def record_launches(arch: str) -> Iterator[list[Launch]]:
    """Kernels launched inside are recorded for `arch` instead of run; call launchers with meta tensors."""
    launches: list[Launch] = []

    def run(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        launches.append(Launch(kernel, arch, args, kwargs, grid))

    with mock.patch.object(JITFunction, "run", run), mock.patch("himakernels.arch.arch_of", return_value=arch):
        yield launches
