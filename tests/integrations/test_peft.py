"""Several PEFT adapters in one packed step against PEFT's own runs, one adapter after the other."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft")
from peft import LoraConfig, LoraModel, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from himakernels.integrations.peft import _Step, packed_adapters, train_adapters
from himakernels.testing import INTERPRET

if INTERPRET:
    pytest.skip("whole models: the kernels have tests of their own", allow_module_level=True)

VOCAB = 61
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "master": {"r": 4, "lora_alpha": 8, "target_modules": ALL},
    "search": {"r": 8, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]},
    "cart": {"r": 3, "lora_alpha": 16, "target_modules": ["down_proj"], "use_rslora": True},
    "orders": {"r": 6, "lora_alpha": 6, "target_modules": r".*\.1\..*(q|up)_proj"},
    "support": {"r": 1, "lora_alpha": 2, "target_modules": ALL, "rank_pattern": {"o_proj": 5}},
}
LENGTHS = [7, 3, 5, 11, 4, 6]
NAMES = ["master", "search", "cart", "orders", None, "support"]


def base_model(family: str = "qwen3") -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 64, "attn_implementation": "eager"}
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**sizes))
    return Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=8, tie_word_embeddings=True))


def adapted(family: str = "qwen3", dtype: torch.dtype = torch.float32, **changed: Any) -> PeftModel:
    """The model with all adapters, random ones: PEFT's B is zero at first. PEFT keeps them in fp32 under a bf16 base."""
    configs = {n: LoraConfig(**{"init_lora_weights": False, **c, **changed}) for n, c in ADAPTERS.items()}
    names = iter(configs)
    first = next(names)
    model = get_peft_model(base_model(family).to(dtype), configs[first], adapter_name=first)
    for name in names:
        model.add_adapter(name, configs[name])
    return model.train()


def segments(lengths: list[int] = LENGTHS) -> torch.Tensor:
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)


def tokens(seed: int = 1) -> torch.Tensor:
    return torch.randint(VOCAB, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(seed))


