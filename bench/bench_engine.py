"""64 samples of 64 tokens after 750-850 each, by a random Qwen3 of 4.2 M parameters (`bench.rollout`'s).

`nodes` are 64 different prompts behind a system prompt of 400 tokens, `siblings` 8 such prompts with 8 samples each.
The opponent is transformers' `generate` on the same model, padded, all 64 rows in one batch. Before anything is timed, greedy
tokens must be those of `generate`, and log-probabilities pass the gate. extra_info says where the engine's time goes: `prefill`
and `decode` in seconds, and `outside`, the share of its time that is not spent in the model's forward (target: under 15 %).
"""

import statistics
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, Qwen3ForCausalLM

from bench.measure import device_name
from bench.rollout import SIZES, policies_of
from himakernels.testing import assert_gate
from trainer.engine import SamplingParams
from trainer.engine.local import LocalEngine
from trainer.models import Policies

SYSTEM, TAIL, NEW, ROWS, ROUNDS = 400, 350, 64, 64, 3
V = SIZES["4m"]["vocab_size"]


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
    padded = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    how: dict[str, Any] = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0, "num_return_sequences": n}
    return model.generate(padded, attention_mask=mask, max_new_tokens=NEW, **how)[:, longest:]


def logprobs(model: PreTrainedModel, whole: list[int]) -> torch.Tensor:
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([whole])).logits[0, -NEW - 1 : -1].log_softmax(-1)
    return scores.gather(-1, torch.tensor(whole[-NEW:])[:, None])[:, 0]


def check(policies: Policies, prompts: list[list[int]]) -> None:
    name = policies.names[0]
    samples = LocalEngine(policies).generate(prompts, 1, SamplingParams(max_new_tokens=NEW, temperature=0.0), name)
    with policies.base_of(name).generating(name) as model:
        assert [list(s.token_ids) for (s,) in samples] == generate(model, prompts, 1, greedy=True).tolist()
        eager = [logprobs(model, prompt + list(s.token_ids)) for prompt, (s,) in zip(prompts, samples, strict=True)]
        double = Qwen3ForCausalLM._from_config(model.config, attn_implementation="sdpa").eval()
        double.load_state_dict(model.state_dict())
    double.double()
    truth = [logprobs(double, prompt + list(s.token_ids)) for prompt, (s,) in zip(prompts, samples, strict=True)]
    ours = torch.cat([torch.tensor(s.rollout_logprobs) for (s,) in samples])
    assert_gate("rollout_logprobs", ours, torch.cat(truth), torch.cat(eager), n=V)


@pytest.mark.parametrize("kind", ["nodes", "siblings"])
@pytest.mark.parametrize("who", ["engine", "generate"])
def bench_engine(benchmark: Any, kind: str, who: str) -> None:
    benchmark.group = f"rollout, {kind}"
    policies = policies_of("4m", 0)
    (name,), engine = policies.names, LocalEngine(policies)
    batches = [requests(kind, seed) for seed in range(ROUNDS + 1)]
    if who == "engine":
        check(policies, batches[0][0][:8])
    params = SamplingParams(max_new_tokens=NEW)
    waiting = iter(batches)

    def timed() -> None:
        prompts, n = next(waiting)
        if who == "engine":
            engine.generate(prompts, n, params, name, range(len(prompts)))
        else:
            with policies.base_of(name).generating(name) as model:
                generate(model, prompts, n)

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
