"""What vLLM generates is what transformers generates, family by family; seeds, siblings, stops, errors as the contract says."""

import pytest
import torch
from vllm_cases import FAMILIES, POSITIONS, V, engine_of, judge, policies_of, prompts

from trainer.engine.base import SamplingParams
from trainer.engine.vllm import VLLMEngine

MIXED = (3, 70, 1, 40, 70, 2, 130, 33)  # below and above the blocks of 32, and the window of 48
GREEDY = SamplingParams(max_new_tokens=12, temperature=0.0)


@pytest.fixture(scope="module")
def one() -> VLLMEngine:
    """Adapters on tied embeddings."""
    return engine_of(policies_of("qwen3-tied", "lora", ("qa", "math")))


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_generate(family: str) -> None:
    """Without cache hits, with a common prefix, and once more with everything cached; then sampled at two temperatures."""
    policies = policies_of(family)
    engine = engine_of(policies)
    (system,) = prompts(64, seed=2)
    asked = [*prompts(*MIXED), *([*system, *prompt] for prompt in prompts(9, 20, 70, seed=3))]
    for again in range(2):
        before = engine.stats.cached_tokens
        samples = engine.generate(asked, 2, GREEDY, "qa")
        assert engine.stats.cached_tokens > before
        with policies.base_of("qa").generating("qa") as model:
            for prompt, group in zip(asked, samples, strict=True):
                whole = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
                assert [s.token_ids for s in group] == [tuple(whole[0, len(prompt) :].tolist())] * 2, again
                assert all(s.finish_reason == "length" and s.policy_version == 0 for s in group)
        judge(policies, ["qa"] * len(asked), asked, samples)
    for temperature in (1.0, 0.6):
        sampled = engine.generate(asked, 2, SamplingParams(max_new_tokens=8, temperature=temperature), "qa", range(len(asked)))
        judge(policies, ["qa"] * len(asked), asked, sampled, temperature)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_new_tokens=16, temperature=1.7, top_k=20, top_p=0.9),
        SamplingParams(max_new_tokens=16, temperature=0.5, min_p=0.05),
        SamplingParams(max_new_tokens=16, temperature=0.005),  # below what vLLM itself would go to
    ],
    ids=["top", "min", "cold"],
)
def test_logprobs_are_of_the_whole_vocabulary_at_the_temperature(one: VLLMEngine, params: SamplingParams) -> None:
    asked = prompts(*MIXED)
    samples = one.generate(asked, 3, params, "qa", range(len(asked)))
    if params.temperature > 0.1:
        judge(one.policies, ["qa"] * len(asked), asked, samples, params.temperature)
    for prompt, group in zip(asked, samples, strict=True):
        for sample in group:
            if params.top_k:
                assert kept(one, prompt, sample.token_ids) <= params.top_k
    if params.temperature < 0.1:
        assert [s[0].token_ids[:1] for s in samples] == [s[0].token_ids[:1] for s in one.generate(asked, 1, GREEDY, "qa")]


def kept(engine: VLLMEngine, prompt: list[int], token_ids: tuple[int, ...]) -> int:
    """The worst rank of a token."""
    with engine.policies.base_of("qa").generating("qa") as model, torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *token_ids]])).logits[0, len(prompt) - 1 : -1]
    own = logits.gather(-1, torch.tensor(token_ids)[:, None])
    return int((logits > own + 1e-4).sum(-1).max()) + 1


def test_siblings_seeds_and_neighbours(one: VLLMEngine) -> None:
    """A request's samples depend on its own seed; neither on the others nor on the order, and the n may differ."""
    params = SamplingParams(max_new_tokens=12, temperature=1.3)
    asked, counts, seeds = prompts(5, 40, 40, 80), [1, 4, 2, 5], [10, 11, 12, 13]
    state = torch.get_rng_state()
    together = one.generate(asked, counts, params, ["qa", "math", "qa", "math"], seeds)
    assert torch.equal(state, torch.get_rng_state())  # the trainer's own randomness is untouched
    assert [len(group) for group in together] == counts
    turned = one.generate(asked[::-1], counts[::-1], params, ["math", "qa", "math", "qa"], seeds[::-1])[::-1]
    for i, group in enumerate(together):
        (alone,) = one.generate([asked[i]], counts[i], params, ("qa", "math")[i % 2], [seeds[i]])
        assert [s.token_ids for s in group] == [s.token_ids for s in alone] == [s.token_ids for s in turned[i]]
        assert len({s.token_ids for s in group}) == counts[i]  # siblings differ
    other = one.generate(asked[1:2], 4, params, "math", [99])
    assert {s.token_ids for s in other[0]}.isdisjoint(s.token_ids for s in together[1])
    # Neighbouring seeds of one prompt are not one stream, shifted.
    near = one.generate([asked[1]] * 2, 4, params, "qa", [20, 21])
    assert {s.token_ids for s in near[0]}.isdisjoint(s.token_ids for s in near[1])


def test_more_prompts_than_a_forward_takes(one: VLLMEngine) -> None:
    """40 x 130 tokens: none is cut between two forwards, where vLLM would turn back a generator, which on a CPU is an error."""
    asked = prompts(*[130] * 40, seed=5)
    samples = one.generate(asked, 1, SamplingParams(max_new_tokens=3), "qa", range(40))
    judge(one.policies, ["qa"] * 40, asked, samples)


