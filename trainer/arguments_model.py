"""VRGRPOTrainer's `model`, `args`, `peft_config` and `processing_class` as a configuration, a network and a tokenizer."""

import copy
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from peft import LoraConfig
from transformers import PreTrainedModel

from trainer.arguments import from_trl
from trainer.config import TrainConfig
from trainer.kinds import check_kind
from trainer.models import ModelConfig
from trainer.pretrained import load_tokenizer
from trainer.setting import Template


def configuration(args: Any, model: Any, peft_config: Any, dataset: Any, *, prompts: bool) -> TrainConfig:
    """The TrainConfig of what was passed. `prompts`: TRL's defaults where `args` is None.

    Raises: TypeError, ValueError, NotImplementedError: see `from_trl`; what of `peft_config` is not built.
    """
    name = model if isinstance(model, str) else str(getattr(getattr(model, "config", None), "_name_or_path", "") or "model")
    if isinstance(args, TrainConfig) or (args is None and not prompts):
        config = args or TrainConfig()
        if model is not None:
            config = replace(config, model=replace(config.model, name=name))
    else:
        if model is None:
            raise ValueError("model: expected a name or a network with TRL's arguments, got None")
        rows = len(dataset) if hasattr(dataset, "__len__") else None
        default = SimpleNamespace(output_dir=f"{name.rstrip('/').rpartition('/')[2]}-GRPO")
        config = from_trl(default if args is None else args, rows=rows, model=name)
    return config if peft_config is None else replace(config, model=_adapters(config.model, peft_config))


def network_and_tokenizer(
    config: TrainConfig, model: Any, tokenizer: Any, template: Template | None
) -> tuple[PreTrainedModel | None, Any]:
    """The arguments of `pretrain`: the network if one was passed; the tokenizer if one was, or if prompts need a template.

    Raises: ValueError for a network without a tokenizer or a name to load one by.
    """
    network = None if isinstance(model, str) else model
    if network is not None:
        _warn_of_type(network, config.model.dtype)
    if tokenizer is None and network is not None and not network.config.name_or_path:
        raise ValueError("processing_class: expected a tokenizer, as the network has no name to load one by, got None")
    if tokenizer is None and (template is not None or network is not None):
        tokenizer = load_tokenizer(config.model.name)
    if template is not None:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = template(tokenizer)
    return network, tokenizer


def _warn_of_type(network: PreTrainedModel, dtype: str) -> None:
    """The caller's own object changes: TRL computes in bf16 under autocast, and leaves the parameters in fp32."""
    given = {str(parameter.dtype).removeprefix("torch.") for parameter in network.parameters()} - {dtype}
    if given:
        warnings.warn(
            f"model: its parameters of {', '.join(sorted(given))} become {dtype}, in which the run computes (model.dtype; bf16 "
            "of TRL's arguments). What is trained keeps masters in fp32, which save_model writes.",
            stacklevel=4,
        )


def _adapters(model: ModelConfig, peft_config: LoraConfig) -> ModelConfig:
    if peft_config.target_modules is None:
        raise ValueError("peft_config.target_modules: expected names of layers or 'all-linear', got None")
    if peft_config.task_type not in (None, "CAUSAL_LM"):
        raise ValueError(f"peft_config.task_type: expected CAUSAL_LM or None, got {peft_config.task_type!r}")
    known = {"r", "lora_alpha", "target_modules", "task_type", "base_model_name_or_path"}
    plain = LoraConfig().to_dict()
    for name, value in peft_config.to_dict().items():
        if name not in known and value != plain.get(name):
            raise NotImplementedError(f"peft_config.{name}: expected {plain.get(name)!r}, got {value!r}: not built")
    check_kind("peft_config.r", peft_config.r, int)
    check_kind("peft_config.lora_alpha", peft_config.lora_alpha, float)
    targets = peft_config.target_modules
    return replace(
        model,
        paradigm="lora",
        lora_rank=peft_config.r,
        lora_alpha=peft_config.lora_alpha,
        target_modules=targets if isinstance(targets, str) else tuple(sorted(targets)),
    )
