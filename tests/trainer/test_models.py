"""Policies on their networks: who has which parameters, generation and training on one model, references, folders."""

import os
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_policies import AGENTS, byte_tokenizer, policies, qwen3, same, values
from transformers import AutoModelForCausalLM, Qwen3Config

import himakernels.integrations.transformers as hf
from himakernels import pack
from trainer.chat import check_tokens
from trainer.models import ModelConfig, Policies

PROMPT = list(range(20, 50))
PARADIGMS = [("lora", {}), ("full", {}), ("shared", {}), ("shared", {"shared_trains": "lora"})]


def hidden(of: Policies, policy: str, *, reference: bool = False) -> torch.Tensor:
    """[4, H] of the last tokens of a prompt and its action."""
    base = of.base_of(policy)
    trained = [[i >= len(PROMPT) - 1 for i in range(len(PROMPT) + 3)]]
    mine = base.policies.index(policy)
    packed = pack(
        [[*PROMPT, 7, 8, 9]], trained=trained, sample_id=[0], policy_id=[mine], num_policies=len(base.policies)
    )[0]  # fmt: skip
    return base.hidden_states(packed, reference=reference)


@pytest.mark.parametrize(("paradigm", "options"), PARADIGMS)
def test_paradigms(paradigm: str, options: dict[str, str]) -> None:
    made = policies(paradigm, **options)
    shared = paradigm == "shared"
    assert made.names == (("shared",) if shared else AGENTS)
    assert made.policy_of == {agent: "shared" if shared else agent for agent in AGENTS}
    assert len(made.bases) == (len(AGENTS) if paradigm == "full" else 1)
    every = [p for name in made.names for p in made.parameters(name)]
    assert len({p.data_ptr() for p in every}) == len(every)  # nobody's parameter is another's
    assert all(p.requires_grad for p in every)
    trained = {id(p) for base in made.bases for p in base.model.parameters() if p.requires_grad}
    assert trained == {id(p) for p in every}


