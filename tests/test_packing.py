"""Packing against a slow dict trie written from the definition, and its cuts against all cuts that there are."""

import itertools
import time
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from himakernels import PackedTree, Packing, pack
from himakernels.checks import check_subtree_end
from himakernels.ops.tree_attention.block_kernels import block_ranges

Key = tuple[int, tuple[int, ...]]  # (policy, prefix with the token itself): what is stored once


class Batch(NamedTuple):
    sequences: list[list[int]]
    sample_id: list[list[int]]
    policy_id: list[int]

    def keys(self, n: int) -> list[Key]:
        return [(self.policy_id[n], tuple(self.sequences[n][: d + 1])) for d in range(len(self.sequences[n]))]

    def pack(self, token_budget: int | None = None) -> Packing:
        rest = {"policy_id": self.policy_id, "num_policies": 3, "token_budget": token_budget}
        return pack(self.sequences, sample_id=self.sample_id, **rest)


class Forest:
    """The trie of the sequences `order`, whose children stand in order of first appearance, walked depth first."""

    def __init__(self, batch: Batch, order: list[int]) -> None:
        self.children: dict[Key, dict[Key, None]] = {}
        self.ends: dict[Key, list[int]] = {}
        self.position: dict[Key, int] = {}
        self.subtree_end: dict[Key, int] = {}
        self.sequences: list[int] = []
        for n in order:
            path = [(batch.policy_id[n], ()), *batch.keys(n)]
            for parent, child in itertools.pairwise(path):
                self.children.setdefault(parent, {})[child] = None
            self.ends.setdefault(path[-1], []).append(n)
        for policy in range(3):
            self.visit((policy, ()))

    def visit(self, key: Key) -> None:
        if key[1]:
            self.position[key] = len(self.position)
        self.sequences += self.ends.get(key, [])
        for child in self.children.get(key, {}):
            self.visit(child)
        self.subtree_end[key] = len(self.position)


def ancestors(tree: PackedTree, position: int) -> list[int]:
    """The tokens that the query at `position` sees, by the rule of the attention."""
    keys = range(position + 1)
    return [int(tree.token_ids[k]) for k in keys if k <= position < tree.subtree_end[k]]


def assert_is_the_definition(batch: Batch, packing: Packing) -> None:
    """Every micro-batch is the forest of its sequences; together they hold each sequence and each row exactly once."""
    order = [n for tree in packing for n in tree.sequence_id.tolist()]
    assert order == Forest(batch, list(range(len(batch.sequences)))).sequences
    starts = [0, *itertools.accumulate(map(len, batch.sequences))]
    have: set[tuple[Key, int]] = set()
    for tree in packing:
        here = tree.sequence_id.tolist()
        forest = Forest(batch, here)
        assert forest.sequences == here
        stored = list(forest.position)
        assert tree.token_ids.tolist() == [prefix[-1] for _, prefix in stored]
        assert tree.position_ids.tolist() == [len(prefix) - 1 for _, prefix in stored]
        assert tree.subtree_end.tolist() == [forest.subtree_end[key] for key in stored]
        assert tree.segments.tolist() == [sum(policy < p for policy, _ in stored) for p in range(4)]
        assert [ancestors(tree, leaf) for leaf in tree.leaf.tolist()] == [batch.sequences[n] for n in here]
        assert tree.original_tokens == sum(len(batch.sequences[n]) for n in here)
        check_subtree_end(tree.subtree_end)
        rows = []
        for n in here:
            path = batch.keys(n)
            for d, sample in enumerate(batch.sample_id[n]):
                if sample >= 0 and (path[d], sample) not in have:
                    have.add((path[d], sample))
                    rows.append((forest.position[path[d - 1]], batch.sequences[n][d], sample, starts[n] + d))
        got = (tree.rows, tree.labels, tree.sample_id, tree.source)
        assert list(zip(*(t.tolist() for t in got), strict=True)) == rows
    assert packing.num_tokens == sum(tree.num_tokens for tree in packing)
    assert packing.original_tokens == starts[-1]
    assert packing.num_tokens - packing.repeated_tokens == len({key for n in order for key in batch.keys(n)})


