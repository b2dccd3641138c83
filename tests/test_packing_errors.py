"""What packing refuses: the argument, what was expected, what was got."""

from typing import Any

import numpy as np
import pytest
import torch

from himakernels import _core, pack
from himakernels.checks import check_subtree_end

S = [[1, 2, 3], [1, 2, 4, 5]]
IDS = [[-1, 0, 0], [-1, -1, 1, 1]]
MASK = [[False, True, True], [False, False, True, True]]


@pytest.mark.parametrize(
    ("error", "match", "sequences", "kwargs"),
    [
        (ValueError, r"policy_id: expected numbers below 65536, .* got 4611686018427387904", [[1]], {"policy_id": [2**62]}),
        (ValueError, r"sample_id: expected numbers below 16777216", [[1, 2]], {"sample_id": [[-1, 2**50]]}),
        (ValueError, r"policy_id: expected numbers below 65536, counted from 0, got 65536", [[1]], {"policy_id": [2**16]}),
        (ValueError, r"num_policies: expected a number <= 65536", [[1]], {"num_policies": 2**70}),
        (ValueError, r"sequences\[1\]: expected at least one token, got none", [[1], []], {}),
        (ValueError, r"sequences\[1\]: expected token ids >= 0, got -7 at index 2", [[1], [1, 2, -7]], {}),
        (ValueError, r"sequences\[1\]: expected token ids in \[0, 5\), got 5 at index 3", S, {"vocab_size": 5}),
        (ValueError, r"sequences\[0\]: expected 1 dimension, got shape \[\]", [1, 2], {}),
        (ValueError, r"sequences\[0\]: expected 1 dimension, got shape \[1, 2\]", [torch.ones(1, 2).long()], {}),
        (ValueError, r"sequences\[1\]: expected 1 dimension, got a list whose entries differ in shape", [[1], [1, [2]]], {}),
        (TypeError, r"sequences: expected a sequence of vectors, got NoneType", None, {}),
        (TypeError, r"sample_id: expected a sequence of vectors, got int", [[1, 2]], {"sample_id": 3}),
        (TypeError, r"trained: expected a sequence of vectors, got bool", [[1, 2]], {"sample_id": [0], "trained": True}),
        (TypeError, r"sequences\[0\]: expected dtype int64 or int32, got", [[2**63, 2]], {}),
        (TypeError, r"sequences\[1\]: expected dtype int64 or int32, got float64", [[1], [1.0]], {}),
        (TypeError, r"sequences\[0\]: expected dtype int64 or int32, got bfloat16", [torch.ones(2).bfloat16()], {}),
        (TypeError, r"sequences\[0\]: expected dtype int64 or int32, got bool", [np.ones(2, bool)], {}),
        (ValueError, r"sequences\[0\]: expected device cpu, got meta", [torch.ones(2).long().to("meta")], {}),
        (
            ValueError,
            r"token_budget: expected at least 4, the length of sequences\[1\], the longest, got 3, 1 too few",
            S,
            {"token_budget": 3},
        ),
        (ValueError, r"token_budget: expected a number >= 1, got 0", S, {"token_budget": 0}),
        (TypeError, r"token_budget: expected int or None, got float", S, {"token_budget": 8.0}),
        (TypeError, r"vocab_size: expected int or None, got bool", S, {"vocab_size": True}),
        (ValueError, r"sample_id: expected one entry for each of 2 sequences, got 1", S, {"sample_id": IDS[:1]}),
        (ValueError, r"sample_id\[1\]: expected length 4, that of sequences\[1\], got 3", S, {"sample_id": [IDS[0]] * 2}),
        (ValueError, r"sample_id\[0\]: expected -1 or numbers .*, got -2 at index 1", S[:1], {"sample_id": [[-1, -2, 0]]}),
        (ValueError, r"sample_id\[1\]: expected -1 or numbers in \[0, 1\), got 1", S, {"sample_id": IDS, "num_samples": 1}),
        (ValueError, r"sequences\[0\]: expected an untrained first token .* sample 3", S[:1], {"sample_id": [[3, 0, 0]]}),
        (ValueError, r"sample_id: expected a number for each sequence with trained, got None", S, {"trained": MASK}),
        (TypeError, r"trained\[0\]: expected dtype bool, got int64", S, {"sample_id": [0, 1], "trained": IDS}),
        (ValueError, r"trained\[1\]: expected length 4", S, {"sample_id": [0, 1], "trained": [MASK[0]] * 2}),
        (ValueError, r"sample_id: expected values >= 0 where .* got -1 at index 1", S, {"sample_id": [0, -1], "trained": MASK}),
        (
            ValueError,
            r"sample_id: expected values in \[0, 5\) or -1, got 9 at index 1",
            S,
            {"sample_id": [0, 9], "trained": MASK, "num_samples": 5},
        ),
        (ValueError, r"policy_id: expected one entry for each of 2 sequences, got 3", S, {"policy_id": [0, 0, 0]}),
        (ValueError, r"policy_id: expected values in \[0, 2\), got 2 at index 1", S, {"policy_id": [0, 2], "num_policies": 2}),
        (ValueError, r"policy_id: expected values in \[0, 1\), got -1 at index 0", S, {"policy_id": [-1, 0]}),
        (TypeError, r"policy_id: expected dtype int64 or int32, got float32", S, {"policy_id": torch.zeros(2)}),
        (ValueError, r"num_policies: expected a number >= 1, got 0", S, {"num_policies": 0}),
        (ValueError, r"agent_id: expected values >= 0, got -1 at index 1", S, {"sample_id": IDS, "agent_id": [0, -1]}),
        (ValueError, r"agent_id: expected one entry .* 2 sequences, got 1", S, {"sample_id": IDS, "agent_id": [0]}),
        (
            ValueError,
            r"agent_id: expected one agent for all sequences of sample 0, got 3 and 4",
            S,
            {"sample_id": [IDS[0], [-1, 0, 0, 0]], "agent_id": [3, 4]},
        ),
        (
            ValueError,
            r"agent_id: expected a sequence for each of 3 samples, got none for 2",
            S,
            {"sample_id": IDS, "num_samples": 3, "agent_id": [0, 0]},
        ),
    ],
)
def test_bad_arguments(error: type[Exception], match: str, sequences: Any, kwargs: dict) -> None:
    with pytest.raises(error, match=match):
        pack(sequences, **kwargs)


