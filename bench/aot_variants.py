"""The launches that are compiled ahead of time: name -> a call of launchers on meta tensors.

The sizes are those that we train with, and ragged ones.
Every @triton.jit kernel of the library is in here (tests/test_aot.py). An entry stands for one set of specialisations.
"""

from collections.abc import Callable

import torch

from himakernels.lm_head import gemm_kernels, logits_kernels, row_kernels
from himakernels.ops.group_advantages.kernels import group_advantages_fwd
from himakernels.ops.grouped_lora import triton_route as grouped_lora_route
from himakernels.ops.paged_attention.kernels import paged_attention_fwd
from himakernels.ops.tree_attention.bwd_kernels import tree_attention_bwd
from himakernels.ops.tree_attention.fwd_kernels import tree_attention_fwd
from himakernels.ops.vrgrpo_loss.kernels import policy_logits_fwd, segment_sum_fwd
from himakernels.ops.vrgrpo_loss.options import PolicyOptions
from himakernels.ops.vrgrpo_loss.rows import Rows, Samples

R, H, V = 1024, 4096, 131072


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def logits_stats(dtype: torch.dtype, *, softcap: float | None = None, vocab: int = V) -> None:
    logits_kernels.logits_stats_fwd(meta(R, vocab, dtype=dtype), meta(R, dtype=torch.int64), softcap=softcap)


def logits_grad(dtype: torch.dtype, *, softcap: float | None = None, entropy: bool = False, vocab: int = V) -> None:
    logits, row = meta(R, vocab, dtype=dtype), meta(R)
    labels = meta(R, dtype=torch.int64)
    logits_kernels.logits_bwd(logits, labels, row, row, row, row, row if entropy else None, logits, softcap=softcap)


def head_fwd(dtype: torch.dtype, *, bias: bool = False, hidden: int = H, vocab: int = V) -> None:
    out, weight = meta(R, vocab, dtype=dtype), meta(vocab, hidden, dtype=dtype)
    gemm_kernels.head_logits_fwd(meta(R, hidden, dtype=dtype), weight, meta(vocab, dtype=dtype) if bias else None, out)


def head_bwd(dtype: torch.dtype, *, compacted: bool, hidden: int = H, vocab: int = V) -> None:
    dlogits, weight = meta(R, vocab, dtype=dtype), meta(vocab, hidden, dtype=dtype)
    x, dx, dweight = meta(R, hidden, dtype=dtype), meta(R, hidden, dtype=dtype), meta(vocab, hidden)
    rows, count = (meta(R, dtype=torch.int32), meta(1, dtype=torch.int32)) if compacted else (None, None)
    gemm_kernels.head_dhidden_bwd(dlogits, weight, rows, count, dx)
    gemm_kernels.head_dweight_bwd(dlogits, x, rows, count, dweight, accumulate=compacted)


def head_rows(dtype: torch.dtype) -> None:
    rows, count = row_kernels.compact_rows(meta(R, dtype=torch.bool))
    row_kernels.head_dbias_bwd(meta(R, V, dtype=dtype), rows, count, meta(V), accumulate=True)
    row_kernels.scale_(meta(V, H), meta(1))


def policy_logits(
    dtype: torch.dtype, options: PolicyOptions, *, softcap: float | None = None, vocab: int = V, scaled: bool = False
) -> None:
    logits, labels, row = meta(R, vocab, dtype=dtype), meta(R, dtype=torch.int64), meta(R)
    samples = Samples(labels, row, R, None, None)
    rows = Rows(row, row, row, row, row if options.kl_coef else None, row if options.importance else None, samples)
    grad_scale = meta() if scaled else None
    policy_logits_fwd(logits, logits, labels, rows, options, temperature=1.0, softcap=softcap, grad_scale=grad_scale)


def tree_attention(dtype: torch.dtype, D: int, *, group: int = 4, options: bool = False) -> None:
    T, Hk = 32_768, 8
    q, k = meta(T, Hk * group, D, dtype=dtype), meta(T, Hk, D, dtype=dtype)
    tokens, sinks = meta(T, dtype=torch.int32), meta(Hk * group, dtype=dtype) if options else None
    numbers = {"scale": D**-0.5, "window": 1_024 if options else None, "softcap": 50.0 if options else None}
    saved = tree_attention_fwd(q, k, k, tokens, tokens, sinks, **numbers, with_rest=dtype.itemsize == 2)
    tree_attention_bwd(q, q, k, k, *saved, tokens, tokens, sinks, **numbers)


