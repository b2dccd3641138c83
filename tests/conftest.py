"""What all tests share: repeatable products of cuBLAS, and what makes Triton's interpreter bearable."""

import os

import pytest

from himakernels.testing import INTERPRET

# Without it every product of cuBLAS warns under `torch.use_deterministic_algorithms`, and a warning in himakernels is an error.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`once`: how an op is registered or compiled, that sums repeat, fp64, which takes the CPU route in every mode."""
    for item in items:
        if INTERPRET and item.get_closest_marker("once"):
            item.add_marker(pytest.mark.skip(reason="once is enough: the run without the interpreter shows it"))


def _patch_the_language_once() -> None:
    """A third of the interpreter's time was this: each call of a jitted function inside a kernel walks all of `triton.language`
    for functions to replace, and finds none, for the launch has replaced them."""
    import triton.language as tl
    from triton.runtime import interpreter

    patch = interpreter._patch_lang

    def patch_once(fn):
        languages = [value for value in fn.__globals__.values() if value is tl or value is tl.core]
        if languages and not any(tl.core.is_builtin(language.load) for language in languages):
            return interpreter._LangPatchScope()
        return patch(fn)

    interpreter._patch_lang = patch_once


if INTERPRET:
    _patch_the_language_once()
