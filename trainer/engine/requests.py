"""What `Engine.generate` is asked, checked: one request for each prompt."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from trainer.engine.base import SamplingParams


class Request(NamedTuple):
    """n samples of up to `limit` tokens after a prompt: `Request((5, 9), 2, "qa", 7, 256)`."""

    prompt: tuple[int, ...]
    n: int
    policy: str
    seed: int
    limit: int


class Room(NamedTuple):
    """What a policy's model has room for. positions: None where it has no end."""

    vocab_size: int
    positions: int | None


def room_of(config: Any) -> Room:
    """Of a configuration of transformers."""
    text = config.get_text_config(decoder=True)
    return Room(text.vocab_size, getattr(text, "max_position_embeddings", None))


def checked(
    rooms: Mapping[str, Room],
    prompts: Sequence[Sequence[int]],
    n: int | Sequence[int],
    params: SamplingParams,
    policy: str | Sequence[str],
    seeds: Sequence[int] | None,
) -> list[Request]:
    """The arguments of `Engine.generate`, one request for each prompt. rooms: of every policy that there is.

    Raises: ValueError, as `Engine.generate` says.
    """
    asked = [tuple(prompt) for prompt in prompts]
    counts = [n] * len(asked) if isinstance(n, int) else list(n)
    names = [policy] * len(asked) if isinstance(policy, str) else list(policy)
    seeds = torch.randint(2**63 - 1, (len(asked),)).tolist() if seeds is None else list(seeds)
    for name, given in (("n", counts), ("policy", names), ("seeds", seeds)):
        if len(given) != len(asked):
            raise ValueError(f"{name}: expected one for each of {len(asked)} prompts, got {len(given)}")
    requests = []
    for i, (prompt, count, name, seed) in enumerate(zip(asked, counts, names, seeds, strict=True)):
        if name not in rooms:
            raise ValueError(f"policy[{i}]: expected one of {', '.join(rooms)}, got {name!r}")
        if count < 1:
            raise ValueError(f"n[{i}]: expected at least 1, got {count}")
        requests.append(Request(prompt, count, name, seed, _limit(i, prompt, name, rooms[name], params)))
    return requests


def _limit(i: int, prompt: tuple[int, ...], policy: str, room: Room, params: SamplingParams) -> int:
    """How many tokens may follow."""
    if not prompt:
        raise ValueError(f"prompts[{i}]: expected at least one token, got an empty prompt")
    low, high = min(prompt), max(prompt)
    if low < 0 or high >= room.vocab_size:
        got = low if low < 0 else high
        raise ValueError(f"prompts[{i}]: expected token ids from 0 to {room.vocab_size - 1}, got {got}")
    if room.positions is None:
        return params.max_new_tokens
    if len(prompt) >= room.positions:
        raise ValueError(
            f"prompts[{i}]: expected fewer tokens than the {room.positions} positions of policy {policy!r}, so that one is "
            f"left for a new token, got {len(prompt)}"
        )
    return min(params.max_new_tokens, room.positions - len(prompt))
