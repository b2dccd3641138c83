"""Networks that were passed as objects come back from their folders as what they were, whatever AutoModelForCausalLM knows."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from test_network_checks import SIZES, TEXT, gemma, voxtral
from test_trainer import ROWS, arguments, vowels
from tiny_policies import byte_tokenizer, qwen3
from transformers import (
    AutoModelForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedModel,
    Qwen3ForCausalLM,
)

from trainer import VRGRPOTrainer
from trainer.checksums import DamagedError
from trainer.models import ModelConfig, Policies
from trainer.pretrained import class_of


def llava() -> PreTrainedModel:
    vision = {**SIZES, "image_size": 16, "patch_size": 8, "model_type": "clip_vision_model"}
    return LlavaForConditionalGeneration(LlavaConfig(text_config={**TEXT, "model_type": "llama"}, vision_config=vision))


def mistral3() -> PreTrainedModel:
    vision = {**SIZES, "image_size": 16, "patch_size": 8, "model_type": "pixtral", "head_dim": 16}
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config={**TEXT, "model_type": "mistral"}, vision_config=vision))


@pytest.mark.parametrize("paradigm", ["full", "lora"])
@pytest.mark.parametrize("make", [gemma, llava, mistral3, voxtral])
def test_a_folder_brings_back_its_class(make: Any, paradigm: str, tmp_path: Path) -> None:
    targets = ("q_proj", "v_proj")
    config = ModelConfig(name="mine", paradigm=paradigm, target_modules=targets, device="cpu")  # type: ignore[arg-type]
    saved = Policies.create(config, ("qa",), tokenizer=byte_tokenizer(), models={"mine": make()})
    saved.save(tmp_path)
    opened = Policies.open(tmp_path, device="cpu")
    ours, theirs = (policies.bases[0].network for policies in (opened, saved))
    assert type(ours) is type(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("peft_config", [None, LoraConfig(r=2, target_modules=["q_proj"])], ids=["whole", "adapter"])
def test_a_run_goes_on(peft_config: Any, tmp_path: Path) -> None:
    def made(folder: str, steps: int) -> VRGRPOTrainer:
        torch.manual_seed(0)
        args = arguments(tmp_path / folder, max_steps=steps, lr_scheduler_type="constant")
        return VRGRPOTrainer(llava(), args, vowels, ROWS, processing_class=byte_tokenizer(), peft_config=peft_config)

    whole = made("whole", 2)
    whole.train()
    made("parts", 1).train()
    again = made("parts", 2)
    assert again.train(resume_from_checkpoint=True).global_step == 2
    assert whole.policies is not None
    assert again.policies is not None
    pairs = zip(whole.policies.parameters("assistant"), again.policies.parameters("assistant"), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Qwen3ForCausalLM),
        ({"architectures": None}, AutoModelForCausalLM),
        ({"architectures": ["Mine"]}, AutoModelForCausalLM),
        ({"architectures": ["Qwen3Model"]}, AutoModelForCausalLM),  # without a head
        ({"architectures": ["AutoModel"]}, AutoModelForCausalLM),
        ({"architectures": ["LlavaForConditionalGeneration"]}, AutoModelForCausalLM),  # of another type
    ],
)
def test_whose_class_is_taken(changes: dict[str, Any], kind: Any, tmp_path: Path) -> None:
    qwen3().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert class_of(tmp_path) is kind


@pytest.mark.parametrize("text", ["[]", "{", '{"architectures": [3]}', '{"architectures": 3}'])
def test_a_configuration_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DamagedError, match="expected the configuration of a network"):
        class_of(tmp_path)
