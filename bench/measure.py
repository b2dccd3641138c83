"""Time (median and interquartile range) and peak memory of one forward + backward, on CPU and on CUDA."""

import ctypes
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

MIB = 1024 * 1024
# How often pytest-benchmark calls: a GPU's clock rises while it works, and its calls take milliseconds.
ROUNDS, WARM_UP = (20, 3) if torch.cuda.is_available() else (5, 1)


@dataclass(frozen=True)
class Timing:
    """Seconds a call."""

    median: float
    iqr: float
    rounds: int

    @staticmethod
    def of(seconds: list[float]) -> "Timing":
        low, _, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [0.0] * 3
        return Timing(statistics.median(seconds), high - low, len(seconds))


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(call: Callable[[], object]) -> float:
    """The wall time of one call, the device's work included."""
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start


def synchronized(call: Callable[[], object]) -> Callable[[], None]:
    """`call`, ending when the device has done its work: what a clock outside it (pytest-benchmark's) has to be given."""

    def run() -> None:
        call()
        synchronize()

    return run


def time_in_turns(calls: dict[str, Callable[[], object]], rounds: int, slow: frozenset[str] = frozenset()) -> dict[str, Timing]:
    """`rounds` rounds in which each call runs once, in an order that moves by one each round.

    Before them each call runs once unmeasured. Calls named in `slow` run in the first round only; the caller warms them.
    """
    for name, call in calls.items():
        if name not in slow:
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for r in range(rounds):
        shift = r % len(names)
        for name in names[shift:] + names[:shift]:
            if r == 0 or name not in slow:
                times[name].append(seconds_of(calls[name]))
    return {name: Timing.of(seconds) for name, seconds in times.items()}


def resident_peak() -> int:
    """The largest resident set so far, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_now() -> int:
    """The resident set, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_of(call: Callable[[], object], warm_up: Callable[[], object]) -> int:
    """By how many bytes memory grows at its highest while `call` runs, beyond what the process already holds.

    On CPU this is the high-water mark of the resident set: `warm_up` (the same code on a tiny batch) has loaded libraries
    and started threads, freed heap is handed back (`malloc_trim`), the mark is reset (/proc/self/clear_refs), and the
    resident set of that moment, in which the inputs already stand, is subtracted. What the call returns or accumulates
    (gradients) is included. The heap keeps no memory from earlier calls only in a fresh process: use `peak_in_subprocess`.
    On CUDA it is torch's own peak statistic, in the same process.
    """
    warm_up()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_now()
    call()
    return resident_peak() - before


def run_json(module: str, *arguments: str, env: dict[str, str] | None = None) -> dict[str, float]:
    """`python -m module arguments` in a fresh process; its last line of output is JSON."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    models = [x.split(":", 1)[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def driver_version() -> str | None:
    """The NVIDIA driver's; None where there is no nvidia-smi to ask."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return lines[0].strip() if lines else None


def configuration() -> dict[str, object]:
    """Where a number comes from: device, threads, versions, date."""
    packages = ("torch", "triton", "himakernels", "trl", "liger-kernel", "cut-cross-entropy", "transformers", "peft")
    gpu = {"driver": driver_version(), "cuda": torch.version.cuda} if torch.cuda.is_available() else {}
    return {
        "device": device_name(),
        **gpu,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {p: v for p in packages if (v := version(p)) is not None},
        "date": datetime.date.today().isoformat(),
    }
