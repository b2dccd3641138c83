"""Which models are refused, before any forward, and with what words."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from decoder_runs import SIZES, SLIDING_AND_FULL, V, make_model
from torch.utils._pytree import tree_map
from transformers import AutoModelForCausalLM, PreTrainedModel

import himakernels.integrations.transformers as hf
import himakernels.integrations.transformers_paged as paged
from himakernels import PackedTree, pack
from himakernels.integrations.transformers_models import check_depth, max_positions


def forest(*sequences: list[int]) -> PackedTree:
    (packed,) = pack(sequences, trained=[[False] + [True] * (len(s) - 1) for s in sequences], sample_id=range(len(sequences)))
    return packed


FOREST = forest([1, 2, 3, 4], [1, 2, 5])


def build(config: str, **changes: Any) -> PreTrainedModel:
    """A model of the family by the name of its config class; settings it does not know are left out by the config itself."""
    return AutoModelForCausalLM.from_config(
        getattr(transformers, config)(**(SIZES | changes)), attn_implementation=hf.ATTENTION
    )


def no_forward(model: PreTrainedModel) -> None:
    """Any forward of a module fails the test."""

    def fail(*_: Any) -> None:
        raise AssertionError("a forward has run")

    for module in model.modules():
        module.register_forward_pre_hook(fail)


REFUSED: dict[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "mamba": (lambda: build("MambaConfig"), "'mamba' with linear_attention"),
    "rwkv": (lambda: build("RwkvConfig", attention_hidden_size=32), "without recurrent or convolutional state, .*'rwkv'"),
    "jamba": (lambda: build("JambaConfig", attn_layer_offset=1, attn_layer_period=2), "'jamba' with linear_attention"),
    "qwen3_next": (lambda: build("Qwen3NextConfig"), "'qwen3_next' with linear_attention"),
    "lfm2": (lambda: build("Lfm2Config", layer_types=["conv", "full_attention"]), "'lfm2' with conv"),
    "llama4": (
        lambda: build("Llama4TextConfig", layer_types=["chunked_attention"] * 2),
        "'llama4_text' with chunked_attention",
    ),
    "both ways": (lambda: build("Gemma3TextConfig", use_bidirectional_attention=True), "expected causal attention"),
    "bert": (lambda: build("BertConfig"), "expected causal attention, got model_type 'bert'"),
    "cross": (lambda: build("GPT2Config", add_cross_attention=True), "without cross attention, got model_type 'gpt2'"),
    "m-rope": (
        lambda: build("Qwen2Config", rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}),
        "one position a token, got model_type 'qwen2' with multi-modal positions",
    ),
    "many shapes": (
        lambda: build("Gemma4TextConfig", layer_types=SLIDING_AND_FULL),
        "one shape for the attention of all layers",
    ),
    "own attention": (lambda: build("BloomConfig"), "through transformers' AttentionInterface, got model_type 'bloom'"),
    "own decoder": (
        lambda: build("ModernBertDecoderConfig", pad_token_id=0, bos_token_id=1, eos_token_id=2),
        "a decoder that is a PreTrainedModel, got model_type 'modernbert-decoder', whose get_decoder.. is of type Linear",
    ),
    "own positions": (
        lambda: build("BartConfig", d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48),
        "expected a decoder that takes position_ids, got model_type 'bart'",
    ),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_models_that_a_forest_cannot_run_through(make: Callable[[], PreTrainedModel], words: str) -> None:
    model = make()
    no_forward(model)
    with pytest.raises(NotImplementedError, match=words):
        hf.hidden_states(model, FOREST)


def test_a_decoder_that_keeps_what_it_is_handed() -> None:
    with pytest.raises(NotImplementedError, match="hands keyword arguments on to its attention, got model_type 'stablelm'"):
        hf.hidden_states(build("StableLmConfig", num_attention_heads=2), FOREST)


def test_a_window_in_the_mask_only() -> None:
    """Qwen2-MoE keeps a sliding layer's window in its mask: its attention is not told."""
    model = build("Qwen2MoeConfig", sliding_window=4, layer_types=SLIDING_AND_FULL, num_experts=4, moe_intermediate_size=16)
    with pytest.raises(NotImplementedError, match=r"expected the window of a sliding layer as an argument .*got None"):
        hf.hidden_states(model, FOREST)


def test_a_decoder_that_makes_a_mask_of_its_own() -> None:
    with pytest.raises(NotImplementedError, match=r"DogeAttention: expected no attention_mask, got .*the decoder makes itself"):
        hf.hidden_states(build("DogeConfig", keep_window_size=8), FOREST)


