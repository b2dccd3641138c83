"""Checks of networks before they are trained, and the attention that they generate by."""

import warnings
from collections.abc import Iterable

from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

import himakernels.integrations.transformers as hf


def check_network(model: PreTrainedModel, *, adapters: bool) -> None:
    """Check that a network can be trained: by adapters that are put into it, or as a whole.

    Raises: NotImplementedError for adapters inside it (PEFT's inject_adapter_in_model, transformers' add_adapter), or weights
        that are not floating point numbers; ValueError for one to be trained as a whole that is frozen as a whole.
    """
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            raise NotImplementedError(
                f"model: expected a network without adapters, got a {type(module).__name__} at {name}: not built; pass the "
                "network without it, and a LoraConfig as peft_config"
            )
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point() or getattr(model, "is_quantized", False):
            raise NotImplementedError(
                f"model: expected weights in floating point, got {parameter.dtype} or quantised ones in {name}"
            )
    if not adapters and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model: expected parameters that require gradients, to be trained as a whole, got all of them frozen")


def warn_of_inputs(models: Iterable[PreTrainedModel]) -> None:
    """Warn of models that take images, videos or audio beside text, once for each class: here they see text alone."""
    taken = {type(model).__name__: inputs for model in models if (inputs := _beside_text(model))}
    for name, inputs in taken.items():
        warnings.warn(
            f"model: {name} takes {', '.join(inputs)} beside text; here it reads, and is trained on, text alone", stacklevel=3
        )


def _beside_text(model: PreTrainedModel) -> list[str]:
    kinds = model.input_modalities
    if not model.config.sub_configs:  # the language model of such a family: `input_modalities` is that of the family
        return []
    return sorted({kinds} - {"text"} if isinstance(kinds, str) else {*kinds} - {"text"})


def plain_attention(model: PreTrainedModel) -> str:
    """The attention that the model generates with: torch's, or eager where scores have a softcap that torch's would ignore."""
    own = model.config._attn_implementation
    if getattr(model.config.get_text_config(decoder=True), "attn_logit_softcapping", None):
        return "eager"
    return "sdpa" if own is None or own == hf.ATTENTION else own
