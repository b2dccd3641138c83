"""What is known of Hugging Face models: which decoders a packed forest can't run through, and how logits are formed."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedConfig, PreTrainedModel

# Attention that depends on depths and on who is whose ancestor, and on nothing else.
_LAYER_TYPES = ("full_attention", "sliding_attention")
# config attributes by which heads scale their logits: the families whose logits are head(hidden) times, or divided by, them.
_LOGITS_TIMES = {
    "cohere": "logit_scale",
    "cohere2": "logit_scale",
    "cohere2_moe": "logit_scale",
    "hyperclovax": "logits_scaling",
}
_LOGITS_OVER = dict.fromkeys(
    ("granite", "granite_swa", "granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared", "minicpm3"),
    "logits_scaling",
)
_LOGITS_OTHERWISE = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_logit_soft_cap", "unpadded_vocab_size")


ACTIVE = "_himakernels_packed_adapters"  # of a PEFT model's base, inside `packed_adapters`: the segments of the step
# PEFT types that weigh or seed their adapters in the forward of the PeftModel.
_OUTSIDE = ("POLY", "SHADOW", "XLORA")
# Names that families give to how much of a forward in training is random; a classifier and a summary are other heads'.
_RANDOM = re.compile(r"^(?!classifier|summary).*(dropout|pdrop|layerdrop|jitter)")
# Scalings of the rotary embedding that don't depend on how long the present sequences are, and reach factor times as far.
_STRETCHED = ("linear", "yarn", "longrope", "llama3")


def base_of(model: Any) -> PreTrainedModel:
    """The Hugging Face model: `model` itself, or what a PEFT model wraps (its adapters sit inside the layers).

    What an adapter does in the forward of the PeftModel itself would be left out without a word: such are refused.
    """
    for name, config in getattr(model, "peft_config", {}).items():
        outside = _outside_of_layers(config)
        if outside is not None:
            raise NotImplementedError(f"model: expected adapters inside the layers, got {outside} in adapter {name!r}")
    if not isinstance(model, PreTrainedModel) and hasattr(model, "get_base_model"):
        model = model.get_base_model()
    if not isinstance(model, PreTrainedModel):
        raise TypeError(
            f"model: expected a transformers.PreTrainedModel (or a peft.PeftModel around one), got {type(model).__name__}"
        )
    return model


def _outside_of_layers(config: Any) -> str | None:
    """What this adapter (a PeftConfig) needs the PeftModel's own forward for."""
    if getattr(config, "is_prompt_learning", False):
        return "prompt learning"
    if getattr(config, "alora_invocation_tokens", None):
        return "alora_invocation_tokens"
    kind = getattr(config, "peft_type", None)
    return str(getattr(kind, "value", kind)) if kind in _OUTSIDE else None


