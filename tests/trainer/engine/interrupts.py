"""KeyboardInterrupt at the n-th line that runs in the engine or its cache, and engines under random operations to try it on."""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType
from typing import Any

import pytest
import torch
from engines import Policies as Networks
from engines import prompts, tiny
from test_continuous import nothing_is_held
from test_engine_policies import Words

import himakernels.kv_pool
import himakernels.prefix_cache
import trainer.engine
from trainer.engine import SamplingParams
from trainer.engine.local import LocalConfig, LocalEngine
from trainer.models import ModelConfig, Policies

FOLDER = trainer.engine.__file__.removesuffix("__init__.py")
FILES = (himakernels.prefix_cache.__file__, himakernels.kv_pool.__file__)
PROMPTS = [p[:9] + q for p, q in zip(prompts(*[9] * 6), prompts(0, 3, 8, 0, 5, 12, seed=2), strict=True)]
PROMPTS[3] = PROMPTS[1][:11]
PARAMS = [SamplingParams(max_new_tokens=n, stop_token_ids=(5, 40, 77)) for n in (1, 3, 7)]
SIZES: dict[str, Any] = {"token_budget": 60, "prefill_tokens": 7, "block_size": 4, "max_rows": 5}


class Tracer:
    """Counts lines, and raises at one of them.

    Args:
        at: which line raises: the number of all lines that run; or (file, line, how often it has run).
        later: a second time so many lines after that, in functions that are called in between. None: only once.
    """

    def __init__(self, at: int | tuple[str, int, int] | None = None, later: int | None = None) -> None:
        self.at, self.later = at, later
        self.lines, self.raised = 0, 0
        self.sites: Counter[tuple[str, int]] = Counter()

    def __call__(self, frame: FrameType, event: str, arg: object) -> "Tracer | None":
        if event == "call":
            name = frame.f_code.co_filename
            return self if name.startswith(FOLDER) or name in FILES else None
        if event == "line":
            site = frame.f_code.co_filename, frame.f_lineno
            self.lines += 1
            self.sites[site] += 1
            if self.lines == self.at or (*site, self.sites[site]) == self.at:
                self.raised, self.at = 1, None if self.later is None else self.lines + self.later
                raise KeyboardInterrupt  # which also ends the tracing
        return self

    def again(self, frame: FrameType, event: str, arg: object) -> None:
        """A profiler: goes on tracing in the functions that are called after an interrupt."""
        if event == "call" and self.raised and self.at is not None and sys.gettrace() is None:
            sys.settrace(self)
            frame.f_trace = self(frame, "call", None)

    @contextmanager
    def on(self) -> Iterator[None]:
        trace = sys.gettrace()
        sys.setprofile(None if self.later is None else self.again)
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(trace)
            sys.setprofile(None)


def adapters() -> Policies:
    made = Policies.create(ModelConfig(name="tiny", lora_rank=2), ["qa", "efc"], tokenizer=Words(), models={"tiny": tiny()})
    with torch.no_grad():
        for i, name in enumerate(made.names):
            for parameter in made.parameters(name):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    return made


def networks() -> Networks:
    return Networks(qa=tiny(), efc=tiny("llama", 3))


KINDS: dict[str, tuple[Callable[[], Any], bool | None]] = {
    "adapters": (adapters, None),  # by the lean decoder
    "networks": (networks, False),  # through transformers' layers
}