@st.composite
def batches(draw: st.DrawFn, max_sequences: int = 8, max_length: int = 7) -> Batch:
    """Few tokens, so that much is shared; new sequences often extend or repeat earlier ones. Samples in any pattern."""
    sequences: list[list[int]] = []
    for _ in range(draw(st.integers(0, max_sequences))):
        prefix = (
            draw(st.sampled_from(sequences))[: draw(st.integers(0, max_length))] if sequences and draw(st.booleans()) else []
        )
        tail = draw(st.lists(st.integers(0, 2), min_size=0 if prefix else 1, max_size=max_length))
        sequences.append((prefix + tail)[:max_length])
    sample_id = [[-1, *draw(st.lists(st.integers(-1, 4), min_size=len(s) - 1, max_size=len(s) - 1))] for s in sequences]
    return Batch(sequences, sample_id, [draw(st.integers(0, 2)) for _ in sequences])


@settings(max_examples=150, deadline=None)
@given(batches())
def test_one_tree_is_the_definition(batch: Batch) -> None:
    packing = batch.pack()
    assert len(packing) == 1
    assert packing.repeated_tokens == 0
    assert packing.split_samples == ()
    assert_is_the_definition(batch, packing)


@settings(max_examples=150, deadline=None)
@given(batches(), st.integers(0, 20))
def test_micro_batches_are_the_definition_within_the_budget(batch: Batch, more: int) -> None:
    budget = max(map(len, batch.sequences), default=1) + more
    packing = batch.pack(budget)
    assert all(tree.num_tokens <= budget for tree in packing)
    assert_is_the_definition(batch, packing)
    where = [(sample, b) for b, tree in enumerate(packing) for sample in set(tree.sample_id.tolist())]
    samples = [sample for sample, _ in where]
    assert packing.split_samples == tuple(sorted({s for s in samples if samples.count(s) > 1}))


@settings(max_examples=400, deadline=None)
@given(batches(max_sequences=7), st.integers(0, 12))
def test_no_other_cut_of_the_order_is_better(batch: Batch, more: int) -> None:
    """All 2^(N-1) of them: samples that a cut crosses, cut by cut, tokens, micro-batches, the largest, the smallest."""
    if not batch.sequences:
        return
    order = batch.pack()[0].sequence_id.tolist()
    trained: list[set[int]] = []  # the samples with rows in each unit
    have: set[tuple[Key, int]] = set()
    for n in order:
        rows = set(zip(batch.keys(n), batch.sample_id[n], strict=True)) - have
        have |= rows
        trained.append({sample for _, sample in rows if sample >= 0})
    budget = max(map(len, batch.sequences)) + more

    def cost(begin: list[int]) -> tuple[int, ...]:
        crossed = sum(len(set().union(*trained[:i]) & set().union(*trained[i:])) for i in begin[1:])
        runs = [order[i:j] for i, j in itertools.pairwise([*begin, len(order)])]
        sizes = [len({key for n in run for key in batch.keys(n)}) for run in runs]
        if max(sizes) > budget:
            return (10**9,)
        return crossed, sum(sizes), len(sizes), max(sizes), -min(sizes)

    inner = range(1, len(order))
    every = [[0, *cuts] for k in range(len(order)) for cuts in itertools.combinations(inner, k)]
    sizes = [len(tree.sequence_id) for tree in batch.pack(budget)]
    assert cost([0, *itertools.accumulate(sizes)][:-1]) == min(map(cost, every))


