"""Parameters that the user froze stay as they are, to the last bit: in steps, masters, checkpoints, references and files."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from test_trainer import arguments, vowels
from tiny_policies import AGENTS, byte_tokenizer, qwen3, sequences
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from trainer import VRGRPOTrainer
from trainer.learner import Learner
from trainer.models import ModelConfig, Policies
from trainer.step import LearnerConfig

ROWS = [{"prompt": text} for text in ("one", "two")]


def experts() -> PreTrainedModel:
    """Router and experts frozen, attention and embeddings not; weights that bf16 does not have."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 24,
        "num_experts": 4,
        "num_experts_per_tok": 2,
    }
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 272}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, max_position_embeddings=256, router_aux_loss_coef=0.0))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".mlp." not in name)
    return model


def layer() -> PreTrainedModel:
    """Embeddings and the first layer frozen, the head of its own not."""
    model = qwen3(tie_word_embeddings=False)
    model.model.embed_tokens.requires_grad_(False)
    model.model.layers[0].requires_grad_(False)
    return model


def tied() -> PreTrainedModel:
    """The embedding frozen, which is the head."""
    model = qwen3()
    model.lm_head.requires_grad_(False)
    return model


def head_only() -> PreTrainedModel:
    """All frozen but the head: no hidden state has a gradient."""
    model = qwen3(tie_word_embeddings=False).requires_grad_(False)
    model.lm_head.requires_grad_(True)
    return model


