"""Typed signature of the C++ extension. Input arrays may have any strides; what comes back is contiguous."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# rewards [S] or [S, M], float32 or float64; group_id [S], int32 or int64; weights [M], float64.
# Returns advantages [S], count [n] int64, mean [n] and variance [n]; floats in the dtype of rewards.
def group_advantages(
    rewards: NDArray[Any],
    group_id: NDArray[Any],
    num_groups: int,
    weights: NDArray[np.float64] | None,
    normalize: str,
    eps: float,
    normalize_then_sum: bool,
    scale_by_batch_std: bool,
    threads: int,
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any], NDArray[Any]]: ...

# c (+)= a @ b for 2-D arrays of any strides (c: contiguous rows). Half precision comes as int16 with its dtype's name.
def gemm(
    a: NDArray[Any],
    a_dtype: str,
    b: NDArray[Any],
    b_dtype: str,
    c: NDArray[Any],
    c_dtype: str,
    accumulate: bool,
    threads: int,
    bf16_products: bool = False,
) -> None: ...
def has_bf16_products() -> bool: ...
def bf16_products_pay() -> bool: ...
def prefer_huge_pages(address: int, bytes: int) -> None: ...

# Sequences, one after another: tokens and sample_id [offsets[N]], offsets [N + 1], policy_id [N]; a limit of -1 is none.
# Returns for each micro-batch token_ids, position_ids, subtree_end, rows, labels, sample_id, source, segments, sequence_id
# and leaf (int32: position_ids, subtree_end, segments), then the distinct tokens and the split samples: see csrc/token_trie.h.
def token_trie(
    tokens: NDArray[np.int64],
    sample_id: NDArray[np.int64] | None,
    offsets: NDArray[np.int64],
    policy_id: NDArray[np.int64],
    num_policies: int,
    vocab_size: int,
    num_samples: int,
    token_budget: int,
) -> tuple[list[tuple[NDArray[Any], ...]], int, list[int]]: ...
def check_subtree_end(subtree_end: NDArray[np.int32]) -> None: ...

# Blocks and tokens of himakernels.prefix_cache.PrefixCache, which documents the methods; arrays are contiguous.
class OutOfBlocksError(RuntimeError): ...

class PrefixCache:
    def __init__(self, num_blocks: int, block_size: int) -> None: ...
    # -> node, matched tokens, blocks.
    def match(self, policy: str, policy_version: int, token_ids: NDArray[np.int64]) -> tuple[int, int, NDArray[np.int32]]: ...
    # -> node, new tokens, blocks.
    def insert(
        self, node: int, token_ids: NDArray[np.int64], block_ids: NDArray[np.int64]
    ) -> tuple[int, int, NDArray[np.int32]]: ...
    def lock(self, node: int, count: int) -> None: ...
    def unlock(self, node: int, count: int) -> None: ...
    # -> sources, targets, tokens to be copied: n each, or none.
    def fork(self, node: int, n: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]: ...
    def allocate(self, count: int) -> NDArray[np.int32]: ...
    def release(self, block_ids: NDArray[np.int64]) -> None: ...
    def evict(self, count: int) -> int: ...
    def reset(self, policy: str | None) -> int: ...
    def stats(self) -> tuple[int, ...]: ...
    def check_integrity(self) -> None: ...

# q [T, Hq, D], k and v [T, Hk, D], contiguous in D alone, all of `dtype` (half as int16); window 0 and softcap 0: none.
# Writes out [T, Hq, D] and softmax [2, Hq, T]: see csrc/tree_attention.h.
def tree_attention_fwd(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    dtype: str,
    subtree_end: NDArray[Any],
    position_ids: NDArray[Any] | None,
    sinks: NDArray[Any] | None,
    scale: float,
    window: int,
    softcap: float,
    out: NDArray[Any],
    softmax: NDArray[Any],
    threads: int,
) -> None: ...

# Writes those of dq, dk, dv (of `dtype`) and dsinks [Hq] float32 that are not None.
def tree_attention_bwd(
    dout: NDArray[Any],
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    softmax: NDArray[Any],
    dtype: str,
    subtree_end: NDArray[Any],
    position_ids: NDArray[Any] | None,
    sinks: NDArray[Any] | None,
    scale: float,
    window: int,
    softcap: float,
    dq: NDArray[Any] | None,
    dk: NDArray[Any] | None,
    dv: NDArray[Any] | None,
    dsinks: NDArray[Any] | None,
    threads: int,
) -> None: ...

# q [T, Hq, D], keys and values [blocks, block_size, Hk, D], contiguous in D alone, all of `dtype` (half as int16); int32
# block_table [N, M], cu_seqlens [N + 1], seq_lens [N]; window 0 and softcap 0: none. Writes out [T, Hq, D].
def paged_attention(
    q: NDArray[Any],
    keys: NDArray[Any],
    values: NDArray[Any],
    dtype: str,
    block_table: NDArray[Any],
    cu_seqlens: NDArray[Any],
    seq_lens: NDArray[Any],
    sinks: NDArray[Any] | None,
    scale: float,
    window: int,
    softcap: float,
    out: NDArray[Any],
    threads: int,
) -> None: ...

# logits_stats_{float32,float64,bfloat16,float16}(logits [R, V], labels [R] int64, inv_temperature, softcap (0 = none),
# logprobs [R], lse [R], entropy [R] (written), threads), and logits_grad_* with dlogits, source and target before labels,
# coef and coef_entropy after entropy: see csrc/logits.h.
def __getattr__(name: str) -> Any: ...
