"""Group advantages of 512 groups: ours ragged and shuffled, TRL's dense view of 512 x 16, verl's Python dict.

All opponents run in one session. The dense view needs equal groups that stand in order, so it is given those; ours is
timed on both layouts. GB/s counts what must move: rewards and ids read once, advantages and statistics written once.
"""

from collections import defaultdict
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest
import torch

from bench.measure import synchronized
from himakernels.ops.group_advantages import group_advantages, group_advantages_reference
from himakernels.testing import assert_gate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GROUPS, SIZE, EPS = 512, 16, 1e-4
SETS = 64  # rotated: together beyond a CPU core's cache

Batch = tuple[torch.Tensor, torch.Tensor]


def equal_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(GROUPS * SIZE, generator=generator)
    return rewards.to(DEVICE), torch.arange(GROUPS).repeat_interleave(SIZE).to(DEVICE)


def ragged_batch(seed: int) -> Batch:
    """Group sizes 8 to 24, samples shuffled."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(8, 25, (GROUPS,), generator=generator)
    group_id = torch.arange(GROUPS).repeat_interleave(sizes)
    group_id = group_id[torch.randperm(len(group_id), generator=generator)]
    return torch.randn(len(group_id), generator=generator).to(DEVICE), group_id.to(DEVICE)


def ours(rewards: torch.Tensor, group_id: torch.Tensor) -> torch.Tensor:
    return group_advantages(rewards, group_id, num_groups=GROUPS, eps=EPS).advantages


def trl_dense_view(rewards: torch.Tensor, group_id: torch.Tensor) -> torch.Tensor:
    """TRL 1.16's steps for scale_rewards="group", with its nanstd written out."""
    view = rewards.view(-1, SIZE)
    mean = torch.nanmean(view, dim=1)
    centre = torch.nanmean(view, dim=1, keepdim=True)
    variance = torch.nanmean((view - centre) ** 2, dim=1)
    count = torch.sum(~torch.isnan(view), dim=1)
    std = torch.sqrt(variance * torch.where(count > 1, count / (count - 1), torch.nan))
    advantages = (rewards - mean.repeat_interleave(SIZE)) / (std.repeat_interleave(SIZE) + EPS)
    return torch.nan_to_num(advantages, nan=0.0)


def plain_dense_view(rewards: torch.Tensor, group_id: torch.Tensor) -> torch.Tensor:
    """The dense view without any care for NaN: view, mean, std, repeat."""
    view = rewards.view(-1, SIZE)
    mean = view.mean(dim=1).repeat_interleave(SIZE)
    return (rewards - mean) / (view.std(dim=1).repeat_interleave(SIZE) + EPS)


def dict_loop(rewards: torch.Tensor, group_id: torch.Tensor) -> torch.Tensor:
    """verl's way: a dict from id to the list of its rewards, and a loop over samples."""
    scores, ids = rewards.clone(), group_id.tolist()
    members: dict[int, list[torch.Tensor]] = defaultdict(list)
    for i, g in enumerate(ids):
        members[g].append(scores[i])
    stacked = {g: torch.stack(values) for g, values in members.items()}
    mean = {g: values.mean() for g, values in stacked.items()}
    std = {g: values.std() for g, values in stacked.items()}
    for i, g in enumerate(ids):
        scores[i] = (scores[i] - mean[g]) / (std[g] + EPS)
    return scores


@pytest.mark.parametrize(
    ("run", "make"),
    [
        (ours, ragged_batch),
        (ours, equal_batch),
        (trl_dense_view, equal_batch),
        (plain_dense_view, equal_batch),
        (dict_loop, ragged_batch),
    ],
    ids=["ours-ragged", "ours-equal", "trl_dense_view-equal", "plain_dense_view-equal", "dict_loop-ragged"],
)
@pytest.mark.benchmark(group=f"group_advantages {GROUPS} x {SIZE}")
def test_group_advantages(benchmark: Any, run: Callable[..., torch.Tensor], make: Callable[[int], Batch]) -> None:
    rewards, group_id = make(0)
    truth = group_advantages_reference(rewards.double(), group_id, num_groups=GROUPS, eps=EPS)[0]
    eager = group_advantages_reference(rewards, group_id, num_groups=GROUPS, eps=EPS)[0]
    assert_gate(f"{run.__name__}", run(rewards, group_id), truth, eager, n=24)

    slow = run is dict_loop
    batches = cycle([make(seed) for seed in range(2 if slow else SETS)])

    benchmark.pedantic(
        synchronized(lambda: run(*next(batches))), rounds=5 if slow else 1000, iterations=1, warmup_rounds=1 if slow else 200
    )
    samples = len(rewards)
    moved = samples * (rewards.element_size() + group_id.element_size() + 4) + GROUPS * (8 + 4 + 4)
    info = {"samples": samples, "bytes": moved, "device": DEVICE.type, "torch": torch.__version__}
    info["threads"] = torch.get_num_threads()
    if DEVICE.type == "cuda":
        info["device"] = torch.cuda.get_device_name()
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        info |= {"samples_per_s": samples / seconds, "GB_per_s": moved / seconds / 1e9}
    benchmark.extra_info.update(info)
