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

What an exception cuts off, KeyboardInterrupt at any line included, leaves the engine as it was or without any requests in
flight (`trainer.engine.in_flight`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from himakernels.checks import check_positive
from trainer.engine.base import EngineStats, Finished, SamplingParams, Weights
from trainer.engine.in_flight import InFlight
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
        self._flight = InFlight(self._renew)
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
        """The number of requests that `step` has still to tell of."""
        return len(self._flight)

    def update_policy(self, policy: str) -> None:
        """Declare that the weights of `policy` have changed. Its version goes up by one, unless it has gone up already.

        Samples that are running begin again. If parameters are written to without this call, other than by `Learner` and
        `Policies.load`, running samples mix old and new weights.

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
        with self._flight.changing():
            for lane in self._lanes.values():
                lane.reset()

    def submit(self, prompt: Sequence[int], n: int = 1, *, params: SamplingParams, policy: str, seed: int | None = None) -> int:
        """See `ContinuousEngine.submit`."""
        (seed,) = draw_seeds(1) if seed is None else (seed,)
        request = self._request(Asked(prompt, n, params, policy, seed))
        number = self._number
        try:
            with self._flight.changing():
                self._submit(request)
            return number
        except BaseException:
            self.cancel(number)  # nobody knows the number
            raise

    def step(self) -> list[Finished]:
        """See `ContinuousEngine.step`."""
        with self._flight.changing():
            failure = self._advance()
        if failure is not None:
            raise failure
        return self._flight.take()

    def cancel(self, request: int) -> None:
        """See `ContinuousEngine.cancel`."""
        flight = self._flight
        with flight.changing():
            flight.ended.pop(request, None)
            if request in flight.open:
                asked, lane = flight.open[request]
                lane.cancel(asked)
                del flight.open[request]

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
        self._flight.mend()
        if self.unfinished:
            raise ValueError(f"generate: expected no requests that were submitted before, got {self.unfinished}")
        asked = [self._request(one, i) for i, one in enumerate(per_prompt(prompts, n, params, policy, seeds))]
        count, first = len(asked), self._number
        found: list[list[Sample]] = [[] for _ in asked]
        with self._flight.generating():
            for request in asked:
                self._submit(request)
            while self.unfinished:
                failure = self._advance()
                if failure is not None:
                    raise failure
                ended = self._flight.take()
                for number, samples, error in ended:
                    if error is not None:
                        raise error
                    found[number - first] = samples
                if progress is not None and ended:
                    with self._flight.telling():
                        progress(count - self.unfinished, count)
        return found

    def _advance(self) -> BaseException | None:
        """One step of each network that has something to do. Returns what one failed by; the others stay as they are."""
        begin = time.perf_counter()
        failure = None
        for lane in self._lanes.values():
            if not lane.scheduler.busy:
                continue
            try:
                ended = lane.step({name: self._weights(name) for name in lane.names})
            except BaseException as error:
                failure = error
                lane.renew()
                self._flight.give_up(lane, error)
                break
            for one in ended:
                request, _ = self._flight.open[one.request]
                self._used[request.policy] = self.policies.versions[request.policy]
                self._flight.end(one)
                self._samples += len(one.samples)
        self._seconds += time.perf_counter() - begin
        return failure

    def _renew(self) -> None:
        """Everything that computes, in whatever state an exception has left it, is as in a new engine."""
        self._styles.clear()
        for lane in self._lanes.values():
            lane.renew()

    def _request(self, one: Asked, i: int | None = None) -> Request:
        """Checked. i: which of `generate`'s it is."""
        which = "" if i is None else f"[{i}]"
        self._check_policy(f"policy{which}", one.policy)
        tokenizer = getattr(self.policies, "tokenizer", None)
        limits = self._lane(one.policy).limits(one.policy)
        names = ("prompt", "n", "seed") if i is None else (f"prompts{which}", f"n{which}", f"seeds{which}")
        return request_of(*names, one, limits, tokenizer)

    def _submit(self, request: Request) -> None:
        if not self._flight.open:
            self._styles.clear()
        request.number, request.style = self._number, self._styles.number(request.params)
        self._number += 1
        lane = self._lane(request.policy)
        self._flight.open[request.number] = request, lane
        lane.scheduler.submit(request)

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
