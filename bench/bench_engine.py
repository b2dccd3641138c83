"""Rollouts of the tiny decoder (hidden 128, 2 layers, 2,000 tokens of vocabulary): 64 samples of 64 tokens after 750-850 each.

`nodes` are 64 different prompts behind a system prompt of 400 tokens, `siblings` 8 such prompts with 8 samples each.
The opponent is transformers' `generate` on the same model, padded, all 64 rows in one batch. Before anything is timed, greedy
tokens must be those of `generate`, and log-probabilities pass the gate. extra_info says where the engine's time goes: `prefill`
and `decode` in seconds, and `outside`, the share of its time that is not spent in the model's forward.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

import himakernels.integrations.transformers as hf
from bench.measure import device_name
from himakernels.testing import assert_gate
from trainer.engine import SamplingParams
from trainer.engine.local import LocalEngine

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
V, SYSTEM, TAIL, NEW, ROWS, ROUNDS = 2000, 400, 350, 64, 64, 5
CONFIG = Qwen3Config(
    vocab_size=V,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
    initializer_range=0.1,
    pad_token_id=0,
    bos_token_id=None,
    eos_token_id=None,
)


class OnePolicy:
    """One model, which is a plain one outside of the engine's steps."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: PreTrainedModel = Qwen3ForCausalLM._from_config(CONFIG, attn_implementation="sdpa").eval().to(DEVICE)
        self.names, self.versions = ("qa",), {"qa": 0}

    def base_of(self, policy: str) -> "OnePolicy":
        return self

    @contextmanager
    def decoding(self) -> Iterator[PreTrainedModel]:
        self.model.set_attn_implementation(hf.ATTENTION)
        try:
            with torch.no_grad():
                yield self.model
        finally:
            self.model.set_attn_implementation("sdpa")


def requests(kind: str, seed: int) -> tuple[list[list[int]], int]:
    """Prompts and n. The system prompt changes with the seed too, so that no call finds it computed."""
    count = ROWS if kind == "nodes" else ROWS // 8
    generator = torch.Generator().manual_seed(seed)
    system = torch.randint(1, V, (SYSTEM,), generator=generator).tolist()
    tails = [TAIL + 100 * i // count for i in range(count)]
    return [system + torch.randint(1, V, (t,), generator=generator).tolist() for t in tails], ROWS // count


def generate(model: PreTrainedModel, prompts: list[list[int]], n: int, greedy: bool = False) -> torch.Tensor:
    """transformers' own, [rows, NEW]."""
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=DEVICE)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=DEVICE)
    how: dict[str, Any] = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0, "num_return_sequences": n}
    return model.generate(padded, attention_mask=mask, max_new_tokens=NEW, **how)[:, longest:]


def logprobs(model: PreTrainedModel, whole: list[int]) -> torch.Tensor:
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([whole], device=DEVICE)).logits[0, -NEW - 1 : -1].log_softmax(-1)
    return scores.gather(-1, torch.tensor(whole[-NEW:], device=DEVICE)[:, None])[:, 0]


def check(policies: OnePolicy, prompts: list[list[int]]) -> None:
    samples = LocalEngine(policies).generate(prompts, 1, SamplingParams(max_new_tokens=NEW, temperature=0.0), "qa")
    assert [list(s.token_ids) for (s,) in samples] == generate(policies.model, prompts, 1, greedy=True).tolist()
    eager = [logprobs(policies.model, prompt + list(s.token_ids)) for prompt, (s,) in zip(prompts, samples, strict=True)]
    double = Qwen3ForCausalLM._from_config(CONFIG, attn_implementation="sdpa").eval().to(DEVICE)
    double.load_state_dict(policies.model.state_dict())
    double.double()
    truth = [logprobs(double, prompt + list(s.token_ids)) for prompt, (s,) in zip(prompts, samples, strict=True)]
    ours = torch.cat([torch.tensor(s.rollout_logprobs) for (s,) in samples])
    assert_gate("rollout_logprobs", ours, torch.cat(truth).cpu(), torch.cat(eager).cpu(), n=V)


@pytest.mark.parametrize("kind", ["nodes", "siblings"])
@pytest.mark.parametrize("who", ["engine", "generate"])
def bench_engine(benchmark: Any, kind: str, who: str) -> None:
    benchmark.group = f"rollout of the tiny decoder, {kind}"
    policies = OnePolicy()
    engine = LocalEngine(policies)
    batches = [requests(kind, seed) for seed in range(ROUNDS + 1)]
    if who == "engine":
        check(policies, batches[0][0][:8])
    params = SamplingParams(max_new_tokens=NEW)
    waiting = iter(batches)

    def timed() -> None:
        prompts, n = next(waiting)
        if who == "engine":
            engine.generate(prompts, n, params, "qa", range(len(prompts)))
        else:
            generate(policies.model, prompts, n)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(timed, rounds=ROUNDS, iterations=1, warmup_rounds=1)
    if benchmark.stats is None:
        return
    info: dict[str, Any] = {"device": device_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    info["tokens_per_second"] = round(ROWS * NEW / statistics.median(benchmark.stats.stats.data))
    if who == "engine":
        s = engine.stats
        info |= {"hit_rate": round(s.hit_rate, 4), "outside": round(1 - s.model_seconds / s.seconds, 3)}
        info |= {"prefill": s.prefill_seconds / (ROUNDS + 1), "decode": s.decode_seconds / (ROUNDS + 1)}
    benchmark.extra_info.update(info)
    print(kind, who, info)
