"""Several PEFT LoRA adapters of one frozen base model in one packed step.

PEFT's layers stay the owners of all parameters, and its own `save_pretrained(selected_adapters=[...])` saves them:

    parameters = train_adapters(model, ["planner", "coder"])  # once, after the adapters were added or loaded
    with packed_adapters(model, ["planner", "coder"], packed.segments):
        hidden = hidden_states(model, packed)  # tokens ordered by adapter
    vrgrpo_loss(...).loss.backward()

Inside, the forward of each LoRA layer of this one model is replaced on the instance: the base layer runs once on all tokens,
`grouped_lora` adds each token's adapter. PEFT's own way to mix adapters, the argument `adapter_names`, is for inference: it
takes one adapter a row of the batch, refuses a model in training mode, and gathers and scatters rows for every adapter.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from peft import PeftModel, PeftType
from peft.tuners.lora.layer import Linear, LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from himakernels.checks import check_dtype, check_shape
from himakernels.ops.grouped_lora import grouped_lora

__all__ = ["packed_adapters", "train_adapters"]

Names = Sequence[str | None]


def _lora_layers(model: torch.nn.Module) -> dict[str, Any]:
    """Path -> LoRA layer: a torch module whose class also has LoraLayer, a mixin, among its bases."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}


def _holders(layer: Any) -> set[str]:
    """The adapters that target this layer."""
    return set(layer.lora_A) | set(layer.lora_embedding_A)


def _check_names(model: object, names: Names) -> PeftModel:
    """`model`, a PeftModel that has every adapter of `names`, each of them LoRA."""
    if not isinstance(model, PeftModel):
        raise TypeError(f"model: expected a peft.PeftModel, got {type(model).__name__}")
    if isinstance(names, str) or len(names) == 0:
        raise ValueError(f"names: expected at least one adapter, in a sequence, got {names!r}")
    known = model.peft_config
    for i, name in enumerate(names):
        if name is None:
            continue
        if name not in known:
            raise ValueError(f"names[{i}]: expected one of {sorted(known)} or None, got {name!r}")
        kind = known[name].peft_type
        if kind != PeftType.LORA:
            raise NotImplementedError(f"adapter {name!r}: expected a LoRA adapter, got {getattr(kind, 'value', kind)}")
    return model


def _check_config(model: PeftModel, name: str, targeted: list[str]) -> None:
    """Refuses what an adapter's configuration asks for beyond plain LoRA on linear layers, and targets that are not there."""
    config: Any = model.peft_config[name]
    plain = {"bias": "none", "use_dora": False, "lora_bias": False}
    for option, expected in plain.items():
        if getattr(config, option) != expected:
            raise NotImplementedError(f"adapter {name!r}: expected {option}={expected!r}, got {getattr(config, option)!r}")
    for option in ("modules_to_save", "trainable_token_indices", "target_parameters"):
        if getattr(config, option):
            raise NotImplementedError(f"adapter {name!r}: expected no {option}, got {getattr(config, option)!r}")
    targets = config.target_modules
    if isinstance(targets, set | list | tuple):
        missing = sorted(t for t in targets if not any(f".{layer}".endswith(f".{t}") for layer in targeted))
        if missing:
            raise ValueError(f"adapter {name!r}: expected target_modules that the model has, got {missing}, which it has not")
    if not targeted:
        raise ValueError(f"adapter {name!r}: expected LoRA layers in this model, got none for target_modules={targets!r}")


def _check_base(model: PeftModel, names: set[str]) -> None:
    """ValueError where adapters name different base models, or another one than this."""
    bases = {f"adapter {name!r}": model.peft_config[name].base_model_name_or_path for name in sorted(names)}
    bases = {"the model": getattr(model.get_base_model(), "name_or_path", None), **bases}
    known = [(who, str(base).rstrip("/")) for who, base in bases.items() if base]
    for who, base in known[1:]:
        if base != known[0][1]:
            raise ValueError(
                f"{who}: expected the base model {known[0][1]!r}, as {known[0][0]} has it, got {base!r} "
                "(check_base=False where two names mean one model)"
            )


def _check_layer(path: str, layer: Any, names: set[str]) -> None:
    """Refuses a layer whose adapters in `names` do more than add scaling * B A x to a linear layer."""
    if type(layer) is not Linear:
        raise NotImplementedError(f"{path}: expected LoRA on a linear layer (peft's lora.Linear), got {type(layer)}")
    if "forward" in vars(layer):
        raise RuntimeError(f"{path}: expected the layer's own forward, got one that another library put in its place")
    for name in sorted(names & set(layer.lora_variant)):
        raise NotImplementedError(f"{path}: expected plain LoRA for adapter {name!r}, got {type(layer.lora_variant[name])}")


