"""What the engine refuses, by name, before anything is generated."""

import pytest
import torch
from engines import POSITIONS, SIZES, V, one, tiny
from transformers import AutoModelForCausalLM, LlamaConfig

from trainer.engine import SamplingParams
from trainer.engine.local import LocalEngine

P = SamplingParams(max_new_tokens=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1], []], 1, P, "qa"), r"prompts\[1\]: expected at least one token, got an empty prompt"),
        (([[1]], 1, P, "qb"), r"policy\[0\]: expected one of qa, got 'qb'"),
        (([[1], [2]], 1, P, ["qa", "x"]), r"policy\[1\]: expected one of qa, got 'x'"),
        (
            ([[1], [2] * POSITIONS], 1, P, "qa"),
            r"prompts\[1\]: expected fewer tokens than the 96 positions of policy 'qa'.*got 96",
        ),
        (([[1], [2, V]], 1, P, "qa"), r"prompts\[1\]: expected token ids from 0 to 96, got 97"),
        (([[-1]], 1, P, "qa"), r"prompts\[0\]: expected token ids from 0 to 96, got -1"),
        (([[1], [2]], [1, 0], P, "qa"), r"n\[1\]: expected at least 1, got 0"),
        (([[1], [2]], [1], P, "qa"), r"n: expected one for each of 2 prompts, got 1"),
        (([[1], [2]], 1, P, ["qa"]), r"policy: expected one for each of 2 prompts, got 1"),
        (([[1], [2]], 1, P, "qa", [3]), r"seeds: expected one for each of 2 prompts, got 1"),
    ],
)
def test_bad_requests(arguments, message):
    engine, _ = one()
    with pytest.raises(ValueError, match=message):
        engine.generate(*arguments)
    assert engine.stats.steps == engine.unfinished == 0
    assert engine.stats.requests == 0


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens: expected at least 1, got 0"),
        ({"max_new_tokens": 2.0}, TypeError, "max_new_tokens: expected an int, got float"),
        ({"temperature": -0.1}, ValueError, "temperature: expected .*, got -0.1"),
        ({"temperature": float("nan")}, ValueError, "temperature: expected .*, got nan"),
        ({"top_k": -1}, ValueError, "top_k: expected at least 0, got -1"),
        ({"top_p": 0.0}, ValueError, "top_p: expected more than 0 and at most 1, got 0.0"),
        ({"min_p": 1.5}, ValueError, "min_p: expected 0 to 1, got 1.5"),
        ({"stop_token_ids": [2]}, ValueError, r"stop_token_ids: expected a tuple of token ids, got \[2\]"),
        ({"stop_token_ids": (-2,)}, ValueError, r"stop_token_ids: expected a tuple of token ids, got \(-2,\)"),
    ],
)
def test_bad_params(fields, error, message):
    with pytest.raises(error, match=message):
        SamplingParams(**fields)


@pytest.mark.parametrize("name", ["token_budget", "prefill_tokens", "block_size", "max_rows"])
def test_bad_budgets(name):
    with pytest.raises(ValueError, match=f"{name}: expected .*, got 0"):
        one(**{name: 0})


def test_update_of_an_unknown_policy():
    engine: LocalEngine = one()[0]
    with pytest.raises(ValueError, match="policy: expected one of qa, got 'x'"):
        engine.update_policy("x")


def test_weights_that_are_not_numbers():
    model = tiny()
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = torch.nan
    with pytest.raises(ValueError, match="policy 'qa': expected finite logits, got NaN or infinity at version 0"):
        one(model)[0].generate([[1, 2]], 2, P, "qa")


def test_frequencies_that_change_with_the_batch():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, rope_parameters=rope)).eval()
    with pytest.raises(NotImplementedError, match=r"rotary frequencies that don't depend on the longest.*'llama'.*'dynamic'"):
        one(model)[0].generate([[1, 2]], 2, P, "qa")
