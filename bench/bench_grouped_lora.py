"""Five LoRA adapters at 5 x 256 tokens, forward + backward: ours packed, PEFT one adapter after the other, PEFT mixed.

`python -m bench.bench_grouped_lora` runs all in turns and prints a table. PEFT's mixed batch (`adapter_names`) is made for
inference; it is run here in evaluation mode with every adapter trainable, which PEFT does not offer as a way to train.
Settings: the seven linear layers of a Qwen2.5-0.5B layer (H = 896, MLP 4,864), several times, without attention; and a
random Qwen3 decoder of 0.1B parameters, whose rows are the adapters' sequences, down to its last hidden states.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from bench.compare import milliseconds, table
from bench.measure import ROUNDS, WARM_UP, configuration, synchronized, time_in_turns

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANKS = (8, 16, 16, 32, 8)
# Of the base, of the adapters: PEFT makes adapters of a bf16 base fp32 unless told otherwise.
DTYPES = {
    "fp32": (torch.float32, torch.float32),
    "bf16, adapters fp32": (torch.bfloat16, torch.float32),
    "bf16": (torch.bfloat16, torch.bfloat16),
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Size:
    """Tokens of each adapter, width, MLP width, layers."""

    tokens: int
    hidden: int
    mlp: int
    layers: int


LINEARS, DECODER, SMOKE = Size(256, 896, 4864, 2), Size(256, 768, 2048, 12), Size(12, 64, 96, 1)


class Linears(torch.nn.Module):
    """The linear layers of decoder layers, in their order, with the residual stream and the MLP's gate between them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        kv = size.hidden // 8
        widths = {"q_proj": (size.hidden, size.hidden), "k_proj": (size.hidden, kv), "v_proj": (size.hidden, kv)}
        widths |= {"o_proj": (size.hidden, size.hidden), "gate_proj": (size.hidden, size.mlp)}
        widths |= {"up_proj": (size.hidden, size.mlp), "down_proj": (size.mlp, size.hidden)}
        layer = {name: torch.nn.Linear(*width, bias=False) for name, width in widths.items()}
        self.layers = torch.nn.ModuleList(torch.nn.ModuleDict(layer if i == 0 else copies(layer)) for i in range(size.layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            kv = layer["k_proj"](x) * layer["v_proj"](x)
            x = x + layer["o_proj"](layer["q_proj"](x)) + kv.repeat(1, 1, 8)
            x = x + layer["down_proj"](torch.nn.functional.silu(layer["gate_proj"](x)) * layer["up_proj"](x))
        return x


def copies(layer: dict[str, torch.nn.Linear]) -> dict[str, torch.nn.Linear]:
    return {name: torch.nn.Linear(old.in_features, old.out_features, bias=False) for name, old in layer.items()}


def decoder(size: Size) -> torch.nn.Module:
    from transformers import Qwen3Config, Qwen3Model

    heads = max(size.hidden // 64, 2)
    config = Qwen3Config(
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=64,
        vocab_size=32_000,
        use_cache=False,
    )
    return Qwen3Model(config)


@dataclass
class Case:
    """A model with five adapters, and its inputs [5, tokens] or [5, tokens, H], a row for each adapter."""

    model: Any
    inputs: torch.Tensor
    names: list[str]

    def loss(self, rows: slice, **more: Any) -> torch.Tensor:
        """A number that a final norm does not make constant."""
        out = self.model(self.inputs[rows], **more)
        hidden = out if isinstance(out, torch.Tensor) else out.last_hidden_state
        wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        return (wide @ torch.linspace(-1, 2, wide.shape[-1], dtype=wide.dtype, device=wide.device)).square().sum()

    def gradients(self) -> dict[str, torch.Tensor]:
        return {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}


def make(setting: str, dtypes: tuple[torch.dtype, torch.dtype], size: Size) -> Case:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = (decoder if setting == "decoder" else Linears)(size).to(DEVICE, dtypes[0])
    names = [f"agent{i}" for i in range(len(RANKS))]
    wide = dtypes[0] != dtypes[1]
    configs = [LoraConfig(r=r, lora_alpha=2 * r, target_modules=list(TARGETS), init_lora_weights=False) for r in RANKS]
    model = get_peft_model(base, configs[0], adapter_name=names[0], autocast_adapter_dtype=wide)
    for name, config in zip(names[1:], configs[1:], strict=True):
        model.add_adapter(name, config, autocast_adapter_dtype=wide)
    shape = (len(RANKS), size.tokens)
    if setting == "decoder":
        return Case(model, torch.randint(32_000, shape, device=DEVICE), names)
    # Gradients flow into the input, as they do in all layers but the first.
    return Case(model, torch.randn(*shape, size.hidden, device=DEVICE).to(dtypes[0]).requires_grad_(), names)


def packed(case: Case) -> Callable[[], None]:
    from himakernels.integrations.peft import packed_adapters, train_adapters

    tokens = case.inputs.shape[1]
    segments = torch.arange(0, (len(case.names) + 1) * tokens, tokens, dtype=torch.int32)

    def run() -> None:
        train_adapters(case.model, case.names)
        with packed_adapters(case.model.train(), case.names, segments):
            case.loss(slice(None)).backward()

    return run


def one_after_the_other(case: Case) -> Callable[[], None]:
    def run() -> None:
        case.model.train()
        for i, name in enumerate(case.names):
            case.model.set_adapter(name)
            case.loss(slice(i, i + 1)).backward()

    return run


def mixed(case: Case) -> Callable[[], None]:
    from himakernels.integrations.peft import train_adapters

    def run() -> None:
        train_adapters(case.model, case.names)
        case.model.eval()
        case.loss(slice(None), adapter_names=case.names).backward()

    return run


CONTENDERS: dict[str, Callable[[Case], Callable[[], None]]] = {
    "himakernels packed": packed,
    "PEFT one after the other": one_after_the_other,
    "PEFT mixed, eval mode": mixed,
}


def fresh(case: Case, run: Callable[[], None]) -> Callable[[], None]:
    """`run` from gradients that are None, as an optimiser's zero_grad leaves them."""

    def timed() -> None:
        case.model.zero_grad()
        case.inputs.grad = None
        run()

    return timed


def gate(setting: str, dtypes: str) -> None:
    """Every adapter's gradients, as near to those of PEFT in fp64 as those of PEFT are."""
    case = make(setting, DTYPES[dtypes], SMOKE)
    ours, eager, truth = {}, {}, {}
    for into, make_run in ((ours, packed), (eager, one_after_the_other)):
        fresh(case, make_run(case))()
        into |= case.gradients()
    case.model.double()
    if case.inputs.is_floating_point():
        case.inputs = case.inputs.detach().double().requires_grad_()
    for i, name in enumerate(case.names):
        case.model.zero_grad()
        case.model.set_adapter(name)
        case.loss(slice(i, i + 1)).backward()
        truth |= case.gradients()
    assert ours.keys() == truth.keys()
    for name, grad in ours.items():
        scale = truth[name].abs().max()
        bound = 2 * (eager[name].double() - truth[name]).abs().max() + 4 * torch.finfo(DTYPES[dtypes][0]).eps * scale
        assert (grad.double() - truth[name]).abs().max() <= bound, name


@pytest.fixture
def smoke(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("benchmark_disable", default=False))


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("setting", ["linears", "decoder"])
def test_grouped_lora(benchmark: Any, setting: str, dtypes: str, contender: str, smoke: bool) -> None:
    pytest.importorskip("peft")
    gate(setting, dtypes)
    size = SMOKE if smoke else {"linears": LINEARS, "decoder": DECODER}[setting]
    case = make(setting, DTYPES[dtypes], size)
    run = fresh(case, CONTENDERS[contender](case))
    benchmark.group = f"grouped_lora {setting} {dtypes}"
    benchmark.pedantic(synchronized(run), rounds=ROUNDS, warmup_rounds=WARM_UP)
    benchmark.extra_info.update(configuration(), contender=contender, tokens=len(RANKS) * size.tokens, ranks=RANKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=["linears", "decoder"], default="linears")
    parser.add_argument("--dtypes", choices=list(DTYPES), default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=256, help="of each adapter")
    given = parser.parse_args()
    gate(given.setting, given.dtypes)
    size = {"linears": LINEARS, "decoder": DECODER}[given.setting]
    size = Size(given.tokens, size.hidden, size.mlp, size.layers)
    case = make(given.setting, DTYPES[given.dtypes], size)
    timings = time_in_turns({name: fresh(case, run(case)) for name, run in CONTENDERS.items()}, given.rounds)
    best = timings["himakernels packed"].median
    rows = [["forward + backward", "ms", "IQR", "x ours", "tokens/s"]]
    for name, timing in timings.items():
        rate = f"{len(RANKS) * size.tokens / timing.median:,.0f}"
        rows.append([name, milliseconds(timing), f"{timing.iqr * 1e3:.1f}", f"{timing.median / best:.2f}", rate])
    print(f"{given.setting}, {given.dtypes}, {size}, ranks {RANKS}, {configuration()}")
    print(table(rows))


if __name__ == "__main__":
    main()
