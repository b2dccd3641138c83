"""Which PEFT models can run several adapters in one packed step; everything else is refused by name."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel, PeftType
from peft.tuners.lora.layer import Linear, LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper

Names = Sequence[str | None]


def lora_layers(model: torch.nn.Module) -> dict[str, Any]:
    """Path -> LoRA layer: a torch module whose class also has LoraLayer, a mixin, among its bases."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}


def holders(layer: Any) -> set[str]:
    """The adapters that target this layer."""
    return set(layer.lora_A) | set(layer.lora_embedding_A)


def check_names(model: object, names: Names) -> PeftModel:
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


def _check_config(model: PeftModel, name: str, modules: list[str], targeted: list[str]) -> None:
    """Refuses what an adapter's configuration asks for beyond plain LoRA on linear layers, and targets that are not there."""
    config: Any = model.peft_config[name]
    plain = {"bias": "none", "use_dora": False, "lora_bias": False}
    for option, expected in plain.items():
        if getattr(config, option) != expected:
            raise NotImplementedError(f"adapter {name!r}: expected {option}={expected!r}, got {getattr(config, option)!r}")
    for option in ("modules_to_save", "trainable_token_indices"):
        if getattr(config, option):
            raise NotImplementedError(f"adapter {name!r}: expected no {option}, got {getattr(config, option)!r}")
    targets = config.target_modules
    if config.target_parameters:  # PEFT moves routers and experts there from target_modules, those of "all-linear" too
        moved = ", ".join(sorted(config.target_parameters))
        left = f", here {', '.join(sorted(targets))}" if isinstance(targets, set) and targets else ""
        raise NotImplementedError(
            f"adapter {name!r}: expected no target_parameters, got {moved}: LoRA on routers and experts is not built; name "
            f"linear layers alone in target_modules{left}"
        )
    if isinstance(targets, set | list | tuple):
        # Among all modules: a target may have no LoRA in this model, for exclude_modules, and be no mistake.
        missing = sorted(t for t in targets if not any(f".{module}".endswith(f".{t}") for module in modules))
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
    dtypes = {name: str(layer.lora_A[name].weight.dtype).removeprefix("torch.") for name in sorted(names & set(layer.lora_A))}
    if len(set(dtypes.values())) > 1:
        raise TypeError(f"{path}: expected adapters of one dtype, got {dtypes}")
    for name in sorted(names & set(layer.lora_variant)):
        raise NotImplementedError(f"{path}: expected plain LoRA for adapter {name!r}, got {type(layer.lora_variant[name])}")


def check_model(model: PeftModel, names: set[str], check_base: bool) -> dict[str, Any]:
    """The model's LoRA layers, after everything that is not supported was refused."""
    layers = lora_layers(model)
    modules = [path for path, _ in model.named_modules()]
    for name in sorted(names):
        _check_config(model, name, modules, [path for path, layer in layers.items() if name in holders(layer)])
    if check_base:
        _check_base(model, names)
    base: Any = model.get_base_model()
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    for path, module in model.named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            raise NotImplementedError(f"{path}: expected no modules_to_save or trainable tokens, got {type(module).__name__}")
    for path, layer in layers.items():
        check_state(path, layer)
        used = names & holders(layer)
        if used:
            _check_layer(path, layer, used)
            if layer is head:
                raise NotImplementedError(
                    f"{path}: expected no LoRA on the output head (the loss reads its weight), got {sorted(used)}"
                )
            check_dropout(path, layer, used)
    return layers


def check_state(path: str, layer: Any) -> None:
    """On entry, and in every forward: PEFT's own switches inside a packed step would else be without effect."""
    if layer.merged:
        raise ValueError(f"{path}: expected adapters apart from the base weights, got merged {layer.merged_adapters}")
    if layer.disable_adapters:
        raise ValueError(f"{path}: expected enabled adapters, got disabled ones (use None in names for the bare base)")


def check_dropout(path: str, layer: Any, names: set[str]) -> None:
    for name in sorted(names):
        dropout = layer.lora_dropout[name]
        if isinstance(dropout, torch.nn.Dropout) and dropout.p > 0 and dropout.training:
            raise NotImplementedError(
                f"{path}: expected lora_dropout 0 in training for adapter {name!r}, got {dropout.p} (PPO-style ratios need "
                "the sampled policy; set it to 0, or call model.eval())"
            )


def check_trainable(path: str, layer: Any, names: set[str], trained: set[str] | None) -> None:
    """With gradients on: the adapters in `names` that require them are those in `trained`; if that is None, all or none."""
    if not torch.is_grad_enabled():
        return
    got = {name for name in names if layer.lora_A[name].weight.requires_grad}
    expected = names & trained if trained is not None else names if got else got
    if got != expected:
        raise ValueError(
            f"{path}: expected trainable adapters {sorted(expected)}, got {sorted(got)}: PEFT leaves only the active adapter "
            "trainable when one is added, loaded or made active, and after disable_adapter(); call train_adapters again"
        )
