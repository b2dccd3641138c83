"""The engine on the trainer's own networks: adapters of one base, between packed forwards that train them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from engines import prompts, tiny
from peft import LoraConfig, get_peft_model

import himakernels.integrations.transformers as hf
from himakernels import pack
from trainer.engine import SamplingParams
from trainer.engine.local import LocalConfig, LocalEngine
from trainer.models import ModelConfig, Policies

GREEDY = SamplingParams(max_new_tokens=10, temperature=0.0)


class Words:
    """As much of a tokenizer as policies without texts need."""

    def __len__(self) -> int:
        return 97


def test_adapters_of_one_base():
    policies = Policies.create(
        ModelConfig(name="tiny", paradigm="lora"), ["master", "qa", "efc"], tokenizer=Words(), models={"tiny": tiny()}
    )
    torch.manual_seed(3)
    with torch.no_grad():
        for name in policies.names:
            for parameter in policies.parameters(name):
                parameter.add_(0.2 * torch.randn_like(parameter))
    engine = LocalEngine(policies)
    (system,) = prompts(8)
    asked = [system + p for p in prompts(3, 6, 4, 3, 5, 2, seed=2)]
    names = list(policies.names) * 2

    def expected(i: int) -> tuple[int, ...]:
        with policies.base_of(names[i]).generating(names[i]) as model:
            whole = model.generate(torch.tensor([asked[i]]), max_new_tokens=10, do_sample=False)
        return tuple(whole[0, len(asked[i]) :].tolist())

    before = engine.generate(asked, 1, GREEDY, names)
    assert [s.token_ids for (s,) in before] == [expected(i) for i in range(len(asked))]
    alike = engine.generate([asked[0]] * 3, 1, GREEDY, names[:3])
    assert len({s.token_ids for (s,) in alike}) == 3  # equal prompts, and each adapter its own answer

    base = policies.base_of("qa")
    trained = torch.arange(len(asked[1])) >= len(system)
    (packed,) = pack([asked[1]], sample_id=[0], trained=[trained], policy_id=[1], num_policies=3).micro_batches
    base.hidden_states(packed).square().sum().backward()  # trains, with another attention
    with torch.no_grad():
        for parameter in policies.parameters("qa"):
            parameter.sub_(0.3 * parameter.sign())
    engine.update_policy("qa")
    after = engine.generate(asked, 1, GREEDY, names)
    assert [s.token_ids for (s,) in after] == [expected(i) for i in range(len(asked))]
    changed = [i for i in range(len(asked)) if before[i] != after[i]]
    assert changed == [1, 4]
    assert [s.policy_version for (s,) in after] == [0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("lean", [None, False], ids=["lean", "transformers"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "expected use_dora=False, got True"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head: expected no LoRA on the output head"),
    ],
)
def test_adapters_that_no_packed_step_runs_are_refused(lean: bool | None, options: dict[str, Any], message: str) -> None:
    """Also where their weights would only be added."""
    model = get_peft_model(tiny("llama"), LoraConfig(**{"r": 2, "target_modules": ["q_proj"]} | options), adapter_name="qa")

    class Network:
        def decoding(self) -> AbstractContextManager[Any]:
            model.get_base_model().set_attn_implementation(hf.ATTENTION)
            return nullcontext(model.eval())

    class OnePolicy:
        names, versions = ("qa",), {"qa": 0}

        def base_of(self, policy: str) -> Network:
            return network

        def weights_id(self, policy: str) -> int:
            return 1

        def renew_weights_id(self, policy: str) -> None:
            raise AssertionError("nothing is updated here")

    network = Network()
    network.model = model  # type: ignore[attr-defined]
    with pytest.raises((NotImplementedError, TypeError, ValueError), match=message):
        LocalEngine(OnePolicy(), LocalConfig(lean=lean)).generate(prompts(5), 1, GREEDY, "qa")