def test_layers_that_bypass_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")
    monkeypatch.setattr(
        type(model.model.layers[1].self_attn), "forward", lambda self, hidden_states, **_: (hidden_states, None)
    )
    with pytest.raises(NotImplementedError, match=r"all 2 layers to go through .*got 0 in model_type 'llama'"):
        hf.hidden_states(model, FOREST)


def test_a_plain_forward_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'himakernels' in LlamaAttention: expected the keyword arguments .*set_attn_impl"):
        make_model("llama")(input_ids=FOREST.token_ids[None])


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"attention_mask": torch.zeros(1, 1, 5, 5)}, r"expected no attention_mask, got one of shape \[1, 1, 5, 5\]"),
        ({"position_bias": torch.zeros(1)}, r"expected no arguments beside .*got \['position_bias'\]"),
        ({"is_causal": False}, "expected causal attention, got is_causal=False"),
        ({"dropout": 0.1}, "expected dropout 0, got 0.1"),
        ({"key": torch.zeros(1, 2, 7, 16)}, r"queries and keys of shape \[1, heads, 5, head_dim\], got .*\[1, 2, 7, 16\]"),
    ],
)
def test_what_the_attention_refuses(extra: dict[str, Any], words: str) -> None:
    q = torch.zeros(1, 2, 5, 16)
    module = torch.nn.Module()
    arguments = {"query": q, "key": q, "value": q, "attention_mask": None, "attended": hf.Attended()} | extra
    vectors = {"subtree_end": FOREST.subtree_end, "depth": FOREST.position_ids}
    with pytest.raises((ValueError, NotImplementedError), match=words):
        hf._attention(module, **arguments, **vectors)


def test_values_narrower_than_keys() -> None:
    """Latent attention (DeepSeek): the output has the values' width."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, d, generator=g) for d in (24, 24, 16))
    out, weights = hf._attention(
        torch.nn.Module(), q, k, v, None, subtree_end=FOREST.subtree_end, depth=FOREST.position_ids, attended=hf.Attended()
    )
    path = [0, 1, 4]
    expected = torch.nn.functional.scaled_dot_product_attention(*(t[:, :, path] for t in (q, k, v)), is_causal=True)
    assert weights is None
    assert out.shape == (1, 5, 2, 16)
    assert torch.allclose(out[:, path], expected.transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("config", ["DeepseekV2Config", "DeepseekV3Config"])
def test_the_head_dimension_of_latent_attention(config: str) -> None:
    """config.head_dim is that of the rotated part; queries and keys, also in the pool of blocks, have the other part too."""
    heads = {"num_key_value_heads": 4, "head_dim": 8, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
    ranks = {"q_lora_rank": 24, "kv_lora_rank": 16, "n_routed_experts": 4, "n_group": 1, "topk_group": 1}
    model = build(config, **heads, **ranks, num_experts_per_tok=2, moe_intermediate_size=32).eval()
    assert model.config.head_dim == 8
    pool = paged.kv_pool(model, num_blocks=1, block_size=4)
    step = paged.PagedStep.of(pool, np.zeros((1, 1), np.int32), [0], [3])
    with torch.no_grad():
        hidden, logits = hf.hidden_states(model, FOREST), paged.logits(model, step, torch.tensor([1, 2, 5]))
        model.set_attn_implementation("eager")
        for sample, sequence in enumerate(([1, 2, 3, 4], [1, 2, 5])):
            alone = model.model(input_ids=torch.tensor([sequence])).last_hidden_state[0, :-1]
            assert torch.allclose(hidden[FOREST.sample_id == sample], alone, atol=1e-5)
        assert torch.allclose(logits[0], model(input_ids=torch.tensor([[1, 2, 5]])).logits[0, -1], atol=1e-5)
    with pytest.raises(NotImplementedError, match=r"expected a head_dim of 16 to 256 .* with 12"):
        hf.hidden_states(build(config, **heads | {"qk_nope_head_dim": 4}, **ranks), FOREST)


def test_what_the_call_refuses() -> None:
    model = make_model("llama")
    with pytest.raises(TypeError, match=r"model: expected a transformers.PreTrainedModel .*got Linear"):
        hf.hidden_states(torch.nn.Linear(2, 2), FOREST)
    with pytest.raises(TypeError, match=r"packed: expected a PackedTree, one of a Packing's micro-batches, got Packing"):
        hf.hidden_states(model, pack([[1, 2]]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"packed.token_ids: expected values in \[0, 61\), got 61 at index 1"):
        hf.hidden_states(model, forest([1, V]))
    with pytest.raises(ValueError, match=r"below 128, .* 'llama' .*, got a sequence of 129 tokens"):
        hf.hidden_states(model, forest([1] * 129))
    assert hf.hidden_states(model, forest([1] * 128)).shape == (127, 32)
    with pytest.raises(ValueError, match=r"packed.rows: expected device cpu, got meta"):
        hf.hidden_states(model, replace(FOREST, rows=FOREST.rows.to("meta")))
    with pytest.raises(ValueError, match=r"attn_implementation 'himakernels', got 'eager'; .*set_attn_implementation"):
        hf.hidden_states(make_model("llama", attention="eager"), FOREST)
    dropout = make_model("llama", attention_dropout=0.1)
    assert hf.hidden_states(dropout.eval(), FOREST).shape == (5, 32)
    with pytest.raises(ValueError, match=r"config.attention_dropout 0 in training .*'llama' with 0.1"):
        hf.hidden_states(dropout.train(), FOREST)


def test_keyword_arguments_may_be_copied_on_their_way() -> None:
    """As accelerate's hooks and FSDP do: containers are made anew."""
    model = make_model("llama")
    expected = hf.hidden_states(model, FOREST)
    for layer in model.model.layers:
        layer.register_forward_pre_hook(
            lambda module, args, kwargs: (args, tree_map(lambda value: value, kwargs)), with_kwargs=True
        )
    assert torch.equal(hf.hidden_states(model, FOREST), expected)


