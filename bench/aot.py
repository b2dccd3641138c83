"""Compiles every kernel ahead of time for sm_80, sm_90, sm_100 and gfx942: `python -m bench.aot`, no GPU needed.

Prints registers, spills, shared memory, size and matrix instructions of every variant, and fails (exit status 1) where a
kernel does not compile, needs more shared memory than its target has, spills without being in ALLOWED_SPILLS (or
SPILLS_OF_3_6), or, although its time is that of its products (WIDE_PRODUCTS), multiplies by narrower instructions than its
target's widest or, on Hopper, converts single numbers beside them, which is slow (bench/loops.py says how it is counted).
`python -m bench.aot WORD...` keeps the variants whose name contains a WORD.

To add a kernel, add a function to VARIANTS in bench/aot_variants.py that calls its launcher on meta tensors.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import triton

from bench import loops
from bench.aot_variants import VARIANTS
from bench.launches import TARGETS, record_launches
from himakernels.arch import SHARED_LIMIT

# (kernel, variant, arch) -> why its spills are accepted.
ALLOWED_SPILLS: dict[tuple[str, str, str], str] = {
    ("tree_attention_bwd_dq_kernel", "tree_attention fp32 D=256", arch): "some 300 bytes, with the smallest blocks there are"
    for arch in ("sm_80", "sm_90", "sm_100")
} | {
    ("tree_attention_bwd_dkv_kernel", "tree_attention bf16 D=128 window softcap sinks", "sm_90"): (
        "16 bytes; the next smaller block, of half as many keys, reads queries twice as often, also without a softcap"
    )
}
# The blocks were chosen with Triton 3.9, where none of these spills. 3.6, which comes with torch 2.11, takes a few registers
# more: at most so many bytes.
SPILLS_OF_3_6: dict[tuple[str, str, str], int] = {
    ("paged_attention_fwd_kernel", "paged_attention fp16 D=64 prefill window softcap sinks", "gfx942"): 20,
    ("tree_attention_bwd_dkv_kernel", "tree_attention bf16 D=128", "sm_100"): 152,
    ("tree_attention_bwd_dkv_kernel", "tree_attention bf16 D=128 window softcap sinks", "gfx942"): 40,
    ("tree_attention_bwd_dkv_kernel", "tree_attention bf16 D=128 window softcap sinks", "sm_100"): 136,
    ("tree_attention_bwd_dkv_kernel", "tree_attention bf16 D=64", "sm_100"): 136,
    ("tree_attention_bwd_dkv_kernel", "tree_attention bf16 D=64 window softcap sinks", "sm_100"): 264,
    ("tree_attention_bwd_dkv_kernel", "tree_attention bf16 D=64 window softcap sinks", "sm_90"): 128,
    ("tree_attention_bwd_dkv_kernel", "tree_attention fp16 D=128", "sm_100"): 152,
    ("tree_attention_bwd_dkv_kernel", "tree_attention fp32 D=64", "sm_100"): 24,
    ("tree_attention_bwd_dkv_kernel", "tree_attention fp32 D=64", "sm_80"): 8,
    ("tree_attention_fwd_kernel", "tree_attention bf16 D=128 window softcap sinks", "sm_100"): 8,
    ("tree_attention_fwd_kernel", "tree_attention fp32 D=128 window softcap sinks", "gfx942"): 44,
    ("tree_attention_fwd_kernel", "tree_attention fp32 D=256", "sm_100"): 8,
    ("tree_attention_fwd_kernel", "tree_attention fp32 D=64", "sm_100"): 24,
    ("tree_attention_fwd_kernel", "tree_attention fp32 D=64", "sm_80"): 16,
}


def is_allowed(kernel: str, variant: str, arch: str, spills: int) -> bool:
    """Whether so many bytes of spills are accepted, for the Triton that compiles."""
    key = (kernel, variant, arch)
    return key in ALLOWED_SPILLS or (triton.__version__.startswith("3.6.") and spills <= SPILLS_OF_3_6.get(key, 0))


# Variants whose time is that of their products, and the instruction without which a target's tensor cores run at half rate.
WIDE_PRODUCTS = ("head_logits bf16", "head_bwd bf16", "tree_attention bf16 D=64", "tree_attention bf16 D=128")
WIDEST = {"sm_90": "wgmma", "sm_100": "tcgen05"}


@dataclass(frozen=True)
class Row:
    """What came out of one compilation: registers of a thread, bytes that it spills to memory; no error when all is well."""

    kernel: str
    variant: str
    arch: str
    registers: int = 0
    spills: int = 0
    shared: int = 0
    size: int = 0
    matrix: str = ""  # the widest matrix instruction it uses
    error: str = ""


def _cuda_usage(cubin: bytes) -> tuple[int, int]:
    """(registers, bytes of local memory), from the cuobjdump that comes with Triton."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    assert found is not None, text
    registers, stack, local = map(int, found.groups())
    return registers, stack + local


