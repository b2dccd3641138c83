"""What VRGRPOTrainer's `model`, `args`, `peft_config`, `processing_class` come to: configuration, network, tokenizer."""

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel

from trainer.arguments import from_trl
from trainer.config import TrainConfig
from trainer.models import ModelConfig
from trainer.setting import Template


def configuration(args: Any, model: Any, peft_config: Any, dataset: Any, *, prompts: bool) -> TrainConfig:
    """The TrainConfig of what was passed. `prompts`: TRL's defaults where `args` is None.

    Raises: TypeError, ValueError, NotImplementedError: see `VRGRPOTrainer` and `from_trl`.
    """
    name = model if isinstance(model, str) else str(getattr(getattr(model, "config", None), "_name_or_path", "") or "model")
    if model is not None and not isinstance(model, str | PreTrainedModel):
        raise TypeError(f"model: expected a name or a network of transformers, got {type(model).__name__}")
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
    """What `pretrain` takes: the network if one was passed; the tokenizer if one was, or if prompts need a template."""
    network = None if isinstance(model, str) else model
    if tokenizer is None and (template is not None or network is not None):
        tokenizer = AutoTokenizer.from_pretrained(config.model.name)
    if template is not None:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = template(tokenizer)
    return network, tokenizer


def _adapters(model: ModelConfig, peft_config: Any) -> ModelConfig:
    from peft import LoraConfig

    if not isinstance(peft_config, LoraConfig):
        raise TypeError(f"peft_config: expected a LoraConfig, got {type(peft_config).__name__}")
    if peft_config.target_modules is None:
        raise ValueError("peft_config.target_modules: expected names of layers or 'all-linear', got None")
    given, known = peft_config.to_dict(), {"r", "lora_alpha", "target_modules", "task_type", "base_model_name_or_path"}
    plain = LoraConfig().to_dict()
    for name, value in given.items():
        if name not in known and name in plain and value != plain[name]:
            raise NotImplementedError(f"peft_config.{name}: expected {plain[name]!r}, got {value!r}: not built")
    targets = peft_config.target_modules
    return replace(
        model,
        paradigm="lora",
        lora_rank=peft_config.r,
        lora_alpha=int(peft_config.lora_alpha),
        target_modules=targets if isinstance(targets, str) else tuple(sorted(targets)),
    )
