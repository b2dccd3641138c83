"""Runs every op and the integrations on the pretended GPU; prints, for each case, its name and what went wrong or "fine"."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from device import DEVICE, launches, lie, move, register

register()

import himakernels as hk  # noqa: E402
import himakernels.integrations.transformers as hf  # noqa: E402
from himakernels.integrations import transformers_paged  # noqa: E402
from himakernels.integrations.peft import packed_adapters, train_adapters  # noqa: E402

sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in ("integrations", "trainer")]
import tiny_policies  # noqa: E402
from decoder_runs import Sample, make_model, pack_samples  # noqa: E402
from test_transformers_peft import RANKS, adapted  # noqa: E402

from trainer.engine import SamplingParams  # noqa: E402
from trainer.engine.local import LocalConfig, LocalEngine  # noqa: E402
from trainer.learner import Learner, LearnerConfig  # noqa: E402

HEAD = {"head_logits_fwd_kernel", "logits_stats_fwd_kernel", "logits_bwd_kernel", "head_dhidden_bwd_kernel"}
ATTENTION = {"tree_attention_fwd_kernel", "tree_attention_bwd_dq_kernel", "tree_attention_bwd_dkv_kernel"}
LORA = {"grouped_lora_shrink_kernel", "grouped_lora_expand_kernel", "grouped_lora_wgrad_kernel"}
CASES: dict[str, tuple[Callable[[], Any], set[str]]] = {}  # what to run, and kernels that it must launch
ROOT = str(Path(__file__).resolve().parents[2])
# The learner: for norms and losses before the update, and for the metrics after it.
WAITS = {"learner, step": 2, "learner, sft_step": 2}
PREPARED: dict[str, Any] = {}  # made on the CPU, before


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, device=DEVICE, requires_grad=True)


def ids(most: int, n: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.randint(most, (n,), device=DEVICE, dtype=dtype)


def attention(dtype: torch.dtype, *, sinks: bool = False, **options: Any) -> None:
    q, k, v = (randn(70, heads, 64, dtype=dtype) for heads in (4, 2, 2))
    extra = {"sinks": randn(4)} if sinks else {}
    out = hk.tree_attention(
        q, k, v, ids(70, 70, torch.int32), position_ids=ids(70, 70, torch.int32), **extra, **options
    )  # fmt: skip
    out.backward(torch.randn_like(out))


def varlen() -> None:
    hk.varlen_attention(randn(30, 4, 64), randn(30, 2, 64), randn(30, 2, 64), ids(30, 3, torch.int32)).sum().backward()


def paged() -> None:
    pool = torch.randn(16, 8, 2, 64, device=DEVICE)
    table, bounds, lens = (ids(9, n, torch.int32) for n in (6, 3, 2))
    hk.paged_attention(torch.randn(6, 4, 64, device=DEVICE), pool, pool, table.view(2, 3), bounds, lens)


def lora(dtypes: tuple[torch.dtype, torch.dtype], *, base: bool) -> None:
    a, b = ([randn(*shape(r), dtype=dtypes[1]) for r in (4, 0, 8)] for shape in (lambda r: (r, 32), lambda r: (24, r)))
    shared = randn(40, 24, dtype=dtypes[0]) if base else None
    y = hk.grouped_lora(randn(40, 32, dtype=dtypes[0]), a, b, ids(40, 4, torch.int32), [1.0, 2.0, 0.5], base=shared)
    y.sum().backward()


def loss(form: str, **options: Any) -> None:
    rows, samples = 20, 5
    values: dict[str, Any] = {
        "advantages": torch.randn(samples, device=DEVICE),
        "old_logprobs": torch.randn(rows, device=DEVICE),
    }
    values |= {name: torch.randn(rows, device=DEVICE) for name in options.pop("rows", ())} | options
    if options.pop("rewards", False):
        values |= {"advantages": None, "rewards": torch.randn(samples, device=DEVICE), "group_id": ids(2, samples)}
    if "num_agents" in options:
        values["agent_id"] = ids(options["num_agents"], samples)
    labels, sample_id = ids(53, rows), ids(samples, rows)
    if form == "linear":
        out = hk.vrgrpo_loss(randn(rows, 32), randn(53, 32), labels, sample_id=sample_id, **values)
    else:
        out = hk.vrgrpo_loss_from_logits(randn(rows, 53), labels, sample_id=sample_id, **values)
    out.loss.backward()


def logprobs() -> None:
    hidden, weight, labels = randn(20, 32), randn(53, 32), ids(53, 20)
    out = hk.token_logprobs(hidden, weight, labels, return_entropy=True)
    (out.logprobs.sum() + out.entropy.sum()).backward()
    hk.token_logprobs_from_logits(randn(20, 53), labels).logprobs.sum().backward()
    hk.token_cross_entropy(hidden, weight, labels, softcap=9.0).loss.backward()


def advantages() -> None:
    out = hk.group_advantages(torch.randn(20, device=DEVICE), ids(4, 20), num_groups=4)
    hk.select_groups(out.variance, top_k=2, per=ids(2, 4))


def step_loss(model: torch.nn.Module, tree: hk.PackedTree, hidden: torch.Tensor, samples: int, **agents: Any) -> torch.Tensor:
    old = tree.gather(torch.randn(tree.original_tokens, device=DEVICE))
    return hk.vrgrpo_loss(
        hidden, hf.output_head(model).weight, tree.labels, sample_id=tree.sample_id, old_logprobs=old,
        advantages=torch.randn(samples, device=DEVICE), **agents,
    ).loss  # fmt: skip


def decoder(family: str) -> None:
    real, forest = PREPARED[family]
    model, tree = move(real), forest.to(DEVICE, non_blocking=True)
    step_loss(model, tree, hf.hidden_states(model, tree), 4).backward()


def five_adapters() -> None:
    real, forest = PREPARED["five adapters"]
    model, tree = move(real), forest.to(DEVICE, non_blocking=True)
    train_adapters(model, list(RANKS))
    with packed_adapters(model, list(RANKS), tree.segments):
        hidden = hf.hidden_states(model, tree)
    step_loss(model, tree, hidden, 15, agent_id=ids(5, 15), num_agents=5).backward()
    assert all(p.grad.device.type == DEVICE for n, p in model.named_parameters() if "lora_" in n)


def decoding() -> None:
    model = move(PREPARED["decoding"]).eval()
    with torch.no_grad():
        pool = transformers_paged.kv_pool(model, num_blocks=8, block_size=4)
        step = transformers_paged.PagedStep.of(pool, np.array([[0, 1], [2, 3]], np.int32), [0, 4], [3, 1])
        assert transformers_paged.logits(model, step, ids(9, 4)).device.type == DEVICE


def learner(step: str) -> None:
    """A step of the trainer: four adapters, several micro-batches, clipping and AdamW."""
    policies, batch = PREPARED[f"learner, {step}"]
    (base,) = policies.bases
    move(base.model)
    base._trained |= train_adapters(base.model, base.policies)
    made = Learner(policies, LearnerConfig(learning_rate=1e-3, token_budget=60, max_grad_norm=0.1))
    assert getattr(made, step)(batch).micro_batches > 1


def engine(lean: bool) -> None:
    """Two prompts with a common beginning, the first once more from the cache; each step ends with its tokens."""
    policies, batch = PREPARED[f"engine, lean {lean}"]
    (base,) = policies.bases
    move(base.model)
    params = SamplingParams(max_new_tokens=3, temperature=0.7, top_k=5, top_p=0.9, min_p=0.01)
    made = LocalEngine(policies, LocalConfig(lean=lean, token_budget=4096))
    for prompts in (batch, batch[:1]):
        (first, *_), *_ = made.generate(prompts, 2, params, "qa")
        assert len(first.token_ids) == 3


def noticed(kind: str) -> None:
    """What must be noticed."""
    x = randn(20, 53)
    if kind == "read":
        float(x.sum())
    elif kind == "copy":
        torch.tensor([1.0], device=DEVICE)
    elif kind == "two devices":
        x + torch.ones(20, 53)
    elif kind == "launch":
        from himakernels.lm_head import logits_kernels

        logits_kernels.logits_stats_fwd(x.detach(), torch.zeros(20, dtype=torch.int64))
    else:
        lie("group_advantages")
        hk.group_advantages(torch.randn(20, device=DEVICE), ids(4, 20), num_groups=4)


def prepare() -> None:
    trained = [*[False] * 12, *[True] * 3]
    for family in ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3"):
        forest = pack_samples([Sample([*range(1, 13), 20, 30 + i, 44], trained) for i in range(4)])
        PREPARED[family] = make_model(family, torch.bfloat16, attention=hf.ATTENTION), forest
        CASES[family] = lambda family=family: decoder(family), ATTENTION | HEAD
    samples = [Sample([*range(1, 13), 20 + i, 30, 40 + p], trained, policy=p) for p in range(5) for i in range(3)]
    PREPARED["five adapters"] = adapted(torch.bfloat16, hf.ATTENTION), pack_samples(samples, num_policies=5)
    CASES["five adapters"] = five_adapters, ATTENTION | HEAD | LORA
    for step in ("step", "sft_step"):
        policies = tiny_policies.policies()
        PREPARED[f"learner, {step}"] = policies, tiny_policies.sequences(policies, tiny_policies.AGENTS)
        CASES[f"learner, {step}"] = lambda step=step: learner(step), ATTENTION | HEAD | LORA
    for lean in (False, True):
        prompts = [[*range(2, 40), last] for last in (50, 51)]
        PREPARED[f"engine, lean {lean}"] = tiny_policies.policies(), prompts
        CASES[f"engine, lean {lean}"] = lambda lean=lean: engine(lean), {"paged_attention_fwd_kernel"}
        WAITS[f"engine, lean {lean}"] = 6  # steps
    PREPARED["decoding"] = make_model("qwen3", torch.bfloat16, attention=hf.ATTENTION)
    CASES["decoding"] = decoding, {"paged_attention_fwd_kernel"}

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
    CASES["paged_attention"] = paged, {"paged_attention_fwd_kernel"}
    CASES["logprobs and cross entropy"] = logprobs, HEAD
    CASES["advantages and groups"] = advantages, {"group_advantages_fwd_kernel"}
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
    for name, chosen in options.items():
        CASES[f"loss, {name}"] = lambda o=chosen: loss("linear", **o), HEAD
        CASES[f"loss of logits, {name}"] = lambda o=chosen: loss("logits", **o), {"scale_kernel"}
    for kind in ("read", "copy", "two devices", "launch", "promise"):
        CASES[f"wrong: {kind}"] = lambda kind=kind: noticed(kind), set()


def main() -> None:
    prepare()
    for name, (run, kernels) in CASES.items():
        try:
            launched, waits = launches(run)
            missing = sorted(kernels - launched)
            wrong = [f"launched no {missing}"] * bool(missing) + [f"waited at {waits}"] * (len(waits) > WAITS.get(name, 0))
            print(f"{name}\t{'; '.join(wrong) or 'fine'}")
        except Exception as error:
            where = [
                f"{f.filename}:{f.lineno}"
                for f in traceback.extract_tb(error.__traceback__)
                if ROOT in f.filename and ".venv" not in f.filename
            ]
            print(f"{name}\t{type(error).__name__}: {' '.join(str(error).split())[:300]} {where[-3:]}")
    sys.stdout.flush()
    os._exit(0)  # torch's threads for the device have no end of their own


if __name__ == "__main__":
    main()
