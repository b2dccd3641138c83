"""The engine on the trainer's own parameters: continuous batching over a radix cache of everything that was computed.

    engine = LocalEngine(policies)
    samples = engine.generate(prompts, 8, SamplingParams(stop_token_ids=(2,)), "qa", seeds=range(len(prompts)))

    number = engine.submit(prompt, policy="qa", params=params, seed=7)   # or: one by one, while others run
    for request, samples, error in engine.step(): ...

Prompts are prefilled once for each distinct prefix, beside the rows that decode, and forked; what was sampled stays in the
cache, so that the next turn of an episode computes its new tokens only. All policies of a network decode in one batch. The
parameters are the trainer's own. Keys, values and the copies of small networks' weights (`trainer.engine.lean`) are kept for as
long as a policy's version and `weights_id` stay the same: `Learner` and `Policies.load` change them; whoever else writes to
parameters calls `update_policy`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from himakernels.checks import check_positive
from trainer.engine.base import EngineStats, Finished, SamplingParams, Weights
from trainer.engine.lane import Lane, Network
from trainer.engine.requests import Asked, Request, draw_seeds, per_prompt, request_of
from trainer.engine.sampling import Styles
from trainer.types import Sample


class Policies(Protocol):
    """What the engine needs of `trainer.models.Policies`."""

    versions: dict[str, int]

    @property
    def names(self) -> Sequence[str]:
        """Of the policies."""

    def base_of(self, policy: str) -> Network:
        """What a policy runs on."""

    def weights_id(self, policy: str) -> int:
        """A number that no other weights of any policy have, or had."""

    def renew_weights_id(self, policy: str) -> None:
        """The weights change: from now on `weights_id` is another number."""


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """What a LocalEngine may use.

    token_budget: at most so many tokens' keys and values are kept for a network; more wait, the least recently used are
        forgotten, and a sample that alone finds no more room ends, with "length". None: 131,072, or what a gigabyte holds.
    prefill_tokens: at most so many prompt tokens in a step.
    block_size: tokens of a block of the cache.
    max_rows: at most so many sequences in a step.
    lean: whether Llama-like decoders run without transformers' layers; None: where that is faster.

    Raises: ValueError for sizes that are not positive.
    """

    token_budget: int | None = None
    prefill_tokens: int = 2048
    block_size: int = 16
    max_rows: int = 1024
    lean: bool | None = None

    def __post_init__(self) -> None:
        for name in ("token_budget", "prefill_tokens", "block_size", "max_rows"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))


class LocalEngine:
    """`trainer.engine.Engine` with transformers' decoders.

    Args:
        policies: whose parameters generate; `policies.versions` is the truth about their versions. Stop strings need its
            `tokenizer`.
        config: what it may use.

    Raises: at the first use of a policy, NotImplementedError for a network that `transformers_paged.kv_pool` refuses, or with
        adapters that a packed step does.
    """

    def __init__(self, policies: Policies, config: LocalConfig | None = None) -> None:
        self.policies, self.config = policies, LocalConfig() if config is None else config
        self._styles = Styles()
        self._lanes: dict[int, Lane] = {}  # by the network's id
        self._lane_of: dict[str, Lane] = {}  # by policy
        self._used = dict(policies.versions)  # the version that a policy last generated with
        self._open: dict[int, tuple[Request, Lane]] = {}
        self._finished: list[Finished] = []  # of a step in which another network failed
        self._number = self._samples = 0
        self._seconds = 0.0

    @property
    def stats(self) -> EngineStats:
        """Since the engine was made."""
        lanes = list(self._lanes.values())
        counts = [lane.scheduler.counts for lane in lanes]
        prompt_tokens, computed = sum(c.prompt_tokens for c in counts), sum(c.computed_tokens for c in counts)
        return EngineStats(
            requests=self._number,
            samples=self._samples,
            prompt_tokens=prompt_tokens,
            cached_tokens=prompt_tokens - computed,
            generated_tokens=sum(lane.generated for lane in lanes),
            recomputed_tokens=sum(c.recomputed_tokens for c in counts),
            preemptions=sum(c.preemptions for c in counts),
            steps=sum(lane.steps for lane in lanes),
            seconds=self._seconds,
            prefill_seconds=sum(lane.prefill_seconds for lane in lanes),
            decode_seconds=sum(lane.decode_seconds for lane in lanes),
            model_seconds=sum(lane.model_seconds for lane in lanes),
        )

    @property
    def unfinished(self) -> int:
        """How many requests wait or run."""
        return len(self._open)

    def update_policy(self, policy: str) -> None:
        """The weights of `policy` have changed. Its version goes up by one, if whoever changed them has not counted already.

        Samples that are running begin again. Parameters that are written to without this, past `Learner` and `Policies.load`,
        leave samples of neither the old weights nor the new.

        Raises: ValueError for an unknown policy.
        """
        self._check_policy("policy", policy)
        self.policies.renew_weights_id(policy)
        versions = self.policies.versions
        if versions[policy] == self._used.get(policy, 0):
            versions[policy] += 1
        self._used[policy] = versions[policy]

    def reset(self) -> None:
        """See `Engine.reset`."""
        for lane in self._lanes.values():
            lane.reset()

    def submit(self, prompt: Sequence[int], n: int = 1, *, params: SamplingParams, policy: str, seed: int | None = None) -> int:
        """See `ContinuousEngine.submit`."""
        (seed,) = draw_seeds(1) if seed is None else (seed,)
        return self._submit(self._request(Asked(prompt, n, params, policy, seed)))

    def step(self) -> list[Finished]:
        """See `ContinuousEngine.step`."""
        begin = time.perf_counter()
        try:
            for lane in self._lanes.values():
                if not lane.scheduler.busy:
                    continue
                try:
                    self._finished += lane.step({name: self._weights(name) for name in lane.names})
                except BaseException:
                    self._open = {i: (request, own) for i, (request, own) in self._open.items() if own is not lane}
                    raise
        finally:
            self._seconds += time.perf_counter() - begin
        finished, self._finished = [one for one in self._finished if one.request in self._open], []
        for number, samples, _ in finished:
            request, _ = self._open.pop(number)
            self._used[request.policy] = self.policies.versions[request.policy]
            self._samples += len(samples)
        return finished

    def cancel(self, request: int) -> None:
        """See `ContinuousEngine.cancel`."""
        if request in self._open:
            asked, lane = self._open.pop(request)
            lane.cancel(asked)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int | Sequence[int],
        params: SamplingParams | Sequence[SamplingParams],
        policy: str | Sequence[str],
        seeds: Sequence[int] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Sample]]:
        """See `Engine.generate`. Also ValueError where the logits of a policy are NaN or infinite.

        Args: progress: told how many requests have ended, and of how many, when some have.

        Requests of `submit` must have ended: nobody would be told.
        """
        if self._open:
            raise ValueError(f"generate: expected no requests that were submitted before, got {len(self._open)}")
        asked = [self._request(one, i) for i, one in enumerate(per_prompt(prompts, n, params, policy, seeds))]
        count = len(asked)
        numbers = {self._submit(request): i for i, request in enumerate(asked)}
        found: list[list[Sample]] = [[] for _ in asked]
        try:
            while self._open:
                ended = self.step()
                for number, samples, error in ended:
                    if error is not None:
                        raise error
                    found[numbers[number]] = samples
                if progress is not None and ended:
                    progress(count - len(self._open), count)
        finally:
            for number in numbers:
                self.cancel(number)
        return found

    def _request(self, one: Asked, i: int | None = None) -> Request:
        """Checked. i: which of `generate`'s it is."""
        which = "" if i is None else f"[{i}]"
        self._check_policy(f"policy{which}", one.policy)
        tokenizer = getattr(self.policies, "tokenizer", None)
        limits = self._lane(one.policy).limits(one.policy)
        names = ("prompt", "n", "seed") if i is None else (f"prompts{which}", f"n{which}", f"seeds{which}")
        return request_of(*names, one, limits, tokenizer)

    def _submit(self, request: Request) -> int:
        if not self._open:
            self._styles.clear()
        request.number, request.style = self._number, self._styles.number(request.params)
        lane = self._lane(request.policy)
        lane.scheduler.submit(request)
        self._open[request.number] = request, lane
        self._number += 1
        return request.number

    def _lane(self, policy: str) -> Lane:
        """Of the policy's network; made at its first use."""
        network = self.policies.base_of(policy)
        if policy not in self._lane_of or self._lane_of[policy].network is not network:
            names = tuple(name for name in self.policies.names if self.policies.base_of(name) is network)
            tokenizer = getattr(self.policies, "tokenizer", None)
            lane = Lane(network, names, self._styles, tokenizer, **vars(self.config))
            self._lanes[id(network)] = lane
            self._lane_of |= dict.fromkeys(names, lane)
        return self._lane_of[policy]

    def _weights(self, policy: str) -> Weights:
        return Weights(self.policies.versions[policy], self.policies.weights_id(policy))

    def _check_policy(self, name: str, policy: str) -> None:
        if policy not in self.policies.names:
            raise ValueError(f"{name}: expected one of {', '.join(self.policies.names)}, got {policy!r}")