@settings(max_examples=60, deadline=None)
@given(batches(), st.randoms(use_true_random=False))
def test_a_permutation_of_the_input_changes_nothing_but_order(batch: Batch, random: object) -> None:
    order = list(range(len(batch.sequences)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = Batch(*([part[n] for n in order] for part in batch))

    def content(of: Batch) -> tuple[set, set]:
        tree = of.pack()[0]
        policy = torch.bucketize(torch.arange(tree.num_tokens), tree.segments[1:], right=True).tolist()
        node = [(policy[k], *ancestors(tree, k)) for k in range(tree.num_tokens)]
        assert len(node) == len(set(node))
        rows = [
            (node[r], *rest) for r, *rest in zip(*(t.tolist() for t in (tree.rows, tree.labels, tree.sample_id)), strict=True)
        ]
        assert len(rows) == len(set(rows))
        return set(node), set(rows)

    assert content(batch) == content(shuffled)


def test_siblings_share_their_prompt_and_the_start_of_an_action() -> None:
    """Worked by hand. Prompt 7 8; samples 0 and 2 act alike, sample 1 leaves them after one token of the action."""
    tree = pack([[7, 8, 1, 2], [7, 8, 1, 3], [7, 8, 1, 2]], sample_id=[[-1, -1, s, s] for s in range(3)])[0]
    assert tree.token_ids.tolist() == [7, 8, 1, 2, 3]
    assert tree.position_ids.tolist() == [0, 1, 2, 3, 3]
    assert tree.subtree_end.tolist() == [5, 5, 5, 4, 5]
    assert tree.sample_id.tolist() == [0, 0, 2, 2, 1, 1]
    assert tree.rows.tolist() == [1, 2] * 3
    assert tree.labels.tolist() == [1, 2, 1, 2, 1, 3]
    assert tree.source.tolist() == [2, 3, 10, 11, 6, 7]
    assert (tree.original_tokens, tree.saved_tokens, tree.share_saved) == (12, 7, 7 / 12)


def test_a_trajectory_given_twice_counts_once() -> None:
    """Also where the second goes on: only what is new gets rows. Another sample has its own."""
    tree = pack([[5, 1, 2], [5, 1, 2, 9, 3], [5, 1, 2]], sample_id=[[-1, 0, 0], [-1, 0, 0, -1, 0], [-1, 1, 1]])[0]
    assert tree.source.tolist() == [1, 2, 9, 10, 7]
    assert tree.sample_id.tolist() == [0, 0, 1, 1, 0]


def test_policies_share_nothing_and_agents_of_one_policy_do() -> None:
    same = {"sequences": [[1, 2, 3], [1, 2, 4]], "sample_id": [0, 1], "trained": [[False, False, True]] * 2}
    tree = pack(**same, agent_id=[4, 2])[0]
    assert tree.num_tokens == 4
    assert tree.agent_id.tolist() == [4, 2]
    apart = pack(**same, policy_id=[2, 0], num_policies=4)[0]
    assert apart.token_ids.tolist() == [1, 2, 4, 1, 2, 3]
    assert apart.segments.tolist() == [0, 3, 3, 6, 6]


@pytest.mark.parametrize("budget", [None, 64])
def test_thousands_of_branches(budget: int | None) -> None:
    """One prompt of 40, 3,000 actions of one token: a prompt for every 24 of them."""
    packing = pack([[*range(40), 100 + i] for i in range(3000)], token_budget=budget)
    bins = 1 if budget is None else 125
    assert len(packing) == bins
    assert packing.num_tokens == 40 * bins + 3000
    assert packing.repeated_tokens == 40 * (bins - 1)
    assert packing[0].token_ids[40:].tolist() == list(range(100, 100 + 3000 // bins))


@pytest.mark.parametrize(("count", "budget", "sizes"), [(6, 500, [300, 300]), (10, 450, [300, 300, 400])])
def test_micro_batches_are_balanced(count: int, budget: int, sizes: list[int]) -> None:
    """Not [500, 100], and not [400, 400, 200]."""
    packing = pack(list(torch.arange(count * 100).view(count, 100)), token_budget=budget)
    assert sorted(tree.num_tokens for tree in packing) == sizes


def test_a_sample_in_two_sequences_stays_whole_where_a_cut_allows_it() -> None:
    sequences = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    whole = pack(sequences, sample_id=[[-1, 0, 0], [-1, 1, 1], [-1, 1, 1]], token_budget=6)
    assert [tree.sample_id.unique().tolist() for tree in whole] == [[0], [1]]
    split = pack(sequences, sample_id=[[-1, 0, 0], [-1, 1, 1], [-1, 1, 1]], token_budget=5)
    assert split.split_samples == (1,)
    assert "1 samples have rows in several micro-batches" in str(split)


def test_no_sequences_one_token_depth_one() -> None:
    for budget in (None, 10):
        empty = pack([], sample_id=[], policy_id=[], agent_id=[], num_policies=2, token_budget=budget)
        assert len(empty) == 1
        assert (empty.num_tokens, empty.share_saved, empty.num_samples) == (0, 0.0, 0)
        assert empty[0].segments.tolist() == [0, 0, 0]
        assert empty[0].gather(torch.empty(0)).shape == (0,)
        assert str(empty).startswith("0 sequences")
    one = pack([[3]])[0]
    assert (one.token_ids.tolist(), one.subtree_end.tolist(), one.num_rows) == ([3], [1], 0)
    flat = pack([[3], [1], [3], [2]])[0]
    assert flat.token_ids.tolist() == [3, 1, 2]
    assert flat.sequence_id.tolist() == [0, 2, 1, 3]


def test_gather_brings_values_to_rows_and_is_differentiable() -> None:
    tree = pack([[7, 1, 2], [7, 1]], sample_id=[[-1, 0, 0], [-1, 1]])[0]
    values = torch.arange(5.0, requires_grad=True)
    assert tree.gather(values).tolist() == [4.0, 1.0, 2.0]
    assert torch.equal(tree.gather([values[:3], values[3:]]), tree.gather(values))
    (grad,) = torch.autograd.grad(tree.gather(values).sum(), values)
    assert grad.tolist() == [0, 1, 1, 0, 1]
    assert tree.to("meta").rows.device.type == "meta"
    assert tree.to("meta").lengths == tree.lengths


def test_the_sum_says_what_was_saved() -> None:
    packing = pack([[1, 2, 3, 4], [1, 2, 5, 6]], sample_id=[0, 1], trained=[[False, False, True, True]] * 2, token_budget=5)
    assert str(packing) == (
        "2 sequences, 8 tokens -> 8 packed: 0 saved (0.0%)\n"
        "2 micro-batches of 4 to 4 tokens, 2 tokens repeated\n"
        "4 loss rows of 2 samples"
    )


def test_time_grows_with_tokens() -> None:
    """Bounds three times what is promised, for slow machines: a product of lengths would take minutes."""
    prompts = torch.randint(1000, (1250, 436)).repeat_interleave(8, dim=0)
    sequences = list(torch.cat([prompts, torch.randint(1000, (10_000, 64))], dim=1))
    start = time.perf_counter()
    packing = pack(sequences, token_budget=32_768)
    assert time.perf_counter() - start < 3
    assert packing.share_saved > 0.7
    chain = torch.randint(1000, (32_768,))
    # Every prefix that ends at a multiple of 1,024: one chain in the trie, 32 nodes.
    for given_ in ([chain], list(chain.view(64, 512)), [chain[:n] for n in range(1024, 32_769, 1024)]):
        start = time.perf_counter()
        tree = pack(given_)[0]
        ranges = block_ranges(tree.subtree_end, tree.position_ids, 32)
        assert time.perf_counter() - start < 0.06
        assert sum(t.nbytes for t in (tree.position_ids, tree.subtree_end, tree.segments, *ranges)) < 2**20
