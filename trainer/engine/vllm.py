"""The engine at scale: vLLM behind the same interface, with a copy of the policies that follows the trainer's.

    engine = VLLMEngine(policies)
    samples = engine.generate(prompts, 8, SamplingParams(stop_token_ids=(2,)), "qa", seeds=range(len(prompts)))

Each network of the policies has a vLLM of its own, in this process, with prefix caching: policies that are adapters share one,
and are asked together. After every update the new weights go over (an adapter under a new name, a whole network in place, and
the cache is emptied), and a probe shows that they arrived, or nothing more is generated.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from trainer.engine.base import EngineStats, SamplingParams, Weights
from trainer.engine.requests import Asked, Limits, check_count, check_request, check_seed, limits_of, per_prompt
from trainer.engine.vllm_network import VLLMConfig, VLLMNetwork, Wanted, check_vllm
from trainer.engine.vllm_probe import TOLERANCE, Probe
from trainer.models import Policies
from trainer.network import Base
from trainer.types import Sample


class _Checked(NamedTuple):
    """n samples of up to `limit` tokens after a prompt."""

    prompt: tuple[int, ...]
    n: int
    params: SamplingParams
    policy: str
    seed: int
    limit: int


class VLLMEngine:
    """`trainer.engine.Engine` with vLLM. It starts when it is first asked.

    `stats.decode_seconds` holds prefill as well, and `steps` all forwards: vLLM mixes both in one batch.

    Args:
        policies: whose weights generate; `policies.versions` is the truth about their versions.
        config: how vLLM runs.

    What vLLM loads, a network and its adapters, passes through a temporary folder (TMPDIR says where).

    Raises: ImportError without vLLM. At the first use of a policy ValueError for a network that vLLM can't load, and
        `vllm_probe.ProbeError` where vLLM's log-probabilities are not the trainer's.
    """

    def __init__(self, policies: Policies, config: VLLMConfig | None = None) -> None:
        check_vllm()
        self.policies, self.config = policies, config or VLLMConfig()
        self._folder = TemporaryDirectory(prefix="hima-vllm-", ignore_cleanup_errors=True)
        self._networks: dict[Base, VLLMNetwork] = {}
        self._probes: dict[Base, Probe] = {}
        self._published: dict[str, Weights] = {}  # what vLLM has of a policy
        self._stats = EngineStats()
        self._limits = {name: self._limits_of(name) for name in policies.names}

    @property
    def stats(self) -> EngineStats:
        """Since the engine was made."""
        return self._stats

    def update_policy(self, policy: str) -> None:
        """Declare that the weights of `policy` have changed. Its version goes up by one, unless it has gone up already.

        Raises: ValueError for an unknown policy; ProbeError where vLLM does not follow.
        """
        if policy not in self._limits:
            raise ValueError(f"policy: expected one of {', '.join(self._limits)}, got {policy!r}")
        self.policies.renew_weights_id(policy)
        versions = self.policies.versions
        if versions[policy] == (self._published[policy].version if policy in self._published else 0):
            versions[policy] += 1
        if policy in self._published:  # else at its first use
            self._publish(policy)

    def reset(self) -> None:
        """See `Engine.reset`."""
        for network in self._networks.values():
            network.reset()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int | Sequence[int],
        params: SamplingParams | Sequence[SamplingParams],
        policy: str | Sequence[str],
        seeds: Sequence[int] | None = None,
    ) -> list[list[Sample]]:
        """See `Engine.generate`. Also ValueError where the logits of a policy are NaN or infinite.

        Raises: NotImplementedError for min_p beside top_p, which vLLM applies in another order, and for stop strings.
        """
        begin = time.perf_counter()
        requests = [self._check(i, one) for i, one in enumerate(per_prompt(prompts, n, params, policy, seeds))]
        for name in dict.fromkeys(request.policy for request in requests):
            if self._published.get(name) != self._weights(name):
                self._publish(name)
        results: list[list[Sample]] = [[] for _ in requests]
        for (base, network), how in product(self._networks.items(), dict.fromkeys(request.params for request in requests)):
            mine = [i for i, one in enumerate(requests) if one.policy in base.policies and one.params == how]
            if mine:
                found = self._generate(network, [requests[i] for i in mine], how)
                for i, samples in zip(mine, found, strict=True):
                    results[i] = samples
        count = sum(request.n for request in requests)
        self._count(requests=len(requests), samples=count, seconds=time.perf_counter() - begin)
        return results

    def _generate(self, network: VLLMNetwork, requests: list[_Checked], params: SamplingParams) -> list[list[Sample]]:
        """The samples of one network's requests."""
        # Each sample by itself: siblings share their prompt's blocks as all requests do, and have seeds of their own.
        asked = [
            Wanted(request.prompt, request.limit, request.policy, _seed(request.seed, sibling))
            for request in requests
            for sibling in range(request.n)
        ]
        begin, steps = time.perf_counter(), network.steps
        answers = network.generate(asked, params)
        self._count(
            prompt_tokens=sum(len(one.prompt) for one in asked),
            cached_tokens=sum(answer.cached for answer in answers),
            generated_tokens=sum(len(answer.token_ids) for answer in answers),
            steps=network.steps - steps,
            decode_seconds=time.perf_counter() - begin,
        )
        samples = []
        for one, answer in zip(asked, answers, strict=True):
            version = self._published[one.policy].version
            if not all(logprob > -float("inf") for logprob in answer.logprobs):  # false for NaN
                raise ValueError(f"policy {one.policy!r}: expected finite logits, got NaN or infinity at version {version}")
            stopped = answer.token_ids[-1] in params.stop_token_ids
            samples.append(Sample(answer.token_ids, answer.logprobs, "stop" if stopped else "length", version))
        found = iter(samples)
        return [[next(found) for _ in range(request.n)] for request in requests]

    def _publish(self, policy: str) -> None:
        """vLLM gets the present weights of a policy, and shows that it has."""
        base, weights = self.policies.base_of(policy), self._weights(policy)
        self._published.pop(policy, None)  # if anything fails, vLLM's are not to be trusted
        started = base in self._networks
        if not started:
            folder = Path(self._folder.name) / str(len(self._networks))
            self._networks[base] = VLLMNetwork(base, self.config, folder)
            self._probes[base] = self._probe(policy, base)
        network, probe = self._networks[base], self._probes[base]
        if started or base.adapters:  # else it has just read them
            network.publish(policy)
        given = network.logprobs(policy, probe.prompt, probe.token_ids)
        probe.check(policy, weights.version, probe.trainers(base, policy), given)
        self._published[policy] = weights

    def _weights(self, policy: str) -> Weights:
        return Weights(self.policies.versions[policy], self.policies.weights_id(policy))

    def _probe(self, policy: str, base: Base) -> Probe:
        limits, tolerance = self._limits[policy], self.config.probe_tolerance or TOLERANCE[base.dtype]
        length = self.config.block_size * 2 + 8
        return Probe(limits.vocabulary, length if limits.positions is None else min(length, limits.positions - 1), tolerance)

    def _check(self, i: int, one: Asked) -> "_Checked":
        """Request number i."""
        params = one.params
        if one.policy not in self._limits:
            raise ValueError(f"policy[{i}]: expected one of {', '.join(self._limits)}, got {one.policy!r}")
        n, seed = check_count(f"n[{i}]", one.n), check_seed(f"seeds[{i}]", one.seed)
        ids, limit = check_request(f"prompts[{i}]", one.prompt, replace(params, stop=()), self._limits[one.policy])
        if params.stop:
            raise NotImplementedError(f"stop: expected no texts with vLLM, which is given token ids only, got {params.stop!r}")
        if params.min_p > 0 and params.top_p < 1:
            raise NotImplementedError(
                f"min_p: expected 0 beside top_p = {params.top_p} with vLLM, which applies min_p first, got {params.min_p}"
            )
        return _Checked(tuple(ids.tolist()), n, params, one.policy, seed, limit)

    def _limits_of(self, policy: str) -> Limits:
        limits, most = limits_of(policy, self.policies.base_of(policy).network.config), self.config.max_model_len
        if most is None:
            return limits
        return limits._replace(positions=most if limits.positions is None else min(most, limits.positions))

    def _count(self, **more: float) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + value for name, value in more.items()})


def _seed(seed: int, sibling: int) -> int:
    """Of one sample, 63 bits: neighbouring seeds of requests have nothing in common."""
    return int.from_bytes(blake2b(f"{seed}/{sibling}".encode(), digest_size=8).digest(), "little") >> 1