def check_decoder(model: PreTrainedModel, attention: str) -> PreTrainedModel:
    """The decoder of `model`, if every one of its layers is a causal attention that goes through the attention interface.

    Raises:
        NotImplementedError: recurrent or convolutional state, chunked or sparse attention, cross attention or an
            encoder-decoder, attention in both directions, a head dimension that tree_attention has not, multi-modal rotary
            positions (M-RoPE), layers of different head dimensions, attention that does not use the interface; a model
            that says of something else that it is its decoder.
        ValueError: another attention than `attention` is set, or dropout or noise in training.
    """
    decoder: PreTrainedModel = model.get_decoder()
    if not isinstance(decoder, PreTrainedModel):
        raise NotImplementedError(
            f"model: expected a decoder that is a PreTrainedModel, got model_type {model.config.model_type!r}, whose "
            f"get_decoder() is of type {type(decoder).__name__}"
        )
    config = decoder.config
    got = f"got model_type {config.model_type!r}"
    crossed = getattr(config, "add_cross_attention", False) or getattr(config, "cross_attention_layers", None)
    if model.config.is_encoder_decoder or crossed:
        raise NotImplementedError(f"model: expected a decoder without cross attention, {got}")
    kinds = _layer_types(config)
    other = sorted(set(kinds or ()) - set(_LAYER_TYPES))
    if other:
        raise NotImplementedError(f"model: expected layers of types {', '.join(_LAYER_TYPES)}, {got} with {', '.join(other)}")
    convolutions = [name for name, module in decoder.named_modules() if isinstance(module, torch.nn.Conv1d)]
    if convolutions or (kinds is None and getattr(decoder, "_is_stateful", False)):
        where = f" with {convolutions[0]}" if convolutions else ""
        raise NotImplementedError(f"model: expected a decoder without recurrent or convolutional state, {got}{where}")
    if decoder.get_output_embeddings() is not None:
        raise NotImplementedError(f"model: expected a decoder that ends in hidden states, {got} whose get_decoder() has a head")
    try:
        head_dim = head_dim_of(config)
    except RuntimeError as error:  # transformers' word for what each layer has its own of
        raise NotImplementedError(f"model: expected one shape for the attention of all layers, {got}: {error}") from error
    if not 16 <= head_dim <= 256 or head_dim % 8 != 0:
        raise NotImplementedError(f"model: expected a head_dim of 16 to 256 that is a multiple of 8, {got} with {head_dim}")
    if not decoder._can_set_attn_implementation():
        raise NotImplementedError(f"model: expected attention through transformers' AttentionInterface, {got} with its own")
    if "position_ids" not in inspect.signature(decoder.forward).parameters:
        raise NotImplementedError(f"model: expected a decoder that takes position_ids, {got}, which counts positions itself")
    both_ways = not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", False)
    if both_ways or not all(getattr(module, "is_causal", True) for module in decoder.modules()):
        raise NotImplementedError(f"model: expected causal attention, {got} with attention in both directions")
    if any("mrope_section" in rope for rope in ropes_of(config)):
        raise NotImplementedError(f"model: expected one position a token, {got} with multi-modal positions (M-RoPE)")
    if config._attn_implementation != attention:
        raise ValueError(
            f"model: expected attn_implementation {attention!r}, got {config._attn_implementation!r}; load the model with "
            f"it, or call model.set_attn_implementation({attention!r})"
        )
    for name, value in _drawn(decoder):
        raise ValueError(
            f"model: expected {name} 0 in training (ratios need the policy that sampled), {got} with {value}; load the model "
            "with 0, or call model.eval()"
        )
    return decoder


def head_dim_of(config: Any) -> int:
    """Of queries and keys. In latent attention (DeepSeek) config.head_dim is that of their rotated part alone."""
    parts = [int(getattr(config, name, None) or 0) for name in ("qk_nope_head_dim", "qk_rope_head_dim")]
    if all(parts):
        return sum(parts)
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _drawn(decoder: PreTrainedModel) -> Iterator[tuple[str, float]]:
    """(name, value) of what is drawn at random in training: modules for dropout, and numbers that say how much.

    Modules keep those, or read them from the config in each forward.
    """
    where = [("config", decoder.config)] if decoder.training else []
    where += [(name, module) for name, module in decoder.named_modules() if module.training]
    for name, holder in where:
        if isinstance(holder, torch.nn.Dropout) and holder.p > 0:
            yield name, holder.p
        for key, value in vars(holder).items():
            if type(value) in (int, float) and value != 0 and _RANDOM.match(key):
                yield f"{name}.{key}".lstrip("."), value


def check_step(model: Any, segments: torch.Tensor) -> None:
    """ValueError unless the forest with these segments is that of the packed step which is active on `model`, or its base.

    Outside of a step a PEFT model runs every token with the adapter that is active: a forest may be of one policy only.
    """
    active = getattr(model, ACTIVE, None)
    if active is segments:
        return
    if active is not None:
        if active.tolist() != segments.tolist():
            raise ValueError(f"packed.segments: expected those of packed_adapters, {active.tolist()}, got {segments.tolist()}")
    elif hasattr(model, "peft_config") and len(segments) > 2 and sum(n > 0 for n in segments.diff().tolist()) > 1:
        raise ValueError(
            "packed: expected tokens of one policy outside of packed_adapters, where all run with the active adapter, got "
            f"segments {segments.tolist()}"
        )


def max_positions(config: Any) -> int | None:
    """Tokens that a sequence of the decoder may have; None: no end is known.

    max_position_embeddings, or, where the rotary embedding is stretched in a way that does not depend on the sequences,
    factor * original_max_position_embeddings.
    """
    limit: int | None = getattr(config, "max_position_embeddings", None)
    if limit is None:
        return None
    reach = [
        int(rope["factor"] * (rope.get("original_max_position_embeddings") or limit))
        for rope in ropes_of(config)
        if rope.get("rope_type") in _STRETCHED and rope.get("factor")
    ]
    return max([limit, *reach])


