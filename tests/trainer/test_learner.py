"""The learner around its step: metrics, clipping, schedule, iterations, importance, resuming."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policies import AGENTS, policies, same, sequences, values

from trainer.learner import Learner, LearnerConfig, TrainSequence
from trainer.optim import OptimConfig, Optimizer

CONFIG = LearnerConfig(learning_rate=1e-2)


@pytest.mark.parametrize("sft", [False, True])
def test_micro_batches_add_up(sft: bool) -> None:
    """Loss, norms and each agent's metrics are those of the whole batch, however it was cut."""
    found = []
    for budget in (None, 40):
        made = policies()
        learner = Learner(made, LearnerConfig(learning_rate=1e-2, token_budget=budget))
        batch = sequences(made, AGENTS, groups=3)
        found.append((learner.sft_step if sft else learner.step)(batch))
        assert found[-1].original_tokens == sum(len(sequence.token_ids) for sequence in batch)
    whole, cut = found
    assert (whole.micro_batches, cut.micro_batches > 5) == (1, True)
    assert whole.packed_tokens < cut.packed_tokens
    assert cut.loss == pytest.approx(whole.loss, rel=1e-5, abs=1e-6)
    assert cut.grad_norms == pytest.approx(whole.grad_norms, rel=1e-4)
    for agent in AGENTS:
        assert cut.agents[agent] == pytest.approx(whole.agents[agent], rel=1e-4, abs=1e-5)
        mine = [sequence for sequence in batch if sequence.agent == agent]
        assert whole.agents[agent]["num_tokens"] == sum(len(sequence.rollout_logprobs or ()) for sequence in mine)
    if sft:
        assert whole.loss == pytest.approx(sum(values["loss"] for values in whole.agents.values()), rel=1e-6)
    scalars = whole.scalars()
    assert scalars["grad_norm/qa"] == whole.grad_norms["qa"]
    assert all(isinstance(value, float | int) for value in scalars.values())
    assert {"loss", "skipped", "qa/num_tokens", "seconds/pack", "seconds/forward", "seconds/backward"} <= scalars.keys()


def test_logprobs_are_those_of_each_sequence_alone() -> None:
    """And the gap to what the sampler said is measured."""
    made = policies()
    learner = Learner(made, LearnerConfig(learning_rate=1e-2, temperature=1.5, token_budget=50))
    batch = sequences(made, AGENTS)
    for sequence, ours in zip(batch, learner.logprobs(batch), strict=True):
        with made.base_of(sequence.policy).generating(sequence.policy) as model:
            logits = model(torch.tensor([sequence.token_ids])).logits[0, :-1] / 1.5
        alone = logits.log_softmax(-1).gather(1, torch.tensor(sequence.token_ids[1:])[:, None])[:, 0]
        assert torch.allclose(ours, alone[torch.from_numpy(sequence.mask())[1:]], atol=1e-4)
    gaps = [
        (mine.double() - torch.tensor(sequence.rollout_logprobs, dtype=torch.float64)).abs()
        for sequence, mine in zip(batch, learner.logprobs(batch), strict=True)
        if sequence.agent == "efc"
    ]
    metrics = learner.step(batch).agents["efc"]
    assert metrics["rollout_gap_mean"] == pytest.approx(float(torch.cat(gaps).mean()), rel=1e-4)
    assert metrics["rollout_gap_max"] == pytest.approx(float(torch.cat(gaps).max()), rel=1e-4)
    reference = learner.logprobs(batch[:1], reference=True)[0]
    assert not torch.allclose(reference, learner.logprobs(batch[:1])[0])


def test_each_policy_is_clipped_by_its_own_norm() -> None:
    made = policies("full", agents=("qa", "efc"))
    limits = [1e-3, math.inf]
    moments = []
    for limit in limits:
        made = policies("full", agents=("qa", "efc"))
        learner = Learner(made, LearnerConfig(learning_rate=1e-2, max_grad_norm=limit))
        norms = learner.step(sequences(made, ("qa", "efc"))).grad_norms
        assert norms["qa"] != pytest.approx(norms["efc"], rel=0.01)
        moments.append({p: opt.state_dict()["parts"][0]["state"] for p, opt in learner.optimizers.items()})
    for policy in ("qa", "efc"):  # the first moment is 0.1 times the clipped gradient
        clipped, free = (
            math.sqrt(sum(float(entry["exp_avg"].double().square().sum()) for entry in m[policy].values())) for m in moments
        )
        assert clipped == pytest.approx(0.1 * limits[0], rel=1e-3)
        assert free == pytest.approx(0.1 * norms[policy], rel=1e-3)


