"""Ahead-of-time compilation: it works, it misses no kernel, and lengths do not multiply compiled kernels."""

import importlib
import os
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import himakernels

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter replaces the compiler: this file is for the run without it", allow_module_level=True)

from triton.runtime.jit import JITFunction

from bench import aot
from bench.aot_variants import VARIANTS, meta
from bench.launches import TARGETS, Launch, record_launches
from himakernels.lm_head import gemm_kernels, logits_kernels, row_kernels
from himakernels.ops.grouped_lora import triton_route as grouped_lora_route
from himakernels.ops.tree_attention.bwd_kernels import tree_attention_bwd
from himakernels.ops.tree_attention.fwd_kernels import tree_attention_fwd


def library_kernels() -> set[str]:
    names = set()
    for module in pkgutil.walk_packages(himakernels.__path__, "himakernels."):
        if module.name.startswith("himakernels.integrations") or not module.name.endswith("kernels"):
            continue
        values = vars(importlib.import_module(module.name)).values()
        names |= {v.fn.__name__ for v in values if isinstance(v, JITFunction) and v.fn.__name__.endswith("_kernel")}
    return names


def launches_of(arch: str) -> list[Launch]:
    with record_launches(arch) as launches:
        for variant in VARIANTS.values():
            variant()
    return launches


def test_every_kernel_is_compiled_ahead_of_time() -> None:
    in_files = {
        line.split("(")[0].removeprefix("def ")
        for path in Path(himakernels.__path__[0]).rglob("*.py")
        for line in path.read_text().splitlines()
        if line.startswith("def ") and line.split("(")[0].endswith("_kernel")
    }
    # Kernels live in modules named *kernels: what a file defines is what the modules show.
    assert library_kernels() == in_files
    assert {launch.name for launch in launches_of("sm_90")} == in_files


@pytest.mark.parametrize("arch", ["sm_90", "gfx942"])
def test_a_kernel_compiles(arch: str) -> None:
    rows = aot.compile_variant("head_rows bf16", arch)
    assert [row.kernel for row in rows] == ["compact_rows_kernel", "head_dbias_bwd_kernel", "scale_kernel"]
    assert all(row.error == "" and row.registers > 0 and row.spills == 0 and row.size > 0 for row in rows)
    assert "compact_rows_kernel" in aot.format_table(rows)


def test_a_spill_or_too_much_shared_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(aot.SHARED_LIMIT, "sm_90", 1)
    monkeypatch.setattr(aot, "_cuda_usage", lambda cubin: (255, 8))
    compact, *_, scale = aot.compile_variant("head_rows bf16", "sm_90")
    assert compact.error == "shared memory above the limit of 1; spills"  # all that is wrong
    assert scale.error == "spills"
    monkeypatch.setitem(aot.ALLOWED_SPILLS, ("scale_kernel", "head_rows bf16", "sm_90"), "a test")
    assert aot.compile_variant("head_rows bf16", "sm_90")[-1].error == ""


def test_what_may_spill_with_an_older_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    key = ("scale_kernel", "head_rows bf16", "sm_90")
    monkeypatch.setitem(aot.SPILLS_OF_3_6, key, 8)
    monkeypatch.setattr("bench.aot.triton.__version__", "3.6.0")
    assert aot.is_allowed(*key, 8)
    assert not aot.is_allowed(*key, 16)
    assert not aot.is_allowed("scale_kernel", "another", "sm_90", 8)
    monkeypatch.setattr("bench.aot.triton.__version__", "3.9.0")
    assert not aot.is_allowed(*key, 8)


def test_conversions_of_single_numbers_beside_products_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    product, conversion = "HGMMA.64x64x16.F32.BF16 R88, gdesc[UR8], RZ", "F2F.BF16.F32 R1, R2"
    for body, found in (([product, conversion], True), ([product], False), ([conversion], False)):
        lines = [*body, *["FADD R0, R0, R1"] * 60, "@P0 BRA `(.L_x_1)"]
        sass = "\n".join([".L_x_1:", *(f"        /*{at:04x}*/    {line} ;" for at, line in enumerate(lines))])
        monkeypatch.setattr(aot.loops, "disassemble", lambda _, sass=sass: sass)
        assert aot.converts_single_numbers(b"") == found


