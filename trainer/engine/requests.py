"""What an engine is asked: one request checked by itself, and what becomes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.engine.base import SamplingParams
from trainer.engine.sampling import uniforms
from trainer.types import Sample


@dataclass(eq=False, slots=True)
class Request:
    """n samples of a prompt. `samples` fills up as they end."""

    number: int
    prompt: NDArray[np.int64]
    n: int
    params: SamplingParams
    policy: str
    seed: int
    limit: int  # tokens a sample
    style: int  # the number of its params
    samples: dict[int, Sample] = field(default_factory=dict)
    cancelled: bool = False
    drawn: NDArray[np.float64] | None = None

    @property
    def u(self) -> NDArray[np.float64]:
        """[n, limit], the random numbers of its samples."""
        if self.drawn is None:
            self.drawn = uniforms(self.n, self.params, self.seed)[:, : self.limit].numpy()
        return self.drawn


class Limits(NamedTuple):
    """What a policy's network and pool can take."""

    policy: str
    vocabulary: int
    positions: int | None  # of the model
    slots: int | None = None  # of the pool, for one sequence


def limits_of(policy: str, config: Any, slots: int | None = None) -> Limits:
    """Of a policy on a model with this configuration of transformers."""
    text = config.get_text_config(decoder=True)
    return Limits(policy, text.vocab_size, getattr(text, "max_position_embeddings", None), slots)


class Asked(NamedTuple):
    """What `Engine.generate` is asked for one prompt."""

    prompt: Sequence[int]
    n: int
    params: SamplingParams
    policy: str
    seed: int


def per_prompt(
    prompts: Sequence[Sequence[int]],
    n: int | Sequence[int],
    params: SamplingParams | Sequence[SamplingParams],
    policy: str | Sequence[str],
    seeds: Sequence[int] | None,
) -> list[Asked]:
    """The arguments of `Engine.generate`, prompt by prompt. Raises: ValueError for lists of another length."""
    count = len(prompts)
    counts = [n] * count if isinstance(n, int) else list(n)
    names = [policy] * count if isinstance(policy, str) else list(policy)
    how = [params] * count if isinstance(params, SamplingParams) else list(params)
    seeds = draw_seeds(count) if seeds is None else list(seeds)
    columns: Mapping[str, Sequence[Any]] = {"n": counts, "params": how, "policy": names, "seeds": seeds}
    for name, given in columns.items():
        if len(given) != count:
            raise ValueError(f"{name}: expected one for each of {count} prompts, got {len(given)}")
    return [Asked(*one) for one in zip(prompts, counts, how, names, seeds, strict=True)]


def check_request(
    name: str, prompt: Sequence[int], params: SamplingParams, limits: Limits, tokenizer: Any = None
) -> tuple[NDArray[np.int64], int]:
    """(the prompt as an array, how many tokens a sample may have at most).

    Raises: ValueError, TypeError: `name` and what is wrong.
    """
    if not isinstance(params, SamplingParams):
        raise TypeError(f"{name}: expected SamplingParams, got {type(params).__name__}")
    if len(prompt) == 0:
        raise ValueError(f"{name}: expected at least one token, got an empty prompt")
    ids = np.array(prompt, np.int64)
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= limits.vocabulary:
        raise ValueError(f"{name}: expected token ids from 0 to {limits.vocabulary - 1}, got {low if low < 0 else high}")
    for most, what in ((limits.positions, f"positions of policy {limits.policy!r}"), (limits.slots, "tokens of the pool")):
        if most is not None and len(ids) >= most:
            raise ValueError(
                f"{name}: expected fewer tokens than the {most} {what}, so that one is left for a new token, got {len(ids)}"
            )
    for text in params.stop:
        check_stop(name, text, tokenizer)
    room = [most - len(ids) for most in (limits.positions, limits.slots) if most is not None]
    return ids, min(params.max_new_tokens, *room)


def check_stop(name: str, text: str, tokenizer: Any) -> None:
    """ValueError for a stop string that no tokens could ever spell."""
    if tokenizer is None:
        raise ValueError(f"{name}: expected policies with a tokenizer for stop strings, got none for {text!r}")
    try:
        ids = tokenizer.encode(text, add_special_tokens=False)
        told = tokenizer.decode(ids) if ids else ""
    except Exception as error:
        raise ValueError(f"{name}: expected a stop string that can be encoded, got {text!r} ({error})") from error
    if text not in told:
        raise ValueError(f"{name}: expected a stop string that can be encoded, got {text!r}, which becomes {told!r}")


def draw_seeds(count: int) -> list[int]:
    """From torch's global generator."""
    seeds: list[int] = torch.randint(2**63 - 1, (count,)).tolist()
    return seeds
