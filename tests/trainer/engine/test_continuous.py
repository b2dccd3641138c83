"""Requests that come and go while others run: tokens of a plain run, whatever is evicted, preempted, updated, cancelled."""

import numpy as np
import pytest
import torch
from engines import FAMILIES, POSITIONS, Policies, V, one, prompts, tiny
from test_local import judge

from trainer.engine import SamplingParams
from trainer.engine.local import LocalConfig, LocalEngine
from trainer.engine.scheduler import Scheduler

GREEDY = SamplingParams(max_new_tokens=9, temperature=0.0)


def expected(model, prompt, count):
    whole = model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False)
    return tuple(whole[0, len(prompt) :].tolist())


def run(engine, each=lambda: None):
    """{number: samples} of all that was submitted."""
    found = {}
    while engine.unfinished:
        each()
        found |= {number: samples for number, samples, error in engine.step() if error is None}
    return found


def nothing_is_held(engine):
    for lane in engine._lanes.values():
        lane.cache.check_integrity()
        assert lane.cache.stats.num_locks == 0
        assert not lane.scheduler.requests
        assert not lane.scheduler.order
        assert not lane.scheduler._unwritten.any()
    engine.reset()
    for lane in engine._lanes.values():
        assert lane.cache.stats.free_blocks == lane.cache.stats.num_blocks


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("lean", [None, False], ids=["lean", "transformers"])
@pytest.mark.parametrize("roomy", [False, True], ids=["small", "roomy"])
def test_requests_that_join_and_leave(family, lean, roomy):
    """64 of mixed lengths, a few more a step, on a pool for a few of them, where what nobody holds is evicted all the time; and
    on one where many run and share what is still there."""
    if lean is None and family.startswith("gemma"):
        pytest.skip("runs through transformers anyway")
    model = tiny(family)
    sizes = {"token_budget": 800, "prefill_tokens": 60} if roomy else {"token_budget": 60, "prefill_tokens": 11}
    engine, _ = one(model, lean=lean, block_size=4, **sizes)
    assert (engine._lane("qa").lean is not None) == (lean is None)
    asked = [p[: 1 + (7 * i) % 33] for i, p in enumerate(prompts(*[40] * 8) * 8)]
    params = [SamplingParams(max_new_tokens=1 + i % 9, temperature=0.0) for i in range(64)]
    numbers, steps, most = {}, 0, 0

    def each():
        nonlocal steps, most
        for i in range(3 * steps, min(3 * steps + 3, 64)):
            numbers[engine.submit(asked[i], params=params[i], policy="qa", seed=i)] = i
        if not roomy:
            engine._lane("qa").cache.evict(10**6)
        most = max(most, len(engine._lane("qa").scheduler.order))
        steps += 1

    each()
    found = run(engine, each)
    assert len(found) == 64
    for number, (sample,) in found.items():
        i = numbers[number]
        assert sample.token_ids == expected(model, asked[i], params[i].max_new_tokens)
    judge(family, model, [asked[numbers[n]] for n in found], list(found.values()), 1.0)
    assert (most > 10 and engine.stats.cached_tokens > 300) if roomy else engine.stats.preemptions > 0
    assert 0 <= engine.stats.cached_tokens <= engine.stats.prompt_tokens == sum(map(len, asked))
    nothing_is_held(engine)


@pytest.mark.parametrize("ignored", [False, True])
def test_an_update_in_the_middle(ignored, monkeypatch):
    """No token of the old weights: samples that run begin again. With versions ignored it is seen."""
    if ignored:
        monkeypatch.setattr(
            Scheduler, "check_weights", lambda self, weights: self.generations.update(dict.fromkeys(weights, 0))
        )
    model, other = tiny(), tiny(seed=5)
    policies = Policies(qa=model)
    engine = LocalEngine(policies, LocalConfig(prefill_tokens=16))
    asked = prompts(20, 9, 30, 3)
    numbers = [engine.submit(p, params=GREEDY, policy="qa", seed=0) for p in asked]
    for _ in range(5):
        engine.step()
    with torch.no_grad():
        for parameter, new in zip(model.parameters(), other.parameters(), strict=True):
            parameter.copy_(new)
    engine.update_policy("qa")
    found = run(engine)
    right = [found[n][0].token_ids == expected(other, p, 9) for n, p in zip(numbers, asked, strict=True)]
    assert all(right) != ignored
    if not ignored:
        assert all(sample.policy_version == 1 for (sample,) in found.values())
        stats = engine.stats
        assert stats.prompt_tokens == sum(map(len, asked))  # once, also of those that began again
        assert stats.recomputed_tokens > 0
        assert 0 <= stats.cached_tokens <= stats.prompt_tokens
        nothing_is_held(engine)


