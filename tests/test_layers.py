"""Arrows go down only: every import of the project is checked against the order of its layers; so is the length of files."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Low to high. The longest name that fits a module gives its layer; a module imports from its own layer or from below.
LAYERS = [
    (
        "himakernels._core",
        "himakernels.openmp",
        "himakernels.arrays",
        "himakernels.checks",
        "himakernels.backend",
        "himakernels.library",
        "himakernels.arch",
        "himakernels.once",
    ),
    ("himakernels.tl_math",),
    ("himakernels.tl_rows",),
    ("himakernels.lm_head",),
    ("himakernels.ops",),
    ("himakernels.packed_tree", "himakernels.packing", "himakernels.prefix_cache", "himakernels.kv_pool"),
    ("himakernels", "himakernels.testing"),
    ("himakernels.integrations",),
    ("trainer.reading", "trainer.escaping", "trainer.kinds"),
    ("trainer.checksums", "trainer.config_file", "trainer.jsonlines", "trainer.lock"),
    ("trainer.pretrained",),
    ("trainer.react", "trainer.averages"),
    ("trainer.types",),
    ("trainer.control_tokens",),
    ("trainer.chat",),
    ("trainer.rewards",),
    ("trainer.env", "trainer.foreign"),
    ("trainer.hima_ecom", "trainer.tau_retail"),
    ("trainer.agents",),
    ("trainer.prompts", "trainer.prompts_env", "trainer.tau_retail.agent"),
    ("trainer.episode",),
    ("trainer.dialogue", "trainer.hima_ecom.dataset"),
    ("trainer.memory",),
    ("trainer.weights_ids",),
    ("trainer.network", "trainer.network_checks", "trainer.network_files", "trainer.optim"),
    ("trainer.engine", "trainer.models"),
    ("trainer.sequences",),
    ("trainer.step", "trainer.balance"),
    ("trainer.learner",),
    ("trainer.sft", "trainer.tiny", "trainer.unfamiliar"),
    ("trainer.policies",),
    ("trainer.evaluate",),
    ("trainer.play", "trainer.recall"),
    ("trainer.vrgrpo",),
    ("trainer.lessons", "trainer.walks"),
    ("trainer.judging",),
    ("trainer.rollout",),
    ("trainer.reward_funcs",),
    ("trainer.checkpoint", "trainer.arguments_options"),
    ("trainer.config",),
    ("trainer.parts_of", "trainer.metrics", "trainer.stopping"),
    ("trainer.setting", "trainer.scalars"),
    ("trainer.run_folder",),
    ("trainer.run",),
    ("trainer.pretrain", "trainer.saved", "trainer.train"),
    ("trainer.evaluate.command",),
    ("trainer.arguments", "trainer.arguments_kinds"),
    ("trainer.arguments_model", "trainer.settings_of"),
    ("trainer.trainer",),
    ("trainer.report", "trainer.generate"),
    ("trainer",),
    ("bench",),
]
# What lies low although its folder does not.
EXCEPTIONS = {"himakernels.lm_head.types": 0}
# Ops are strangers to each other, except:
ACROSS_OPS = {
    "vrgrpo_loss": {"group_advantages", "select_groups"},
    "token_cross_entropy": {"token_logprobs"},  # the reference only
    "varlen_attention": {"tree_attention"},
    "paged_attention": {"tree_attention"},  # kernels: scores and products of blocks
}
MAX_LINES = 300
# Files that may be longer, and why.
LONG = {
    "himakernels/lm_head/gemm_kernels.py": "three products, each a kernel with its launcher",
    "himakernels/ops/vrgrpo_loss/kernels.py": "one kernel with the arguments of every loss type",
    "tests/lm_head/test_kernels.py": "one file of cases for the kernels of one folder",
    "tests/ops/test_group_advantages.py": "one file of cases for one op",
}
# The files of csrc, low to high: names without ending; x.h comes before x.cpp. Those that know Python come last.
CSRC = ["buffer", "half", "huge_pages", "fork_safety", "workers", "parallel", "simd", "round", "pack", "amx", "pack_blocks"]
CSRC += ["tile", "gemm", "logits", "group_advantages", "cuts", "token_trie", "attention_layout", "attention_units"]
CSRC += ["attention_rows", "tree_attention", "paged_rows", "paged_attention", "block_pool", "prefix_tree", "prefix_cache"]
CSRC_PYTHON = ["python", *(f"bind_{name}" for name in CSRC), "bindings"]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> int | None:
    if module in EXCEPTIONS:
        return EXCEPTIONS[module]
    fits = [
        (len(name), i) for i, names in enumerate(LAYERS) for name in names if module == name or module.startswith(name + ".")
    ]
    return max(fits)[1] if fits else None


def imports(source: str) -> list[str]:
    """The modules that a source imports, also inside its functions; `from a import b` as a and a.b."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists() or path.with_suffix(".pyi").exists()


