"""The number of sequences that pass through a token of a packed forest."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from himakernels import pack

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=6), min_size=1, max_size=8)


@given(SEQUENCES, st.data())
def test_passes_counts_the_sequences_of_each_token(sequences: list[list[int]], data: st.DataObject) -> None:
    policies = data.draw(st.lists(st.integers(0, 1), min_size=len(sequences), max_size=len(sequences)))
    packing = pack(
        [np.array(sequence) for sequence in sequences],
        sample_id=np.arange(len(sequences)),
        trained=[np.arange(len(sequence)) > 0 for sequence in sequences],
        policy_id=policies,
        num_policies=2,
        token_budget=data.draw(st.sampled_from([6, 20])),
    )
    for tree in packing:
        chosen = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(tree.leaf), max_size=len(tree.leaf))))
        expected = torch.zeros(tree.num_tokens, dtype=torch.int64)
        for leaf, counts in zip(tree.leaf.tolist(), chosen.tolist(), strict=True):
            for token in range(tree.num_tokens):
                expected[token] += counts and token <= leaf < int(tree.subtree_end[token])
        assert torch.equal(tree.passes(chosen), expected)
        assert int(tree.passes().sum()) == tree.original_tokens


def test_passes_takes_a_bool_for_each_sequence() -> None:
    tree = pack([np.array([1, 2])], sample_id=[0], trained=[np.array([False, True])])[0]
    with pytest.raises(ValueError, match=r"chosen: expected shape \[1\], got \[2\]"):
        tree.passes(torch.ones(2, dtype=torch.bool))
    with pytest.raises(TypeError, match="chosen: expected dtype bool, got int64"):
        tree.passes(torch.ones(1, dtype=torch.int64))
