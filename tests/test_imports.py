"""A fresh process: what `import himakernels` brings along, and its public list."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import himakernels
from himakernels import openmp

ROOT = Path(__file__).resolve().parents[1]


def modules_after(statement: str) -> set[str]:
    """The modules of a new interpreter, without the variable that asks for Triton."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return set(run.stdout.split())


def test_the_import_is_lean() -> None:
    """No optional library, no test library. torch itself may look whether Triton is there; we never ask for it on a CPU."""
    extra = modules_after("from himakernels import vrgrpo_loss") - modules_after("import torch")
    roots = {name.split(".")[0] for name in extra}
    assert not roots & {"transformers", "trl", "pytest", "_pytest", "hypothesis", "peft", "verl", "vllm", "trainer", "bench"}
    assert "himakernels.testing" not in extra
    assert not any(name.endswith((".kernels", "_kernels", "tl_math", "tl_rows", "triton_route")) for name in extra)


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the kernels are wanted")
def test_a_loss_on_the_cpu_needs_no_triton() -> None:
    """With `import triton` made to fail, the loss and its gradients are computed."""
    modules_after(
        "import sys\n"
        "sys.modules['triton'] = None\n"
        "import torch\n"
        "from himakernels import vrgrpo_loss\n"
        "hidden, weight = torch.ones(4, 3, requires_grad=True), torch.ones(5, 3, requires_grad=True)\n"
        "zeros = torch.zeros(4, dtype=torch.int64)\n"
        "vrgrpo_loss(hidden, weight, zeros, sample_id=zeros, rewards=torch.tensor([1.0]), group_id=zeros[:1]).loss.backward()\n"
        "assert weight.grad is not None"
    )


@pytest.mark.parametrize("source", ["himakernels/openmp.py", "trainer/__init__.py"])
@pytest.mark.parametrize("chosen", [{}, *({name: "1"} for name in openmp.SETTINGS), {"OMP_WAIT_POLICY": "active"}])
def test_threads_sleep_while_they_wait(source: str, chosen: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user has chosen."""
    for name in openmp.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    runpy.run_path(str(ROOT / source))
    found = {name: os.environ[name] for name in openmp.SETTINGS if name in os.environ}
    assert found == (chosen or {"OMP_WAIT_POLICY": "passive"})


@pytest.mark.once
@pytest.mark.parametrize("package", ["bench", "trainer, torch"])
def test_openmp_takes_note(package: str) -> None:
    """The library prints what it was started with: the variable was there when torch loaded it."""
    environment = {k: v for k, v in os.environ.items() if k not in openmp.SETTINGS} | {"OMP_DISPLAY_ENV": "true"}
    command = [sys.executable, "-c", f"import {package}"]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True).stderr
    if "OMP_WAIT_POLICY" not in said:
        pytest.skip("this torch has no OpenMP")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said


def test_the_public_list_is_sorted_and_complete() -> None:
    public = himakernels.__all__
    assert public == sorted(public)
    assert len(public) == len(set(public))
    assert all(hasattr(himakernels, name) for name in public)
    folders = {name: value for name, value in vars(himakernels).items() if not name.startswith("_")}
    objects = {name for name, value in folders.items() if type(value).__name__ != "module"}
    assert objects == set(public)
    # Every op's folder exports its function, its reference and its types; these, packing and the cache are what is public.
    ops = [path.parent.name for path in (ROOT / "himakernels" / "ops").glob("*/__init__.py")]
    modules = [importlib.import_module(f"himakernels.ops.{op}") for op in ops]
    names = {name for module in (*modules, importlib.import_module("himakernels.packing")) for name in module.__all__}
    assert names | {"KVPool", "OutOfBlocksError", "PrefixCache"} == set(public)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_names_that_the_pages_list_can_be_imported() -> None:
    """The first column of the README's tables of operations: names of himakernels, or modules below it."""
    section = (ROOT / "README.md").read_text().split("## What is in it")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    names = [name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)]
    assert {"vrgrpo_loss", "pack", "PrefixCache", "KVPool", "integrations.peft"} <= set(names)
    for name in names:
        if name.startswith("integrations."):
            pytest.importorskip(name.removeprefix("integrations."))
            importlib.import_module(f"himakernels.{name}")
        else:
            assert name in himakernels.__all__, name


def test_imports_on_the_pages_work() -> None:
    """Every `from himakernels... import a, b` and `from trainer... import a, b` of a page."""
    pattern = re.compile(r"^\s*(?:>>> )?from ((?:himakernels|trainer)[\w.]*) import ([\w, ]+)", re.MULTILINE)
    found = [match.groups() for page in PAGES for match in pattern.finditer(page.read_text())]
    assert ("himakernels.integrations.peft", "packed_adapters, train_adapters") in found
    for module, names in found:
        for name in names.split(","):
            assert hasattr(importlib.import_module(module), name.split(" as ")[0].strip()), f"{module}.{name}"