def test_schedules() -> None:
    def rates(**options: Any) -> list[float]:
        config = OptimConfig(learning_rate=1.0, **options)
        return [round(config.rate(step), 6) for step in range(7)]

    assert rates() == [1.0] * 7
    assert rates(warmup_steps=2) == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert rates(schedule="linear", total_steps=4) == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0]
    assert rates(schedule="cosine", warmup_steps=2, total_steps=6) == [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447, 0.0]


def test_weight_decay_is_for_matrices() -> None:
    matrix, bias = (torch.nn.Parameter(torch.ones(*shape)) for shape in ((2, 2), (2,)))
    optimizer = Optimizer([matrix, bias], OptimConfig(weight_decay=0.5))
    matrix.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step(0.0, 0.1)
    assert torch.allclose(matrix, torch.full((2, 2), 0.95))
    assert torch.equal(bias, torch.ones(2))


def test_muon_steps_hidden_matrices_only() -> None:
    torch.manual_seed(0)
    hidden, table, norm = (torch.nn.Parameter(torch.zeros(*shape)) for shape in ((6, 4), (9, 4), (4,)))
    config = OptimConfig(optimizer="muon", learning_rate=0.1)
    optimizer = Optimizer([hidden, table, norm], config, hidden=[hidden])
    for parameter in (hidden, table, norm):
        parameter.grad = torch.randn(parameter.shape)
    optimizer.step(0.0, 0.1)
    sizes = torch.linalg.svdvals(hidden.detach())  # orthogonal, times 0.2 sqrt(6) of the learning rate
    assert torch.allclose(sizes, torch.full((4,), 0.1 * 0.2 * 6**0.5), rtol=0.35)
    assert torch.allclose(table.detach().abs(), torch.full((9, 4), 0.1), rtol=1e-4)  # AdamW's first step
    assert torch.allclose(norm.detach().abs(), torch.full((4,), 0.1), rtol=1e-4)


def test_muon_goes_on_where_it_was() -> None:
    made, again = policies(paradigm="full"), policies(paradigm="full")
    batch, config = sequences(made, AGENTS), LearnerConfig(learning_rate=1e-2, optimizer="muon")
    learner, other = Learner(made, config), Learner(again, config)
    tables = {id(made.bases[0].network.get_input_embeddings().weight), id(made.bases[0].network.get_output_embeddings().weight)}
    assert not tables & {id(p) for p in made.bases[0].hidden_matrices(made.bases[0].policies[0])}
    learner.sft_step(batch)
    other.sft_step(batch)
    other.load_state_dict(learner.state_dict())
    learner.sft_step(batch)
    other.sft_step(batch)
    assert all(same(values(made)[name], values(again)[name]) for name in made.names)


def test_later_iterations_are_off_policy() -> None:
    made = policies()
    batch = sequences(made, AGENTS)
    learner = Learner(made, LearnerConfig(learning_rate=1e-2, num_iterations=2, token_budget=60))
    before = learner.logprobs(batch)
    metrics = learner.step(batch)
    assert made.versions == dict.fromkeys(AGENTS, 2)
    assert learner.step_number == 1
    once = policies()
    other = Learner(once, LearnerConfig(learning_rate=1e-2, token_budget=60))
    first = other.step(batch)
    assert not any(same(values(made)[name], values(once)[name]) for name in AGENTS)
    for agent in AGENTS:  # the second iteration's ratios are those of the policy after the first
        assert first.agents[agent]["ratio_max"] == 1.0
        moved = [a - b for a, b, s in zip(other.logprobs(batch), before, batch, strict=True) if s.agent == agent]
        ratio = torch.cat(moved).exp()
        assert float(ratio.max()) > 1.01
        assert metrics.agents[agent]["ratio_max"] == pytest.approx(float(ratio.max()), rel=1e-3)
        assert metrics.agents[agent]["ratio_min"] == pytest.approx(float(ratio.min()), rel=1e-3)


def test_importance_weighs_by_what_was_sampled() -> None:
    made = policies(agents=("qa",))
    batch = sequences(made, ("qa",))
    exact = [s.__class__(**vars(s) | {"rollout_logprobs": tuple(v.tolist())}) for s, v in zip(
        batch, Learner(made, CONFIG).logprobs(batch), strict=True)]  # fmt: skip
    norms = {}
    for name, given in (("exact", exact), ("other", batch)):
        for importance in (None, "token_truncate"):
            fresh = policies(agents=("qa",))
            learner = Learner(fresh, LearnerConfig(learning_rate=1e-2, importance=importance))
            norms[name, importance] = learner.step(given).grad_norms["qa"]
    assert norms["exact", "token_truncate"] == pytest.approx(norms["exact", None], rel=1e-4)
    assert norms["other", "token_truncate"] != pytest.approx(norms["other", None], rel=0.1)
    bare = [TrainSequence("qa", "qa", (5, 6, 7), 2, 1.0)]
    with pytest.raises(ValueError, match=r"sequences\[0\].rollout_logprobs: expected those of the sampler with importance="):
        learner.step(bare)