def test_more_samples_than_the_cache_holds() -> None:
    """Some wait, some are put off and computed again; each is what it is alone."""
    engine = engine_of(policies_of("qwen3"), kv_cache_gib=0.001)
    asked, params = prompts(*[60] * 24, seed=6), SamplingParams(max_new_tokens=80)
    samples = engine.generate(asked, 1, params, "qa", range(24))
    judge(engine.policies, ["qa"] * 24, asked, samples)
    for i in (0, 11, 23):
        assert engine.generate([asked[i]], 1, params, "qa", [i])[0][0].token_ids == samples[i][0].token_ids


def test_seeds_come_from_torch_where_none_are_given(one: VLLMEngine) -> None:
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        runs.append([[s.token_ids for s in g] for g in one.generate(prompts(5, 5), 2, SamplingParams(max_new_tokens=8), "qa")])
    assert runs[0] == runs[1] != runs[2]


def test_stop_tokens_and_lengths(one: VLLMEngine) -> None:
    stops = tuple(range(0, V, 9))
    params = SamplingParams(max_new_tokens=16, stop_token_ids=stops, temperature=1.5)
    (group,) = one.generate(prompts(30), 24, params, "qa", [1])
    assert len({len(s.token_ids) for s in group}) > 4
    for sample in group:
        stopped = sample.token_ids[-1] in stops
        assert not set(sample.token_ids[:-1]) & set(stops)
        assert sample.finish_reason == ("stop" if stopped else "length")
        assert stopped or len(sample.token_ids) == 16
        assert len(sample.rollout_logprobs) == len(sample.token_ids)
    judge(one.policies, ["qa"], prompts(30), [group], 1.5)
    ((last,),) = one.generate(prompts(POSITIONS - 2), 1, SamplingParams(max_new_tokens=9), "qa")
    assert (len(last.token_ids), last.finish_reason) == (2, "length")  # the model's positions end


def test_what_is_cached_is_counted(one: VLLMEngine) -> None:
    """Blocks of 32: of 100 tokens 96, for 7 of 8 siblings, and of an equal prompt for all; a reset forgets them."""
    (prompt,) = prompts(100, seed=8)
    for expected in (7 * 96, 8 * 96):
        before = one.stats
        one.generate([prompt], 8, SamplingParams(max_new_tokens=3), "qa")
        after = one.stats
        assert after.cached_tokens - before.cached_tokens == expected
        assert after.prompt_tokens - before.prompt_tokens == 800
        assert (after.requests - before.requests, after.samples - before.samples) == (1, 8)
        assert (after.generated_tokens - before.generated_tokens, after.steps - before.steps) == (24, 3)
        assert after.seconds - before.seconds >= after.decode_seconds - before.decode_seconds > 0
    one.reset()
    before = one.stats
    one.generate([prompt], 1, SamplingParams(max_new_tokens=3), "qa")
    assert one.stats.cached_tokens == before.cached_tokens


P = SamplingParams(max_new_tokens=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1], []], 1, P, "qa"), r"prompts\[1\]: expected at least one token, got an empty prompt"),
        (([[1], [2]], 1, P, ["qa", "x"]), r"policy\[1\]: expected one of qa, math, got 'x'"),
        (
            ([[1] * POSITIONS], 1, P, "qa"),
            rf"prompts\[0\]: expected fewer tokens than the {POSITIONS} positions of policy 'qa'",
        ),
        (([[1], [2, V]], 1, P, "qa"), rf"prompts\[1\]: expected token ids from 0 to {V - 1}, got {V}"),
        (([[1], [2]], [1, 0], P, "qa"), r"n\[1\]: expected at least 1, got 0"),
        (([[1], [2]], 1, P, "qa", [3]), r"seeds: expected one for each of 2 prompts, got 1"),
    ],
)
def test_bad_requests(one: VLLMEngine, arguments: tuple[object, ...], message: str) -> None:
    before = one.stats
    with pytest.raises(ValueError, match=message):
        one.generate(*arguments)  # type: ignore[arg-type]
    assert one.stats == before


def test_filters_in_another_order_are_refused(one: VLLMEngine) -> None:
    with pytest.raises(NotImplementedError, match=r"min_p: expected 0 beside top_p = 0.9 with vLLM.*got 0.1"):
        one.generate([[1]], 1, SamplingParams(top_p=0.9, min_p=0.1), "qa")


def test_a_model_that_vllm_cannot_run() -> None:
    small = policies_of("qwen3", dtype="float64")
    with pytest.raises(ValueError, match=r"model.dtype: expected float32 or bfloat16 for engine=vllm, got torch.float64"):
        engine_of(small).generate([[1]], 1, P, "qa")
    with pytest.raises(
        ValueError, match=r"model: expected one that vLLM can load, got model_type 'qwen3': No available memory for the cache"
    ):
        engine_of(policies_of("qwen3"), kv_cache_gib=1e-5).generate([[1]], 1, P, "qa")


def test_a_shorter_length_than_the_models() -> None:
    engine = engine_of(policies_of("qwen3"), max_model_len=40)
    with pytest.raises(ValueError, match=r"prompts\[0\]: expected fewer tokens than the 40 positions"):
        engine.generate([[1] * 40], 1, P, "qa")
    ((sample,),) = engine.generate([[1] * 39], 1, P, "qa")
    assert len(sample.token_ids) == 1
