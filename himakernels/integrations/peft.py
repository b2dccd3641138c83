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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from peft import PeftModel

from himakernels.checks import check_dtype, check_shape
from himakernels.integrations.peft_checks import (
    Names,
    check_dropout,
    check_model,
    check_names,
    check_state,
    check_trainable,
    holders,
    lora_layers,
)
from himakernels.integrations.transformers_models import ACTIVE
from himakernels.ops.grouped_lora import grouped_lora

__all__ = ["packed_adapters", "train_adapters"]

_TRAINED = "_himakernels_trained_adapters"  # of a PEFT model: the names that train_adapters had last


class _Step:
    """Which tokens belong to which adapters, and the layers of the one model that know of it."""

    def __init__(self, model: PeftModel, layers: dict[str, Any], names: Names, segments: torch.Tensor) -> None:
        self.model, self.layers, self.names = model, layers, list(names)
        self.trained: set[str] | None = vars(model).get(_TRAINED)
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
    def on_decoder(self) -> Iterator[None]:
        """Count tokens in the decoder's own forward where no adapter has any: its layers, which count them else, do not run."""
        base: Any = self.model.get_base_model()
        if any(name is not None for name in self._present()) or not hasattr(base, "get_decoder"):
            yield
            return
        hook = base.get_decoder().register_forward_pre_hook(self._count, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def _count(self, decoder: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids, embeds = args[0] if args else kwargs.get("input_ids"), kwargs.get("inputs_embeds")
        shape = ids.shape if ids is not None else embeds.shape[:-1] if embeds is not None else None
        if shape is None:
            return
        tokens = shape.numel()
        if tokens != self.starts[-1]:
            over = f": [{self.starts[-1]}, {tokens}) are in no segment" if tokens > self.starts[-1] else ""
            raise ValueError(f"segments: expected segments[-1] = {self.starts[-1]} tokens, got {tokens}{over}")

    def _present(self) -> list[str | None]:
        """The names; None also for an adapter without tokens."""
        return [name if begin < end else None for name, (begin, end) in zip(self.names, pairwise(self.starts), strict=True)]

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
        # An adapter without tokens is left out: its parameters then have no gradient, as in PEFT, instead of zeros.
        present = self._present()
        used = {name for name in present if name is not None and name in holders(layer)}

        def forward(x: torch.Tensor, *args: Any, adapter_names: Any = None, **kwargs: Any) -> torch.Tensor:
            if adapter_names is not None:
                raise ValueError(f"{path}: expected no adapter_names inside packed_adapters, got {adapter_names!r}")
            check_state(path, layer)
            base: torch.Tensor = layer.base_layer(x, *args, **kwargs)
            if not used:
                return base
            tokens = x.shape[:-1].numel()
            if tokens != self.starts[-1]:
                raise ValueError(f"{path}: expected segments[-1] = {self.starts[-1]} tokens, got {tokens} ({list(x.shape)})")
            check_dropout(path, layer, used)
            check_trainable(path, layer, used, self.trained)
            if torch.is_autocast_enabled(x.device.type):
                x = x.to(base.dtype)
            pairs = [self._matrices(layer, name, used) for name in present]
            y = grouped_lora(
                x.reshape(tokens, -1),
                [a for a, _ in pairs],
                [b for _, b in pairs],
                self._segments_on(x.device),
                [1.0 if name not in used or name is None else layer.scaling[name] for name in present],
                base=base.reshape(tokens, -1),
            )
            return y.view(base.shape)

        return forward

    def _segments_on(self, device: torch.device) -> torch.Tensor:
        if device not in self.segments:
            known = next(iter(self.segments.values()))
            # To the CPU the copy is waited for: the next to read it is the host.
            self.segments[device] = known.to(device, non_blocking=device.type != "cpu")
        return self.segments[device]

    def _matrices(self, layer: Any, name: str | None, used: set[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(A, B) of an adapter; of rank 0 where it does not target this layer."""
        if name in used and name is not None:
            return layer.lora_A[name].weight, layer.lora_B[name].weight
        a, b = layer.lora_A[min(used)], layer.lora_B[min(used)]
        return a.weight.new_empty(0, a.in_features), b.weight.new_empty(b.out_features, 0)


@contextmanager
def packed_adapters(model: PeftModel, names: Names, segments: torch.Tensor, *, check_base: bool = True) -> Iterator[None]:
    """Inside, a forward of `model` gives the tokens [segments[i], segments[i + 1]) the adapter names[i], all in one pass.

    Args:
        model: a PeftModel whose adapters are LoRA on linear layers. Which of them is active does not matter.
        names: for each policy its adapter, None for the bare base model. An adapter adds nothing where it has no layer, and
            gets no gradient (None, not zeros) where it has no tokens.
        segments: [len(names) + 1] int32, ascending, from 0 to T (`PackedTree.segments`); its values are read once, here: on
            the CPU, where a PackedTree keeps them, without waiting for a GPU.
            Tokens are counted row by row: an input [1, T] of packed tokens, or [N, L] whose rows are ordered by adapter.
        check_base: compare the names of the base models that the adapters were made for.

    What a forward inside computed may be differentiated outside, also under transformers' gradient checkpointing; where a
    caller checkpoints by hand, the backward has to run inside. Parameters get gradients where they require them: see
    `train_adapters`. Numerics are those of `grouped_lora`.

    The forward of the model's layers is replaced, nothing global; it is put back on exit, also after an error. So a model
    serves one packed step at a time, from one thread: a second one inside the first is refused.

    Raises:
        TypeError: no PeftModel, segments that are not int32, adapters of different dtypes.
        ValueError: an unknown name, as many names as segments, values that are not ascending from 0, merged or disabled
            adapters, target modules that the model has not, another base model; in the forward another number of tokens than
            the segments have, also where none of them has an adapter, or,
            with gradients on, other trainable adapters than `train_adapters` left (without it: some of them, but not all).
        NotImplementedError: another tuner than LoRA; DoRA and other variants, bias, modules_to_save, trainable tokens, LoRA
            on anything but torch linear layers, on the output head, or with dropout in training.
        RuntimeError: packed_adapters is active on this model already, or another library replaced a layer's forward.
    """
    model = check_names(model, names)
    base = model.get_base_model()
    if getattr(base, ACTIVE, None) is not None:
        raise RuntimeError("packed_adapters: expected a model without a packed step, got one inside another on the same model")
    check_shape("segments", segments, (len(names) + 1,))
    check_dtype("segments", segments, (torch.int32,))
    layers = check_model(model, {name for name in names if name is not None}, check_base)
    step = _Step(model, layers, names, segments)
    if step.starts[0] != 0 or any(begin > end for begin, end in pairwise(step.starts)):
        raise ValueError(f"segments: expected ascending values from 0, got {step.starts}")
    vars(base)[ACTIVE] = segments
    try:
        with step.on_decoder(), step.on_checkpoints(), step.on_layers(layers):
            yield
    finally:
        del vars(base)[ACTIVE]


def train_adapters(model: PeftModel, names: Names) -> dict[str, list[torch.nn.Parameter]]:
    """Makes the adapters in `names` trainable and every other parameter of the model frozen; the parameters of each.

    PEFT trains the active adapter only, and makes it so again whenever one is added, loaded or made active, and at the end
    of `with model.disable_adapter()`: call this after. (The bare base needs no disable_adapter: it is None in the names of
    `packed_adapters`.)

    Raises:
        TypeError, ValueError, NotImplementedError: no PeftModel, an unknown or empty list of names, another tuner.
    """
    model = check_names(model, names)
    model.requires_grad_(False)
    parameters: dict[str, list[torch.nn.Parameter]] = {name: [] for name in names if name is not None}
    for layer in lora_layers(model).values():
        for name in parameters.keys() & holders(layer):
            for part in ("lora_A", "lora_B"):
                if name in getattr(layer, part):
                    parameters[name] += getattr(layer, part)[name].requires_grad_(True).parameters()
    vars(model)[_TRAINED] = set(parameters)
    return parameters