def _check_model(model: PeftModel, names: set[str], check_base: bool) -> dict[str, Any]:
    """The model's LoRA layers, after everything that is not supported was refused."""
    layers = _lora_layers(model)
    for name in sorted(names):
        _check_config(model, name, [path for path, layer in layers.items() if name in _holders(layer)])
    if check_base:
        _check_base(model, names)
    base: Any = model.get_base_model()
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    for path, module in model.named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            raise NotImplementedError(f"{path}: expected no modules_to_save or trainable tokens, got {type(module).__name__}")
    for path, layer in layers.items():
        if layer.merged:
            raise ValueError(f"{path}: expected adapters apart from the base weights, got merged {layer.merged_adapters}")
        if layer.disable_adapters:
            raise ValueError(f"{path}: expected enabled adapters, got disabled ones (use None in names for the bare base)")
        used = names & _holders(layer)
        if used:
            _check_layer(path, layer, used)
            if layer is head:
                raise NotImplementedError(
                    f"{path}: expected no LoRA on the output head (the loss reads its weight), got {sorted(used)}"
                )
            _check_dropout(path, layer, used)
    return layers


def _check_dropout(path: str, layer: Any, names: set[str]) -> None:
    for name in sorted(names):
        dropout = layer.lora_dropout[name]
        if isinstance(dropout, torch.nn.Dropout) and dropout.p > 0 and dropout.training:
            raise NotImplementedError(
                f"{path}: expected lora_dropout 0 in training for adapter {name!r}, got {dropout.p} (PPO-style ratios need "
                "the sampled policy; set it to 0, or call model.eval())"
            )


