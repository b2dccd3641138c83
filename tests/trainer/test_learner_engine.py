"""Engine and learner on one set of weights, turn about: what was sampled has the log-probabilities that are trained."""

import pytest
from tiny_policies import policies

from trainer.engine.base import SamplingParams
from trainer.engine.local import LocalEngine
from trainer.learner import Learner, LearnerConfig, TrainSequence

AGENTS = ("qa", "efc")


CASES = [("lora", "float32", 1e-4), ("full", "float32", 1e-4), ("shared", "float32", 1e-4)]
CASES += [("lora", "bfloat16", 0.5), ("full", "bfloat16", 0.5)]


@pytest.mark.parametrize(("paradigm", "dtype", "gap"), CASES)
def test_sampling_and_training_agree_step_after_step(paradigm: str, dtype: str, gap: float) -> None:
    """Also after an update: neither side goes on with old weights, cached keys included."""
    made = policies(paradigm, agents=AGENTS, dtype=dtype)
    engine, learner = LocalEngine(made), Learner(made, LearnerConfig(learning_rate=1e-2, temperature=1.2))
    prompts = [list(range(20, 40)), [*range(20, 35), 7, 8, 9]]
    for step in range(3):
        batch = []
        for agent in AGENTS:
            policy = made.policy_of[agent]
            found = engine.generate(
                prompts, 3, SamplingParams(max_new_tokens=6, temperature=1.2), policy, seeds=[step, step + 9]
            )
            for prompt, samples in zip(prompts, found, strict=True):
                for i, sample in enumerate(samples):
                    assert sample.policy_version == made.versions[policy] == step
                    ids = (*prompt, *sample.token_ids)
                    batch.append(TrainSequence(policy, agent, ids, len(prompt), i - 1.0, sample.rollout_logprobs))
        metrics = learner.step(batch)
        assert metrics.skipped is None
        assert sorted(metrics.agents) == sorted(AGENTS)
        for values in metrics.agents.values():
            assert values["rollout_gap_max"] < gap
            assert values["rollout_gap_mean"] < gap / 5
        assert all(norm > 1e-3 for norm in metrics.grad_norms.values())
