"""One network at work: the step that its scheduler plans, run, sampled from, and told back."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel

import himakernels.integrations.transformers_paged as paged
from himakernels.integrations.peft import packed_adapters
from himakernels.integrations.peft_checks import check_model
from himakernels.integrations.transformers_models import base_of, max_positions
from himakernels.prefix_cache import PrefixCache
from trainer.engine.base import Finished, Weights
from trainer.engine.jobs import Batch
from trainer.engine.lean import LeanDecoder, is_lean
from trainer.engine.requests import Limits, Request
from trainer.engine.sampling import Styles
from trainer.engine.scheduler import Scheduler
from trainer.types import Sample

POOL_BYTES = 1 << 30  # of keys and values, unless the engine is told otherwise


class Network(Protocol):
    """What the engine needs of `trainer.network.Base`."""

    model: Any  # the causal language model, or a PEFT model around it whose adapters are the policies

    def decoding(self) -> AbstractContextManager[Any]:
        """The model with the attention "himakernels", in eval mode, without gradients."""


class Lane:
    """Args: see LocalEngine. names: the policies that run on the network."""

    def __init__(
        self,
        network: Network,
        names: tuple[str, ...],
        styles: Styles,
        tokenizer: Any,
        *,
        token_budget: int | None,
        prefill_tokens: int,
        block_size: int,
        max_rows: int,
        lean: bool | None,
    ) -> None:
        self.network, self.names, self.styles, self.tokenizer = network, names, styles, tokenizer
        with network.decoding() as model:
            causal = base_of(model)
            one = paged.kv_pool(model, num_blocks=1, block_size=1)
            budget = min(131072, POOL_BYTES // one.nbytes) if token_budget is None else token_budget
            blocks = max(-(-budget // block_size), 2)
            pool = paged.kv_pool(model, num_blocks=blocks, block_size=block_size)
        self.adapters = isinstance(model, PeftModel)
        self._new_scheduler = partial(Scheduler, pool, names, prefill_tokens=prefill_tokens, max_rows=max_rows)
        self.scheduler = self._new_scheduler()
        fits = is_lean(causal, self.adapters) if lean is None else lean
        if fits and self.adapters:
            check_model(model, set(names), check_base=False)
        self.lean = LeanDecoder(causal, names, self.adapters) if fits else None
        config: Any = causal.config.get_text_config(decoder=True)
        self.vocabulary, self.positions = config.vocab_size, max_positions(config)
        self.slots = (blocks - 1) * block_size  # a sequence that began as a copy holds one block twice
        self.device = pool.keys.device
        self.steps = self.generated = 0
        self.model_seconds = self.prefill_seconds = self.decode_seconds = 0.0

    def limits(self, policy: str) -> Limits:
        """Of its requests."""
        return Limits(policy, self.vocabulary, self.positions, self.slots)

    @property
    def cache(self) -> PrefixCache:
        """The prefix cache of prompts that are computed already."""
        return self.scheduler.cache

    def reset(self) -> None:
        """Forgets what is computed and nobody is using."""
        self.cache.reset()
        if self.lean is not None:
            self.lean.forget()

    def renew(self) -> None:
        """Gives up all requests and forgets everything, in whatever state an exception has left it."""
        if self.lean is not None:
            self.lean.forget()
        self.scheduler = self._new_scheduler(counts=self.scheduler.counts)

    def step(self, weights: Mapping[str, Weights]) -> list[Finished]:
        """One forward with these weights of the policies, and a token for each sequence that it completed.

        After an exception nothing works but `renew`.
        """
        begin = time.perf_counter()
        scheduler = self.scheduler
        scheduler.check_weights(weights)
        batch = scheduler.plan()
        if batch is None:
            return []
        logits, sequences = self._forward(batch)
        rows, sources = scheduler.commit(batch)
        finished: list[Finished] = []
        if len(rows):
            place = np.full(len(batch.rows), -1, np.int64)
            place[sequences] = np.arange(len(sequences))
            finished = self._sample(logits, rows, place[sources])
        self.steps += 1
        seconds = time.perf_counter() - begin
        if batch.jobs:
            self.prefill_seconds += seconds
        else:
            self.decode_seconds += seconds
        return finished

    def _forward(self, batch: Batch) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """(logits, the sequences of the batch that they are of)."""
        scheduler, rows = self.scheduler, self.scheduler.rows
        used = int(rows.blocks[batch.rows].max())
        step = paged.PagedStep.of(scheduler.pool, rows.table[batch.rows, :used], batch.cached, batch.counts)
        token_ids = torch.from_numpy(batch.token_ids).to(self.device, non_blocking=True)
        ends = np.cumsum(batch.counts)
        # Where the tokens of each policy begin: those of its first sequence.
        first = np.searchsorted(batch.policies, np.arange(len(self.names) + 1))
        starts = np.concatenate([[0], ends])[first]
        begin = time.perf_counter()
        with self.network.decoding() as model:
            if self.lean is not None:
                bounds = starts.tolist()
                parts = [(p, bounds[p], bounds[p + 1]) for p in range(len(self.names)) if bounds[p] < bounds[p + 1]]
                done = np.ones(len(ends), np.bool_)
                done[[i for i, job in batch.jobs if job.end < len(job.tokens)]] = False
                sequences = done.nonzero()[0]
                wanted = torch.from_numpy(ends[sequences] - 1).to(self.device, non_blocking=True)
                generations = [scheduler.generations[name] for name in self.names]
                logits = self.lean.step(step, token_ids, parts, generations, wanted)
            else:
                sequences = np.arange(len(ends))
                if self.adapters:
                    segments = torch.from_numpy(starts.astype(np.int32))
                    with packed_adapters(model, list(self.names), segments, check_base=False):
                        logits = paged.logits(model, step, token_ids)
                else:
                    logits = paged.logits(model, step, token_ids)
        self.model_seconds += time.perf_counter() - begin
        return logits, sequences

    def _sample(self, logits: torch.Tensor, at: NDArray[np.int64], sources: NDArray[np.int64]) -> list[Finished]:
        """A token for each of the rows `at` from logits[sources]; lets go of those that end with it."""
        rows, scheduler = self.scheduler.rows, self.scheduler
        if len(sources) != len(logits) or (sources != np.arange(len(sources))).any():
            logits = logits[torch.from_numpy(sources).to(logits.device, non_blocking=True)]
        count, styles = rows.count[at], rows.params[at]
        drawn = self.styles.draw(logits, styles, rows.u[at, count])
        tokens, logprobs, sampling = (t.numpy() for t in drawn)
        rows.tokens[at, count], rows.logprobs[at, count], rows.sampling[at, count] = tokens, logprobs, sampling
        rows.last[at] = tokens
        rows.count[at] = count + 1
        self.generated += len(at)
        stopped = self.styles.stops(tokens, styles)
        for number in [i for i, params in enumerate(self.styles.params) if params.stop]:
            for i in (styles == number).nonzero()[0].tolist():
                stopped[i] |= self._spells(int(at[i]), self.styles.params[number].stop)
        finished = []
        wrong = ~np.isfinite(logprobs)
        for i in (stopped | wrong | (count + 1 >= rows.limit[at])).nonzero()[0].tolist():
            row = int(at[i])
            if row not in scheduler.requests:
                continue  # of a request that has just failed
            if wrong[i]:
                request, _ = scheduler.requests[row]
                scheduler.cancel(request)
                version = scheduler.weights[request.policy].version
                error = f"policy {request.policy!r}: expected finite logits, got NaN or infinity at version {version}"
                finished.append(Finished(request.number, [], ValueError(error)))
                continue
            n = int(rows.count[row])
            ids, logp, other = (column[row, :n].tolist() for column in (rows.tokens, rows.logprobs, rows.sampling))
            request, which = scheduler.finish(row)
            params = request.params
            plain = params.temperature > 0 and not params.top_k and params.top_p == 1 and not params.min_p
            reason = "stop" if stopped[i] else "length"
            version = scheduler.weights[request.policy].version
            request.samples[which] = Sample(tuple(ids), tuple(logp), reason, version, None if plain else tuple(other))  # type: ignore[arg-type]
            if len(request.samples) == request.n:
                finished.append(Finished(request.number, [request.samples[i] for i in range(request.n)]))
        return finished

    def _spells(self, row: int, stops: tuple[str, ...]) -> bool:
        """Whether the row's text has come to one of the stops. Only its end is decoded: a character is four tokens at most."""
        rows = self.scheduler.rows
        n = int(rows.count[row])
        tail = 4 * max(map(len, stops)) + 4
        text = self.tokenizer.decode(rows.tokens[row, max(0, n - tail) : n].tolist())
        return any(stop in text for stop in stops)

    def cancel(self, request: Request) -> None:
        """See LocalEngine.cancel."""
        self.scheduler.cancel(request)