class World:
    """An engine, its policies, and what each set of weights says, by a new engine."""

    def __init__(self, kind: str) -> None:
        make, self.lean = KINDS[kind]
        self.policies = make()
        self.engine = self.new()
        first = {name: [p.detach().clone() for p in self.parameters(name)] for name in self.policies.names}
        self.sets = {name: [values, [v * 0.7 for v in values]] for name, values in first.items()}
        self.now = dict.fromkeys(self.policies.names, 0)  # which of the two sets of weights
        self.set_of: dict[tuple[str, int], int] = {(name, 0): 0 for name in self.policies.names}  # of a version
        self.said: dict[tuple[Any, ...], list[tuple[int, ...]]] = {}
        self.fresh: dict[tuple[int, ...], list[tuple[float, ...]]] = {}
        self.asked: dict[int, tuple[str, int, int, int, int]] = {}  # by the engine's number
        self.told: dict[int, bool] = {}  # whether there were samples
        self.doing = ""  # the operation that an interrupt may have cut off

    def new(self) -> LocalEngine:
        return LocalEngine(self.policies, LocalConfig(lean=self.lean, **SIZES))

    def parameters(self, name: str) -> list[torch.nn.Parameter]:
        base = self.policies.base_of(name)
        return list(base.model.parameters()) if isinstance(self.policies, Networks) else self.policies.parameters(name)

    def put(self, name: str, number: int) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters(name), self.sets[name][number], strict=True):
                parameter.copy_(value)

    def expected(self, number: int, name: str, prompt: int, n: int, params: int, seed: int) -> list[tuple[int, ...]]:
        key = number, name, prompt, n, params, seed
        if key not in self.said:
            self.put(name, number)
            (samples,) = self.new().generate([PROMPTS[prompt]], n, PARAMS[params], name, [seed])
            self.put(name, self.now[name])
            self.said[key] = [sample.token_ids for sample in samples]
        return self.said[key]

    def operate(self, rng: random.Random, operations: int) -> None:
        """Random operations, of which any may be cut off."""
        engine = self.engine
        for _ in range(operations):
            self.doing = rng.choice(["submit"] * 4 + ["step"] * 8 + ["cancel", "update", "reset", "generate"])
            if self.doing == "submit":
                name, prompt, n = rng.choice(self.policies.names), rng.randrange(6), rng.choice([1, 1, 3])
                params, seed = rng.randrange(3), rng.randrange(2)
                number = engine.submit(PROMPTS[prompt], n, params=PARAMS[params], policy=name, seed=seed)
                self.asked[number] = name, prompt, n, params, seed
            elif self.doing == "step":
                self.step()
            elif self.doing == "cancel" and self.asked:
                number = rng.choice(list(self.asked))
                self.asked.pop(number)
                engine.cancel(number)
            elif self.doing == "update":
                name = rng.choice(self.policies.names)
                self.now[name] = 1 - self.now[name]
                self.put(name, self.now[name])
                self.update(name)
            elif self.doing == "reset":
                engine.reset()
            elif self.doing == "generate":
                self.drain()
                self.generates(rng.randrange(6))

    def update(self, name: str) -> None:
        self.doing = name
        self.engine.update_policy(name)
        self.set_of[name, self.policies.versions[name]] = self.now[name]

    def step(self) -> None:
        for number, samples, error in self.engine.step():
            if number in self.asked:  # else it was cancelled
                assert number not in self.told
                self.told[number] = error is None
                name, *request = self.asked[number]
                if error is None:
                    weights = self.set_of[name, samples[0].policy_version]
                    assert [sample.token_ids for sample in samples] == self.expected(weights, name, *request)
                else:
                    with pytest.raises(RuntimeError, match="request: given up, as the engine was cut off by"):
                        raise error

    def drain(self) -> None:
        for steps in count():
            if not self.engine.unfinished:
                break
            assert steps < 300, "requests that never end"
            self.step()

    def generates(self, prompt: int) -> None:
        """Both policies, as a new engine does."""
        names = list(self.policies.names)
        found = self.engine.generate([PROMPTS[prompt]] * 2, 2, PARAMS[2], names, [1, 1])
        wanted = [self.expected(self.now[name], name, prompt, 2, 2, 1) for name in names]
        assert [[sample.token_ids for sample in group] for group in found] == wanted

    def check(self) -> None:
        """Whatever was cut off: every request ends, nothing is held, and the engine is as good as a new one."""
        if self.doing in self.policies.names:
            self.update(self.doing)
        self.drain()
        assert set(self.asked) <= set(self.told)
        self.generates(4)
        nothing_is_held(self.engine)
        asked = PROMPTS[:2], 2, PARAMS[2], list(self.policies.names), [1, 2]
        logprobs = [sample.rollout_logprobs for group in self.engine.generate(*asked) for sample in group]
        now = tuple(self.now.values())
        if now not in self.fresh:
            self.fresh[now] = [sample.rollout_logprobs for group in self.new().generate(*asked) for sample in group]
        assert logprobs == self.fresh[now]  # to the last bit, after the reset
        stats = self.engine.stats
        assert 0 <= stats.cached_tokens <= stats.prompt_tokens

    def interrupted(self, seed: int, operations: int, tracer: Tracer) -> Tracer:
        """Random operations until one is cut off, if any is; the engine must then be in order."""
        self.asked, self.told = {}, {}
        try:
            with tracer.on():
                self.operate(random.Random(seed), operations)
        except KeyboardInterrupt:
            assert tracer.raised
        else:
            assert not tracer.raised
        self.check()
        return tracer