@pytest.mark.parametrize(("paradigm", "options"), PARADIGMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_generation_and_training_see_one_policy(paradigm: str, options: dict[str, str], dtype: str) -> None:
    made = policies(paradigm, dtype=dtype, **options)
    for policy in made.names:
        base = made.base_of(policy)
        head = base.head()
        with torch.no_grad():
            trained = (hidden(made, policy) @ head.weight.T).float()
        with base.generating(policy) as model:
            assert not model.training
            plain = model(torch.tensor([[*PROMPT, 7, 8]]), use_cache=True).logits[0, -4:].float()
        assert (trained - plain).abs().max() < (1e-4 if dtype == "float32" else 0.03) * plain.abs().max()
        with torch.no_grad():
            assert torch.equal((hidden(made, policy) @ head.weight.T).float(), trained)  # and trains again
        assert base.model.training
        assert base.network.config._attn_implementation == hf.ATTENTION
    assert all(p.requires_grad and p.dtype == torch.float32 for name in made.names for p in made.parameters(name))


def test_policies_differ_and_are_put_back_after_an_error() -> None:
    made = policies()
    assert not torch.allclose(hidden(made, "qa"), hidden(made, "efc"))
    with pytest.raises(RuntimeError, match="stop"), made.base_of("qa").generating("qa"):
        raise RuntimeError("stop")
    hidden(made, "qa").sum().backward()
    assert all(p.grad is not None for p in made.parameters("qa"))
    assert all(p.grad is None for p in made.parameters("efc"))
    with pytest.raises(ValueError, match=r"policy: expected one of master, qa, efc, math, got 'gfc'"):
        made.base_of("gfc")


def test_agents_may_name_their_bases() -> None:
    config = ModelConfig(bases={"master": "big"}, lora_rank=4, device="cpu")
    big = qwen3(1, hidden_size=48)
    made = Policies.create(config, AGENTS, tokenizer=byte_tokenizer(), models={"tiny": qwen3(), "big": big})
    assert [base.policies for base in made.bases] == [("master",), ("qa", "efc", "math")]
    assert made.base_of("master").network is big
    assert hidden(made, "master").shape == (4, 48)


def test_master_weights_keep_what_bf16_would_lose() -> None:
    made = policies("full", agents=("qa",), dtype="bfloat16")
    (base,) = made.bases
    hidden(made, "qa").float().sum().backward()
    network = list(base.network.parameters())
    first = [p.grad.float() for p in network if p.grad is not None]
    base.take_gradients()
    assert all(p.grad is None for p in network)
    hidden(made, "qa").float().sum().backward()
    base.take_gradients()
    masters = [p for p in made.parameters("qa") if p.grad is not None]
    assert all(p.grad is not None and torch.equal(p.grad, 2 * g) for p, g in zip(masters, first, strict=True))
    before = [p.detach().clone() for p in network]
    with torch.no_grad():
        for master in made.parameters("qa"):
            master.add_(1e-5)  # below half a bf16 step of most weights
    base.publish()
    assert all(p.dtype == torch.bfloat16 for p in network)
    changed = sum(int((p != b).sum()) for p, b in zip(network, before, strict=True))
    assert changed < 0.5 * sum(p.numel() for p in network)
    assert all(torch.equal(p, m.bfloat16()) for p, m in zip(network, made.parameters("qa"), strict=True))


@pytest.mark.parametrize(("paradigm", "options"), PARADIGMS)
def test_references(paradigm: str, options: dict[str, str]) -> None:
    made = policies(paradigm, **options)
    policy = made.names[-1]
    if made.config.adapters:
        with torch.no_grad():
            plain = policies("shared", agents=("qa",))
            bare = hidden(plain, "shared")
        assert torch.allclose(hidden(made, policy, reference=True), bare, atol=1e-5)  # the adapter off
    else:
        with pytest.raises(ValueError, match=r"expected a frozen reference for the KL term"):
            hidden(made, policy, reference=True)
    before = hidden(made, policy).detach()
    made.freeze_reference()
    with torch.no_grad():
        for parameter in made.parameters(policy):
            parameter.add_(0.05)
    assert torch.equal(hidden(made, policy, reference=True).detach(), before)
    assert not torch.allclose(hidden(made, policy).detach(), before)
    hidden(made, policy).sum().backward()  # references took nothing from what is trained
    assert all(p.grad is not None for p in made.parameters(policy) if p.dim() == 2 and made.config.adapters)


@pytest.mark.parametrize(("paradigm", "options"), PARADIGMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_folders_bring_back_every_bit(paradigm: str, options: dict[str, str], dtype: str, tmp_path: Path) -> None:
    made = policies(paradigm, dtype=dtype, **options)
    made.freeze_reference()
    with torch.no_grad():
        for name in made.names:
            for parameter in made.parameters(name):
                parameter.add_(1e-4)  # not bf16 values any more
    for base in made.bases:
        base.publish()
    made.versions[made.names[0]] = 7
    made.save(tmp_path)
    other = policies(paradigm, seed=3, dtype=dtype, **options)
    other.load(tmp_path)
    for again in (Policies.open(tmp_path, device="cpu"), *([] if made.config.adapters else [other])):
        assert again.config == made.config
        assert again.versions == made.versions
        assert all(same(values(again)[name], values(made)[name]) for name in made.names)
        with torch.no_grad():
            for name in made.names:
                assert torch.equal(hidden(again, name), hidden(made, name))
                assert torch.equal(hidden(again, name, reference=True), hidden(made, name, reference=True))


def test_folders_are_those_of_peft_and_transformers(tmp_path: Path) -> None:
    made = policies()
    made.save(tmp_path / "lora")
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "lora" / "base-0"), tmp_path / "lora" / "qa"
    )
    ids = torch.tensor([PROMPT])
    with made.base_of("qa").generating("qa") as model:
        assert torch.equal(plain(ids).logits, model(ids).logits)
    plain.save_pretrained(tmp_path / "peft")
    other = policies(seed=4)
    other.base_of("efc").load("efc", tmp_path / "peft")
    assert same(values(other)["efc"], values(made)["qa"])
    full = policies("full", agents=("qa",))
    full.save(tmp_path / "full")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "full" / "qa")
    with full.base_of("qa").generating("qa") as model:
        assert torch.equal(again(ids).logits, model(ids).logits)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"agents: expected different names, got \['qa', 'qa'\]"):
        Policies.create(ModelConfig(), ("qa", "qa"))
    with pytest.raises(ValueError, match=r"bases: expected the agents qa, got 'boss'"):
        Policies.create(ModelConfig(bases={"boss": "x"}), ("qa",))
    with pytest.raises(ValueError, match=r"bases: expected none where all agents share one policy"):
        ModelConfig(paradigm="shared", bases={"qa": "x"})
    with pytest.raises(ValueError, match=r"paradigm: expected one of 'lora', 'full', 'shared', got 'peft'"):
        ModelConfig(paradigm="peft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"policies: expected names without dots that don't end in _reference, got 'a.b'"):
        policies(agents=("a.b",))
    small = Qwen3Config(vocab_size=64, hidden_size=32, head_dim=16, num_hidden_layers=1, intermediate_size=32)
    with pytest.raises(ValueError, match=r"expected a chat template of the 64 tokens that the model knows, got \d+"):
        check_tokens(byte_tokenizer(), None, [AutoModelForCausalLM.from_config(small)])
    made = policies()
    with pytest.raises(FileNotFoundError, match=r"expected a folder of saved policies with policies.json, got none"):
        made.load(tmp_path)
    made.save(tmp_path)
    os.remove(tmp_path / "efc" / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"efc/adapter_model.safetensors: expected the file that .*SHA256SUMS names, got none"):
        made.load(tmp_path)
    os.remove(tmp_path / "SHA256SUMS")
    with pytest.raises(FileNotFoundError, match=r"efc: expected a PEFT folder with adapter_model.safetensors, got none"):
        made.load(tmp_path)
    with pytest.raises(ValueError, match=r"expected the policies master, qa, got master, qa, efc, math"):
        policies(agents=("master", "qa")).load(tmp_path)
    with pytest.raises(ValueError, match=r"expected .*lora_A.weight of shape \[2, 32\], got \[4, 32\]"):
        Policies.create(
            ModelConfig(lora_rank=2, lora_alpha=8, device="cpu"), ("qa",), tokenizer=byte_tokenizer(), models={"tiny": qwen3()}
        ).base_of("qa").load("qa", tmp_path / "qa")
