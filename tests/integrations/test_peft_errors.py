"""What packed_adapters refuses, each with what was expected and what was got."""

from typing import Any

import pytest
import torch

pytest.importorskip("peft")
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

from himakernels.integrations.peft import packed_adapters, train_adapters

PLAIN = {"r": 2, "target_modules": ["q_proj", "down_proj"]}


def base_model() -> torch.nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, num_key_value_heads=1, vocab_size=31, tie_word_embeddings=False))


def model_with(config: Any = None, **second: Any) -> PeftModel:
    model = get_peft_model(base_model(), config or LoraConfig(**PLAIN), adapter_name="one")
    if second:
        model.add_adapter("two", LoraConfig(**{**PLAIN, **second}))
    return model.train()


def enter(model: Any, names: Any = ("one", None), segments: Any = (0, 3, 5), **options: Any) -> None:
    if not isinstance(segments, torch.Tensor):
        segments = torch.tensor(segments, dtype=torch.int32)
    with packed_adapters(model, names, segments, **options), torch.no_grad():
        model(input_ids=torch.zeros(1, 5, dtype=torch.int64))


def test_a_plain_model_is_accepted() -> None:
    """So each refusal below has its reason."""
    enter(model_with())
    enter(model_with(), [None, None])
    enter(model_with(r=3, target_modules=["v_proj"]), ["one", "two"])
    enter(model_with(target_modules="all-linear", exclude_modules=["q_proj"]), ["one", "two"])


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"use_dora": True}, NotImplementedError, r"adapter 'two': expected use_dora=False, got True"),
        ({"bias": "lora_only"}, NotImplementedError, r"adapter 'two': expected bias='none', got 'lora_only'"),
        ({"lora_bias": True}, NotImplementedError, r"adapter 'two': expected lora_bias=False, got True"),
        ({"lora_dropout": 0.1}, NotImplementedError, r"q_proj: expected lora_dropout 0 in training for adapter 'two', got 0.1"),
        ({"modules_to_save": ["norm"]}, NotImplementedError, r"adapter 'two': expected no modules_to_save, got \['norm'\]"),
        (
            {"trainable_token_indices": [1]},
            NotImplementedError,
            r"adapter 'two': expected no trainable_token_indices, got \[1\]",
        ),
        (
            {"target_modules": ["embed_tokens"]},
            NotImplementedError,
            r"embed_tokens: expected LoRA on a linear layer .*Embedding",
        ),
        ({"target_modules": ["lm_head"]}, NotImplementedError, r"lm_head: expected no LoRA on the output head"),
        ({"init_lora_weights": "mica"}, NotImplementedError, r"q_proj: expected plain LoRA for adapter 'two', got .*MiCA"),
        (
            {"target_modules": ["q_proj", "nowhere"]},
            ValueError,
            r"adapter 'two': expected target_modules .*, got \['nowhere'\]",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_adapters_that_are_not_plain(config: dict[str, Any], error: type[Exception], message: str) -> None:
    model = model_with(**config)
    with pytest.raises(error, match=message):
        enter(model, ["one", "two"])


def test_adapters_of_different_dtypes_are_named() -> None:
    model = model_with(r=3)
    for name, parameter in model.named_parameters():
        if ".two." in name:
            parameter.data = parameter.data.bfloat16()
    with pytest.raises(TypeError, match=r"q_proj: expected adapters of one dtype, got {'one': 'float32', 'two': 'bfloat16'}"):
        enter(model, ["one", "two"])


def test_dropout_is_harmless_in_evaluation() -> None:
    model = model_with(lora_dropout=0.1).eval()
    enter(model, ["one", "two"])
    with (
        pytest.raises(NotImplementedError, match="expected lora_dropout 0 in training"),
        packed_adapters(model, ["two"], torch.tensor([0, 5], dtype=torch.int32)),
    ):
        model.train()(input_ids=torch.zeros(1, 5, dtype=torch.int64))


def test_models_that_are_not_lora() -> None:
    with pytest.raises(TypeError, match=r"model: expected a peft.PeftModel, got Qwen3ForCausalLM"):
        enter(base_model())
    config = IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    with pytest.raises(NotImplementedError, match=r"adapter 'one': expected a LoRA adapter, got IA3"):
        enter(model_with(config))


@pytest.mark.parametrize(
    ("names", "segments", "error", "message"),
    [
        ([], (0,), ValueError, r"names: expected at least one adapter, in a sequence, got \[\]"),
        ("one", (0, 5), ValueError, r"names: expected at least one adapter, in a sequence, got 'one'"),
        (["one", "x"], (0, 3, 5), ValueError, r"names\[1\]: expected one of \['one'\] or None, got 'x'"),
        (["one"], (0, 3, 5), ValueError, r"segments: expected shape \[2\], got \[3\]"),
        (["one"], torch.tensor([0, 5]), TypeError, r"segments: expected dtype int32, got int64"),
        (["one", None], (0, 6, 5), ValueError, r"segments: expected ascending values from 0, got \[0, 6, 5\]"),
        (["one", None], (1, 3, 5), ValueError, r"segments: expected ascending values from 0, got \[1, 3, 5\]"),
        (["one", None], (0, 3, 6), ValueError, r"q_proj: expected segments\[-1\] = 6 tokens, got 5 \(\[1, 5, 16\]\)"),
        # No adapter has a token, so no layer of one counts them.
        (["one"], (0, 0), ValueError, r"segments: expected segments\[-1\] = 0 tokens, got 5: \[0, 5\) are in no segment"),
        ([None], (0, 3), ValueError, r"segments: expected segments\[-1\] = 3 tokens, got 5: \[3, 5\) are in no segment"),
        ([None, "one"], (0, 4, 4), ValueError, r"segments: expected segments\[-1\] = 4 tokens, got 5: \[4, 5\) are in no"),
        (["one", None], (0, 0, 9), ValueError, r"segments: expected segments\[-1\] = 9 tokens, got 5$"),
    ],
)
def test_names_and_segments(names: Any, segments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        enter(model_with(), names, segments)


def test_tokens_are_counted_however_they_are_given() -> None:
    model = model_with()
    with packed_adapters(model, [None], torch.tensor([0, 3], dtype=torch.int32)), torch.no_grad():
        model(input_ids=torch.zeros(1, 3, dtype=torch.int64))
        for given in ({"inputs_embeds": torch.zeros(1, 5, 16)}, {"input_ids": torch.zeros(5, 1, dtype=torch.int64)}):
            with pytest.raises(ValueError, match=r"\[3, 5\) are in no segment"):
                model(**given)
    with torch.no_grad():
        model(input_ids=torch.zeros(1, 5, dtype=torch.int64))  # nothing of the step is left


def test_states_of_the_model() -> None:
    model = model_with()
    model.merge_adapter()
    with pytest.raises(ValueError, match=r"q_proj: expected adapters apart from the base weights, got merged \['one'\]"):
        enter(model)
    model.unmerge_adapter()
    with model.disable_adapter(), pytest.raises(ValueError, match=r"q_proj: expected enabled adapters, got disabled ones"):
        enter(model)
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    layer.forward = layer.forward
    with pytest.raises(RuntimeError, match="q_proj: expected the layer's own forward, got one that another library put"):
        enter(model)
    del layer.forward
    enter(model)


def test_two_ways_of_mixing() -> None:
    model = model_with().eval()
    with (
        packed_adapters(model, ["one"], torch.tensor([0, 5], dtype=torch.int32)),
        pytest.raises(ValueError, match=r"q_proj: expected no adapter_names inside packed_adapters, got \['one'\]"),
    ):
        model(input_ids=torch.zeros(1, 5, dtype=torch.int64), adapter_names=["one"])


def test_another_base() -> None:
    model = model_with(r=3)
    model.peft_config["one"].base_model_name_or_path = "org/one/"
    model.peft_config["two"].base_model_name_or_path = "org/two"
    with pytest.raises(
        ValueError, match=r"adapter 'two': expected the base model 'org/one', as adapter 'one' has it, got 'org/two'"
    ):
        enter(model, ["one", "two"])
    enter(model, ["one", "two"], check_base=False)
    enter(model, ["one", None])


def test_adapters_narrower_than_the_model() -> None:
    model = model_with()
    model.base_model.model.model.layers[0].self_attn.q_proj.lora_A["one"].half()
    with pytest.raises(TypeError, match=r"a\[0\]: expected dtype float32, got float16"):
        enter(model)


def test_adapters_disabled_or_merged_inside_are_refused() -> None:
    """PEFT's idiom for the reference policy would otherwise give the policy itself."""
    model = model_with()
    with packed_adapters(model, ["one"], torch.tensor([0, 5], dtype=torch.int32)):
        with (
            model.disable_adapter(),
            pytest.raises(ValueError, match=r"q_proj: expected enabled adapters, got disabled ones"),
        ):
            model(input_ids=torch.zeros(1, 5, dtype=torch.int64))
        model.merge_adapter(["one"])
        with pytest.raises(ValueError, match=r"q_proj: expected adapters apart from the base weights, got merged \['one'\]"):
            model(input_ids=torch.zeros(1, 5, dtype=torch.int64))


def test_an_adapter_without_tokens_has_no_gradient() -> None:
    model = model_with(r=3)
    parameters = train_adapters(model, ["one", "two"])
    with packed_adapters(model, ["one", "two"], torch.tensor([0, 5, 5], dtype=torch.int32)):
        model(input_ids=torch.arange(5)[None]).logits.square().sum().backward()
    assert all(p.grad is not None for p in parameters["one"])
    assert all(p.grad is None for p in parameters["two"])


def test_adapters_that_peft_froze_meanwhile() -> None:
    """It leaves the active one trainable, so that a step would train one of several without a word."""
    model = model_with(r=3)
    ids, segments = torch.arange(5)[None], torch.tensor([0, 2, 5], dtype=torch.int32)

    def step(names: list[str | None]) -> None:
        with packed_adapters(model, names, segments):
            model(input_ids=ids)

    words = r"q_proj: expected trainable adapters \['one', 'two'\], got \['one'\]: .*call train_adapters again"
    with pytest.raises(ValueError, match=words):  # never called
        step(["one", "two"])
    step(["one", None])
    train_adapters(model, ["one", "two"])
    step(["one", "two"])
    with model.disable_adapter():
        pass
    with pytest.raises(ValueError, match=words):
        step(["one", "two"])
    with torch.no_grad():
        step(["one", "two"])
    train_adapters(model, ["two"])  # the other one plays along
    step(["one", "two"])
    model.set_adapter("one")
    with pytest.raises(ValueError, match=r"q_proj: expected trainable adapters \['two'\], got \['one'\]"):
        step(["one", "two"])
    model.requires_grad_(False)
    del vars(model)["_himakernels_trained_adapters"]
    step(["one", "two"])
