"""The balancing loss of networks with experts in a step, agent by agent, against transformers' own on padded sequences."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trainer import arguments, vowels
from tiny_policies import byte_tokenizer, qwen3, sequences
from transformers import DogeConfig, DogeForCausalLM, PreTrainedModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from trainer import VRGRPOTrainer
from trainer.learner import Learner
from trainer.models import ModelConfig, Policies
from trainer.sequences import TrainSequence, make_batch
from trainer.step import LearnerConfig

AGENTS = ("master", "qa")
ROWS = [{"prompt": text} for text in ("one", "two")]


def experts(coefficient: float = 0.5, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 24, "num_experts": 4}
    sizes |= {"num_experts_per_tok": 2, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen3MoeConfig(
        **sizes, head_dim=16, vocab_size=272, max_position_embeddings=256, router_aux_loss_coef=coefficient, **changes
    )
    model = Qwen3MoeForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".gate." in name:
                parameter.normal_()
    return model


def policies(model: PreTrainedModel, paradigm: str) -> Policies:
    config = ModelConfig(name="mine", paradigm=paradigm, lora_rank=2, target_modules=("q_proj", "v_proj"), device="cpu")  # type: ignore[arg-type]
    return Policies.create(config, AGENTS, tokenizer=byte_tokenizer(), models={"mine": model})


def expected(model: Any, batch: Sequence[TrainSequence]) -> torch.Tensor:
    """aux_loss of the padded batch."""
    model.set_attn_implementation("eager")
    longest = max(len(sequence.token_ids) for sequence in batch)
    ids = torch.tensor([[*s.token_ids, *[0] * (longest - len(s.token_ids))] for s in batch])
    mask = torch.tensor([[1] * len(s.token_ids) + [0] * (longest - len(s.token_ids)) for s in batch])
    loss: torch.Tensor = model(input_ids=ids, attention_mask=mask, output_router_logits=True, use_cache=False).aux_loss
    return loss


@pytest.mark.parametrize(("coefficient", "factor"), [(None, 0.5), (2.0, 2.0)], ids=["the model's own", "chosen"])
@pytest.mark.parametrize("paradigm", ["shared", "full", "lora"])
def test_a_step_adds_each_agents_loss(paradigm: str, coefficient: float | None, factor: float) -> None:
    """Advantages of 0 leave nothing but it: the norm is that of its gradient. All sequences of a policy share a forest."""
    made = policies(experts(), paradigm)
    batch = [replace(sequence, advantage=0.0) for sequence in sequences(made, AGENTS)]
    metrics = Learner(made, LearnerConfig(router_aux_loss_coef=coefficient, learning_rate=1e-9)).step(batch)
    plain = experts()
    losses = {agent: expected(plain, [s for s in batch if s.agent == agent]) for agent in AGENTS}
    for agent in AGENTS:
        assert metrics.agents[agent]["aux_loss"] == pytest.approx(float(losses[agent].detach()), rel=1e-5)
    assert metrics.loss == pytest.approx(factor * sum(float(loss.detach()) for loss in losses.values()), rel=1e-5)
    if paradigm == "lora":  # B is 0 at first: A has no gradient, B has
        assert all(norm > 0 for norm in metrics.grad_norms.values())
        return
    groups = [AGENTS] if paradigm == "shared" else [(agent,) for agent in AGENTS]
    for group, norm in zip(groups, metrics.grad_norms.values(), strict=True):
        plain.zero_grad()
        torch.stack([factor * losses[agent] for agent in group]).sum().backward(retain_graph=True)
        grads = [p.grad for p in plain.parameters() if p.grad is not None]
        assert norm == pytest.approx(float(torch.nn.utils.get_total_norm(grads)), rel=1e-4)


def test_micro_batches_are_a_mean_by_tokens() -> None:
    made = policies(experts(), "shared")
    batch = [replace(sequence, advantage=0.0) for sequence in sequences(made, AGENTS, groups=4)]
    parts = make_batch(made, batch, 60).parts[0].micro_batches
    assert len(parts) > 2
    metrics = Learner(made, LearnerConfig(router_aux_loss_coef=None, token_budget=60, learning_rate=1e-9)).step(batch)
    plain = experts()
    for agent in AGENTS:
        value, tokens = 0.0, 0
        for part in parts:
            mine = [batch[i] for i in part.packed.sequence_id.tolist() if batch[i].agent == agent]
            if mine:
                count = sum(len(sequence.token_ids) for sequence in mine)
                value, tokens = value + count * float(expected(plain, mine).detach()), tokens + count
        assert metrics.agents[agent]["aux_loss"] == pytest.approx(value / tokens, rel=1e-5)


def test_nothing_is_added_where_the_coefficient_is_0() -> None:
    for coefficient, own in ((0.0, 0.5), (None, 0.0)):
        made = policies(experts(own), "shared")
        metrics = Learner(made, LearnerConfig(router_aux_loss_coef=coefficient)).step(sequences(made, AGENTS))
        assert "aux_loss" not in metrics.agents["qa"]
    made = Policies.create(ModelConfig(device="cpu"), AGENTS, tokenizer=byte_tokenizer(), models={"tiny": qwen3()})
    assert "aux_loss" not in Learner(made, LearnerConfig(router_aux_loss_coef=None)).step(sequences(made, AGENTS)).agents["qa"]


def run(folder: Path, model: PreTrainedModel, **options: Any) -> torch.Tensor:
    args = arguments(folder, **options)
    VRGRPOTrainer(model, args, vowels, ROWS, processing_class=byte_tokenizer()).train()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_default_of_trl_is_the_models_own_coefficient(tmp_path: Path) -> None:
    """A config that asks for router logits changes nothing: TRL, too, only looks at the coefficient."""
    own = run(tmp_path / "own", experts())
    assert torch.equal(run(tmp_path / "asked", experts(output_router_logits=True)), own)
    assert torch.equal(run(tmp_path / "same", experts(0.1), router_aux_loss_coef=0.5), own)
    without = run(tmp_path / "none", experts(), router_aux_loss_coef=0.0)
    assert torch.equal(run(tmp_path / "zero", experts(0.0)), without)
    assert not torch.equal(own, without)


def test_what_has_no_such_loss_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    options: dict[str, Any] = {"reward_funcs": vowels, "train_dataset": ROWS, "processing_class": byte_tokenizer()}
    args = arguments(tmp_path / "run", router_aux_loss_coef=0.01)
    with pytest.raises(
        ValueError, match=r"router_aux_loss_coef: expected 0 or None for a network without experts \(qwen3\), got 0.01"
    ):
        VRGRPOTrainer(qwen3(), args, **options)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 272}
    doge = DogeForCausalLM(DogeConfig(**sizes, is_moe=True, num_experts=16, router_aux_loss_coef=0.01))
    with pytest.raises(
        NotImplementedError, match=r"a balancing loss like Mixtral's, got model_type 'doge' .*router_aux_loss_coef=0.0"
    ):
        VRGRPOTrainer(doge, arguments(tmp_path / "run"), **options)
    assert not (tmp_path / "run").exists()
