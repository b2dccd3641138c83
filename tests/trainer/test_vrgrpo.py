"""Advantages and selection against numbers worked out by hand."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from scripted import group

from trainer.vrgrpo import NodeGroup, VRGRPOConfig, select, trained

NAN = math.nan


def chosen(groups: Sequence[NodeGroup], **config: Any) -> list[int]:
    selected = select(groups, VRGRPOConfig(**config)).selected
    return [number for number, yes in enumerate(selected) if yes]


def test_advantages_by_hand() -> None:
    # Mean 1, squares 1 + 1 + 0, variance 1; NaN leaves the group. Mean 1.5, squares 4 * 0.25, variance 1/3.
    found = select([group([2.0, 0.0, NAN, 1.0]), group([1.0, 1.0, 2.0, 2.0])], VRGRPOConfig(eps=1e-4))
    assert found.mean == [1.0, 1.5]
    assert found.variance == pytest.approx([1.0, 1 / 3])
    assert found.advantages[0] == pytest.approx([1 / 1.0001, -1 / 1.0001, 0.0, 0.0])
    scale = 0.5 / (3**-0.5 + 1e-4)
    assert found.advantages[1] == pytest.approx([-scale, -scale, scale, scale])
    centred = select([group([2.0, 0.0, NAN, 1.0])], VRGRPOConfig(normalize="mean"))
    assert centred.advantages == [[1.0, -1.0, 0.0, 0.0]]


def test_what_never_learns() -> None:
    """No variance, a single member, nothing scored, no group at all; also where the limit would let them."""
    groups = [group([2.0, 2.0]), group([1.0]), group([NAN, NAN]), group([NAN, 1.0]), group([0.0, 1.0])]
    for top_k in (None, 50):
        for where in ("batch", "query", "agent"):
            assert chosen(groups, top_k=top_k, select=where) == [4]
    assert select([], VRGRPOConfig()) == ([], [], [], [])
    assert list(trained([], select([], VRGRPOConfig()))) == []


def spread(*widths: float) -> list[tuple[float, float]]:
    return [(0.0, width) for width in widths]


def test_top_k_counts_over_the_batch() -> None:
    """Two queries and K = 2: the four widest of all, whichever query they are of; ties go to the earlier one."""
    widths = spread(0.9, 0.8, 0.7, 0.2, 0.2, 0.1)
    groups = [group(rewards, task=9 if i >= 4 else 4) for i, rewards in enumerate(widths)]
    assert chosen(groups, top_k=2) == [0, 1, 2, 3]
    assert chosen(groups, top_k=1) == [0, 1]
    assert chosen(groups, top_k=None) == [0, 1, 2, 3, 4, 5]


def test_top_k_of_each_query() -> None:
    groups = [group(rewards, task=i // 3) for i, rewards in enumerate(spread(0.9, 0.8, 0.7, 0.0, 0.1, 0.3))]
    assert chosen(groups, top_k=1, select="query") == [0, 5]
    assert chosen(groups, top_k=2, select="query") == [0, 1, 4, 5]


def test_top_k_shared_between_agents() -> None:
    """Two queries, K = 2: four groups, as many of each of the two agents; "batch" would take the master's only."""
    agents = ["master"] * 4 + ["qa"] * 3
    widths = spread(0.9, 0.8, 0.7, 0.6, 0.1, 0.3, 0.2)
    groups = [group(r, task=i % 2, agent=a) for i, (r, a) in enumerate(zip(widths, agents, strict=True))]
    assert chosen(groups, top_k=2) == [0, 1, 2, 3]
    assert chosen(groups, top_k=2, select="agent") == [0, 1, 5, 6]
    third = [*groups, group((0.0, 0.05), agent="math", task=1)]
    assert chosen(third, top_k=2, select="agent") == [0, 1, 5, 6, 7]  # ceil(4 / 3) of each


def test_only_scored_siblings_of_selected_groups_are_trained() -> None:
    groups = [group([1.0, 1.0]), group([2.0, NAN, 0.0], agent="math")]
    rows = list(trained(groups, select(groups, VRGRPOConfig(normalize="mean"))))
    assert [(row.group, row.node.agent, row.sibling.reward, row.advantage) for row in rows] == [
        (1, "math", 2.0, 1.0),
        (1, "math", 0.0, -1.0),
    ]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("group_size", 0, "group_size: expected at least 1, got 0"),
        ("top_k", 0, "top_k: expected at least 1 or None, got 0"),
        ("select", "all", "select: expected one of batch, query, agent, got 'all'"),
        ("normalize", "max", "normalize: expected one of std, mean, leave_one_out, none, got 'max'"),
        ("eps", 0.0, "eps: expected above 0, got 0.0"),
        ("efficiency", 1.0, "efficiency: expected 0 to below 1, got 1.0"),
        ("format", -1.0, "format: expected at least 0, got -1.0"),
        ("sampling", "beam", "sampling: expected one of trajectory, tree, got 'beam'"),
        ("branching", 1, "branching: expected at least 2, got 1"),
        ("leaves", 0, "leaves: expected at least 1, got 0"),
        ("trained_agents", (), "trained_agents: expected at least one agent or None"),
    ],
)
def test_wrong_settings(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        VRGRPOConfig(**{field: value})


def test_a_tree_is_always_completed() -> None:
    with pytest.raises(ValueError, match="continuation: expected True"):
        VRGRPOConfig(sampling="tree", continuation=False)