def test_every_form_of_a_sequence_is_taken() -> None:
    want = pack(S, sample_id=IDS)[0]
    strided = torch.tensor(S[1]).repeat_interleave(2)[::2]
    for sequences in ([np.array(S[0], np.int32), strided], [torch.tensor(S[0], dtype=torch.int32), tuple(S[1])]):
        got = pack(sequences, sample_id=[torch.tensor(IDS[0]), np.array(IDS[1])])[0]
        assert torch.equal(got.token_ids, want.token_ids)
        assert torch.equal(got.source, want.source)
    by_mask = pack(S, sample_id=[0, 1], trained=[torch.tensor(MASK[0]), np.array(MASK[1])])[0]
    assert all(torch.equal(getattr(by_mask, name), getattr(want, name)) for name in ("rows", "labels", "sample_id", "source"))


def test_a_sequence_that_trains_nothing_may_name_a_sample_or_none() -> None:
    off = [False, False]
    packing = pack([[1, 2], [1, 3]], sample_id=[-1, 0], trained=[off, off], agent_id=[5, 6])
    assert packing.num_samples == 1
    assert packing[0].agent_id is not None
    assert packing[0].agent_id.tolist() == [6]


def test_gather_refuses_other_lengths() -> None:
    tree = pack(S, sample_id=IDS)[0]
    with pytest.raises(ValueError, match=r"values: expected shape \[7, ...\], got \[6\]"):
        tree.gather(torch.zeros(6))
    with pytest.raises(ValueError, match=r"values\[0\]: expected 3 values, got 4"):
        tree.gather([torch.zeros(4), torch.zeros(3)])  # the sum is right
    with pytest.raises(ValueError, match=r"values: expected one tensor for each of 2 sequences, got 1"):
        tree.gather([torch.zeros(7)])
    with pytest.raises(TypeError, match=r"values\[0\]: expected a torch.Tensor, got list"):
        tree.gather([[0.0] * 3, torch.zeros(4)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"values: expected device cpu, got meta"):
        tree.gather(torch.zeros(7, device="meta"))


@pytest.mark.parametrize(
    ("subtree_end", "match"),
    [
        ([3, 4, 3], r"at index 1 a value in \[2, 3\], got 4"),  # leaves the subtree around it
        ([2, 3, 3], r"at index 1 a value in \[2, 2\], got 3"),  # crosses
        ([3, 1, 3], r"at index 1 a value in \[2, 3\], got 1"),  # empty
        ([1, 2, 4], r"at index 2 a value in \[3, 3\], got 4"),  # beyond the last token
        ([-1], r"at index 0 a value in \[1, 1\], got -1"),
    ],
)
def test_subtree_end_must_be_nested(subtree_end: list[int], match: str) -> None:
    with pytest.raises(ValueError, match=r"subtree_end: expected nested ranges, " + match):
        check_subtree_end(torch.tensor(subtree_end, dtype=torch.int32))


def test_subtree_end_of_forests_and_other_tensors() -> None:
    for fine in ([], [1], [1, 2, 3], [3, 2, 3], [3, 3, 3], [2, 2, 4, 4]):
        check_subtree_end(torch.tensor(fine, dtype=torch.int32))
    check_subtree_end(torch.tensor([2, 0, 2, 0], dtype=torch.int32)[::2])
    check_subtree_end(torch.empty(5, dtype=torch.int32, device="meta"))
    with pytest.raises(TypeError, match=r"subtree_end: expected dtype int32, got int64"):
        check_subtree_end(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"subtree_end: expected shape \[T\], got \[1, 1\]"):
        check_subtree_end(torch.ones(1, 1, dtype=torch.int32))


def test_extension_checks_its_arrays() -> None:
    def call(tokens: Any, sample_id: Any, offsets: Any, policies: int = 1) -> None:
        ids = (np.asarray(x, np.int64) for x in (tokens, offsets, [0]))
        flat, starts, policy = ids
        _core.token_trie(flat, sample_id, starts, policy, policies, -1, -1, -1)

    call([1, 2], None, [0, 2])
    with pytest.raises(ValueError, match=r"offsets: expected shape \[2\]"):
        call([1, 2], None, [0, 1, 2])
    with pytest.raises(ValueError, match=r"offsets: expected values that ascend"):
        call([1, 2], None, [2, 0])
    with pytest.raises(ValueError, match=r"offsets: expected 0 first, got 1"):
        call([1, 2], None, [1, 2])
    with pytest.raises(ValueError, match=r"tokens: expected shape \[3\]"):
        call([1, 2], None, [0, 3])
    with pytest.raises(TypeError, match=r"sample_id: expected a contiguous int64 array or None"):
        call([1, 2], np.array([-1, 0], np.int32), [0, 2])
    with pytest.raises(ValueError, match=r"num_policies: expected a number >= 0, got -1"):
        call([1, 2], None, [0, 2], -1)