def test_a_stretched_rotary_embedding_reaches_farther() -> None:
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "rope_theta": 1e4}
    model = build("Qwen3Config", max_position_embeddings=8, rope_parameters=rope)
    sequence = torch.randint(V, (20,), generator=torch.Generator().manual_seed(0)).tolist()
    with torch.no_grad():
        hidden = hf.hidden_states(model, forest(sequence))
        with pytest.raises(ValueError, match=r"positions below 32, .*got a sequence of 33 tokens"):
            hf.hidden_states(model, forest([1] * 33))
        model.set_attn_implementation("eager")
        alone = model.model(input_ids=torch.tensor([sequence])).last_hidden_state[0, :-1]
    assert torch.allclose(hidden, alone, atol=1e-5)
    dynamic = SimpleNamespace(max_position_embeddings=8, rope_parameters=rope | {"rope_type": "dynamic"})
    assert max_positions(dynamic) == 8
    assert max_positions(SimpleNamespace()) is None


def test_no_rows_give_a_connected_nothing() -> None:
    model = make_model("qwen3")
    (packed,) = pack([[1, 2], [1, 3]])
    hidden = hf.hidden_states(model, packed)
    assert hidden.shape == (0, 32)
    hidden.sum().backward()
    assert not model.get_input_embeddings().weight.grad.any()


def test_longrope_must_not_change_within_a_forest() -> None:
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 8}
    config = SimpleNamespace(model_type="phi3", max_position_embeddings=64, rope_parameters=rope)
    for shortest, longest in ((3, 8), (9, 60), (0, 0)):
        check_depth(config, shortest, longest)
    with pytest.raises(ValueError, match=r"all within or all beyond the 8 tokens .*'phi3' changes its frequencies, got 8 to 9"):
        check_depth(config, 8, 9)


def test_the_longrope_follows_the_depth() -> None:
    """T is beyond the switch, the depth is not: the short frequencies, as for each sequence alone."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "rope_theta": 1e4}
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 8, **factors}
    model = build("Phi3Config", hidden_size=64, rope_parameters=rope, original_max_position_embeddings=8)
    sequences = [[1, 2, 3, *[10 * b + i for i in range(4)]] for b in range(1, 5)]
    packed = forest(*sequences)
    assert packed.num_tokens > 8
    with torch.no_grad():
        hidden = hf.hidden_states(model, packed)
        model.set_attn_implementation("eager")
        for sample, sequence in enumerate(sequences):
            alone = model.model(input_ids=torch.tensor([sequence])).last_hidden_state[0, :-1]
            assert torch.allclose(hidden[packed.sample_id == sample], alone, atol=1e-5)


def test_an_empty_forest_gives_an_empty_result() -> None:
    hidden = hf.hidden_states(make_model("llama"), pack([])[0])
    assert hidden.shape == (0, SIZES["hidden_size"])
    assert hidden.requires_grad


def test_a_config_that_asks_for_tuples() -> None:
    model = make_model("llama")
    expected = hf.hidden_states(model, FOREST)
    model.config.return_dict = False
    assert torch.equal(hf.hidden_states(model, FOREST), expected)


def test_autocast_reaches_the_attention() -> None:
    """Rotations leave queries and keys in fp32 beside bf16 values; near the fp32 run, with every gradient."""
    model = make_model("llama")
    want = hf.hidden_states(model, FOREST)
    with torch.autocast("cpu", torch.bfloat16):
        got = hf.hidden_states(model, FOREST)
    torch.testing.assert_close(got.float(), want, rtol=0.1, atol=0.1)
    got.float().square().sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "lm_head" not in name)