def test_checkpointed_activations_change_nothing() -> None:
    found = []
    for again in (False, True):
        made = policies(gradient_checkpointing=again)
        Learner(made, CONFIG).step(sequences(made, AGENTS))
        found.append(values(made))
    assert all(same(found[0][name], found[1][name]) for name in AGENTS)


@pytest.mark.parametrize(("paradigm", "dtype"), [("lora", "float32"), ("full", "bfloat16"), ("lora", "bfloat16")])
def test_a_resumed_run_is_the_same_run(paradigm: str, dtype: str, tmp_path: Path) -> None:
    config = LearnerConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=2, total_steps=6, weight_decay=0.1)
    made = policies(paradigm, dtype=dtype)
    learner = Learner(made, config)
    for step in range(2):
        learner.step(sequences(made, AGENTS[:2], seed=step))
    made.save(tmp_path)
    torch.save(learner.state_dict(), tmp_path / "learner.pt")
    again = type(made).open(tmp_path, device="cpu")
    resumed = Learner(again, config)
    resumed.load_state_dict(torch.load(tmp_path / "learner.pt"))
    for step in range(2, 4):
        batch = sequences(made, AGENTS, seed=step)
        expected = learner.step(batch)
        assert expected.learning_rate == config.rate(step)
        assert resumed.step(batch).loss == expected.loss
    assert all(same(values(made)[name], values(again)[name]) for name in AGENTS)
    assert again.versions == made.versions
    with pytest.raises(ValueError, match=r"optimizers: expected those of qa, got master, qa, efc, math"):
        Learner(policies(agents=("qa",)), config).load_state_dict(learner.state_dict())


def test_an_empty_step_changes_nothing() -> None:
    made = policies()
    before = values(made)
    metrics = Learner(made, CONFIG).step([])
    assert (metrics.loss, metrics.micro_batches, metrics.skipped, metrics.agents) == (0.0, 0, None, {})
    assert all(same(values(made)[name], before[name]) for name in AGENTS)


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"agent": "gfc"}, r"sequences\[1\].agent: expected one of master, qa, efc, math, got 'gfc'"),
    ({"policy": "efc"}, r"sequences\[1\].policy: expected 'qa', that of agent 'qa', got 'efc'"),
    ({"trained": (False, True)}, r"sequences\[1\].trained: expected one for each of 3 tokens, got 2"),
    ({"trained": 3}, r"sequences\[1\].trained: expected at least one token, .* got none"),
    ({"trained": 0}, r"sequences\[1\].trained: .* one before it that predicts it, got the first of all"),
    ({"rollout_logprobs": (0.0,) * 3}, r"sequences\[1\].rollout_logprobs: expected one for each of 1 trained tokens, got 3"),
    ({"token_ids": (1, 2, 999)}, r"expected .* 272"),
]


@pytest.mark.parametrize(("changes", "message"), ERRORS)
def test_sequences_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"policy": "qa", "agent": "qa", "token_ids": (5, 6, 7), "trained": 2}
    with pytest.raises(ValueError, match=message):
        Learner(policies(), CONFIG).step([TrainSequence(**good), TrainSequence(**good | changes)])


def test_configurations_that_make_no_sense_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"learning_rate": 0}, "learning_rate: expected"),
        ({"betas": (0.9, 1.0)}, r"betas: expected two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ({"max_grad_norm": 0}, "max_grad_norm: expected a number > 0"),
        ({"schedule": "step"}, "schedule: expected 'constant' or 'linear' or 'cosine', got 'step'"),
        ({"total_steps": 3, "warmup_steps": 3}, "total_steps: expected more than warmup_steps = 3, got 3"),
        ({"num_iterations": 0}, "num_iterations: expected"),
        ({"loss_type": "ppo"}, "loss_type: expected one of"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            LearnerConfig(**options)
    with pytest.raises(ValueError, match="total_steps: expected the number of steps with schedule='linear', got None"):
        LearnerConfig(schedule="linear").rate(0)
    with pytest.raises(ValueError, match=r"kl_coef: expected 0, or policies with a reference"):
        Learner(policies("full"), LearnerConfig(kl_coef=0.1))
