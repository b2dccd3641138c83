"""Packed forests through Hugging Face decoders: the attention "himakernels", hidden states, and the head for vrgrpo_loss.

Importing this module registers the attention, so that any decoder which uses transformers' AttentionInterface takes it:

    import himakernels.integrations.transformers as hf

    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation=hf.ATTENTION)
    hidden = hf.hidden_states(model, packed)  # [R, H]
    out = vrgrpo_loss(hidden, labels=packed.labels, sample_id=packed.sample_id, **hf.output_head(model)._asdict(), ...)

The forest's metadata travels as keyword arguments of the decoder's forward, which every layer hands on to its attention, also
when gradient checkpointing runs the layer once more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from himakernels import PackedTree, paged_attention, tree_attention
from himakernels.checks import check_device, check_range
from himakernels.integrations.transformers_models import (
    OutputHead,
    base_of,
    check_decoder,
    check_depth,
    check_step,
    output_head,
)

__all__ = ["ATTENTION", "Attended", "OutputHead", "hidden_states", "output_head"]

ATTENTION = "himakernels"
# What decoders hand to their attention beside its own arguments, and what does not change who sees whom.
_WITHOUT_EFFECT = frozenset(
    {"position_ids", "position_embeddings", "use_cache", "cache_position", "output_hidden_states", "output_router_logits"}
)


class Attended:
    """The layers whose attention has run in a forward. No container: what hands keyword arguments on may copy those
    (accelerate's hooks; FSDP's around a layer, where they cast), and the layers must tell one and the same object."""

    def __init__(self) -> None:
        self.layers: list[int] = []

    def check(self, config: Any, *, once: bool = False) -> None:
        """Raises: NotImplementedError unless these are all layers; `once`: each under its own number."""
        count = config.num_hidden_layers
        if len(self.layers) != count or (once and sorted(self.layers) != list(range(count))):
            raise NotImplementedError(
                f"model: expected the attention of all {count} layers to go through transformers' AttentionInterface, got "
                f"{len(self.layers)} in model_type {config.model_type!r}"
            )


class PlainForwardError(ValueError):
    """The attention was called without the arguments of `hidden_states` or `transformers_paged.logits`."""


@contextmanager
def handed_on(config: Any) -> Iterator[None]:
    """Around a forward with these arguments. Raises: NotImplementedError for a decoder that keeps them from its attention."""
    try:
        yield
    except PlainForwardError as error:
        raise NotImplementedError(
            f"model: expected a decoder that hands keyword arguments on to its attention, got model_type {config.model_type!r}"
        ) from error


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, Hq, T, D]
    key: torch.Tensor,  # [1, Hk, T, D]
    value: torch.Tensor,  # [1, Hk, T, Dv]
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    is_causal: bool | None = None,
    subtree_end: torch.Tensor | None = None,
    depth: torch.Tensor | None = None,
    attended: Attended | None = None,
    paged: Any = None,  # a transformers_paged.PagedStep
    **others: Any,  # the interface's: a decoder may hand anything on, and what is not known to be harmless is refused
) -> tuple[torch.Tensor, None]:
    """The function that AttentionInterface calls in every layer: (out [1, T, Hq, Dv], no weights)."""
    who = f"attention {ATTENTION!r} in {type(module).__name__}"
    tokens = subtree_end if paged is None else paged.slots
    if tokens is None or attended is None:
        raise PlainForwardError(
            f"{who}: expected the keyword arguments that himakernels.integrations.transformers.hidden_states(model, packed) "
            "or transformers_paged.logits(model, step, token_ids) sends along, got none: this is a plain forward (for that, "
            "and for generation, call model.set_attn_implementation('sdpa') first)"
        )
    if attention_mask is not None:
        raise NotImplementedError(
            f"{who}: expected no attention_mask, got one of shape {list(attention_mask.shape)}, which the decoder makes itself"
        )
    if dropout:
        raise ValueError(f"{who}: expected dropout 0, got {dropout}")
    given = {name for name, value in others.items() if value is not None and value is not False}
    unknown = sorted(given - _WITHOUT_EFFECT)
    if unknown:
        raise NotImplementedError(f"{who}: expected no arguments beside those of a causal softmax attention, got {unknown}")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise NotImplementedError(f"{who}: expected causal attention, got is_causal=False")
    if torch.is_autocast_enabled(query.device.type):  # rotations and norms leave some of the three in fp32
        narrow = torch.get_autocast_dtype(query.device.type)
        query, key, value = (t.to(narrow) for t in (query, key, value))
    T = tokens.shape[0]
    if query.shape[0] != 1 or not query.shape[2] == key.shape[2] == T:
        shapes = f"{list(query.shape)} and {list(key.shape)}"
        raise NotImplementedError(f"{who}: expected queries and keys of shape [1, heads, {T}, head_dim], got {shapes}")
    _check_window(who, module, sliding_window)
    layer = getattr(module, "layer_idx", len(attended.layers))
    attended.layers.append(layer)
    Dv = value.shape[3]
    if Dv < query.shape[3]:  # latent attention (DeepSeek): values are narrower than keys
        value = torch.nn.functional.pad(value, (0, query.shape[3] - Dv))
    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
    options: dict[str, Any] = {"scale": scaling, "window": sliding_window, "softcap": softcap, "sinks": s_aux}
    if paged is None:
        out = tree_attention(q, k, v, tokens, position_ids=depth if sliding_window is not None else None, **options)
    else:
        keys, values = paged.pool.write(layer, tokens, k, v)
        out = paged_attention(q, keys, values, paged.block_table, paged.cu_seqlens, paged.seq_lens, **options)
    return out[None, ..., :Dv].contiguous(), None  # some decoders view it


def _check_window(who: str, module: torch.nn.Module, sliding_window: int | None) -> None:
    """NotImplementedError where a layer's window stands in its mask only, which the attention does not get to see."""
    config = getattr(module, "config", None)
    kinds, layer = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    if kinds is not None and layer is not None:
        sliding = kinds[layer] == "sliding_attention"
    else:
        sliding = getattr(config, "sliding_window", None) is not None
    if sliding and sliding_window is None:
        raise NotImplementedError(f"{who}: expected the window of a sliding layer as an argument (sliding_window=), got None")


