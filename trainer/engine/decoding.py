"""One wave of rows through one model: prompts prefilled once each, forked, and decoded in step until all have ended."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from trainer.engine.base import SamplingParams
from trainer.engine.rows import Masks, RowCache
from trainer.engine.sampling import next_tokens


class Row(NamedTuple):
    """One sample to make: at most `limit` tokens after `prompt`; `u` [max_new_tokens] are its random numbers."""

    prompt: tuple[int, ...]
    limit: int
    u: torch.Tensor


class Prefix(NamedTuple):
    """Keys and values of `token_ids`, in a cache of one row."""

    token_ids: tuple[int, ...]
    cache: RowCache


@dataclass
class Output:
    """What rows have generated, by their numbers: `lengths` [rows] of tokens and logprobs [rows, longest limit] count."""

    tokens: torch.Tensor
    logprobs: torch.Tensor
    lengths: torch.Tensor
    computed: int  # prompt tokens that went through the model
    steps: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


def fill(model: Any, cache: RowCache, masks: Masks, token_ids: torch.Tensor, budget: int) -> torch.Tensor:
    """Runs token_ids [rows, S] behind what the cache holds, `budget` tokens at a time; returns the last logits [rows, V]."""
    piece = max(budget // cache.rows, 1)
    for part in token_ids.split(piece, dim=1):
        start, end = cache.length, cache.length + part.shape[1]
        logits = _forward(model, cache, part, masks.block(start, end), masks.positions(start, end))
    return logits


def extend(model: Any, known: Prefix | None, token_ids: tuple[int, ...], budget: int) -> Prefix:
    """The prefix `token_ids`; what `known` begins with as well is copied."""
    cache, common = RowCache(1, len(token_ids)), 0
    if known is not None:
        common = common_length(known.token_ids, token_ids)
        cache.copy_from(known.cache, 0, common, 0)
        cache.length = common
    rest = torch.tensor([token_ids[common:]], device=model.device)
    fill(model, cache, Masks(model, 0, rest.new_zeros(1)), rest, budget)
    return Prefix(token_ids, cache)


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    shortest = min(len(a), len(b))
    return next((i for i in range(shortest) if a[i] != b[i]), shortest)


def decode(model: Any, rows: Sequence[Row], prefix: Prefix | None, shared: int, params: SamplingParams, budget: int) -> Output:
    """Samples every row.

    Args:
        rows: by length of their prompts, equal prompts side by side.
        prefix: its first `shared` tokens begin every prompt, with at least one token behind them.
        budget: of prompt tokens in a forward.
    """
    begin = time.perf_counter()
    longest = max(row.limit for row in rows)
    device = model.device
    out = Output(
        tokens=torch.zeros(len(rows), longest, dtype=torch.int64, device=device),
        logprobs=torch.zeros(len(rows), longest, device=device),
        lengths=torch.zeros(len(rows), dtype=torch.int64, device=device),
        computed=0,
    )
    cache, masks, logits = _fork(model, rows, prefix, shared, longest, budget, out)
    out.prefill_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    _loop(model, rows, cache, masks, logits, params, out)
    out.decode_seconds = time.perf_counter() - begin
    return out


def _fork(
    model: Any, rows: Sequence[Row], prefix: Prefix | None, shared: int, longest: int, budget: int, out: Output
) -> tuple[RowCache, Masks, torch.Tensor]:
    """Prefills each distinct prompt once: (every row's keys and values, masks, the logits [rows, V] of its first token)."""
    width = len(rows[-1].prompt) - shared
    cache = RowCache(len(rows), shared + width + longest - 1)  # nothing comes after a row's last token
    if prefix is not None:
        cache.copy_from(prefix.cache, 0, shared, 0)
    padding = torch.tensor([width + shared - len(row.prompt) for row in rows], device=model.device)
    logits: list[torch.Tensor] = []
    first = 0  # of the rows whose prompts come next
    for chunk in _chunks(list(dict.fromkeys(row.prompt for row in rows)), shared, budget):
        wide = len(chunk[-1]) - shared
        ragged = [[0] * (wide + shared - len(prompt)) + list(prompt[shared:]) for prompt in chunk]
        part = RowCache(len(chunk), shared + wide)
        if prefix is not None:
            part.copy_from(prefix.cache, 0, shared, 0)
        part.length = shared
        pads = torch.tensor([wide + shared - len(prompt) for prompt in chunk], device=model.device)
        last = fill(model, part, Masks(model, shared, pads), torch.tensor(ragged, device=model.device), budget)
        at = {prompt: i for i, prompt in enumerate(chunk)}
        sources = torch.tensor([at[row.prompt] for row in rows[first:] if row.prompt in at], device=model.device)
        into = slice(first, first + len(sources))
        cache.copy_from(part, shared, shared + wide, shared + width - wide, into, sources)
        logits.append(last[sources])
        out.computed += sum(len(prompt) - shared for prompt in chunk)
        first += len(sources)
    cache.length = shared + width
    return cache, Masks(model, shared, padding), torch.cat(logits)


def _chunks(prompts: list[tuple[int, ...]], shared: int, budget: int) -> Iterator[list[tuple[int, ...]]]:
    """`prompts`, the longest last, in batches of at most `budget` tokens behind the shared ones, padding included."""
    first = 0
    for i, prompt in enumerate(prompts):
        if i > first and (i + 1 - first) * (len(prompt) - shared) > budget:
            yield prompts[first:i]
            first = i
    yield prompts[first:]


def _loop(
    model: Any, rows: Sequence[Row], cache: RowCache, masks: Masks, logits: torch.Tensor, params: SamplingParams, out: Output
) -> None:
    """Draws a token for every row, lets go of the rows that end with it, and runs the others, until none is left."""
    device = logits.device
    numbers = torch.arange(len(rows), device=device)  # which row stands where
    u = torch.stack([row.u for row in rows]).to(device)
    limits = torch.tensor([row.limit for row in rows], device=device)
    stops = torch.tensor(params.stop_token_ids, dtype=torch.int64, device=device)
    first_limit = min(row.limit for row in rows)
    slots = cache.slots
    for t in range(out.tokens.shape[1]):
        tokens, logprobs = next_tokens(logits, params, u[:, t])
        out.tokens[numbers, t] = tokens
        out.logprobs[numbers, t] = logprobs
        ended = (tokens[:, None] == stops).any(1)
        if t + 1 >= first_limit:
            ended |= limits <= t + 1
        going = int((~ended).sum())
        if going < len(numbers):
            out.lengths[numbers[ended]] = t + 1
            if not going:
                return
            holes = ended[:going].nonzero()[:, 0]
            movers = (~ended[going:]).nonzero()[:, 0] + going
            for tensor in (numbers, u, limits, tokens):
                tensor[holes] = tensor[movers]
            numbers, u, limits, tokens = numbers[:going], u[:going], limits[:going], tokens[:going]
            cache.keep(holes, movers, going)
            masks.keep(holes, movers, going)
        slot = cache.length
        logits = _forward(model, cache, tokens[:, None], masks.step(slot, slots), masks.positions(slot, slot + 1))
        out.steps += 1


def _forward(model: Any, cache: RowCache, token_ids: torch.Tensor, mask: Any, positions: torch.Tensor) -> torch.Tensor:
    """The logits [rows, V] of the last of token_ids [rows, q]."""
    logits: torch.Tensor = model(
        input_ids=token_ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    cache.length += token_ids.shape[1]
    return logits[:, -1]