def test_weights_are_rounded_in_the_compiled_kernels_too() -> None:
    """65537 x is a product of its own, and 65536 x is taken from it in one fused step: fused otherwise, the result is x."""
    with record_launches("sm_90") as launches:
        VARIANTS["tree_attention bf16 D=16"]()
    for launch in launches:
        ptx = aot.triton.compile(launch.source, target=TARGETS["sm_90"], options=launch.options).asm["ptx"]
        factor, less = "0f47800080", "0fC7800000"  # 65537, -65536
        assert re.search(rf"\bmul[.\w]* .*{factor}", ptx), launch.name
        assert re.search(rf"\bfma[.\w]* .*{less}", ptx), launch.name
        assert not re.search(rf"\bfma[.\w]* .*{factor}", ptx), launch.name


def unbounded_exponents(ptx: str) -> list[str]:
    """The arguments of exp2 that may be above 0: neither min(x, 0) nor a difference of rounded numbers.

    A product in a difference is not rounded where compiler or assembler fuse the two.
    """
    made: dict[str, list[tuple[str, list[str]]]] = {}
    for op, register, operands in re.findall(r"^\s*(?:@\S+\s+)?([\w.]+)\s+(%\w+),\s*(.*);", ptx, re.MULTILINE):
        made.setdefault(register, []).append((op, [o.strip() for o in operands.split(",")]))

    def is_bounded(register: str) -> bool:
        for op, operands in made[register]:
            kind = op.split(".")[0]
            if kind == "mov" and all(is_bounded(operand) for operand in operands):
                continue
            if kind == "min" and "0f00000000" in operands:
                continue
            if kind == "sub" and not any(o.startswith("mul") for x in operands for o, _ in made.get(x, [])):
                continue
            return False
        return True

    arguments = re.findall(r"\bex2\.approx[.\w]*\s+%\w+,\s*(%\w+);", ptx)
    assert arguments
    return [register for register in arguments if not is_bounded(register)]


def test_an_exponent_that_may_be_positive_is_found() -> None:
    product, difference = "mul.f32 %f3, %f1, %f2;", "sub.f32 %f5, %f3, %f4;"
    fused, rounded = "fma.rn.f32 %f5, %f1, %f2, %f4;", "fma.rn.f32 %f3, %f1, %f2, 0f00000000;"
    for lines, found in (
        ([product, difference], ["%f5"]),
        ([fused], ["%f5"]),
        ([rounded, difference], []),
        ([product, difference, "min.NaN.f32 %f6, %f5, 0f00000000;"], []),
        ([fused, "mov.f32 %f6, %f5;"], ["%f6"]),
    ):
        register = re.findall(r"%\w+", lines[-1])[0]
        assert unbounded_exponents("\n".join([*lines, f"ex2.approx.ftz.f32 %f7, {register};"])) == found


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize(
    ("variant", "others"),
    [
        ("tree_attention bf16 D=16", 0),
        ("paged_attention bf16 D=64 decode", 0),
        ("logits_bwd bf16", 1),  # expm1(log p) of the label
    ],
)
def test_no_weight_is_above_one_in_the_compiled_kernels(variant: str, others: int, arch: str) -> None:
    """However large scores are: exp2 of a difference that the compiler has fused with its product may be infinite."""
    with record_launches(arch) as launches:
        VARIANTS[variant]()
    for launch in launches:
        ptx = aot.triton.compile(launch.source, target=TARGETS[arch], options=launch.options).asm["ptx"]
        assert len(unbounded_exponents(ptx)) == others, launch.name


@pytest.mark.parametrize("aligned", [True, False])
def test_a_label_is_read_before_its_row_is_overwritten(aligned: bool) -> None:
    """Logits may become their own gradient: no warp writes before all have read the label's logit. Where loads are not
    pipelined, as in rows without alignment, nothing else makes the warps wait for each other.
    """
    V = 50_256 if aligned else 50_257
    logits, labels, row = meta(8, V, dtype=torch.float16), meta(8, dtype=torch.int64), meta(8)
    with record_launches("sm_90") as launches:
        logits_kernels.logits_bwd(logits, labels, row, row, row, row, None, logits, write_zeros=False)
    (launch,) = launches
    ptx = aot.triton.compile(launch.source, target=TARGETS["sm_90"], options=launch.options).asm["ptx"]
    assert 0 < ptx.index("bar.sync") < ptx.index("st.global")


def test_launches_carry_alignment_and_width() -> None:
    """What is compiled is what a launch of aligned tensors compiles: pointers and row strides divisible by 16."""
    with record_launches("sm_90") as launches:
        VARIANTS["head_logits bf16"]()
    attrs = launches[0].source.attrs
    signature = launches[0].source.signature
    names = list(signature)
    aligned = {names[path[0]] for path, attr in attrs.items() if ["tt.divisibility", 16] in attr}
    assert {"hidden_ptr", "weight_ptr", "out_ptr", "V", "H", "stride_hr", "stride_wv", "stride_or"} <= aligned
    assert "r" not in aligned
    assert signature["hidden_ptr"] == "*bf16"
    assert signature["r"] == "i32"


