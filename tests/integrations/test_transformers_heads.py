"""What the output head of a family is, and which are refused."""

from typing import Any

import pytest
import torch
from decoder_runs import make_model
from test_transformers_models import build

import himakernels.integrations.transformers as hf

HEADS = {
    "llama": {},
    "Gemma2Config": {"final_logit_softcapping": 2.0},
    "CohereConfig": {"logit_scale": 0.25},
    "GraniteConfig": {"logits_scaling": 3.0},
    "PhiConfig": {},  # a bias
    "Qwen3Config": {"tie_word_embeddings": True},
}


@pytest.mark.parametrize(("config", "changes"), HEADS.items(), ids=HEADS)
def test_the_head_gives_the_model_s_logits(config: str, changes: dict[str, Any]) -> None:
    model = make_model("llama", attention="eager") if config == "llama" else build(config, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.3)
        model.set_attn_implementation("eager")
        ids = torch.tensor([[1, 2, 3]])
        hidden = model.get_decoder()(input_ids=ids).last_hidden_state[0]
        weight, bias, softcap, temperature = hf.output_head(model)
        logits = torch.nn.functional.linear(hidden, weight, bias)
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        assert torch.allclose(logits / temperature, model(input_ids=ids).logits[0], rtol=1e-5, atol=1e-5)
    assert (softcap, temperature) != (None, 1.0) or not (changes.keys() - {"tie_word_embeddings"})
    assert (bias is not None) == (config == "PhiConfig")
    assert weight is model.get_output_embeddings().weight


def test_heads_that_are_more_than_a_linear_layer() -> None:
    model = make_model("llama")
    with pytest.raises(NotImplementedError, match=r"output head of type torch.nn.Linear, model_type 'llama' has none"):
        hf.output_head(model.model)
    model.config.lm_head_multiplier = 2.0
    with pytest.raises(NotImplementedError, match=r"scale of logits, model_type 'llama' has \{'lm_head_multiplier': 2.0\}"):
        hf.output_head(model)
    del model.config.lm_head_multiplier
    model.lm_head = torch.nn.Sequential(model.lm_head)
    with pytest.raises(
        NotImplementedError, match=r"output head of type torch.nn.Linear, model_type 'llama' has torch.nn.*\.Sequential"
    ):
        hf.output_head(model)
    model = make_model("llama")
    model.transform = torch.nn.Linear(32, 32)
    with pytest.raises(NotImplementedError, match=r"only a linear head after the decoder, .*'transform.weight'"):
        hf.output_head(model)