def paged_attention(dtype: torch.dtype, D: int, *, queries: int = 1, group: int = 4, options: bool = False) -> None:
    N, Hk, block_size = 64, 8, 16
    q, keys = meta(N * queries, Hk * group, D, dtype=dtype), meta(8192, block_size, Hk, D, dtype=dtype)
    table, bounds, lens = (meta(*shape, dtype=torch.int32) for shape in ((N, 512), (N + 1,), (N,)))
    sinks = meta(Hk * group, dtype=dtype) if options else None
    numbers = {"scale": D**-0.5, "window": 1_024 if options else None, "softcap": 50.0 if options else None}
    paged_attention_fwd(q, keys, keys, table, bounds, lens, sinks, **numbers)


def segment_sum() -> None:
    segment_sum_fwd(meta(R), meta(R, dtype=torch.int64), meta(65, dtype=torch.int64))


def group_advantages(*, columns: int, num_groups: int, separate: bool = False) -> None:
    S = 8192
    rewards = meta(S) if columns == 1 else meta(S, columns)
    weights = None if columns == 1 else meta(columns)
    options = {"normalize": "std", "eps": 1e-4, "separate": separate, "dtype": torch.float32}
    group_advantages_fwd(rewards, meta(S, dtype=torch.int64), num_groups, weights, **options)


def grouped_lora(
    dtype: torch.dtype, adapters: torch.dtype, ranks: tuple[int, ...] = (16, 32, 8), *, hidden: int = H, out: int = H
) -> None:
    T = 8192
    x, base, segments = meta(T, hidden, dtype=dtype), meta(T, out, dtype=dtype), meta(len(ranks) + 1, dtype=torch.int32)
    a = [meta(r, hidden, dtype=adapters) for r in ranks]
    b = [meta(out, r, dtype=adapters) for r in ranks]
    scaling, needs = [2.0] * len(ranks), [True] * (1 + 2 * len(ranks))
    _, h = grouped_lora_route.grouped_lora_fwd(x, base, a, b, segments, scaling)
    grouped_lora_route.grouped_lora_bwd(base, x, h, a, b, segments, scaling, needs)


