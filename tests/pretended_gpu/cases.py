"""Runs every op and the integrations on the pretended GPU; prints, for each case, its name and what went wrong or "fine"."""

import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from device import kernels, launches
from mistakes import MISTAKES
from networks import PREPARED, back, decoder, decoding, engine, five_adapters, learner
from ops import advantages, attention, attention_views, fused, heads_first, logprobs, lora, loss, paged, varlen

import himakernels.integrations.transformers as hf
from trainer.engine import SamplingParams

sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in ("integrations", "trainer")]
import tiny_policies
from decoder_runs import Sample, make_model, pack_samples
from test_transformers_peft import adapted

SCALE = {"scale_kernel"}
LOGPROBS = {"head_logits_fwd_kernel", "logits_stats_fwd_kernel"}
FROZEN_HEAD = LOGPROBS | SCALE | {"compact_rows_kernel", "logits_bwd_kernel", "head_dhidden_bwd_kernel"}
HEAD = FROZEN_HEAD | {"head_dweight_bwd_kernel"}
BIAS, SAMPLES = {"head_dbias_bwd_kernel"}, {"segment_sum_kernel"}
LOGITS, LOGITS_APART = {"policy_logits_fwd_kernel"}, {"logits_stats_fwd_kernel", "logits_bwd_kernel"}
ATTENTION = {"tree_attention_fwd_kernel", "tree_attention_bwd_dq_kernel", "tree_attention_bwd_dkv_kernel"}
PAGED = {"paged_attention_fwd_kernel"}
LORA_FWD = {"grouped_lora_shrink_kernel", "grouped_lora_expand_kernel"}
LORA = LORA_FWD | {"grouped_lora_wgrad_kernel"}
ADVANTAGES = {"group_advantages_fwd_kernel"}
CASES: dict[str, tuple[Callable[[], Any], set[str]]] = {}  # what to run, and the kernels that it launches
ROOT = str(Path(__file__).resolve().parents[2])
WAITS: dict[str, int] = {}  # how often a case waits, if it does


