"""What an engine is asked: one request checked by itself, and what becomes of it."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from himakernels.integrations.transformers_models import max_positions
from trainer.engine.base import SamplingParams
from trainer.engine.sampling import uniforms
from trainer.types import Sample

MOST_SAMPLES = 2**16  # of one request


@dataclass(eq=False, slots=True)
class Request:
    """n samples of a prompt. `samples` fills up as they end."""

    number: int
    prompt: NDArray[np.int64]
    n: int
    params: SamplingParams
    policy: str
    u: NDArray[np.float64]  # [n, limit], the random numbers of its samples
    style: int = -1  # the number of its params, once it is submitted
    samples: dict[int, Sample] = field(default_factory=dict)
    counted: set[int] = field(default_factory=set)  # samples whose prompt is in the counts

    @property
    def limit(self) -> int:
        """Tokens a sample may have."""
        return len(self.u[0])


class Limits(NamedTuple):
    """What a policy's network and pool can take."""

    policy: str
    vocabulary: int
    positions: int | None  # of the model
    slots: int | None = None  # of the pool, for one sequence


def limits_of(policy: str, config: Any, slots: int | None = None) -> Limits:
    """Of a policy on a model with this configuration of transformers."""
    text = config.get_text_config(decoder=True)
    return Limits(policy, text.vocab_size, max_positions(text), slots)


class Asked(NamedTuple):
    """What `Engine.generate` is asked for one prompt; nothing of it is checked."""

    prompt: Sequence[int]
    n: int
    params: SamplingParams
    policy: str
    seed: int


def integer(name: str, value: object, low: int, high: int) -> int:
    """The value as an int. Raises: TypeError for anything else, ValueError outside low to high."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    number = operator.index(value)
    if not low <= number <= high:
        raise ValueError(f"{name}: expected {low} to {high}, got {number}")
    return number


def check_count(name: str, n: object) -> int:
    """How many samples. Raises: TypeError, ValueError."""
    if isinstance(n, SupportsIndex) and not isinstance(n, bool) and operator.index(n) < 1:
        raise ValueError(f"{name}: expected at least 1, got {n}")
    return integer(name, n, 1, MOST_SAMPLES)


def per_prompt(
    prompts: Sequence[Sequence[int]],
    n: int | Sequence[int],
    params: SamplingParams | Sequence[SamplingParams],
    policy: str | Sequence[str],
    seeds: Sequence[int] | None,
) -> list[Asked]:
    """The arguments of `Engine.generate`, prompt by prompt. Raises: ValueError for lists of another length."""
    count = len(prompts)
    counts = list(n) if isinstance(n, Sequence) else [n] * count
    names = [policy] * count if isinstance(policy, str) else list(policy)
    how = [params] * count if isinstance(params, SamplingParams) else list(params)
    seeds = draw_seeds(count) if seeds is None else list(seeds)
    columns: Mapping[str, Sequence[Any]] = {"n": counts, "params": how, "policy": names, "seeds": seeds}
    for name, given in columns.items():
        if len(given) != count:
            raise ValueError(f"{name}: expected one for each of {count} prompts, got {len(given)}")
    return [Asked(*one) for one in zip(prompts, counts, how, names, seeds, strict=True)]


def check_seed(name: str, seed: object) -> int:
    """Of torch's generators, 64 bits. Raises: TypeError, ValueError."""
    return integer(name, seed, -(2**63), 2**64 - 1)


def check_request(
    name: str, prompt: Sequence[int], params: SamplingParams, limits: Limits, tokenizer: Any = None
) -> tuple[NDArray[np.int64], int]:
    """(the prompt as an array, how many tokens a sample may have at most: what is asked for, or what there is room for).

    Raises: ValueError, TypeError: `name` and what is wrong.
    """
    if not isinstance(params, SamplingParams):
        raise TypeError(f"{name}: expected SamplingParams, got {type(params).__name__}")
    ids = _token_ids(name, prompt, limits.vocabulary)
    for most, what in ((limits.positions, f"positions of policy {limits.policy!r}"), (limits.slots, "tokens of the pool")):
        if most is not None and len(ids) >= most:
            raise ValueError(
                f"{name}: expected fewer tokens than the {most} {what}, so that one is left for a new token, got {len(ids)}"
            )
    outside = [token for token in params.stop_token_ids if token >= limits.vocabulary]
    if outside:
        raise ValueError(f"{name}: expected stop_token_ids from 0 to {limits.vocabulary - 1}, got {outside[0]}")
    for text in params.stop:
        check_stop(name, text, tokenizer)
    room = [most - len(ids) for most in (limits.positions, limits.slots) if most is not None]
    return ids, min(params.max_new_tokens, *room)


def _token_ids(name: str, prompt: Any, vocabulary: int) -> NDArray[np.int64]:
    try:
        ids = np.asarray(prompt)
    except (ValueError, OverflowError) as error:  # lists of different lengths
        raise TypeError(f"{name}: expected a sequence of token ids, got {error}") from error
    if ids.ndim == 1 and ids.size == 0:
        raise ValueError(f"{name}: expected at least one token, got an empty prompt")
    if ids.ndim != 1 or (ids.dtype.kind not in "iu" and not all(isinstance(token, int) for token in prompt)):
        got = f"{type(prompt).__name__} of shape {list(ids.shape)} and type {ids.dtype}"
        raise TypeError(f"{name}: expected a sequence of token ids, got a {got}")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocabulary:
        raise ValueError(f"{name}: expected token ids from 0 to {vocabulary - 1}, got {low if low < 0 else high}")
    return ids.astype(np.int64)


def request_of(name: str, of_n: str, of_seed: str, one: Asked, limits: Limits, tokenizer: Any) -> Request:
    """What was asked, checked. Raises: ValueError, TypeError: which argument, what was expected."""
    n, seed = check_count(of_n, one.n), check_seed(of_seed, one.seed)
    ids, limit = check_request(name, one.prompt, one.params, limits, tokenizer)
    longest = min(most for most in (one.params.max_new_tokens, limits.positions, limits.slots) if most is not None)
    return Request(0, ids, n, one.params, one.policy, uniforms(n, longest, seed)[:, :limit].numpy())


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
