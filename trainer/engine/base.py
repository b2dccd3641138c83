"""What an engine takes and gives: token ids in, samples with their log-probabilities out, never text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from himakernels.checks import check_finite, check_non_negative
from trainer.types import Sample


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn. The defaults sample from the model itself, which is what training wants.

    The filters act on softmax(logits / temperature) in this order, as in transformers; what they leave is renormalised.

    max_new_tokens: at most so many tokens a sample, the stop token included; fewer where the model's positions, or an engine's
        memory for keys and values, end.
    temperature: 0 takes the likeliest token.
    top_k: only the k likeliest tokens, and those as likely as the last of them; 0: all.
    top_p: of these the fewest whose probabilities sum to top_p.
    min_p: only tokens at least min_p times as likely as the likeliest.
    stop_token_ids: a sample ends with the first of these.
    stop: texts; a sample ends with the token that completes the first of these (the engine needs a tokenizer then).

    Raises: ValueError, TypeError: naming the field.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop_token_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, low in (("max_new_tokens", 1), ("top_k", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
            if value < low:
                raise ValueError(f"{name}: expected at least {low}, got {value}")
        for name in ("temperature", "top_p", "min_p"):
            check_finite(name, getattr(self, name))
        check_non_negative("temperature", self.temperature)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: expected more than 0 and at most 1, got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p: expected 0 to 1, got {self.min_p}")
        if not isinstance(self.stop_token_ids, tuple) or not all(isinstance(t, int) and t >= 0 for t in self.stop_token_ids):
            raise ValueError(f"stop_token_ids: expected a tuple of token ids, got {self.stop_token_ids!r}")
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            raise ValueError(f"stop: expected a tuple of texts, got {self.stop!r}")


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """What an engine has done so far; differences of two tell what happened between them.

    prompt_tokens: of all samples, a prompt once for each of its n. cached_tokens: those of them that were not computed, because
    a sibling, an equal prompt, a common prefix or an earlier call had computed them. recomputed_tokens: of samples that had to
    make room for others. steps: forwards. seconds: inside the engine; prefill_seconds are steps with prompt tokens in them,
    decode_seconds the others, model_seconds what of both was spent in the networks.
    """

    requests: int = 0
    samples: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    recomputed_tokens: int = 0
    preemptions: int = 0
    steps: int = 0
    seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    model_seconds: float = 0.0

    @property
    def hit_rate(self) -> float:
        """cached_tokens / prompt_tokens; 0 without prompts."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


class Weights(NamedTuple):
    """The weights of a policy. `version` counts updates and comes with each sample; it is saved and loaded with the weights, so
    other weights may have the same. No other weights of this process have the same `id`."""

    version: int
    id: int


class Finished(NamedTuple):
    """A request that has ended: its n samples, or why it has none."""

    request: int
    samples: list[Sample]
    error: ValueError | RuntimeError | None = None


class Engine(Protocol):
    """Generates for named policies, whose weights carry a version."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int | Sequence[int],
        params: SamplingParams | Sequence[SamplingParams],
        policy: str | Sequence[str],
        seeds: Sequence[int] | None = None,
    ) -> list[list[Sample]]:
        """n samples of each prompt: `generate([[5, 9]], 2, SamplingParams(), "qa")` -> [[Sample(...), Sample(...)]].

        The samples of a request depend on its prompt, n, params, seed and the weights of its policy, not on what else is asked
        (but for the last bits of the logits where a matrix product's rounding depends on the number of rows: on CPU it does).

        Args:
            prompts: token ids, at least one each.
            n, params, policy: one for all prompts, or one for each.
            seeds: one for each prompt; None: drawn from torch's global generator.

        Returns:
            For each prompt its n samples. `rollout_logprobs` are log softmax(logits / temperature) in fp32 over the whole
            vocabulary, whatever top_k, top_p and min_p kept; at temperature 0 those of temperature 1. `sampling_logprobs` are
            those of the distribution that was drawn from, where it is another and the engine knows them.

        Raises:
            ValueError, TypeError: an empty prompt, an unknown policy, a prompt that leaves the model no position for one more
                token, token ids outside the vocabulary, n < 1 or > 65,536, a seed of more than 64 bits, lists of other lengths,
                what is not an int where one is wanted; it names the request, and nothing was generated.
        """
        ...

    def update_policy(self, policy: str) -> None:
        """The weights of `policy` have changed: what was computed with the old ones is never used again."""
        ...

    def reset(self) -> None:
        """Forgets what it has computed: what it generates next is, to the last bit, what a new engine would."""
        ...

    @property
    def stats(self) -> EngineStats:
        """Since the engine was made."""
        ...


@runtime_checkable
class ContinuousEngine(Engine, Protocol):
    """An engine that can be asked for more while it generates."""

    def submit(self, prompt: Sequence[int], n: int = 1, *, params: SamplingParams, policy: str, seed: int | None = None) -> int:
        """Asks for n samples; `step` will return them under the number that this returns.

        Raises: ValueError, TypeError for this request alone, see `generate`.
        """
        ...

    def step(self) -> list[Finished]:
        """One forward of each network that has something to do; the requests that have ended with it, failed ones too.

        If it raises, what was asked of that network is given up, and the next call tells so of each request. So it does after
        any other call that an exception has cut off, such as KeyboardInterrupt.
        """
        ...

    def cancel(self, request: int) -> None:
        """Gives a request up: it will not be among what `step` returns. One that has ended is no error."""
        ...
