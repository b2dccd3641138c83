"""Packing of sequences that share prefixes: ours, plain packing that shares nothing, and a dict trie a token at a time.

Sequences are int64 tensors. Plain packing does what a trainer without shared prefixes must do as well: one concatenation,
positions and boundaries. The gate compares every array of ours with the dict trie's.
"""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.measure import configuration
from himakernels import PackedTree, pack
from himakernels.ops.tree_attention.block_kernels import block_ranges

# Name -> sequences, group size, tokens of the shared prompt, tokens of a sequence.
WORKLOADS = {
    "5M, G = 8": (10_000, 8, 436, 500),
    "5M, nothing shared": (10_000, 1, 0, 500),
    "32K, G = 8": (64, 8, 448, 512),
    "32K, one chain": (1, 1, 0, 32_768),
    "smoke": (16, 4, 12, 20),
}
BUDGET = 32_768
BLOCK = 32  # of keys, the smallest that a GPU takes in bf16


def make(workload: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """(sequences, the sample of each token): each sequence is a sample, trained on all that follows its prompt."""
    count, group, prompt, length = WORKLOADS[workload]
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(150_000, (count // group, prompt), generator=generator).repeat_interleave(group, dim=0)
    tokens = torch.cat([prompts, torch.randint(150_000, (count, length - prompt), generator=generator)], dim=1)
    trained = torch.arange(length) >= max(prompt, 1)
    return list(tokens), list(torch.where(trained, torch.arange(count)[:, None], -1))


def ours(sequences: list[torch.Tensor], sample_id: list[torch.Tensor]) -> PackedTree:
    return pack(sequences, sample_id=sample_id)[0]


def ours_with_ranges(sequences: list[torch.Tensor], sample_id: list[torch.Tensor]) -> object:
    """All that attention needs to know: what the kernels skip by, too."""
    tree = ours(sequences, sample_id)
    return block_ranges(tree.subtree_end, tree.position_ids, BLOCK)


def ours_in_micro_batches(sequences: list[torch.Tensor], sample_id: list[torch.Tensor]) -> object:
    return pack(sequences, sample_id=sample_id, token_budget=BUDGET)


def plain_packing(sequences: list[torch.Tensor], sample_id: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """token_ids, position_ids, cu_seqlens, and rows, labels and samples of what is trained."""
    token_ids, samples = torch.cat(sequences), torch.cat(sample_id)
    lengths = torch.tensor([len(s) for s in sequences], dtype=torch.int32)
    cu_seqlens = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    position_ids = torch.arange(len(token_ids), dtype=torch.int32) - cu_seqlens[:-1].repeat_interleave(lengths)
    trained = (samples >= 0).nonzero()[:, 0]
    return token_ids, position_ids, cu_seqlens, trained - 1, token_ids[trained], samples[trained]


def dict_trie(sequences: list[torch.Tensor], sample_id: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """A dict for the children of each token; token_ids, position_ids, subtree_end, rows, labels, samples, source."""
    root: dict[int, Any] = {}
    paths, start = [], 0
    for sequence, samples in zip(sequences, sample_id, strict=True):
        children, path = root, []
        for i, (token, sample) in enumerate(zip(sequence.tolist(), samples.tolist(), strict=True)):
            node = children.setdefault(token, {"children": {}, "token": token, "ends": []})
            path.append((node, sample, start + i))
            children = node["children"]
        path[-1][0]["ends"].append(path)
        start += len(path)
    packed: list[dict[str, Any]] = []
    stack: list[tuple[dict[str, Any], int, bool]] = [(node, 0, False) for node in reversed(root.values())]
    while stack:
        node, depth, closes = stack.pop()
        if closes:
            node["end"] = len(packed)
            continue
        node["at"], node["depth"] = len(packed), depth
        packed.append(node)
        paths += node["ends"]
        stack.append((node, depth, True))
        stack += [(child, depth + 1, False) for child in reversed(node["children"].values())]
    tokens = [torch.tensor([node[key] for node in packed]) for key in ("token", "depth", "end")]
    rows = [
        (before["at"], node["token"], sample, source)
        for path in paths
        for (before, _, _), (node, sample, source) in itertools.pairwise(path)
        if sample >= 0
    ]
    return (*tokens, *torch.tensor(rows).reshape(-1, 4).unbind(1))


@pytest.fixture(scope="module")
def same_as_the_dict_trie() -> None:
    """No time before the arrays are right."""
    for workload in ("smoke", "32K, G = 8"):
        inputs = make(workload)
        tree = ours(*inputs)
        got = (tree.token_ids, tree.position_ids, tree.subtree_end, tree.rows, tree.labels, tree.sample_id, tree.source)
        for mine, theirs in zip(got, dict_trie(*inputs), strict=True):
            assert torch.equal(mine.long(), theirs)


RUNS: dict[str, Callable[[list[torch.Tensor], list[torch.Tensor]], object]] = {
    "himakernels": ours,
    "himakernels, and block ranges": ours_with_ranges,
    "himakernels, micro-batches of 32,768": ours_in_micro_batches,
    "plain packing": plain_packing,
    "dict trie": dict_trie,
}


@pytest.mark.usefixtures("same_as_the_dict_trie")
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_packing(benchmark: Any, request: pytest.FixtureRequest, workload: str, name: str) -> None:
    smoke = request.config.getoption("benchmark_disable")
    if smoke != (workload == "smoke"):
        pytest.skip("the small workload is for runs without timing, the others for runs with it")
    if name == "dict trie" and workload.startswith("5M"):
        pytest.skip("5 million dicts")
    benchmark.group = f"packing {workload}"
    inputs = make(workload)
    run = RUNS[name]
    big = workload.startswith("5M")
    benchmark.pedantic(run, args=inputs, rounds=7 if big or name == "dict trie" else 200, iterations=1, warmup_rounds=2)
    tree = ours(*inputs)
    benchmark.extra_info.update(configuration())
    benchmark.extra_info.update(
        {
            "tokens": tree.original_tokens,
            "packed": tree.num_tokens,
            "share_saved": tree.share_saved,
            "metadata_bytes": sum(
                t.nbytes
                for t in (
                    *(tree.position_ids, tree.subtree_end, tree.segments),
                    *block_ranges(tree.subtree_end, tree.position_ids, BLOCK),
                )
            ),
        }
    )
    if benchmark.stats is not None:
        benchmark.extra_info["tokens_per_s"] = tree.original_tokens / benchmark.stats.stats.median
