"""Models whose forward is random in training are refused: by what name, and what is no such model."""

from typing import Any

import pytest
import torch
from test_transformers_models import FOREST, build

import himakernels.integrations.transformers as hf

# Dropout as modules and as functions, whole layers, and noise in a router: what each family calls it, and its other settings.
RANDOM: dict[str, tuple[str, dict[str, Any], str]] = {
    "modules": (
        "GPT2Config",
        {"attn_pdrop": 0.0, "resid_pdrop": 0.1, "embd_pdrop": 0.0},
        r"config.resid_pdrop .*'gpt2' with 0.1",
    ),
    "layers": ("OPTConfig", {"layerdrop": 0.5, "dropout": 0.0}, "config.layerdrop .*'opt' with 0.5"),
    "functions": ("OPTConfig", {}, "config.dropout .*'opt' with 0.1"),
    "residuals": ("Starcoder2Config", {"residual_dropout": 0.1}, "config.residual_dropout .*'starcoder2' with 0.1"),
    "embedding": ("Starcoder2Config", {"embedding_dropout": 0.2}, "config.embedding_dropout .*'starcoder2' with 0.2"),
    "router": (
        "MixtralConfig",
        {"num_local_experts": 4, "router_jitter_noise": 0.3},
        "config.router_jitter_noise .*'mixtral' with 0.3",
    ),
}


@pytest.mark.parametrize(("config", "changes", "words"), RANDOM.values(), ids=RANDOM)
def test_what_is_random_is_refused_in_training(config: str, changes: dict[str, Any], words: str) -> None:
    model = build(config, num_attention_heads=2, **changes)
    assert hf.hidden_states(model.eval(), FOREST).shape == (5, 32)
    with pytest.raises(ValueError, match=words):
        hf.hidden_states(model.train(), FOREST)


def test_what_layers_keep_is_refused_whatever_the_config_says_later() -> None:
    model = build("OPTConfig", num_attention_heads=2).train()
    model.config.dropout = 0.0
    with pytest.raises(ValueError, match=r"expected dropout 0 in training .*'opt' with 0.1; load the model with 0"):
        hf.hidden_states(model, FOREST)
    model = build("GPT2Config", num_attention_heads=2, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0).train()
    model.transformer.h[1].mlp.dropout.p = 0.1
    with pytest.raises(ValueError, match=r"expected h.1.mlp.dropout 0 in training .*'gpt2' with 0.1"):
        hf.hidden_states(model, FOREST)


def test_dropout_of_other_heads_has_no_effect() -> None:
    model = build("GPT2Config", num_attention_heads=2, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    assert model.config.summary_first_dropout == 0.1
    hidden = hf.hidden_states(model.train(), FOREST)
    assert torch.equal(hidden, hf.hidden_states(model.eval(), FOREST))
    model = build("GPTNeoXConfig", num_attention_heads=2)
    assert model.config.classifier_dropout == 0.1
    assert hf.hidden_states(model.train(), FOREST).shape == (5, 32)
