"""What is computed once: prompts of siblings, earlier turns, equal beginnings; and what must be computed again."""

import pytest
import torch
from engines import one, prompts, tiny
from test_continuous import GREEDY, expected, nothing_is_held
from test_engine_policies import Words

from trainer.engine import SamplingParams
from trainer.engine.local import LocalConfig, LocalEngine
from trainer.models import ModelConfig, Policies

SIX = SamplingParams(max_new_tokens=6)


@pytest.mark.parametrize("block_size", [1, 4, 16])
def test_siblings_cost_their_prompt_once(block_size: int) -> None:
    """Of n siblings n - 1 prompts are hits, to the token."""
    engine, _ = one(block_size=block_size)
    asked = prompts(20, 33, 7)
    engine.generate(asked, 8, SIX, "qa", [1, 2, 3])
    assert engine.stats.prompt_tokens == 8 * 60
    assert engine.stats.cached_tokens == 7 * 60
    engine.generate([asked[0]], 2, SIX, "qa", [9])  # known already, but for the token whose logits are wanted
    assert engine.stats.cached_tokens == 7 * 60 + 2 * 20 - 1
    nothing_is_held(engine)


def test_a_next_turn_computes_what_is_new() -> None:
    """A prompt, a sample and an observation: only the last sampled token and the observation are new."""
    engine, base = one()
    (first, seen) = prompts(30, 11)
    ((sample,),) = engine.generate([first], 1, GREEDY, "qa", [1])
    before = engine.stats
    longer = [*first, *sample.token_ids, *seen]
    ((after,),) = engine.generate([longer], 1, GREEDY, "qa", [2])
    assert engine.stats.prompt_tokens - before.prompt_tokens == len(longer)
    assert engine.stats.cached_tokens - before.cached_tokens == len(first) + len(sample.token_ids) - 1
    assert after.token_ids == expected(base.model, longer, 9)
    nothing_is_held(engine)


def test_who_must_make_room_loses_nothing() -> None:
    """A pool for two of six: some begin again, and all end as if they had been alone."""
    engine, base = one(token_budget=64, block_size=4)
    asked = prompts(12, 14, 10, 13, 11, 9)
    params = SamplingParams(max_new_tokens=20, temperature=0.0)
    found = engine.generate(asked, 1, params, "qa", range(6))
    assert engine.stats.preemptions > 0
    assert engine.stats.recomputed_tokens > 0
    assert [s.token_ids for (s,) in found] == [expected(base.model, p, 20) for p in asked]
    nothing_is_held(engine)


@pytest.mark.parametrize("lean", [None, False], ids=["lean", "transformers"])
def test_five_adapters_in_one_batch(lean: bool | None) -> None:
    """Requests of five adapters go through the base together, and each is its own adapter's."""
    agents = ["master", "qa", "efc", "gfc", "math"]
    policies = Policies.create(ModelConfig(name="tiny", lora_rank=3), agents, tokenizer=Words(), models={"tiny": tiny()})
    torch.manual_seed(3)
    with torch.no_grad():
        for name in policies.names:
            for parameter in policies.parameters(name):
                parameter.add_(0.2 * torch.randn_like(parameter))
    engine = LocalEngine(policies, LocalConfig(lean=lean))
    (system,) = prompts(8)
    asked = [system + p for p in prompts(*[3, 6, 4, 3, 5, 2, 7, 1, 2, 4], seed=2)]
    names = agents * 2
    found = engine.generate(asked, 2, GREEDY, names, range(10))
    for i, samples in enumerate(found):
        with policies.base_of(names[i]).generating(names[i]) as model:
            whole = expected(model, asked[i], 9)
        assert [sample.token_ids for sample in samples] == [whole] * 2
    steps = engine.stats.steps
    assert steps <= 12  # one batch for all: not a decode loop for each adapter
    nothing_is_held(engine)


def test_a_sample_depends_on_its_seed_alone() -> None:
    """Whatever else is in the batch."""
    engine, _ = one()
    asked = prompts(9, 17, 5, 30)
    alone = [engine.generate([p], 3, SIX, "qa", [seed])[0] for seed, p in enumerate(asked)]
    engine.reset()
    together = engine.generate(asked, 3, SIX, "qa", range(4))
    assert [[s.token_ids for s in group] for group in together] == [[s.token_ids for s in group] for group in alone]
    assert len({s.token_ids for s in together[0]}) == 3