def _hip_usage(amdgcn: str) -> tuple[int, int]:
    """(vector registers, bytes of scratch memory), from the metadata of the assembly.

    Scalar registers that are spilled lie in lanes of vector registers and never reach memory: they are not in it.
    """
    counts = {key: int(value) for key, value in re.findall(r"\.(\w+):\s+(\d+)", amdgcn)}
    return counts["vgpr_count"], counts["private_segment_fixed_size"]


# From wide to narrow, each as it is written in the assembly.
_MATRIX_INSTRUCTIONS = {"tcgen05": "tcgen05.mma", "wgmma": "wgmma.mma_async", "mma": "mma.sync", "mfma": "v_mfma"}


def _matrix_instruction(assembly: str) -> str:
    return next((name for name, text in _MATRIX_INSTRUCTIONS.items() if text in assembly), "")


def converts_single_numbers(cubin: bytes) -> bool:
    """Whether a loop that multiplies matrices has conversions that are counted to the unit of exp2."""
    return any(loop.tensor and loop.instructions["F2F"] for loop in loops.innermost_loops(loops.disassemble(cubin)))


def compile_variant(variant: str, arch: str) -> list[Row]:
    """Compiles what the variant launches."""
    with record_launches(arch) as launches:
        VARIANTS[variant]()
    rows = []
    for launch in launches:
        try:
            compiled = triton.compile(launch.source, target=TARGETS[arch], options=launch.options)
        except Exception as error:  # whatever the compiler raises is the row's result
            text = str(error).strip() or type(error).__name__
            rows.append(Row(launch.name, variant, arch, error=text.splitlines()[-1][:160]))
            continue
        hip = arch.startswith("gfx")
        binary = compiled.asm["hsaco" if hip else "cubin"]
        registers, spills = _hip_usage(compiled.asm["amdgcn"]) if hip else _cuda_usage(binary)
        shared, errors = compiled.metadata.shared, []
        if shared > SHARED_LIMIT[arch]:
            errors.append(f"shared memory above the limit of {SHARED_LIMIT[arch]}")
        if spills and not is_allowed(launch.name, variant, arch, spills):
            errors.append("spills")
        matrix = _matrix_instruction(compiled.asm["amdgcn" if hip else "ptx"])
        if variant.startswith(WIDE_PRODUCTS) and matrix != WIDEST.get(arch, matrix):
            errors.append(f"matrix instruction {matrix}, not {WIDEST[arch]}")
        if variant.startswith(WIDE_PRODUCTS) and arch == loops.ARCH and converts_single_numbers(binary):
            errors.append("converts single numbers in a loop of products")
        rows.append(Row(launch.name, variant, arch, registers, spills, shared, len(binary), matrix, "; ".join(errors)))
    return rows


def compile_all(variants: Iterable[str], archs: Iterable[str] = tuple(TARGETS), processes: int = 2) -> list[Row]:
    """Compiles every variant for every architecture, in the order given."""
    jobs = [(variant, arch) for variant in variants for arch in archs]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return [row for rows in pool.map(compile_variant, *zip(*jobs, strict=True)) for row in rows]


def format_table(rows: list[Row]) -> str:
    """The printed table, one line a row."""
    head = ("kernel", "variant", "target", "registers", "spills", "shared", "bytes", "matrix", "")
    cells = [
        (r.kernel, r.variant, r.arch, str(r.registers), str(r.spills), str(r.shared), str(r.size), r.matrix, r.error)
        for r in rows
    ]
    width = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    lines = []
    for line in [head, *cells]:
        text = [c.ljust(w) if i < 3 or i > 6 else c.rjust(w) for i, (c, w) in enumerate(zip(line, width, strict=True))]
        lines.append("  ".join(text).rstrip())
    return "\n".join(lines)


def main(words: list[str]) -> int:
    rows = compile_all([name for name in VARIANTS if not words or any(word in name for word in words)])
    print(format_table(rows))
    bad = [row for row in rows if row.error]
    print(f"{len(rows)} kernels compiled, {len(bad)} failed; Triton {triton.__version__}")
    for (kernel, variant, arch), reason in ALLOWED_SPILLS.items():
        print(f"allowed to spill: {kernel}, {variant}, {arch}: {reason}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