def upward(module: str, source: str) -> list[str]:
    """What is wrong with the imports of `module`."""
    wrong = []
    mine = layer(module)
    assert mine is not None, f"{module}: in no layer"
    for name in imports(source):
        if name.split(".")[0] not in ("himakernels", "trainer", "bench") or not is_module(name):
            continue
        other = layer(name)
        if name == "himakernels" and any(n.startswith("himakernels.") and is_module(n) for n in imports(source)):
            continue  # `from himakernels import checks` is an import of checks
        if name in ("himakernels.ops", "himakernels.lm_head"):
            continue
        if other is None or other > mine:
            wrong.append(f"{module} imports {name}")
        here, there = (m.split(".")[2] if m.startswith("himakernels.ops.") else None for m in (module, name))
        if here and there and here != there and there not in ACROSS_OPS.get(here, set()):
            wrong.append(f"{module} imports {name}: another op")
    return wrong


def sources() -> list[Path]:
    return [p for folder in ("himakernels", "trainer", "bench") for p in sorted((ROOT / folder).rglob("*.py"))]


def test_no_arrow_goes_up() -> None:
    assert len(sources()) > 30
    assert [w for path in sources() for w in upward(module_of(path), path.read_text())] == []


def test_the_check_finds_upward_arrows() -> None:
    assert upward("himakernels.lm_head.cpu", "from himakernels.ops.vrgrpo_loss.rows import Rows")
    assert upward("himakernels.checks", "def f():\n    import himakernels.lm_head.cpu")
    assert upward("himakernels.ops.token_logprobs.op", "from himakernels.ops.vrgrpo_loss import vrgrpo_loss")
    assert upward("himakernels.ops.select_groups.op", "from himakernels import trainer\nimport trainer")
    assert upward("himakernels.testing", "import bench.launches")
    assert upward("trainer.learner", "import bench")
    assert upward("trainer.hima_ecom.world", "from trainer.learner import learn\nimport trainer")
    assert not upward("trainer.learner", "from himakernels import vrgrpo_loss\nfrom himakernels.packing import PackedTree")
    assert not upward(
        "himakernels.ops.vrgrpo_loss.loss", "from himakernels.ops.select_groups import select_groups\nimport torch"
    )


def test_optional_libraries_stay_in_their_places() -> None:
    """Triton in kernel files (and what loads them), transformers and its kin in integrations."""
    for path in sorted((ROOT / "himakernels").rglob("*.py")):
        roots = {name.split(".")[0] for name in imports(path.read_text())}
        name = path.name
        assert "triton" not in roots or name.endswith("kernels.py") or name.startswith("tl_"), path
        kin = roots & {"transformers", "trl", "peft", "verl", "vllm", "liger_kernel", "pytest"}
        assert not kin or path.parent.name == "integrations", path


def test_c_plus_plus_includes_go_down() -> None:
    order = [f"{name}.{ending}" for name in (*CSRC, *CSRC_PYTHON) for ending in ("h", "cpp")]
    for path in sorted((ROOT / "csrc").iterdir()):
        if path.suffix not in (".h", ".cpp"):
            continue
        assert path.name in order, f"{path.name}: in no layer"
        text = path.read_text()
        for name in re.findall(r'#include "([^"]+)"', text):
            assert order.index(name) < order.index(path.name), f"{path.name} includes {name}"
            assert not name.endswith(".cpp")
        assert ("pybind11" in text) <= (path.stem in CSRC_PYTHON), path.name
        assert "torch/" not in text, path.name


def test_files_are_short() -> None:
    for path in [*sources(), *sorted((ROOT / "tests").rglob("*.py"))]:
        lines = len(path.read_text().splitlines())
        name = str(path.relative_to(ROOT))
        assert (lines > MAX_LINES) == (name in LONG), f"{name}: {lines} lines; the list of long files is exact"