def test_a_bad_request_is_refused_alone():
    engine, base = one()
    (good,) = prompts(7)
    number = engine.submit(good, params=SamplingParams(max_new_tokens=60, temperature=0.0), policy="qa", seed=0)
    engine.step()
    for prompt, policy, params, message in (
        ([], "qa", GREEDY, "prompt: expected at least one token"),
        ([1] * POSITIONS, "qa", GREEDY, "prompt: expected fewer tokens than the 96 positions"),
        ([1, V], "qa", GREEDY, "prompt: expected token ids from 0 to 96"),
        ([1], "qb", GREEDY, "policy: expected one of qa, got 'qb'"),
        ([1], "qa", SamplingParams(stop=("x",)), "prompt: expected policies with a tokenizer"),
        ([1], "qa", SamplingParams(stop_token_ids=(V,)), f"prompt: expected stop_token_ids from 0 to {V - 1}, got {V}"),
        ([2**63], "qa", GREEDY, "prompt: expected token ids from 0 to 96, got 9223372036854775808"),
        ([[5, 6]], "qa", GREEDY, r"prompt: expected a sequence of token ids, got a list of shape \[1, 2\]"),
        ([[5], [6, 7]], "qa", GREEDY, "prompt: expected a sequence of token ids"),
        ([5.7, 6.2], "qa", GREEDY, "prompt: expected a sequence of token ids, got a list of shape .* float64"),
        (None, "qa", GREEDY, "prompt: expected a sequence of token ids, got a NoneType"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            engine.submit(prompt, params=params, policy=policy)
        engine.step()
    for given, message in (
        ({"n": 0}, "n: expected at least 1, got 0"),
        ({"n": 2.0}, "n: expected an int, got float"),
        ({"n": True}, "n: expected an int, got bool"),
        ({"n": 10**9}, "n: expected 1 to 65536, got 1000000000"),
        ({"seed": "x"}, "seed: expected an int, got str"),
        ({"seed": 2**70}, "seed: expected -9223372036854775808 to 18446744073709551615, got 1180591620717411303424"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            engine.submit([1], **{"params": GREEDY, "policy": "qa", "seed": 0} | given)
        assert engine.unfinished == 1
    long = engine.submit([1], params=SamplingParams(max_new_tokens=10**12), policy="qa", seed=2**64 - 1)
    found = run(engine)
    assert found[number][0].token_ids == expected(base.model, good, 60)
    assert len(found[long][0].token_ids) == POSITIONS - 1
    small, _ = one(token_budget=32)
    with pytest.raises(ValueError, match="prompt: expected fewer tokens than the 16 tokens of the pool"):
        small.submit([1] * 16, params=GREEDY, policy="qa")


def test_counts_are_numpys_too():
    engine, _ = one()
    (group,) = engine.generate(prompts(5), np.int64(2), GREEDY, "qa", np.array([3]).tolist())
    assert len(group) == 2


def test_what_one_network_has_finished_survives_the_failure_of_another(monkeypatch):
    models = {"qa": tiny(), "master": tiny(seed=3)}
    engine = LocalEngine(Policies(**models))
    (prompt,) = prompts(7)
    numbers = {
        name: engine.submit(prompt, params=SamplingParams(max_new_tokens=2, temperature=0.0), policy=name, seed=0)
        for name in models
    }
    engine.step()
    lane, good = engine._lane("master"), engine._lane("qa")
    assert list(engine._lanes.values()) == [good, lane]

    def fails(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(lane, "_forward", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.step()
    assert engine.unfinished == 2
    ended = {number: (samples, error) for number, samples, error in engine.step()}
    (sample,), error = ended[numbers["qa"]]
    assert error is None
    assert sample.token_ids == expected(models["qa"], prompt, 2)
    samples, error = ended[numbers["master"]]
    assert samples == []
    with pytest.raises(RuntimeError, match="request: given up, as the engine was cut off by RuntimeError: out of memory"):
        raise error
    assert engine.unfinished == 0
    nothing_is_held(engine)


def test_at_most_so_many_rows():
    """Siblings beyond them wait; nothing of what they sample depends on it."""
    engine, _ = one(max_rows=3)
    free, _ = one()
    asked, params, most = prompts(9, 14, 9, 5), SamplingParams(max_new_tokens=6), 0
    numbers = [engine.submit(prompt, 8, params=params, policy="qa", seed=i) for i, prompt in enumerate(asked)]

    def each():
        nonlocal most
        most = max(most, len(engine._lane("qa").scheduler.order))

    found = run(engine, each)
    assert most == 3
    whole = free.generate(asked, 8, params, "qa", range(4))
    assert [[s.token_ids for s in found[n]] for n in numbers] == [[s.token_ids for s in group] for group in whole]
    nothing_is_held(engine)


def test_progress_is_told_when_requests_end():
    engine, _ = one()
    told = []
    params = [SamplingParams(max_new_tokens=i) for i in (2, 5, 5)]
    engine.generate(prompts(9, 14, 9), 1, params, "qa", range(3), progress=lambda done, count: told.append((done, count)))
    assert told == [(1, 3), (3, 3)]


def test_what_was_asked_is_forgotten_once_it_is_answered():
    """Other limits are no other way to draw, and nothing is kept of stops that no open request has."""
    engine, _ = one()
    params = [SamplingParams(max_new_tokens=1 + i, stop_token_ids=(i,)) for i in range(9)]
    engine.generate(prompts(*[5] * 9), 1, params, "qa", range(9))
    assert len(engine._styles.params) == 9
    engine.generate(prompts(*[5] * 9), 1, [SamplingParams(max_new_tokens=1 + i) for i in range(9)], "qa", range(9))
    assert len(engine._styles.params) == 1


def test_cancelled_requests_leave_nothing():
    engine, base = one(prefill_tokens=8)
    asked = prompts(20, 20, 5)
    numbers = [engine.submit(p, 3, params=GREEDY, policy="qa", seed=0) for p in asked]
    engine.step()  # the first prompt is half computed
    engine.cancel(numbers[0])
    for _ in range(5):
        engine.step()
    engine.cancel(numbers[1])
    found = run(engine)
    assert list(found) == [numbers[2]]
    assert found[numbers[2]][0].token_ids == expected(base.model, asked[2], 9)
    nothing_is_held(engine)


class Letters:
    """A tokenizer of one letter a token."""

    def encode(self, text, add_special_tokens=False):
        return [ord(c) - 32 for c in text if 32 <= ord(c) < 32 + V]

    def decode(self, ids):
        return "".join(chr(32 + i) for i in ids)


def test_stop_strings():
    model = tiny()
    policies = Policies(qa=model)
    policies.tokenizer = Letters()
    engine = LocalEngine(policies)
    (prompt,) = prompts(6)
    whole = expected(model, prompt, 9)
    stop = Letters().decode(whole[3:5])
    params = SamplingParams(max_new_tokens=9, temperature=0.0, stop=(stop,))
    ((sample,),) = engine.generate([prompt], 1, params, "qa")
    end = Letters().decode(whole).index(stop) + len(stop)
    assert (sample.token_ids, sample.finish_reason) == (whole[:end], "stop")
    with pytest.raises(ValueError, match=r"prompts\[0\]: expected a stop string that can be encoded, got '\\u2603'|got '☃'"):
        engine.generate([prompt], 1, SamplingParams(stop=("☃",)), "qa")


def test_log_probabilities_of_what_was_drawn_from():
    engine, _ = one()
    (prompt,) = prompts(5)
    params = SamplingParams(max_new_tokens=6, top_k=3)
    for sample in engine.generate([prompt], 4, params, "qa", [1])[0]:
        assert sample.sampling_logprobs is not None
        assert all(a >= b for a, b in zip(sample.sampling_logprobs, sample.rollout_logprobs, strict=True))
    assert engine.generate([prompt], 1, SamplingParams(max_new_tokens=2), "qa")[0][0].sampling_logprobs is None