def isolated(lengths: list[int], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Positions and a block-diagonal causal mask: one sequence an adapter."""
    which = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    sees = (which[:, None] == which[None, :]).tril()
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)
    return {"position_ids": torch.cat([torch.arange(n) for n in lengths])[None], "attention_mask": mask[None, None]}


def packed_run(model: PeftModel, ids: torch.Tensor, *, context: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(logits [T, V], gradients of all adapters), the backward outside of the context."""
    model.zero_grad()
    with context or packed_adapters(model, NAMES, segments()):
        logits = model(input_ids=ids, use_cache=False, **isolated(LENGTHS, model.dtype)).logits[0]
    loss_of(logits).backward()
    return logits.detach(), gradients(model)


def sequential_run(model: PeftModel, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """PEFT's own: set_adapter, forward and backward, one adapter after the other."""
    model.zero_grad()
    starts, parts, grads = segments().tolist(), [], {}
    for i, name in enumerate(NAMES):
        if name is not None:
            model.set_adapter(name)
        part = ids[:, starts[i] : starts[i + 1]]
        if part.shape[1] == 0:
            continue
        with model.disable_adapter() if name is None else nullcontext():
            logits = model(input_ids=part, use_cache=False).logits[0]
        parts.append(logits.detach())
        if name is not None:
            loss_of(logits, starts[i]).backward()
            grads |= gradients(model)
    return torch.cat(parts), grads


def loss_of(logits: torch.Tensor, first: int = 0) -> torch.Tensor:
    weights = torch.linspace(-1, 2, sum(LENGTHS), dtype=torch.float64)[first : first + len(logits), None]
    return (logits.log_softmax(-1)[:, :5] * weights.to(logits.dtype)).sum()


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_equals_one_adapter_after_the_other(family: str) -> None:
    """Logits and every gradient, in fp64: what is left is the softmax, norms and rotations that decoders do in fp32."""
    model, ids = adapted(family, torch.float64).double(), tokens()
    want_logits, want = sequential_run(model, ids)
    train_adapters(model, list(ADAPTERS))
    logits, got = packed_run(model, ids)
    torch.testing.assert_close(logits, want_logits, rtol=1e-6, atol=1e-6)
    assert got.keys() == want.keys()
    for name, grad in got.items():
        torch.testing.assert_close(grad, want[name], rtol=1e-6, atol=2e-6 * float(want[name].abs().max()))
    assert len(got) == sum(p.requires_grad for p in model.parameters()) == 2 * (14 + 4 + 2 + 2 + 14)
    assert all(want[n].any() for n in want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_near_to_the_truth_as_peft(dtype: torch.dtype) -> None:
    """The same base in fp32, and in bf16 with fp32 adapters: logits and gradients against an fp64 run of the same values."""
    model, ids = adapted(dtype=dtype), tokens()
    assert {p.dtype for n, p in model.named_parameters() if "lora_" in n} == {torch.float32}
    truth_logits, truth = sequential_run(copy.deepcopy(model).double(), ids)
    eager_logits, eager = sequential_run(model, ids)
    train_adapters(model, list(ADAPTERS))
    logits, got = packed_run(model, ids)
    assert logits.dtype == dtype
    pairs = [(logits, eager_logits, truth_logits), *((got[n], eager[n], truth[n]) for n in truth)]
    # Through a whole model roundings are a matter of luck element by element: by tensor, by twice what PEFT's are, and by those
    # of one product more, which sums over the hidden size (another number of threads is another order of that sum).
    slack = 4 * torch.finfo(dtype).eps * math.sqrt(model.config.hidden_size)
    for ours, peft, exact in pairs:
        error, bound = ((t.double() - exact).abs().max() for t in (ours, peft))
        assert error <= 2 * bound + slack * exact.abs().max()


def test_rows_of_a_batch() -> None:
    """[N, L]: tokens count row by row, two rows an adapter, one adapter without any."""
    model = adapted().eval()
    ids = torch.randint(VOCAB, (4, 6), generator=torch.Generator().manual_seed(2))
    with packed_adapters(model, ["master", "search", "cart"], segments([12, 0, 12])), torch.no_grad():
        got = model(input_ids=ids).logits
    for name, rows in (("master", slice(0, 2)), ("cart", slice(2, 4))):
        model.set_adapter(name)
        torch.testing.assert_close(got[rows], model(input_ids=ids[rows]).logits, rtol=1e-5, atol=1e-5)


def test_autocast() -> None:
    model, ids = adapted(), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        want, _ = sequential_run(model, ids)
        train_adapters(model, list(ADAPTERS))
        got, grads = packed_run(model, ids)
    assert got.dtype == want.dtype == torch.bfloat16
    torch.testing.assert_close(got, want, rtol=0.05, atol=0.05 * float(want.abs().max()))
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in grads.values())


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing(use_reentrant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers run again in the backward, outside of the context: the same gradients. Without our care they are not."""
    model, ids = adapted(), tokens()
    train_adapters(model, list(ADAPTERS))
    want_logits, want = packed_run(model, ids)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})  # the name in transformers 5.17, too
    model.enable_input_require_grads()
    model.set_adapter("search")
    train_adapters(model, list(ADAPTERS))
    logits, got = packed_run(model, ids)
    assert torch.equal(logits, want_logits)
    assert got.keys() == want.keys()
    assert all(torch.equal(got[n], want[n]) for n in want)
    model.zero_grad()
    with packed_adapters(model, NAMES, segments()):  # backward inside
        loss_of(model(input_ids=ids, use_cache=False, **isolated(LENGTHS, model.dtype)).logits[0]).backward()
    assert all(torch.equal(g, want[n]) for n, g in gradients(model).items())
    monkeypatch.setattr(_Step, "on_checkpoints", lambda self: nullcontext())
    if use_reentrant:
        _, wrong = packed_run(model, ids)
        assert any(n not in wrong or not torch.equal(wrong[n], want[n]) for n in want)
    else:
        with pytest.raises(torch.utils.checkpoint.CheckpointError):
            packed_run(model, ids)


@contextmanager
def unchanged(model: PeftModel) -> Iterator[None]:
    """Nothing is left behind in the model, and its plain forward is what it was."""
    modules = {name: dict(vars(m)) for name, m in model.named_modules()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    before = model(input_ids=tokens()).logits
    yield
    assert {name: set(vars(m)) for name, m in model.named_modules()} == {name: set(v) for name, v in modules.items()}
    assert all(vars(m).get("_gradient_checkpointing_func") is modules[n].get("_gradient_checkpointing_func")
               for n, m in model.named_modules())  # fmt: skip
    assert flags == {name: p.requires_grad for name, p in model.named_parameters()}
    assert torch.equal(model(input_ids=tokens()).logits, before)


def test_undone_on_exit_and_after_errors() -> None:
    model, other = adapted(), adapted()
    for each in (model, other):
        train_adapters(each, list(ADAPTERS))
    model.gradient_checkpointing_enable()
    with unchanged(model):
        packed_run(model, tokens())
    with unchanged(model), pytest.raises(KeyError), packed_adapters(model, NAMES, segments()):
        raise KeyError
    with unchanged(model), packed_adapters(model, NAMES, segments()):
        with pytest.raises(RuntimeError, match="expected a model without a packed step, got one inside another"):
            packed_run(model, tokens())
        packed_run(other, tokens())  # another model is another matter


def test_train_adapters() -> None:
    model = adapted()
    parameters = train_adapters(model, ["search", None, "cart"])
    trained = {id(p) for ps in parameters.values() for p in ps}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
    assert [len(ps) for ps in parameters.values()] == [8, 4]
    _, grads = packed_run(model, tokens())
    assert {n.split(".lora_")[1].split(".")[1] for n in grads} == {"search", "cart"}
    with pytest.raises(ValueError, match=r"names\[0\]: expected one of \['cart', .*\] or None, got 'nobody'"):
        train_adapters(model, ["nobody"])


def test_saved_adapters_load_in_peft(tmp_path: Path) -> None:
    """After a packed step: PEFT's own files, and each adapter alone on a plain base gives the packed logits."""
    model, ids = adapted(), tokens()
    parameters = train_adapters(model, list(ADAPTERS))
    optimizer = torch.optim.AdamW([p for ps in parameters.values() for p in ps], lr=1e-2)
    packed_run(model, ids)
    optimizer.step()
    logits, _ = packed_run(model, ids)
    model.save_pretrained(tmp_path, selected_adapters=list(ADAPTERS))
    for i, name in enumerate(NAMES):
        if name is None:
            continue
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors"} <= files
        # The names that vLLM reads: no adapter's name inside.
        keys = load_file(tmp_path / name / "adapter_model.safetensors").keys()
        assert all(
            k.startswith("base_model.model.model.layers.") and k.endswith((".lora_A.weight", ".lora_B.weight")) for k in keys
        )
        begin, end = segments()[i : i + 2].tolist()
        if begin == end:
            continue
        alone = PeftModel.from_pretrained(base_model(), str(tmp_path / name)).eval()
        assert isinstance(alone.base_model, LoraModel)
        torch.testing.assert_close(alone(input_ids=ids[:, begin:end]).logits[0], logits[begin:end], rtol=1e-5, atol=1e-5)