def _mask(**arguments: Any) -> None:
    """The function that AttentionMaskInterface calls: the forest's rule needs no mask."""


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _mask)


class _Rows(torch.autograd.Function):
    """hidden [T, H] -> hidden[rows] [R, H]; the gradients of a row that many samples share are summed in fp32, in row order."""

    COLUMNS = 512  # of the fp32 sums at a time: they take T * COLUMNS * 4 bytes

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows)
        ctx.tokens = hidden.shape[0]
        return hidden[rows]

    @staticmethod
    def backward(ctx: Any, dout: torch.Tensor) -> Any:
        (rows,) = ctx.saved_tensors
        dhidden = dout.new_empty(ctx.tokens, dout.shape[1])
        wide = torch.promote_types(dout.dtype, torch.float32)
        for at in range(0, dout.shape[1], _Rows.COLUMNS):
            part = dout[:, at : at + _Rows.COLUMNS].to(wide)
            # index_put_ with accumulate sorts on GPU where index_add_ would use atomics.
            sums = part.new_zeros(ctx.tokens, part.shape[1]).index_put_((rows,), part, accumulate=True)
            dhidden[:, at : at + _Rows.COLUMNS] = sums
        return dhidden, None


def hidden_states(
    model: torch.nn.Module, packed: PackedTree, *, router_logits: list[torch.Tensor] | None = None
) -> torch.Tensor:
    """The last hidden states of the rows that predict a trained token, each distinct token of the forest computed once.

    hidden_r = norm(decoder(path from the root to rows[r])), as the model gives it for that sequence alone.

    Args:
        model: a Hugging Face causal language model with attn_implementation="himakernels", or a PEFT model around one.
        packed: the forest, on the model's device.
        router_logits: a list; those of each layer with experts come into it, [T, E], for `transformers_experts.balancing_loss`.

    Returns:
        [R, H] in the model's dtype, after the final norm, differentiable: what `vrgrpo_loss` and `token_logprobs` take with
        `output_head(model)`. Logits are never formed.

    Numerics: the gradients of a row that several samples share are summed in fp32.

    Several processes: the forward of the decoder runs, that of `model` does not. Under DistributedDataParallel, whose gradients
    are averaged after a forward of its own only, wrap a module whose forward calls this and the loss. Under FSDP2, fully_shard
    the layers and then `model.get_decoder()`; the head stays whole, and its gradients are the caller's to average.

    Raises:
        NotImplementedError: a model that a packed forest can't run through (`check_decoder`), or sharded otherwise; nothing has
            been computed then, except where only the forward shows that a layer's attention did not go through the interface.
        ValueError: another attention than "himakernels", dropout or noise in training, sequences longer than the model's
            positions reach, tensors on another device, another forest than that of the packed step (`packed_adapters`) that is
            active, or one of several policies on a PEFT model outside of a step; on the CPU also token ids outside the
            vocabulary.
        TypeError: not a Hugging Face model, no PackedTree.
    """
    if not isinstance(packed, PackedTree):
        raise TypeError(f"packed: expected a PackedTree, one of a Packing's micro-batches, got {type(packed).__name__}")
    decoder = check_decoder(base_of(model), ATTENTION)
    embedding: Any = decoder.get_input_embeddings().weight  # [V, H]
    if hasattr(embedding, "full_tensor") and not hasattr(decoder, "unshard"):  # a DTensor, which no hook here gathers
        raise NotImplementedError(
            f"model: expected a decoder whose own forward gathers its parameters (fully_shard(model.get_decoder())), got a "
            f"{type(decoder).__name__} with an embedding of type {type(embedding.data).__name__}"
        )
    device = embedding.device
    for name in ("token_ids", "position_ids", "subtree_end", "rows"):
        check_device(f"packed.{name}", getattr(packed, name), device)
    if device.type == "cpu":
        check_range("packed.token_ids", packed.token_ids, embedding.shape[0])
    if packed.num_tokens == 0:
        return embedding[packed.token_ids]  # type: ignore[no-any-return]
    check_depth(decoder.config, packed.shortest, packed.longest)
    check_step(model, packed.segments)
    attended = Attended()
    with handed_on(decoder.config):
        output = decoder(
            input_ids=packed.token_ids[None],
            position_ids=packed.position_ids[None].long(),
            use_cache=False,
            return_dict=True,  # whatever the config says
            subtree_end=packed.subtree_end,
            depth=packed.position_ids,
            attended=attended,
            **({} if router_logits is None else {"output_router_logits": True}),
        )
    attended.check(decoder.config)
    if router_logits is not None:
        router_logits += output.router_logits
    hidden: torch.Tensor = _Rows.apply(output.last_hidden_state[0], packed.rows)
    return hidden
