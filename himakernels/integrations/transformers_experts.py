"""The balancing loss of Hugging Face models with experts, over the tokens of a packed forest.

logits = []  # of every router
hidden = hf.hidden_states(model, packed, router_logits=logits)
loss = vrgrpo_loss(...).loss + router_coefficient(model) * balancing_loss(model, logits, packed.passes())
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from himakernels.integrations.transformers_models import base_of

__all__ = ["balancing_loss", "router_coefficient"]

_PARAMETERS = ["gate_logits", "num_experts", "top_k", "attention_mask"]


def router_coefficient(model: Any) -> float:
    """The coefficient of the balancing loss in the model's own configuration; 0 for a model that has none.

    Args: model: a Hugging Face causal language model, a PEFT model around one, or a configuration.
    """
    config = model if hasattr(model, "get_text_config") else base_of(model).config
    text = config.get_text_config(decoder=True)
    return float(getattr(text, "router_aux_loss_coef", None) or 0.0) if hasattr(text, "output_router_logits") else 0.0


def has_routers(model: Any) -> bool:
    """Return True for a model whose decoder returns the logits of its routers; `model` as in `router_coefficient`."""
    config = model if hasattr(model, "get_text_config") else base_of(model).config
    return hasattr(config.get_text_config(decoder=True), "output_router_logits")


def balancing_loss(model: torch.nn.Module, router_logits: Sequence[torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
    """E sum_e f_e p_e: f_e the share of tokens that the routers of all layers send to expert e, p_e its mean probability.

    The model's own function computes it, from means over tokens that are weighted by `weight`. With `PackedTree.passes()` a
    token counts once for each sequence that it is in: the loss is that of the padded batch of these sequences.

    Args:
        model: a Hugging Face causal language model with experts, or a PEFT model around one.
        router_logits: [T, E] of each layer with experts, differentiable, as `hidden_states` leaves them.
        weight: [T], at least 0.

    Returns:
        [] fp32; 0 for a model without a layer with experts; not a number where all weights are 0.

    Numerics: means are fp32 sums; on a GPU their order is not fixed.

    Raises:
        NotImplementedError: a model whose balancing loss is another, or has none.

    Source: Switch Transformer (arXiv 2101.03961), equations (4) to (6), as transformers has it.
    """
    function, experts, top_k = _function(model)
    if not router_logits:
        return weight.new_zeros((), dtype=torch.float32)
    loss: torch.Tensor = function(tuple(router_logits), experts, top_k, weight[None])
    return loss


def check_balancing(model: Any) -> None:
    """NotImplementedError unless `balancing_loss` takes the model."""
    _function(model)


def _function(model: Any) -> tuple[Callable[..., torch.Tensor], int, int]:
    """(the loss of the model's family, experts, experts of a token)."""
    base: Any = base_of(model)
    function = getattr(sys.modules[type(base).__module__], "load_balancing_loss_func", None)
    fits = function is not None and list(inspect.signature(function).parameters) == _PARAMETERS
    if function is None or not fits or not (hasattr(base, "num_experts") and hasattr(base, "num_experts_per_tok")):
        raise NotImplementedError(
            f"model: expected a balancing loss like Mixtral's, got model_type {base.config.model_type!r} with "
            f"{'another' if function is not None else 'none'}; it can be left out (router_aux_loss_coef=0.0)"
        )
    return function, base.num_experts, base.num_experts_per_tok
