"""The balancing loss over a packed forest is transformers' own of the padded batch; which models have one."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
from transformers import (
    DeepseekV3Config,
    DogeConfig,
    GptOssConfig,
    MixtralConfig,
    OlmoeConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

import himakernels.integrations.transformers as hf
from himakernels import pack
from himakernels.integrations.transformers_experts import balancing_loss, check_balancing, router_coefficient
from himakernels.testing import INTERPRET, assert_near

if INTERPRET:
    pytest.skip("whole models: the kernels have tests of their own", allow_module_level=True)

SIZES: dict[str, Any] = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": None}
SIZES |= {"bos_token_id": None, "eos_token_id": None}
FAMILIES: dict[str, PreTrainedConfig] = {
    "qwen3_moe": Qwen3MoeConfig(**SIZES, head_dim=16, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2),
    "mixtral": MixtralConfig(**SIZES, head_dim=16, num_local_experts=5, num_experts_per_tok=2),
    "gpt_oss": GptOssConfig(**SIZES, head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=4),
    "olmoe": OlmoeConfig(**SIZES | {"hidden_size": 64}, num_experts=6, num_experts_per_tok=3),
}
PROMPT, ANSWER = [3, 1, 4, 1, 5], [9, 2]
# Siblings, of which two begin alike; a later turn that extends one; another prompt; one that is there twice.
SEQUENCES = [
    [*PROMPT, *ANSWER],
    [*PROMPT, *ANSWER, 6, 5],
    [*PROMPT, 3],
    [*PROMPT, *ANSWER, 6, 5, 3, 5, 8],
    [3, 1, 7, 7],
    [7, 7, 1],
    [7, 7, 1],
]


def made(family: str, attention: str, *, checkpointing: bool = False) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family], attn_implementation="eager", experts_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "router" in name or "gate." in name:
                parameter.copy_(torch.randn(parameter.shape))  # else all experts are as good as equal
    model.set_attn_implementation(attention)
    model.double()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chosen", [range(7), [1, 3, 4]], ids=["all", "some"])
def test_a_packed_forest_is_the_padded_batch(family: str, chosen: Any, checkpointing: bool) -> None:
    """`chosen`: only these sequences count, as where others are another agent's. Prompts are repeated in the padded batch.

    In fp64, but for the means, which transformers sums in fp32.
    """
    packed = pack(
        [np.array(sequence) for sequence in SEQUENCES],
        sample_id=np.arange(7),
        trained=[np.arange(len(sequence)) > 1 for sequence in SEQUENCES],
    )[0]
    assert packed.num_tokens < packed.original_tokens
    model, logits = made(family, hf.ATTENTION, checkpointing=checkpointing), list[torch.Tensor]()
    hf.hidden_states(model, packed, router_logits=logits)
    mine = torch.isin(packed.sequence_id, torch.tensor(list(chosen)))
    assert len(logits) == 2
    loss = balancing_loss(model, logits, packed.passes(mine))
    loss.backward()

    plain = made(family, "eager")
    rows = [SEQUENCES[i] for i in chosen]
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    expected = plain(input_ids=ids, attention_mask=mask, output_router_logits=True, use_cache=False).aux_loss
    expected.backward()
    assert_near(loss, expected, 1e-6)
    assert gradients(model).keys() == gradients(plain).keys()
    scale = max(float(grad.abs().max()) for grad in gradients(plain).values())
    for name, grad in gradients(plain).items():
        assert float((gradients(model)[name] - grad).abs().max()) <= 1e-6 * scale, name
    distinct = balancing_loss(model, [t.detach() for t in logits], torch.ones(packed.num_tokens))
    assert abs(float(distinct / expected.detach()) - 1) > 1e-4  # each distinct token once is something else


def test_whose_coefficient_is_what() -> None:
    for family, coefficient in (("qwen3_moe", 0.001), ("mixtral", 0.001), ("gpt_oss", 0.001), ("olmoe", 0.01)):
        assert router_coefficient(FAMILIES[family]) == coefficient
        check_balancing(made(family, "eager"))
    assert router_coefficient(made("olmoe", "eager")) == 0.01
    assert router_coefficient(Qwen3Config(**SIZES)) == 0.0
    assert router_coefficient(DeepseekV3Config()) == 0.0  # balanced by a bias, without a loss
    for config in (Qwen3Config(**SIZES), DogeConfig(**SIZES, is_moe=True, num_experts=16)):
        model = AutoModelForCausalLM.from_config(config)
        with pytest.raises(
            NotImplementedError, match=f"model: expected a balancing loss like Mixtral's, got model_type '{config.model_type}'"
        ):
            check_balancing(model)


def test_a_config_that_asks_for_router_logits_changes_nothing() -> None:
    """With it the decoder hands output_router_logits on to its attention."""
    packed = pack([np.array(s) for s in SEQUENCES], sample_id=np.arange(7), trained=[np.arange(len(s)) > 1 for s in SEQUENCES])[
        0
    ]
    for family in FAMILIES:
        model = made(family, hf.ATTENTION)
        before = hf.hidden_states(model, packed)
        model.config.output_router_logits = True
        assert torch.equal(hf.hidden_states(model, packed), before)


@pytest.mark.parametrize("sparse", [[], [1]], ids=["none", "one"])
def test_layers_without_experts(sparse: list[int]) -> None:
    """A mixture's configuration may make all its layers dense, or some."""
    dense = [i for i in range(2) if i not in sparse]
    config = Qwen3MoeConfig(**SIZES, head_dim=16, moe_intermediate_size=24, num_experts=8, mlp_only_layers=dense)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=hf.ATTENTION)
    packed = pack([np.array(SEQUENCES[0])], sample_id=[0], trained=[np.arange(len(SEQUENCES[0])) > 1])[0]
    logits = list[torch.Tensor]()
    hf.hidden_states(model, packed, router_logits=logits)
    assert len(logits) == len(sparse)
    assert (float(balancing_loss(model, logits, packed.passes()).detach()) > 0) == bool(sparse)
