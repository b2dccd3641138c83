"""Networks that take more than text, and adapters that no packed step runs: said, or refused, when policies are made."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from test_balance import experts
from test_trainer import ROWS, arguments, vowels
from tiny_policies import byte_tokenizer, qwen3
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    JambaConfig,
    JambaForCausalLM,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    VoxtralConfig,
    VoxtralForConditionalGeneration,
)

from trainer import VRGRPOTrainer
from trainer.models import ModelConfig, Policies
from trainer.network_checks import warn_of_inputs

SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT: dict[str, Any] = {**SIZES, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 272, "max_position_embeddings": 256}
GEMMA = Gemma3Config(
    text_config=TEXT, vision_config={**SIZES, "image_size": 16, "patch_size": 8}, mm_tokens_per_image=4, image_token_index=271
)


def gemma() -> PreTrainedModel:
    torch.manual_seed(0)
    return Gemma3ForConditionalGeneration(GEMMA)


def qwen_vl() -> PreTrainedModel:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config={**TEXT, "rope_parameters": rope}, vision_config=vision)
    )


def voxtral() -> PreTrainedModel:
    return VoxtralForConditionalGeneration(VoxtralConfig(text_config={**TEXT, "model_type": "llama"}, audio_config=SIZES))


def said_of_text(call: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in said if "text alone" in str(one.message)]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (gemma, "Gemma3ForConditionalGeneration takes image beside text"),
        (qwen_vl, "Qwen2_5_VLForConditionalGeneration takes image, video beside text"),
        (voxtral, "VoxtralForConditionalGeneration takes audio beside text"),
        (lambda: Gemma3ForCausalLM(GEMMA.text_config), None),  # of a family that takes images
        (qwen3, None),
        (experts, None),
    ],
    ids=["gemma3", "qwen2.5-vl", "voxtral", "gemma3 text", "qwen3", "qwen3 moe"],
)
def test_models_of_more_than_text(make: Callable[[], PreTrainedModel], expected: str | None) -> None:
    said = said_of_text(lambda: warn_of_inputs([make(), make()]))
    assert said == ([] if expected is None else [f"model: {expected}; here it reads, and is trained on, text alone"])


@pytest.mark.parametrize("paradigm", ["lora", "full", "shared"])
def test_it_is_said_once(paradigm: str) -> None:
    config = ModelConfig(name="mine", paradigm=paradigm, device="cpu")  # type: ignore[arg-type]
    models = {"mine": gemma()}
    assert len(said_of_text(lambda: Policies.create(config, ("a", "b"), tokenizer=byte_tokenizer(), models=models))) == 1


@pytest.mark.parametrize("peft_config", [None, LoraConfig(r=2, target_modules="all-linear")], ids=["whole", "adapter"])
def test_its_language_model_learns_from_text(peft_config: Any, tmp_path: Path) -> None:
    model = gemma()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    made = VRGRPOTrainer(
        model,
        arguments(tmp_path, weight_decay=0.1),
        vowels,
        ROWS,
        processing_class=byte_tokenizer(),
        peft_config=peft_config,
    )
    assert len(said_of_text(made.train)) == 1
    assert made.policies is not None
    now = {name.replace(".base_layer", ""): parameter for name, parameter in model.named_parameters()}
    changed = {name for name, value in before.items() if not torch.equal(now[name], value)}
    assert all("language_model" in name for name in changed)
    assert bool(changed) == (peft_config is None)


@pytest.mark.parametrize(
    ("target_modules", "moved", "left"),
    [
        ("all-linear", "down_proj, gate.weight, gate_up_proj", ", here k_proj, o_proj, q_proj, v_proj"),
        (("q_proj", "gate"), "gate.weight", ", here q_proj"),
        (("gate_proj", "up_proj", "down_proj"), "down_proj, gate_up_proj", ""),
    ],
)
def test_adapters_of_routers_and_experts(target_modules: Any, moved: str, left: str) -> None:
    """Refused when the policies are made, not at the first generation."""
    config = ModelConfig(name="mine", lora_rank=2, target_modules=target_modules, device="cpu")
    with pytest.raises(
        NotImplementedError, match=rf"^adapter 'a': expected no target_parameters, got {moved}: .*modules{left}$"
    ):
        Policies.create(config, ("a",), tokenizer=byte_tokenizer(), models={"mine": experts()})


def mamba() -> PreTrainedModel:
    sizes = {**TEXT, "attn_layer_period": 2, "attn_layer_offset": 0, "num_experts": 1, "use_mamba_kernels": False}
    return JambaForCausalLM(JambaConfig(**sizes))


@pytest.mark.parametrize("paradigm", ["lora", "full"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (qwen_vl, r"expected one position a token, got model_type 'qwen2_5_vl_text' with multi-modal positions"),
        (mamba, r"expected layers of types full_attention, sliding_attention, got model_type 'jamba'"),
        (lambda: qwen3(attention_dropout=0.1), r"expected .*attention_dropout 0 in training"),
    ],
    ids=["m-rope", "mamba", "dropout"],
)
def test_decoders_that_are_not_trained(make: Callable[[], PreTrainedModel], message: str, paradigm: str) -> None:
    """Refused when the policies are made, not at the first generation."""
    config = ModelConfig(name="mine", paradigm=paradigm, target_modules=("q_proj",), device="cpu")  # type: ignore[arg-type]
    with pytest.raises((NotImplementedError, ValueError), match=f"^model: {message}"):
        Policies.create(config, ("qa",), tokenizer=byte_tokenizer(), models={"mine": make()})
