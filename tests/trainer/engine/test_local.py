"""The engine on real decoders: what transformers gives, whatever shares a batch, a prefix, a budget."""

from copy import deepcopy

import pytest
import torch
from engines import FAMILIES, POSITIONS, Policies, V, logprobs_of, one, prompts, tiny

from himakernels.testing import assert_gate
from trainer.engine import SamplingParams
from trainer.engine.local import LocalEngine
from trainer.types import Sample

GREEDY = SamplingParams(max_new_tokens=12, temperature=0.0)
MIXED = (3, 17, 1, 9, 17, 2, 30, 9)


def judge(name, model, asked, samples, temperature):
    """The gate on all log-probabilities: as near to fp64 as the plain fp32 forward, or nearer.

    A value is rounded some 12 times in each of the two layers, as in tests/with_vllm.
    """
    pairs = [(prompt, sample) for prompt, group in zip(asked, samples, strict=True) for sample in group]
    double = deepcopy(model).double()
    truth, eager = (torch.cat([logprobs_of(m, p, s.token_ids, temperature) for p, s in pairs]) for m in (double, model))
    ours = torch.cat([torch.tensor(s.rollout_logprobs) for _, s in pairs])
    assert_gate(name, ours, truth, eager, dtype=torch.float32, n=V, roundings=24)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("shared", [0, 11], ids=["alone", "prefix"])
@pytest.mark.parametrize("budget", [{}, {"token_budget": 60, "prefill_tokens": 7, "block_size": 4}], ids=["", "small"])
def test_greedy_is_generate(family, shared, budget):
    """Mixed lengths in one batch, with and without a common prefix, in one wave and in many with prompts in pieces."""
    model = tiny(family)
    engine, _ = one(model, **budget)
    (system,) = prompts(shared, seed=2)
    asked = [system + prompt for prompt in prompts(*MIXED)]
    samples = engine.generate(asked, 2, GREEDY, "qa")
    for prompt, group in zip(asked, samples, strict=True):
        whole = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
        assert [s.token_ids for s in group] == [tuple(whole[0, len(prompt) :].tolist())] * 2
        assert all(s.finish_reason == "length" and s.policy_version == 0 for s in group)
    judge(f"greedy {family}", model, asked, samples, 1.0)


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_new_tokens=16),
        SamplingParams(max_new_tokens=16, temperature=0.6),
        SamplingParams(max_new_tokens=16, temperature=1.7, top_k=20, top_p=0.9, min_p=0.02),
    ],
    ids=["1", "0.6", "filtered"],
)
def test_rollout_logprobs_are_those_of_a_plain_forward(family, params):
    """Over the whole vocabulary at the temperature, whatever the filters kept; rows leave at different times."""
    model = tiny(family)
    engine, _ = one(model)
    params = SamplingParams(**{**vars(params), "stop_token_ids": tuple(range(0, V, 9))})
    asked = prompts(*MIXED)
    samples = engine.generate(asked, 3, params, "qa", seeds=range(len(asked)))
    lengths = {len(s.token_ids) for group in samples for s in group}
    assert len(lengths) > 4  # rows did leave at different times
    for sample in (s for group in samples for s in group):
        stopped = sample.token_ids[-1] in params.stop_token_ids
        assert not set(sample.token_ids[:-1]) & set(params.stop_token_ids)
        assert sample.finish_reason == ("stop" if stopped else "length")
        assert stopped or len(sample.token_ids) == 16
    judge(f"sampled {family}", model, asked, samples, params.temperature)


def test_a_request_does_not_depend_on_its_neighbours():
    stops = tuple(range(0, V, 11))
    params = SamplingParams(max_new_tokens=20, stop_token_ids=stops, temperature=1.3)
    asked, seeds = prompts(*MIXED), [100 + i for i in range(len(MIXED))]
    together = one()[0].generate(asked, 4, params, "qa", seeds)
    small = one(token_budget=80, prefill_tokens=5, block_size=4)[0].generate(asked, 4, params, "qa", seeds)
    turned = one()[0].generate(asked[::-1], 4, params, "qa", seeds[::-1])[::-1]
    for i, prompt in enumerate(asked):
        (alone,) = one()[0].generate([prompt], 4, params, "qa", [seeds[i]])
        for other in (together[i], small[i], turned[i]):
            assert [s.token_ids for s in other] == [s.token_ids for s in alone]
    assert all(len({s.token_ids for s in group}) > 1 for group in together)  # siblings differ
    assert one()[0].generate(asked[:1], 4, params, "qa", [7]) != together[:1]


def test_seeds_come_from_torch_where_none_are_given():
    engine, _ = one()
    asked, params = prompts(5, 5), SamplingParams(max_new_tokens=8)
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        runs.append(engine.generate(asked, 2, params, "qa"))
    assert runs[0] == runs[1] != runs[2]