VARIANTS: dict[str, Callable[[], None]] = {
    "logits_stats bf16": lambda: logits_stats(torch.bfloat16),
    "logits_stats fp32 softcap": lambda: logits_stats(torch.float32, softcap=30.0),
    "logits_stats fp16 ragged": lambda: logits_stats(torch.float16, vocab=50257),
    "logits_bwd bf16": lambda: logits_grad(torch.bfloat16),
    "logits_bwd bf16 entropy softcap": lambda: logits_grad(torch.bfloat16, entropy=True, softcap=30.0),
    "logits_bwd fp32 entropy": lambda: logits_grad(torch.float32, entropy=True),
    "policy bf16 grpo": lambda: policy_logits(torch.bfloat16, PolicyOptions(), vocab=151936),
    "policy bf16 dapo kl entropy importance softcap": lambda: policy_logits(
        torch.bfloat16,
        PolicyOptions(loss_type="dapo", kl_coef=0.1, entropy_coef=0.01, importance="token_truncate", delta=4.0),
        softcap=30.0,
    ),
    "policy fp32 cispo": lambda: policy_logits(torch.float32, PolicyOptions(loss_type="cispo", clip_high=5.0)),
    "policy fp16 sapo ragged scaled": lambda: policy_logits(
        torch.float16, PolicyOptions(loss_type="sapo"), vocab=50257, scaled=True
    ),
    "segment_sum": segment_sum,
    "group_advantages": lambda: group_advantages(columns=1, num_groups=512),
    "group_advantages columns sorted": lambda: group_advantages(columns=3, num_groups=4096),
    "group_advantages columns separate": lambda: group_advantages(columns=3, num_groups=512, separate=True),
    "head_logits bf16": lambda: head_fwd(torch.bfloat16),
    "head_logits fp16 bias ragged": lambda: head_fwd(torch.float16, bias=True, hidden=900, vocab=50257),
    "head_logits fp32": lambda: head_fwd(torch.float32),
    "head_bwd bf16": lambda: head_bwd(torch.bfloat16, compacted=False),
    "head_bwd bf16 compacted": lambda: head_bwd(torch.bfloat16, compacted=True),
    "head_bwd bf16 compacted Qwen2.5-0.5B": lambda: head_bwd(torch.bfloat16, compacted=True, hidden=896, vocab=151936),
    "head_bwd bf16 compacted H=2048": lambda: head_bwd(torch.bfloat16, compacted=True, hidden=2048, vocab=151936),
    "head_bwd fp16 compacted ragged": lambda: head_bwd(torch.float16, compacted=True, hidden=900, vocab=50257),
    "head_bwd fp32 compacted": lambda: head_bwd(torch.float32, compacted=True),
    "grouped_lora bf16": lambda: grouped_lora(torch.bfloat16, torch.bfloat16),
    "grouped_lora bf16 adapters fp32": lambda: grouped_lora(torch.bfloat16, torch.float32),
    "grouped_lora bf16 r=8 Qwen2.5-0.5B": lambda: grouped_lora(torch.bfloat16, torch.float32, (8,) * 5, hidden=896, out=4864),
    "grouped_lora fp16 ragged": lambda: grouped_lora(torch.float16, torch.float16, (3, 100), hidden=900, out=1001),
    "grouped_lora fp32": lambda: grouped_lora(torch.float32, torch.float32, (64,)),
    "paged_attention bf16 D=64 decode": lambda: paged_attention(torch.bfloat16, 64, group=7),
    "paged_attention bf16 D=128 decode": lambda: paged_attention(torch.bfloat16, 128),
    "paged_attention bf16 D=256 decode window softcap sinks": lambda: paged_attention(torch.bfloat16, 256, options=True),
    "paged_attention bf16 D=128 prefill": lambda: paged_attention(torch.bfloat16, 128, queries=32),
    "paged_attention bf16 D=128 prefill window softcap sinks": lambda: paged_attention(
        torch.bfloat16, 128, queries=32, options=True
    ),
    "paged_attention fp16 D=64 prefill window softcap sinks": lambda: paged_attention(
        torch.float16, 64, queries=32, options=True
    ),
    "paged_attention bf16 D=256 prefill": lambda: paged_attention(torch.bfloat16, 256, queries=32),
    "paged_attention fp32 D=64 decode": lambda: paged_attention(torch.float32, 64),
    "paged_attention fp32 D=128 decode": lambda: paged_attention(torch.float32, 128),
    "paged_attention fp32 D=128 prefill": lambda: paged_attention(torch.float32, 128, queries=32),
    "paged_attention fp32 D=256 decode": lambda: paged_attention(torch.float32, 256),
    "paged_attention fp32 D=256 prefill window softcap sinks": lambda: paged_attention(
        torch.float32, 256, queries=32, options=True
    ),
    "tree_attention bf16 D=16": lambda: tree_attention(torch.bfloat16, 16, group=1),
    "tree_attention bf16 D=64": lambda: tree_attention(torch.bfloat16, 64),
    "tree_attention bf16 D=64 window softcap sinks": lambda: tree_attention(torch.bfloat16, 64, options=True),
    "tree_attention bf16 D=128": lambda: tree_attention(torch.bfloat16, 128),
    "tree_attention fp16 D=128": lambda: tree_attention(torch.float16, 128),
    "tree_attention bf16 D=256 window softcap sinks": lambda: tree_attention(torch.bfloat16, 256, options=True),
    "tree_attention bf16 D=128 window softcap sinks": lambda: tree_attention(torch.bfloat16, 128, options=True),
    "tree_attention bf16 D=256": lambda: tree_attention(torch.bfloat16, 256),
    "tree_attention fp32 D=64": lambda: tree_attention(torch.float32, 64),
    "tree_attention fp32 D=64 window softcap sinks": lambda: tree_attention(torch.float32, 64, options=True),
    "tree_attention fp32 D=128": lambda: tree_attention(torch.float32, 128),
    "tree_attention fp32 D=128 window softcap sinks": lambda: tree_attention(torch.float32, 128, options=True),
    "tree_attention fp32 D=256": lambda: tree_attention(torch.float32, 256),
    "head_rows bf16": lambda: head_rows(torch.bfloat16),
}
