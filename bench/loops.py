"""What the innermost loops of kernels cost on a Hopper GPU, read from their machine code: `python -m bench.loops WORD...`.

No GPU needed. For a pass through a loop by all warps of a program it prints how many cycles each unit of a quarter of a
multiprocessor is busy: `tensor` with products, `issue` with one instruction a cycle, `fp32`, `int` (comparisons, minima, and
conversions of pairs to 16 bits, too), `special` (exp2, conversions of single numbers), `memory`. The loop takes at least the
largest of them; where its warps wait for a product before they go on, it takes that product and what is issued after it one
after the other. Nothing here says how long memory takes.

Rates: CUDA C++ Programming Guide, throughput of native arithmetic instructions, compute capability 9.0, of which a quarter has
32 lanes a cycle for fp32, 16 for int, 4 for special; 512 products of 16-bit numbers a cycle for its tensor core. Two are
assumed: a memory instruction takes two cycles whatever its width, and conversions of single numbers (F2F) run where exp2 does:
ptxas places them eight instructions apart.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass

import triton

from bench.aot_variants import VARIANTS
from bench.launches import TARGETS, record_launches

ARCH = "sm_90"
_MIN_INSTRUCTIONS = 60  # shorter loops wait, or walk over blocks, not over elements
_UNITS = {
    "fp32": (1, "FFMA FMUL FADD HADD2 HFMA2 HMUL2"),
    "special": (8, "MUFU F2F F2I I2F FRND"),
    "memory": (2, "LDS STS LDSM STSM LDG STG LDGSTS LDL STL SHFL ATOMS ATOMG"),
    "": (0, "BRA BAR WARPGROUP DEPBAR LDGDEPBAR MEMBAR FENCE HGMMA NOP BSSY BSYNC SYNCS R2UR"),
}
_UNIT_OF = {name: (unit, cycles) for unit, (cycles, names) in _UNITS.items() for name in names.split()}


@dataclass(frozen=True)
class Loop:
    """One pass of one warp: how often each instruction stands in it, its products, and cycles by unit."""

    instructions: Counter[str]
    tensor: int

    def cycles(self, warps: int) -> dict[str, int]:
        """By unit, of a quarter of a multiprocessor, for all warps of a program."""
        total = Counter({"tensor": self.tensor, "issue": self.instructions.total()})
        for name, count in self.instructions.items():
            unit, cycles = _UNIT_OF.get(name, ("", 0) if name.startswith("U") else ("int", 2))
            if unit:
                total[unit] += cycles * count
        return {unit: cycles * warps // 4 for unit, cycles in total.items()}


def innermost_loops(sass: str) -> list[Loop]:
    """The innermost loops of what nvdisasm prints, in their order."""
    lines: list[str] = []
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if label := re.match(r"\s*\.?(L_x_\d+):", line):
            labels[label[1]] = len(lines)
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T\d]+\s+)?(.*?)\s*;", line):
            lines.append(instruction[1])
    spans = []
    for at, line in enumerate(lines):
        target = re.match(r"BRA\b.*`\(\.?(L_x_\d+)\)", line)
        if target and at + 1 - labels.get(target[1], len(lines)) >= _MIN_INSTRUCTIONS:
            spans.append((labels[target[1]], at + 1))
    loops = []
    for begin, end in spans:
        if any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in spans):
            continue
        names = [line.split()[0] for line in lines[begin:end]]
        shapes = [map(int, found.groups()) for name in names if (found := re.match(r"HGMMA\.(\d+)x(\d+)x(\d+)\.", name))]
        tensor = sum(m * n * k for m, n, k in shapes) // 2048
        loops.append(Loop(Counter(name.split(".")[0] for name in names), tensor))
    return loops


def disassemble(cubin: bytes) -> str:
    """The machine code as text, from the nvdisasm that comes with Triton."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.nvdisasm.path, "-c", file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(words: list[str]) -> int:
    for variant in (name for name in VARIANTS if any(word in name for word in words)):
        with record_launches(ARCH) as launches:
            VARIANTS[variant]()
        for launch in launches:
            compiled = triton.compile(launch.source, target=TARGETS[ARCH], options=launch.options)
            for number, loop in enumerate(innermost_loops(disassemble(compiled.asm["cubin"]))):
                cycles = loop.cycles(launch.options["num_warps"])
                print(f"{launch.name} ({variant}), loop {number}: " + ", ".join(f"{k} {v:,}" for k, v in cycles.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
