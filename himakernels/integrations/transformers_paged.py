"""Sequences that grow through Hugging Face decoders, their keys and values in a pool of blocks.

    import himakernels.integrations.transformers_paged as paged

    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation=hf.ATTENTION)
    pool = paged.kv_pool(model, num_blocks=1024, block_size=16)
    step = paged.PagedStep.of(pool, block_table, cached=[37, 0], counts=[1, 12])  # one decodes, one is prefilled
    logits = paged.logits(model, step, token_ids)  # [2, V]

The attention is the one that training runs through, with the model's own parameters and adapters: nothing is copied, and a
model need not be switched over between the two. Which blocks belong to whom is `himakernels.prefix_cache`'s to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from himakernels.checks import check_device, check_dtype, check_range, check_shape
from himakernels.integrations.transformers import ATTENTION, Attended, handed_on
from himakernels.integrations.transformers_models import base_of, check_decoder, head_dim_of, max_positions, ropes_of
from himakernels.kv_pool import KVPool

__all__ = ["PagedStep", "kv_pool", "logits"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PagedStep:
    """T new tokens of N sequences, packed one sequence after another, and where their keys and values go and stand."""

    pool: KVPool
    position_ids: torch.Tensor  # [T] int64
    slots: torch.Tensor  # [T] int64, where the new tokens' keys and values go
    block_table: torch.Tensor  # [N, M] int32
    cu_seqlens: torch.Tensor  # [N + 1] int32, of the new tokens
    seq_lens: torch.Tensor  # [N] int32, new tokens included
    longest: int  # the largest of seq_lens, 0 for none

    @staticmethod
    def of(
        pool: KVPool,
        block_table: NDArray[np.int32],
        cached: Sequence[int] | NDArray[np.int64],
        counts: Sequence[int] | NDArray[np.int64],
    ) -> "PagedStep":
        """The step in which sequence n gets counts[n] tokens behind the cached[n] that it has.

        Args:
            block_table: [N, M], the blocks of each sequence, in their order; what is behind its last is not read. Sequences
                that share a prefix should stand side by side.
            cached, counts: [N]; at least one new token each.

        Raises:
            ValueError: lengths that disagree, no new token, more tokens than a row of the table has blocks for.
        """
        table = np.ascontiguousarray(block_table, np.int32)
        start, count = np.asarray(cached, np.int64), np.asarray(counts, np.int64)
        if table.ndim != 2 or not start.shape == count.shape == table.shape[:1]:
            shapes = f"{list(table.shape)}, {list(start.shape)} and {list(count.shape)}"
            raise ValueError(f"block_table, cached, counts: expected shapes [N, M], [N] and [N], got {shapes}")
        end, most = start + count, table.shape[1] * pool.block_size
        for name, values, wrong, want in (
            ("cached", start, start < 0, ">= 0"),
            ("counts", count, count < 1, ">= 1"),
            ("cached + counts", end, end > most, f"<= {most}, what a row of block_table has blocks for"),
        ):
            if wrong.any():
                at = int(wrong.argmax())
                raise ValueError(f"{name}: expected numbers {want}, got {values[at]} at index {at}")
        bounds = np.concatenate([[0], np.cumsum(count)])
        position = np.arange(bounds[-1]) + np.repeat(start - bounds[:-1], count)
        block = table[np.repeat(np.arange(len(count)), count), position // pool.block_size]
        slots = block.astype(np.int64) * pool.block_size + position % pool.block_size
        device = pool.keys.device

        def put(array: NDArray[np.generic]) -> torch.Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True)

        return PagedStep(
            pool=pool,
            position_ids=put(position),
            slots=put(slots),
            block_table=put(table),
            cu_seqlens=put(bounds.astype(np.int32)),
            seq_lens=put(end.astype(np.int32)),
            longest=int(end.max(initial=0)),
        )


def kv_pool(model: torch.nn.Module, *, num_blocks: int, block_size: int) -> KVPool:
    """A pool for the keys and values of `model`, of its dtype and on its device.

    Raises:
        NotImplementedError: a model that sequences can't grow through block by block (`check_decoder`; layers that share their
            keys and values; rotary frequencies that change with the length).
        ValueError: another attention than "himakernels".
        TypeError: not a Hugging Face model.
    """
    decoder = check_decoder(base_of(model), ATTENTION)
    config = decoder.config
    got = f"got model_type {config.model_type!r}"
    if getattr(config, "num_kv_shared_layers", 0):
        raise NotImplementedError(f"model: expected layers with keys and values of their own, {got}")
    for rope in ropes_of(config):
        if rope.get("rope_type") in ("dynamic", "longrope"):
            raise NotImplementedError(
                f"model: expected rotary frequencies that don't depend on the longest sequence of a batch, {got} with "
                f"rope_type {rope['rope_type']!r}"
            )
    heads = config.num_attention_heads
    weight: torch.Tensor = decoder.get_input_embeddings().weight  # type: ignore[assignment]
    return KVPool(
        num_layers=config.num_hidden_layers,
        num_blocks=num_blocks,
        block_size=block_size,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=head_dim_of(config),
        dtype=weight.dtype,
        device=weight.device,
    )


def logits(model: torch.nn.Module, step: PagedStep, token_ids: torch.Tensor) -> torch.Tensor:
    """The logits of the last new token of each sequence; keys and values of all new tokens are written to the pool.

    Args:
        model: a Hugging Face causal language model with attn_implementation="himakernels", or a PEFT model around one, in eval
            mode, without gradients.
        token_ids: [T] int64, sequence after sequence, on the model's device.

    Returns:
        [N, V], as the model's head gives them (softcap and scale included).

    Numerics: those of the model's own forward; attention as in `paged_attention`.

    Raises:
        ValueError: gradients that are on, another attention, shapes, devices; a sequence longer than the model's positions; on
            the CPU also token ids outside the vocabulary.
        NotImplementedError: a model whose layers don't all go through the attention interface.
        TypeError: not a Hugging Face model, ids of another dtype.
    """
    base = base_of(model)
    decoder = check_decoder(base, ATTENTION)
    if torch.is_grad_enabled() or base.training:
        raise ValueError("model: expected eval mode and torch.no_grad(), got a model that trains")
    vocabulary: torch.Tensor = decoder.get_input_embeddings().weight  # type: ignore[assignment]
    check_shape("token_ids", token_ids, (step.slots.shape[0],))
    check_dtype("token_ids", token_ids, (torch.int64,))
    check_device("token_ids", token_ids, vocabulary.device)
    check_device("step", step.slots, vocabulary.device)
    if vocabulary.device.type == "cpu":
        check_range("token_ids", token_ids, vocabulary.shape[0])
    limit = max_positions(decoder.config)
    if limit is not None and step.longest > limit:
        raise ValueError(f"step: expected at most {limit} tokens a sequence, the model's positions, got {step.longest}")
    attended = Attended()
    with handed_on(decoder.config):
        out = model(
            input_ids=token_ids[None],
            position_ids=step.position_ids[None],
            use_cache=False,
            logits_to_keep=step.cu_seqlens[1:].long() - 1,
            paged=step,
            attended=attended,
        ).logits
    attended.check(decoder.config, once=True)
    last: torch.Tensor = out[0]
    return last