class _Step:
    """Which tokens belong to which adapters, and the layers of the one model that know of it."""

    def __init__(self, model: PeftModel, layers: dict[str, Any], names: Names, segments: torch.Tensor) -> None:
        self.model, self.layers, self.names = model, layers, list(names)
        self.starts: list[int] = segments.tolist()
        self.segments = {segments.device: segments}

    @contextmanager
    def on_layers(self, layers: dict[str, Any]) -> Iterator[None]:
        """The layers run this step inside, and what they ran before again outside."""
        before = {layer: vars(layer).get("forward") for layer in layers.values()}
        try:
            for path, layer in layers.items():
                layer.forward = self.forward_of(path, layer)
            yield
        finally:
            for layer, forward in before.items():
                if forward is None:
                    vars(layer).pop("forward", None)
                else:
                    layer.forward = forward

    @contextmanager
    def on_checkpoints(self) -> Iterator[None]:
        """Modules under gradient checkpointing run this step also when the backward runs them again, outside of it."""
        modules: list[Any] = [m for m in self.model.modules() if getattr(m, "gradient_checkpointing", False)]
        before = {m: m._gradient_checkpointing_func for m in modules if hasattr(m, "_gradient_checkpointing_func")}
        try:
            for module, checkpoint in before.items():
                module._gradient_checkpointing_func = self._checkpoint_of(module, checkpoint)
            yield
        finally:
            for module, checkpoint in before.items():
                module._gradient_checkpointing_func = checkpoint

    def _checkpoint_of(self, module: torch.nn.Module, checkpoint: Callable[..., Any]) -> Callable[..., Any]:
        inside = set(module.modules())
        layers = {path: layer for path, layer in self.layers.items() if layer in inside}

        def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            def run_again(*inner: Any, **more: Any) -> Any:
                with self.on_layers(layers):
                    return function(*inner, **more)

            return checkpoint(run_again, *args, **kwargs)

        return run

    def forward_of(self, path: str, layer: Any) -> Callable[..., torch.Tensor]:
        """The forward of one layer: its base layer, and for each token its adapter's part."""
        used = {name for name in self.names if name is not None and name in _holders(layer)}

        def forward(x: torch.Tensor, *args: Any, adapter_names: Any = None, **kwargs: Any) -> torch.Tensor:
            if adapter_names is not None:
                raise ValueError(f"{path}: expected no adapter_names inside packed_adapters, got {adapter_names!r}")
            base: torch.Tensor = layer.base_layer(x, *args, **kwargs)
            if not used:
                return base
            tokens = x.shape[:-1].numel()
            if tokens != self.starts[-1]:
                raise ValueError(f"{path}: expected segments[-1] = {self.starts[-1]} tokens, got {tokens} ({list(x.shape)})")
            _check_dropout(path, layer, used)
            if torch.is_autocast_enabled(x.device.type):
                x = x.to(base.dtype)
            pairs = [self._matrices(layer, name, used) for name in self.names]
            y = grouped_lora(
                x.reshape(tokens, -1),
                [a for a, _ in pairs],
                [b for _, b in pairs],
                self._segments_on(x.device),
                [1.0 if name not in used or name is None else layer.scaling[name] for name in self.names],
                base=base.reshape(tokens, -1),
            )
            return y.view(base.shape)

        return forward

    def _segments_on(self, device: torch.device) -> torch.Tensor:
        if device not in self.segments:
            self.segments[device] = next(iter(self.segments.values())).to(device, non_blocking=True)
        return self.segments[device]

    def _matrices(self, layer: Any, name: str | None, used: set[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(A, B) of an adapter; of rank 0 where it does not target this layer."""
        if name in used and name is not None:
            return layer.lora_A[name].weight, layer.lora_B[name].weight
        a, b = layer.lora_A[min(used)], layer.lora_B[min(used)]
        return a.weight.new_empty(0, a.in_features), b.weight.new_empty(b.out_features, 0)


_ACTIVE = "_himakernels_packed_adapters"


@contextmanager
def packed_adapters(model: PeftModel, names: Names, segments: torch.Tensor, *, check_base: bool = True) -> Iterator[None]:
    """Inside, a forward of `model` gives the tokens [segments[i], segments[i + 1]) the adapter names[i], all in one pass.

    Args:
        model: a PeftModel whose adapters are LoRA on linear layers. Which of them is active does not matter.
        names: for each policy its adapter, None for the bare base model. An adapter adds nothing where it has no layer.
        segments: [len(names) + 1] int32, ascending, from 0 to T (`PackedTree.segments`); its values are read once, here.
            Tokens are counted row by row: an input [1, T] of packed tokens, or [N, L] whose rows are ordered by adapter.
        check_base: compare the names of the base models that the adapters were made for.

    What a forward inside computed may be differentiated outside, also under transformers' gradient checkpointing; where a
    caller checkpoints by hand, the backward has to run inside. Parameters get gradients where they require them: see
    `train_adapters`. Numerics are those of `grouped_lora`.

    The forward of the model's layers is replaced, nothing global; it is put back on exit, also after an error. So a model
    serves one packed step at a time, from one thread: a second one inside the first is refused.

    Raises:
        TypeError: no PeftModel, segments that are not int32.
        ValueError: an unknown name, as many names as segments, values that are not ascending from 0, merged or disabled
            adapters, target modules that the model has not, another base model; in the forward another number of tokens.
        NotImplementedError: another tuner than LoRA; DoRA and other variants, bias, modules_to_save, trainable tokens, LoRA
            on anything but torch linear layers, on the output head, or with dropout in training.
        RuntimeError: packed_adapters is active on this model already, or another library replaced a layer's forward.
    """
    model = _check_names(model, names)
    if getattr(model, _ACTIVE, False):
        raise RuntimeError("packed_adapters: expected a model without a packed step, got one inside another on the same model")
    check_shape("segments", segments, (len(names) + 1,))
    check_dtype("segments", segments, (torch.int32,))
    layers = _check_model(model, {name for name in names if name is not None}, check_base)
    step = _Step(model, layers, names, segments)
    if step.starts[0] != 0 or any(begin > end for begin, end in pairwise(step.starts)):
        raise ValueError(f"segments: expected ascending values from 0, got {step.starts}")
    vars(model)[_ACTIVE] = True
    try:
        with step.on_checkpoints(), step.on_layers(layers):
            yield
    finally:
        del vars(model)[_ACTIVE]


def train_adapters(model: PeftModel, names: Names) -> dict[str, list[torch.nn.Parameter]]:
    """Makes the adapters in `names` trainable and every other parameter of the model frozen; the parameters of each.

    PEFT trains the active adapter only, and changes that whenever one is added, loaded or made active: call this after.

    Raises:
        TypeError, ValueError, NotImplementedError: no PeftModel, an unknown or empty list of names, another tuner.
    """
    model = _check_names(model, names)
    model.requires_grad_(False)
    parameters: dict[str, list[torch.nn.Parameter]] = {name: [] for name in names if name is not None}
    for layer in _lora_layers(model).values():
        for name in parameters.keys() & _holders(layer):
            for part in ("lora_A", "lora_B"):
                if name in getattr(layer, part):
                    parameters[name] += getattr(layer, part)[name].requires_grad_(True).parameters()
    return parameters
