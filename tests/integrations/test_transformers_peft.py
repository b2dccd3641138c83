"""Five adapters of different ranks on one frozen base, in one packed step: equal to plain PEFT, agent by agent."""

from pathlib import Path

import pytest
import torch
from decoder_runs import Sample, assert_step, make_model, off_policy, pack_samples, packed_run, plain_run, true_run
from peft import LoraConfig, PeftConfig, PeftModel, PolyConfig, PromptTuningConfig, TaskType, XLoraConfig, get_peft_model

import himakernels.integrations.transformers as hf
from himakernels.integrations.peft import packed_adapters, train_adapters

RANKS = {"master": 2, "search": 3, "code": 4, "math": 8, "chat": 1}
PROMPT = list(range(1, 13))


def adapted(dtype: torch.dtype, attention: str) -> PeftModel:
    """Five adapters whose B is not zero, the same values in every dtype."""
    base = make_model("qwen3", dtype, attention=attention)
    model = None
    for name, rank in RANKS.items():
        config = LoraConfig(r=rank, lora_alpha=4, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"], bias="none")
        if model is None:
            model = get_peft_model(base, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    assert model is not None
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = (0.3 * torch.randn(parameter.shape, generator=g)).bfloat16().to(dtype)
    train_adapters(model, list(RANKS))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_five_adapters_in_one_step(dtype: torch.dtype) -> None:
    names = list(RANKS)
    samples = [
        Sample([*PROMPT, 20, 30 + i, 40 + p, 44], [False] * 12 + [True] * 4, policy=p) for p in range(5) for i in range(3)
    ]
    packed = pack_samples(samples, num_policies=5)
    truth, eager = (adapted(d, "eager") for d in (torch.float64, dtype))
    truth.set_adapter(names[0])
    old, advantages = off_policy(truth, samples)
    model = adapted(dtype, hf.ATTENTION)
    agent_id = torch.tensor([sample.policy for sample in samples])
    with packed_adapters(model, names, packed.segments):
        ours = packed_run(model, samples, old, advantages, packed=packed, agent_id=agent_id)
    total = torch.zeros((), dtype=torch.float64)
    for p, name in enumerate(names):
        mine = agent_id == p
        at = torch.cat([torch.full((len(sample.tokens),), sample.policy == p) for sample in samples])
        batch = [sample for sample in samples if sample.policy == p], old[at], advantages[mine]
        runs = []
        for run, plain in ((true_run, truth), (plain_run, eager)):
            plain.set_adapter(name)
            runs.append(run(plain, *batch))
        trained = {n for n in ours.grads if f".{name}." in n}
        assert len(trained) == 2 * 4 * 2  # A and B of four layers' modules in two layers
        assert all(runs[0].grads[n].any() for n in trained)
        of_agent = torch.tensor([sample.policy == p for sample in samples for t in sample.trained if t])
        total += runs[0].loss
        # The agents' losses add up to the one loss: each gradient is one agent's, the loss is compared below.
        mine_only = ours._replace(logprobs=ours.logprobs[of_agent], loss=runs[0].loss)
        assert_step(*(r._replace(grads={n: r.grads[n] for n in trained}) for r in (mine_only, *runs)), dtype=dtype)
    assert float(ours.loss) == pytest.approx(float(total), rel=1e-5 if dtype == torch.float32 else 0.05)


def test_a_forest_belongs_to_its_step() -> None:
    names = list(RANKS)
    model = adapted(torch.float32, hf.ATTENTION)
    tree, other = (
        pack_samples([Sample([1, 2, 3], [False, True, True], policy=p) for p in chosen], num_policies=5)
        for chosen in ((0, 1, 2), (0, 3, 4))
    )
    with packed_adapters(model, names, tree.segments):
        expected = hf.hidden_states(model, tree)
        assert torch.equal(hf.hidden_states(model.get_base_model(), tree), expected)  # its layers are in the step too
        with pytest.raises(ValueError, match=r"packed.segments: expected those of packed_adapters, .*3, 6, 9.*, got \[0, 3, 3"):
            hf.hidden_states(model, other)
    with packed_adapters(model, names, tree.segments.clone()):
        assert torch.equal(hf.hidden_states(model, tree), expected)
    with pytest.raises(ValueError, match="packed: expected tokens of one policy outside of packed_adapters"):
        hf.hidden_states(model, tree)
    assert hf.hidden_states(model, pack_samples([Sample([1, 2, 3], [False, True, True])])).shape == (2, 32)


PACKED = pack_samples([Sample([1, 2], [False, True])])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=2), "prompt learning"),
        (LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=["q_proj"], alora_invocation_tokens=[7, 8]), "alora_invoc"),
        (PolyConfig(task_type=TaskType.CAUSAL_LM, target_modules=["q_proj"], n_tasks=2), "POLY"),
    ],
    ids=["prompt", "alora", "poly"],
)
def test_adapters_outside_of_the_layers_are_refused(config: PeftConfig, words: str) -> None:
    model = get_peft_model(make_model("llama"), config)
    for one in (model, model.get_base_model()) if words != "prompt learning" else (model,):
        with pytest.raises(NotImplementedError, match=rf"adapters inside the layers, got {words}.* in adapter 'default'"):
            hf.hidden_states(one, PACKED)


def test_experts_of_lora_are_refused(tmp_path: Path) -> None:
    """X-LoRA weighs its adapters by a forward of its own."""
    get_peft_model(make_model("llama"), LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    base = make_model("llama")
    base.config.use_cache = False
    config = XLoraConfig(task_type=TaskType.CAUSAL_LM, hidden_size=32, adapters={"0": str(tmp_path)})
    with pytest.raises(NotImplementedError, match=r"adapters inside the layers, got XLORA in adapter 'default'"):
        hf.hidden_states(get_peft_model(base, config), PACKED)


def test_mixed_types_of_adapters_are_refused() -> None:
    model = get_peft_model(make_model("llama"), LoraConfig(target_modules=["q_proj"]), mixed=True)
    with pytest.raises(TypeError, match=r"transformers.PreTrainedModel \(or a peft.PeftModel around one\), got PeftMixedModel"):
        hf.hidden_states(model, PACKED)


def test_an_adapter_on_the_head_is_named() -> None:
    model = get_peft_model(make_model("llama"), LoraConfig(target_modules=["q_proj", "lm_head"]))
    with pytest.raises(NotImplementedError, match=r"head of type torch.nn.Linear, model_type 'llama' has peft.*lora.*\.Linear"):
        hf.output_head(model)