def launch_all(r: int, temperature: float, softcap: float | None) -> list[str]:
    """The specialisation key of every kernel of the LM head for r rows."""
    bf16 = torch.bfloat16
    logits, weight, hidden = meta(r, 512, dtype=bf16), meta(512, 64, dtype=bf16), meta(r, 64, dtype=bf16)
    labels, row = meta(r, dtype=torch.int64), meta(r)
    with record_launches("sm_90") as launches:
        logits_kernels.logits_stats_fwd(logits, labels, temperature=temperature, softcap=softcap)
        logits_kernels.logits_bwd(logits, labels, row, row, row, row, row, logits, temperature=temperature, softcap=softcap)
        rows, count = row_kernels.compact_rows(meta(r, dtype=torch.bool))
        gemm_kernels.head_logits_fwd(hidden, weight, None, logits)
        gemm_kernels.head_dhidden_bwd(logits, weight, rows, count, hidden)
        gemm_kernels.head_dweight_bwd(logits, hidden, rows, count, meta(512, 64), accumulate=True)
        row_kernels.head_dbias_bwd(logits, rows, count, meta(512), accumulate=True)
        row_kernels.scale_(hidden, meta(1))
    return [launch.key for launch in launches]


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_lengths_and_temperature_add_no_specialisation(softcap: float | None) -> None:
    """The keys are those of Triton's own binder: equal keys, one compilation."""
    want = launch_all(1024, 1.0, softcap)
    assert len(want) == len(set(want)) == 8
    for r in (1, 2, 16, 17, 1000, 65_537):
        for temperature in (1.0, 0.7, 16.0):
            assert launch_all(r, temperature, softcap) == want
    if softcap is not None:
        assert launch_all(8, 1.0, softcap + 1) == want
        # The check can fail: a flag is a specialisation.
        assert launch_all(8, 1.0, None) != want


def lora_launches(tokens: int, scaling: float) -> list[str]:
    bf16 = torch.bfloat16
    x, segments = meta(tokens, 512, dtype=bf16), meta(3, dtype=torch.int32)
    a, b = [meta(r, 512) for r in (16, 8)], [meta(512, r) for r in (16, 8)]
    with record_launches("sm_90") as launches:
        _, h = grouped_lora_route.grouped_lora_fwd(x, x, a, b, segments, [scaling, 1.0])
        grouped_lora_route.grouped_lora_bwd(x, x, h, a, b, segments, [scaling, 1.0], [True] * 5)
    return [launch.key for launch in launches]


def test_tokens_and_scaling_of_lora_add_no_specialisation() -> None:
    want = lora_launches(1024, 2.0)
    assert len(want) == len(set(want)) == 6
    for tokens in (1, 2, 16, 17, 1000, 65_537):
        for scaling in (0.0, 1.0, 0.3):
            assert lora_launches(tokens, scaling) == want


def attention_launches(tokens: int, scale: float, window: int, softcap: float) -> list[str]:
    q, k = meta(tokens, 8, 64, dtype=torch.bfloat16), meta(tokens, 2, 64, dtype=torch.bfloat16)
    vector, options = meta(tokens, dtype=torch.int32), {"scale": scale, "window": window, "softcap": softcap}
    with record_launches("sm_90") as launches:
        saved = tree_attention_fwd(q, k, k, vector, vector, None, **options, with_rest=True)
        tree_attention_bwd(q, q, k, k, *saved, vector, vector, None, **options)
    return [launch.key for launch in launches]


def test_tokens_and_numbers_of_attention_add_no_specialisation() -> None:
    want = attention_launches(1024, 0.125, 512, 30.0)
    assert len(want) == len(set(want)) == 3
    for tokens in (2, 16, 17, 1000, 65_537):
        for scale, window, softcap in ((1.0, 1, 1.0), (0.3, 16, 50.0)):
            assert attention_launches(tokens, scale, window, softcap) == want


def test_shared_memory_fits_every_table() -> None:
    """Also for GPUs that no compilation here stands for: stages of both operands of the "small" entry."""
    from himakernels.lm_head.gemm_config import _FLOAT, _HALF

    for table, itemsize in ((_HALF, 2), (_FLOAT, 4)):
        config = table["small"]
        stage = (config.block_m + config.block_n) * config.block_k * itemsize
        assert stage * config.num_stages <= aot.SHARED_LIMIT["small"]