def prepare() -> None:
    trained = [*[False] * 12, *[True] * 3]
    for family in ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3"):
        forest = pack_samples([Sample([*range(1, 13), 20, 30 + i, 44], trained) for i in range(4)])
        PREPARED[family] = make_model(family, torch.bfloat16, attention=hf.ATTENTION), forest
        CASES[family] = lambda family=family: decoder(family), ATTENTION | HEAD
    CASES["back"], WAITS["back"] = (back, set()), 11  # the tensors of a tree; the segments' values, and a copy of them
    samples = [Sample([*range(1, 13), 20 + i, 30, 40 + p], trained, policy=p) for p in range(5) for i in range(3)]
    PREPARED["five adapters"] = adapted(torch.bfloat16, hf.ATTENTION), pack_samples(samples, num_policies=5)
    CASES["five adapters"] = five_adapters, ATTENTION | FROZEN_HEAD | LORA
    learners: list[tuple[str, str, str, dict[str, Any], set[str]]] = [
        ("lora", "float32", "step", {}, FROZEN_HEAD | LORA),
        ("lora", "float32", "sft_step", {}, FROZEN_HEAD | LORA),
        ("lora", "float32", "step", {"kl_coef": 0.1, "num_iterations": 2}, FROZEN_HEAD | LORA),
        ("shared", "float32", "step", {}, HEAD),
        ("full", "bfloat16", "step", {}, HEAD),
    ]
    agents = tiny_policies.AGENTS[:2]
    for paradigm, dtype, step, config, found in learners:
        name = ", ".join(["learner", paradigm, dtype, step, *config])
        policies = tiny_policies.policies(paradigm, agents=agents, dtype=dtype)
        if "kl_coef" in config:
            policies.freeze_reference()
        PREPARED[name] = policies, tiny_policies.sequences(policies, agents, groups=1)
        CASES[name] = partial(learner, name, step, config), ATTENTION | found
        # For norms and losses before each update, and for the metrics after the last.
        WAITS[name] = config.get("num_iterations", 1) + 1
    one = SamplingParams(max_new_tokens=2, temperature=0.7, top_k=5, top_p=0.9, min_p=0.01)
    greedy = SamplingParams(max_new_tokens=2, temperature=0.0)
    for lean, params, what in ((False, [one, one], ""), (True, [one, one], ""), (True, [greedy, one], ", each its own way")):
        name = f"engine, lean {lean}{what}"
        PREPARED[name] = tiny_policies.policies(agents=agents), [[*range(2, 40), last] for last in (50, 51)]
        CASES[name] = partial(engine, name, lean, params), PAGED if lean else PAGED | LORA_FWD
        WAITS[name] = 4  # steps
    PREPARED["decoding"] = make_model("qwen3", torch.bfloat16, attention=hf.ATTENTION)
    CASES["decoding"] = decoding, PAGED

    half, full = torch.bfloat16, torch.float32
    for dtype in (half, full):
        CASES[f"attention, {dtype}"] = lambda d=dtype: attention(d), ATTENTION
        CASES[f"attention with all options, {dtype}"] = (
            lambda d=dtype: attention(d, sinks=True, window=9, softcap=3.0),
            ATTENTION,
        )
        CASES[f"grouped_lora, {dtype}"] = lambda d=dtype: lora((d, d), base=True), LORA
    CASES["grouped_lora, fp32 adapters, no base"] = lambda: lora((half, full), base=False), LORA
    CASES["varlen_attention"] = varlen, ATTENTION
    for views in (fused, heads_first):
        CASES[f"tree_attention, {views.__name__}"] = partial(attention_views, views), ATTENTION
        CASES[f"paged_attention, {views.__name__}"] = partial(paged, views, window=4, softcap=3.0), PAGED
    CASES["logprobs and cross entropy"] = logprobs, HEAD
    CASES["advantages and groups"] = advantages, ADVANTAGES
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "all within a row": {
            "kl_coef": 0.1, "importance": "token_mask", "entropy_coef": 0.1, "grad_scale": 8.0,
            "rows": ("ref_logprobs", "rollout_logprobs"),
        },
        "sequences": {"ratio_level": "sequence", "importance": "sequence_truncate", "rows": ("rollout_logprobs",)},
        "agents": {"loss_type": "dapo", "num_agents": 3},
        "rewards": {"loss_type": "bnpo", "rewards": True, "top_k": 1},
        "vespo": {"loss_type": "vespo"},
    }  # fmt: skip
    whole = ("sequences", "vespo")  # they look at whole samples
    for name, chosen in options.items():
        more = SCALE | (SAMPLES if name in whole else ADVANTAGES if name == "rewards" else set())
        CASES[f"loss, {name}"] = partial(loss, "linear", **chosen), HEAD | more
        CASES[f"loss of logits, {name}"] = partial(loss, "logits", **chosen), (LOGITS_APART if name in whole else LOGITS) | more
    CASES["loss, a bias"] = partial(loss, "linear", bias=True), HEAD | BIAS
    CASES["loss of logits, in place"] = partial(loss, "logits", inplace=True), SCALE | LOGITS
    in_place: dict[str, Any] = {"inplace": True, "ratio_level": "sequence"}
    CASES["loss of logits, sequences, in place"] = partial(loss, "logits", **in_place), SCALE | SAMPLES | LOGITS_APART
    for kind, run in MISTAKES.items():
        CASES[f"wrong: {kind}"] = run, set()


def main() -> None:
    prepare()
    unused = kernels()
    print(f"kernels\t{' '.join(sorted(unused))}")
    for name, (run, expected) in CASES.items():
        try:
            launched, waits = launches(run)
            if not name.startswith("wrong"):
                unused -= launched
            wrong = [f"launched no {sorted(expected - launched)}"] * (not expected <= launched)
            wrong += [f"launched also {sorted(launched - expected)}"] * (not launched <= expected)
            wrong += [f"waited at {waits}"] * (len(waits) != WAITS.get(name, 0))
            print(f"{name}\t{'; '.join(wrong) or 'fine'}")
        except Exception as error:
            where = [
                f"{f.filename}:{f.lineno}"
                for f in traceback.extract_tb(error.__traceback__)
                if ROOT in f.filename and ".venv" not in f.filename and not f.filename.endswith("device.py")
            ]
            print(f"{name}\t{type(error).__name__}: {' '.join(str(error).split())[:300]} {where[-3:]}")
    print(f"every kernel\t{f'launched by no case: {sorted(unused)}' if unused else 'fine'}")
    sys.stdout.flush()
    os._exit(0)  # torch's threads for the device have no end of their own


if __name__ == "__main__":
    main()