def frozen_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [layer, tied, experts, head_only])
def test_what_is_frozen_stays(make: Callable[[], PreTrainedModel], dtype: str, tmp_path: Path) -> None:
    model = make()
    before, names = frozen_of(model), dict(model.named_parameters()).keys()
    others = {name: model.get_parameter(name).detach().clone() for name in names - before.keys()}
    args = arguments(tmp_path / "run", bf16=dtype == "bfloat16", weight_decay=0.1)
    made = VRGRPOTrainer(model, args, vowels, ROWS, processing_class=byte_tokenizer())
    made.train()
    now = dict(model.named_parameters())
    narrow = getattr(torch, dtype)
    assert before
    assert all(torch.equal(now[name], value.to(narrow)) for name, value in before.items())
    assert any(not torch.equal(now[name], value.to(narrow)) for name, value in others.items())
    assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == before.keys()
    made.save_model(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert all(torch.equal(saved.get_parameter(name), value) for name, value in before.items())


def test_a_run_that_is_gone_on_with_trains_no_more_than_before(tmp_path: Path) -> None:
    """The second call has only the folder: what was frozen is written there."""

    def made(folder: str, steps: int, model: PreTrainedModel) -> VRGRPOTrainer:
        args = arguments(tmp_path / folder, max_steps=steps, lr_scheduler_type="constant")
        return VRGRPOTrainer(model, args, vowels, ROWS, processing_class=byte_tokenizer())

    before = frozen_of(layer())
    whole = made("whole", 2, layer())
    whole.train()
    made("parts", 1, layer()).train()
    again = made("parts", 2, qwen3(tie_word_embeddings=False))
    assert again.train(resume_from_checkpoint=True).global_step == 2
    assert whole.model is not None
    assert again.model is not None
    assert again.policies is not None
    assert set(again.policies.bases[0].frozen) == before.keys()
    theirs = dict(whole.model.named_parameters())
    for name, parameter in again.model.named_parameters():
        assert torch.equal(parameter, theirs[name]), name
        assert name not in before or torch.equal(parameter, before[name]), name


def test_a_network_an_agent() -> None:
    """Copies have the same frozen; the norm and the optimiser's moments are those of what is trained; so is the reference."""
    config = ModelConfig(name="mine", paradigm="full", device="cpu")
    model = layer()
    before = frozen_of(model)
    policies = Policies.create(config, AGENTS, tokenizer=byte_tokenizer(), models={"mine": model})
    policies.freeze_reference()
    learner = Learner(policies, LearnerConfig(learning_rate=1e-2, kl_coef=0.1))
    metrics = learner.step(sequences(policies, AGENTS))
    assert metrics.skipped is None
    for agent in AGENTS:
        base = policies.base_of(agent)
        trained = [p for name, p in base.network.named_parameters() if name not in before]
        assert [id(p) for p in policies.parameters(agent)] == [id(p) for p in trained]
        assert all(torch.equal(base.network.get_parameter(name), value) for name, value in before.items())
        moments = learner.optimizers[agent].state_dict()["parts"][0]["state"]
        assert len(moments) == len(trained)
        assert metrics.grad_norms[agent] > 0


def test_policies_that_differ_in_what_is_frozen(tmp_path: Path) -> None:
    config = ModelConfig(name="mine", paradigm="shared", device="cpu")

    def made(model: PreTrainedModel) -> Policies:
        return Policies.create(config, ("a",), tokenizer=byte_tokenizer(), models={"mine": model})

    made(layer()).save(tmp_path)
    assert set(Policies.open(tmp_path, device="cpu").bases[0].frozen) == frozen_of(layer()).keys()
    with pytest.raises(ValueError, match=r"expected model.embed_tokens.weight trained, got it frozen in policy 'shared'"):
        made(qwen3(tie_word_embeddings=False)).load(tmp_path)
    made(layer()).load(tmp_path)


def added() -> PreTrainedModel:
    model = qwen3()
    model.add_adapter(LoraConfig(r=4, target_modules=["q_proj"]))
    return model


def injected() -> PreTrainedModel:
    model = qwen3()
    inject_adapter_in_model(LoraConfig(r=4, target_modules=["down_proj"]), model)
    return model


def narrowed() -> PreTrainedModel:
    model = qwen3()
    weight = model.model.layers[1].mlp.up_proj.weight
    model.model.layers[1].mlp.up_proj.weight = torch.nn.Parameter(weight.detach().to(torch.int8), requires_grad=False)
    return model


@pytest.mark.parametrize("peft_config", [None, LoraConfig(r=2, target_modules=["v_proj"])], ids=["whole", "adapter"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (added, r"expected a network without adapters, got a Linear at model.layers.0.self_attn.q_proj: not built; pass"),
        (injected, r"expected a network without adapters, got a Linear at model.layers.0.mlp.down_proj: not built; pass"),
        (narrowed, r"expected weights in floating point, got torch.int8 .* in model.layers.1.mlp.up_proj.weight"),
    ],
)
def test_what_is_refused(make: Callable[[], PreTrainedModel], message: str, peft_config: Any, tmp_path: Path) -> None:
    args = arguments(tmp_path / "run")
    with pytest.raises(NotImplementedError, match=f"^model: {message}"):
        VRGRPOTrainer(make(), args, vowels, ROWS, processing_class=byte_tokenizer(), peft_config=peft_config)
    config = ModelConfig(paradigm="full" if peft_config is None else "lora", device="cpu")
    with pytest.raises(NotImplementedError, match=f"^model: {message}"):
        Policies.create(config, ("a",), tokenizer=byte_tokenizer(), models={"tiny": make()})
    assert not (tmp_path / "run").exists()


def test_a_network_that_is_frozen_as_a_whole() -> None:
    args = SimpleNamespace(max_steps=1, use_cpu=True, bf16=False)
    frozen = qwen3().requires_grad_(False)
    with pytest.raises(
        ValueError, match=r"^model: expected parameters that require gradients, to be trained as a whole, got all"
    ):
        VRGRPOTrainer(frozen, args, vowels, ROWS, processing_class=byte_tokenizer())
    lora = LoraConfig(r=2, target_modules=["v_proj"])
    assert VRGRPOTrainer(frozen, args, vowels, ROWS, processing_class=byte_tokenizer(), peft_config=lora).args.model.adapters
