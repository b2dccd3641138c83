"""Load models and tokenizers through transformers: the one place that asks it to.

load_model("Qwen/Qwen2.5-0.5B-Instruct", torch.float32)
load_tokenizer("runs/1/final/policies/tokenizer")

Code that comes with a model is never run and nobody is asked whether to: transformers would ask on standard input, where
`hima generate` finds queries. Checksums beside the files of a folder are checked.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from trainer.checksums import naming, verify


def load_model(
    name: str | Path, dtype: torch.dtype, kind: Any = AutoModelForCausalLM, *, safetensors: bool | None = None
) -> PreTrainedModel:
    """A causal language model.

    Args: safetensors: True: from nothing else; None: from what there is.

    Raises: OSError for a name that transformers can't load; ValueError for a model with code of its own, and, with the folder's
        name, for files that are damaged.
    """
    model: PreTrainedModel = _load(kind, name, dtype=dtype, use_safetensors=safetensors)
    return model


def class_of(folder: Path) -> Any:
    """The class that saved a network, for `load_model`: AutoModelForCausalLM does not know all that can be passed as objects.

    That one is returned where config.json names no class of transformers that is of its model type and generates.

    Raises: DamagedError for what is no configuration.
    """
    path = folder / "config.json"
    with naming(path, "the configuration of a network"):
        config = json.loads(path.read_text(encoding="utf-8"))
        names = config.get("architectures") or [""]
        kind: Any = getattr(transformers, names[0], None)
        if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel) and kind.can_generate()):
            return AutoModelForCausalLM
        own = kind.config_class
        return kind if own is not None and own.model_type == config.get("model_type") else AutoModelForCausalLM


def load_tokenizer(name: str | Path, **options: Any) -> Any:
    """A tokenizer. Raises: as `load_model`."""
    return _load(AutoTokenizer, name, **options)


def load_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Configuration and weights of a PEFT folder. Raises: FileNotFoundError, DamagedError."""
    path, described = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected a PEFT folder with {path.name}, got none")
    with naming(described, "the configuration of an adapter"):
        config = dict(json.loads(described.read_text(encoding="utf-8")))
    with naming(path, "the weights of an adapter"):
        return config, load_file(path)


def _load(kind: Any, name: str | Path, **options: Any) -> Any:
    folder = Path(name)
    if not folder.is_dir():
        return kind.from_pretrained(name, trust_remote_code=False, **options)
    verify(folder)
    with naming(folder, "a model or a tokenizer of transformers"):
        return kind.from_pretrained(str(name), trust_remote_code=False, **options)