def test_siblings_and_equal_prompts_are_prefilled_once():
    engine, _ = one()
    system, first, second = prompts(16, 6, 4)
    asked = [system + first, system + second, system + first]
    engine.generate(asked, [8, 3, 5], GREEDY, "qa")
    stats = engine.stats
    assert (stats.requests, stats.samples, stats.generated_tokens, stats.steps) == (3, 16, 16 * 12, 12)
    assert stats.prompt_tokens == 13 * 22 + 3 * 20
    assert stats.prompt_tokens - stats.cached_tokens == 16 + 6 + 4  # a whole block of one step is shared in it
    assert stats.hit_rate == stats.cached_tokens / stats.prompt_tokens
    assert stats.seconds >= stats.prefill_seconds + stats.decode_seconds > stats.model_seconds > 0


def test_a_turn_computes_what_is_new():
    """A prompt, its sample, an observation: of the next prompt only the last token of the sample and the observation."""
    engine, _ = one()
    first, observation, other = prompts(21, 5, 7)
    ((sample,),) = engine.generate([first], 1, GREEDY, "qa")
    before = engine.stats
    grown = [*first, *sample.token_ids, *observation]
    ((again,),) = engine.generate([grown], 1, GREEDY, "qa")
    stats = engine.stats
    assert stats.prompt_tokens - stats.cached_tokens - (before.prompt_tokens - before.cached_tokens) == 1 + 5
    ((fresh,),) = one()[0].generate([grown], 1, GREEDY, "qa")
    assert again.token_ids == fresh.token_ids
    engine.generate([first[:10] + other], 1, GREEDY, "qa")
    after = engine.stats
    assert after.cached_tokens - stats.cached_tokens == 10  # to the token, not to the block
    engine.reset()
    engine.generate([first], 1, GREEDY, "qa")
    assert engine.stats.cached_tokens == after.cached_tokens


@pytest.mark.parametrize("counted", [False, True], ids=["update_policy", "learner"])
def test_new_weights_get_new_keys(counted):
    """Fails when the version is not part of what a prefix goes by: old keys would meet new weights."""
    model = tiny()
    policies = Policies(qa=model)
    engine = LocalEngine(policies)
    system, *rest = prompts(30, 2, 3)
    asked = [system + r for r in rest]
    before = engine.generate(asked, 1, GREEDY, "qa")
    with torch.no_grad():
        for parameter, new in zip(model.parameters(), tiny(seed=5).parameters(), strict=True):
            parameter.copy_(new)
    if counted:
        policies.versions["qa"] += 1  # whoever changed them has counted; a forgotten update_policy does no harm
    else:
        engine.update_policy("qa")
    after = engine.generate(asked, 1, GREEDY, "qa")
    assert policies.versions == {"qa": 1}
    if counted:
        policies.versions["qa"] += 1
        engine.update_policy("qa")
        assert policies.versions == {"qa": 2}  # not counted twice
    assert [s.policy_version for g in before + after for s in g] == [0, 0, 1, 1]
    assert [[s.token_ids for s in g] for g in after] == [
        [s.token_ids for s in g] for g in one(tiny(seed=5))[0].generate(asked, 1, GREEDY, "qa")
    ]
    judge("new weights", model, asked, after, 1.0)


def test_policies_share_a_call_but_no_keys():
    policies = Policies(qa=tiny(), master=tiny(seed=5))
    engine = LocalEngine(policies)
    policies.versions["master"] = 4
    (system,) = prompts(20)
    asked = [system + p for p in prompts(3, 3, 4, 4, seed=3)]
    mixed = engine.generate(asked, [1, 2, 1, 2], GREEDY, ["qa", "master", "master", "qa"])
    assert [len(g) for g in mixed] == [1, 2, 1, 2]
    assert [g[0].policy_version for g in mixed] == [0, 4, 4, 0]
    for i, name in enumerate(("qa", "master", "master", "qa")):
        judge(name, policies.bases[name].model, [asked[i]], [mixed[i]], 1.0)


def test_the_last_position_ends_a_sample():
    engine, _ = one()
    asked = prompts(POSITIONS - 1, POSITIONS - 4, 5)
    samples = engine.generate(asked, 1, GREEDY, "qa")
    assert [(len(s.token_ids), s.finish_reason) for (s,) in samples] == [(1, "length"), (4, "length"), (12, "length")]
    judge("last", engine.policies.bases["qa"].model, asked, samples, 1.0)


def test_one_token_and_nothing():
    engine, _ = one()
    assert engine.generate([], 3, GREEDY, "qa") == []
    assert engine.stats.steps == 0
    ((sample,),) = engine.generate([[4]], 1, SamplingParams(max_new_tokens=1), "qa", [0])
    assert isinstance(sample, Sample)
    assert len(sample.token_ids) == len(sample.rollout_logprobs) == 1
    assert engine.stats.steps == 1


def test_narrow_weights():
    """bf16 weights: scores and log-probabilities are fp32 of bf16 logits."""
    model = tiny().bfloat16()
    engine, _ = one(model)
    asked = prompts(5, 9)
    samples = engine.generate(asked, 2, SamplingParams(max_new_tokens=6), "qa", [1, 2])
    for prompt, group in zip(asked, samples, strict=True):
        for s in group:
            plain = logprobs_of(model.float(), prompt, s.token_ids, 1.0)
            assert (plain - torch.tensor(s.rollout_logprobs)).abs().max() < 1.0
            assert all(p < 0 for p in s.rollout_logprobs)
