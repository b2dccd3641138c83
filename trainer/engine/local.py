"""The engine on the trainer's own parameters: each distinct prompt is prefilled once, then forked and decoded in step.

    engine = LocalEngine(policies)
    samples = engine.generate(prompts, 8, SamplingParams(stop_token_ids=(2,)), "qa", seeds=range(len(prompts)))

What all prompts of a policy begin with (its system prompt) is computed once for a version of its weights, and kept for the next
call. Nothing is copied or synchronised when weights change, but the version must: old keys and values go by it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from himakernels.checks import check_positive
from himakernels.integrations.transformers_models import base_of, check_decoder
from trainer.engine.base import EngineStats, SamplingParams
from trainer.engine.decoding import Prefix, Row, common_length, decode, extend
from trainer.engine.sampling import uniforms
from trainer.types import Sample


class Network(Protocol):
    """What the engine needs of `trainer.models.Base`."""

    model: Any  # the causal language model, or a PEFT model around it

    def generating(self, policy: str) -> AbstractContextManager[Any]:
        """The causal language model, as it generates for `policy`: in eval mode, without gradients."""


class Policies(Protocol):
    """What the engine needs of `trainer.models.Policies`."""

    versions: dict[str, int]

    @property
    def names(self) -> Sequence[str]:
        """Of the policies."""

    def base_of(self, policy: str) -> Network:
        """What a policy runs on."""


class LocalEngine:
    """`trainer.engine.Engine` with transformers' decoders.

    Args:
        policies: whose parameters generate; `policies.versions` is the truth about their versions.
        token_budget: at most so many slots of keys and values (rows x longest row) at a time; more rows wait. A single row
            may be longer.
        prefill_tokens: at most so many prompt tokens, padding included, in a forward.

    Raises: ValueError for a budget that is not positive. At the first use of a policy, NotImplementedError for a network with
        recurrent state, chunked attention, keys shared between layers, or rotary frequencies that change with the length.
    """

    def __init__(self, policies: Policies, *, token_budget: int = 131072, prefill_tokens: int = 2048) -> None:
        check_positive("token_budget", token_budget)
        check_positive("prefill_tokens", prefill_tokens)
        self.policies, self.token_budget, self.prefill_tokens = policies, token_budget, prefill_tokens
        self._prefixes: dict[tuple[str, int], Prefix] = {}  # by policy and version
        self._used = dict(policies.versions)  # the version that a policy last generated with
        self._checked: set[str] = set()
        self._stats = EngineStats()

    @property
    def stats(self) -> EngineStats:
        """Since the engine was made."""
        return self._stats

    def update_policy(self, policy: str) -> None:
        """The weights of `policy` have changed. Its version goes up by one, if whoever changed them has not counted already.

        Raises: ValueError for an unknown policy.
        """
        self._check_policy("policy", policy)
        versions = self.policies.versions
        if versions[policy] == self._used.get(policy, 0):
            versions[policy] += 1
        self._used[policy] = versions[policy]

    def reset(self) -> None:
        """See `Engine.reset`."""
        self._prefixes.clear()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int | Sequence[int],
        params: SamplingParams,
        policy: str | Sequence[str],
        seeds: Sequence[int] | None = None,
    ) -> list[list[Sample]]:
        """See `Engine.generate`. Also ValueError where the logits of a policy are NaN or infinite."""
        begin = time.perf_counter()
        asked = [tuple(prompt) for prompt in prompts]
        counts = [n] * len(asked) if isinstance(n, int) else list(n)
        names = [policy] * len(asked) if isinstance(policy, str) else list(policy)
        seeds = torch.randint(2**63 - 1, (len(asked),)).tolist() if seeds is None else list(seeds)
        for name, given in (("n", counts), ("policy", names), ("seeds", seeds)):
            if len(given) != len(asked):
                raise ValueError(f"{name}: expected one for each of {len(asked)} prompts, got {len(given)}")
        for i, (prompt, count, name) in enumerate(zip(asked, counts, names, strict=True)):
            self._check_policy(f"policy[{i}]", name)
            if count < 1:
                raise ValueError(f"n[{i}]: expected at least 1, got {count}")
            if not prompt:
                raise ValueError(f"prompts[{i}]: expected at least one token, got an empty prompt")
        of_policy = {name: [i for i, owner in enumerate(names) if owner == name] for name in dict.fromkeys(names)}
        limits: dict[int, int] = {}
        for name, mine in of_policy.items():
            limits |= self._limits(name, {i: asked[i] for i in mine}, params)
        results: list[list[Sample]] = [[] for _ in asked]
        for name, mine in of_policy.items():
            rows = [Row(asked[i], limits[i], u) for i in mine for u in uniforms(counts[i], params, seeds[i])]
            samples = iter(self._generate(name, rows, params))
            for i in mine:
                results[i] = [next(samples) for _ in range(counts[i])]
        self._count(requests=len(asked), samples=sum(counts), seconds=time.perf_counter() - begin)
        return results

    def _generate(self, policy: str, rows: list[Row], params: SamplingParams) -> list[Sample]:
        """The samples of all rows of a policy, in their order."""
        version = self._used[policy] = self.policies.versions[policy]
        samples: dict[int, Sample] = {}
        with torch.no_grad(), self.policies.base_of(policy).generating(policy) as model:
            if policy not in self._checked:
                _check_model(base_of(model))
                self._checked.add(policy)
            prefix, shared = self._prefix(policy, version, model, [row.prompt for row in rows])
            for wave in self._waves(rows):
                out = decode(model, [rows[r] for r in wave], prefix, shared, params, self.prefill_tokens)
                if not bool((out.logprobs > -torch.inf).all()):  # false for NaN
                    raise ValueError(f"policy {policy!r}: expected finite logits, got NaN or infinity at version {version}")
                columns = out.tokens.tolist(), out.logprobs.tolist(), out.lengths.tolist()
                for r, tokens, logprobs, length in zip(wave, *columns, strict=True):
                    stopped = tokens[length - 1] in params.stop_token_ids
                    samples[r] = Sample(
                        tuple(tokens[:length]), tuple(logprobs[:length]), "stop" if stopped else "length", version
                    )
                prompt_tokens = sum(len(rows[r].prompt) for r in wave)
                self._count(
                    prompt_tokens=prompt_tokens,
                    cached_tokens=prompt_tokens - out.computed,
                    generated_tokens=sum(columns[2]),
                    steps=out.steps,
                    prefill_seconds=out.prefill_seconds,
                    decode_seconds=out.decode_seconds,
                )
        return [samples[r] for r in range(len(rows))]

    def _prefix(self, policy: str, version: int, model: Any, prompts: list[tuple[int, ...]]) -> tuple[Prefix | None, int]:
        """What all prompts begin with, all but the last token of the shortest at most: a prefix that does, and how far."""
        low, high = min(prompts), max(prompts)  # whatever these two begin with, those between them do
        shared = min(common_length(low, high), min(map(len, prompts)) - 1)
        for other in [key for key in self._prefixes if key[0] == policy and key[1] != version]:
            del self._prefixes[other]
        if not shared:
            return None, 0
        begin = time.perf_counter()
        known = self._prefixes.get((policy, version))
        common = common_length(known.token_ids, low[:shared]) if known else 0
        if known is None or common < shared:
            known = self._prefixes[policy, version] = extend(model, known, low[:shared], self.prefill_tokens)
            self._count(cached_tokens=common - shared)
        self._count(prefill_seconds=time.perf_counter() - begin)
        return known, shared

    def _waves(self, rows: list[Row]) -> Iterator[list[int]]:
        """The numbers of all rows by length of prompt, equal prompts side by side, cut to what fits the budget."""
        wave: list[int] = []
        longest = 0
        for r in sorted(range(len(rows)), key=lambda r: (len(rows[r].prompt), rows[r].prompt)):
            longest = max(longest, rows[r].limit)
            if wave and (len(wave) + 1) * (len(rows[r].prompt) + longest) > self.token_budget:
                yield wave
                wave, longest = [], rows[r].limit
            wave.append(r)
        yield wave

    def _limits(self, policy: str, prompts: Mapping[int, tuple[int, ...]], params: SamplingParams) -> dict[int, int]:
        """How many tokens each prompt may be given, by its number."""
        model = base_of(self.policies.base_of(policy).model)
        config = model.config.get_text_config(decoder=True)
        positions: int | None = getattr(config, "max_position_embeddings", None)
        limits = {}
        for i, prompt in prompts.items():
            low, high = min(prompt), max(prompt)
            if low < 0 or high >= config.vocab_size:
                got = low if low < 0 else high
                raise ValueError(f"prompts[{i}]: expected token ids from 0 to {config.vocab_size - 1}, got {got}")
            limits[i] = params.max_new_tokens if positions is None else min(params.max_new_tokens, positions - len(prompt))
            if limits[i] < 1:
                raise ValueError(
                    f"prompts[{i}]: expected fewer tokens than the {positions} positions of policy {policy!r}, so that one is "
                    f"left for a new token, got {len(prompt)}"
                )
        return limits

    def _check_policy(self, name: str, policy: str) -> None:
        if policy not in self.policies.names:
            raise ValueError(f"{name}: expected one of {', '.join(self.policies.names)}, got {policy!r}")

    def _count(self, **more: float) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + value for name, value in more.items()})


def _check_model(model: PreTrainedModel) -> None:
    """NotImplementedError for a decoder whose keys and values can't be kept row by row, slot by slot."""
    config = check_decoder(model, model.config._attn_implementation).config
    got = f"got model_type {config.model_type!r}"
    if getattr(config, "num_kv_shared_layers", 0):
        raise NotImplementedError(f"model: expected layers with keys and values of their own, {got}")
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in [ropes, *(value for value in ropes.values() if isinstance(value, dict))]:
        if rope.get("rope_type") in ("dynamic", "longrope"):
            raise NotImplementedError(
                f"model: expected rotary frequencies that don't depend on the longest sequence of a batch, {got} with "
                f"rope_type {rope['rope_type']!r}"
            )