def check_depth(config: PreTrainedConfig, shortest: int, longest: int) -> None:
    """ValueError unless the model's positions reach sequences of `shortest` to `longest` tokens as they reach each alone.

    A rotary embedding of type longrope has one set of frequencies for calls whose longest sequence exceeds
    `original_max_position_embeddings` and another for the rest, so a forest must lie on one side of it.
    """
    limit = max_positions(config)
    if limit is not None and longest > limit:
        raise ValueError(
            f"packed.position_ids: expected positions below {limit}, as many as model_type {config.model_type!r} has "
            f"(max_position_embeddings = {config.max_position_embeddings}), got a sequence of {longest} tokens"
        )
    for rope in ropes_of(config):
        if rope.get("rope_type") == "longrope":
            switch = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", limit)
            if switch is not None and shortest <= switch < longest:
                raise ValueError(
                    f"packed.position_ids: expected sequences all within or all beyond the {switch} tokens where the longrope "
                    f"of model_type {config.model_type!r} changes its frequencies, got {shortest} to {longest} tokens"
                )


def _layer_types(config: PreTrainedConfig) -> list[str] | None:
    """The kind of each layer, under the names that families give the list."""
    for name in ("layer_types", "layers_block_type"):
        kinds = getattr(config, name, None)
        if kinds is not None:
            return ["full_attention" if kind == "attention" else kind for kind in kinds]
    return None


def ropes_of(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """The parameters of the rotary embedding, or of each layer type's."""
    ropes = getattr(config, "rope_parameters", None) or {}
    if not isinstance(ropes, dict):
        return []
    nested = [rope for rope in ropes.values() if isinstance(rope, dict)]
    return nested or [ropes]


class OutputHead(NamedTuple):
    """What turns hidden states into logits: softcap tanh((hidden weight^T + bias) / softcap) / temperature.

    `_asdict()` gives the keyword arguments under which `vrgrpo_loss` and `token_logprobs` take them.
    """

    weight: torch.Tensor  # [V, H], the model's own parameter, tied or not
    bias: torch.Tensor | None  # [V]
    softcap: float | None
    temperature: float  # 1, or the constant by which the family scales its logits; a sampling temperature multiplies it


def output_head(model: torch.nn.Module) -> OutputHead:
    """The LM head of `model`, so that softcap tanh((hidden weight^T + bias) / softcap) / temperature are the model's logits.

    Gemma's `final_logit_softcapping` is the softcap; Cohere's `logit_scale` and Granite's `logits_scaling` are a temperature.

    Raises:
        NotImplementedError: a head that is more than one linear layer (an adapter on it included), or that scales or masks
            its logits in a way that is not known here.
    """
    base = base_of(model)
    config = base.config.get_text_config(decoder=True)
    name = config.model_type
    head = base.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        got = "none" if head is None else f"{type(head).__module__}.{type(head).__qualname__}"  # PEFT's is a Linear too
        raise NotImplementedError(f"model: expected an output head of type torch.nn.Linear, model_type {name!r} has {got}")
    inner = {id(p) for module in (base.base_model, head) for p in module.parameters()}
    more = [parameter for parameter, value in base.named_parameters() if id(value) not in inner]
    if base.base_model is base or more:
        raise NotImplementedError(f"model: expected only a linear head after the decoder, model_type {name!r} has {more}")
    temperature = 1.0
    if name in _LOGITS_TIMES:
        temperature = 1.0 / getattr(config, _LOGITS_TIMES[name])
    elif name in _LOGITS_OVER:
        temperature = float(getattr(config, _LOGITS_OVER[name]))
    else:
        scaled = {a: getattr(config, a) for a in _LOGITS_OTHERWISE if getattr(config, a, None) not in (None, 1, 1.0)}
        if scaled:
            raise NotImplementedError(f"model: expected a known scale of logits, model_type {name!r} has {scaled}")
    softcap = getattr(config, "final_logit_softcapping", None)
    if softcap is not None and temperature != 1.0:
        raise NotImplementedError(f"model: expected a softcap or a scale of logits, model_type {name!r} has both")
    return OutputHead(head.weight, head.bias, softcap, temperature)
