"""The tensors: what is written through a cache's block tables is what its matches read."""

import numpy as np
import pytest
import torch

from himakernels.kv_pool import KVPool, slot_mapping
from himakernels.prefix_cache import BlockCopies, PrefixCache

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pool(**changes: object) -> KVPool:
    sizes = {"num_layers": 2, "num_blocks": 8, "block_size": 4, "num_kv_heads": 2, "head_dim": 3, "value_head_dim": 5}
    return KVPool(**{**sizes, "device": DEVICE, **changes})


def test_a_prompt_and_its_siblings_read_what_was_written() -> None:
    """Through shared blocks and copies, in all layers: keys [6, 2, 3] of a prompt, then one token for each of two siblings."""
    cache, kv = PrefixCache(8, 4), pool()
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(2, 8, 2, d, generator=generator).to(DEVICE) for d in (3, 5))

    def write(table: list[int], start: int, end: int, at: slice) -> None:
        slots = torch.from_numpy(slot_mapping(np.array(table, np.int32), start, end, 4)).to(DEVICE)
        for layer in range(2):
            kv.write(layer, slots, keys[layer, at], values[layer, at])

    found = cache.match("qa", 0, [1, 2, 3, 4, 5])
    table = cache.allocate(2).tolist()
    write(table, 0, 6, slice(0, 6))
    node = cache.insert(found.node, [1, 2, 3, 4, 5, 6], table).node
    tails = cache.fork(node, 2)
    kv.copy(tails)
    for sibling, tail in enumerate(tails.targets.tolist()):
        write([table[0], tail], 6, 7, slice(6 + sibling, 7 + sibling))
    for sibling, tail in enumerate(tails.targets.tolist()):
        slots = slot_mapping(np.array([table[0], tail], np.int32), 0, 7, 4)
        for stored, given in ((kv.keys, keys), (kv.values, values)):
            want = torch.cat([given[:, :6], given[:, 6 + sibling, None]], dim=1)
            assert torch.equal(stored.flatten(1, 2)[:, slots], want)


def test_copies_of_several_forks_at_once() -> None:
    kv = pool()
    kv.keys.copy_(torch.arange(8, device=DEVICE).view(1, 8, 1, 1, 1).expand_as(kv.keys))
    pairs = [([1, 1], [2, 3]), ([], []), ([0], [5])]
    kv.copy(*(BlockCopies(*(np.array(ids, np.int32) for ids in (s, t, [2] * len(s)))) for s, t in pairs))
    assert kv.keys[1, :, 0, 0, 0].tolist() == [0, 1, 1, 1, 4, 0, 6, 7]
    kv.copy()


def test_sizes_dtypes_and_bytes() -> None:
    kv = pool(dtype=torch.bfloat16)
    assert kv.keys.shape == (2, 8, 4, 2, 3)
    assert kv.values.shape == (2, 8, 4, 2, 5)
    assert kv.nbytes == 2 * 8 * 4 * 2 * (3 + 5) * 2
    assert not kv.keys.any()
    assert pool(value_head_dim=None).values.shape == (2, 8, 4, 2, 3)


def test_slots_of_a_table() -> None:
    table = np.array([5, 0, 2], np.int32)
    assert slot_mapping(table, 2, 9, 4).tolist() == [22, 23, 0, 1, 2, 3, 8]
    assert slot_mapping(table, 4, 4, 4).tolist() == []
    far = slot_mapping(np.array([2**31 - 1], np.int32), 0, 1, 2**20)
    assert far.tolist() == [(2**31 - 1) * 2**20]


def test_bad_input() -> None:
    with pytest.raises(
        ValueError, match=r"start, end: expected 0 <= start <= end <= 8, the tokens of 2 blocks of 4, got 3 and 9"
    ):
        slot_mapping(np.zeros(2, np.int32), 3, 9, 4)
    with pytest.raises(ValueError, match="num_blocks: expected a number >= 1, got 0"):
        pool(num_blocks=0)
    with pytest.raises(TypeError, match="head_dim: expected int, got float"):
        pool(head_dim=3.0)
    with pytest.raises(TypeError, match=r"dtype: expected a floating dtype of torch, got torch\.int64"):
        pool(dtype=torch.int64)
    kv = pool()
    slots, keys, values = torch.arange(3, device=DEVICE), torch.ones(3, 2, 3, device=DEVICE), torch.ones(3, 2, 5, device=DEVICE)
    with pytest.raises(ValueError, match=r"values: expected shape \[3, 2, 5\], got \[3, 2, 3\]"):
        kv.write(0, slots, keys, keys)
    with pytest.raises(TypeError, match="keys: expected dtype float32, got float64"):
        kv.write(0, slots, keys.double(), values)
    with pytest.raises(TypeError, match="slots: expected dtype int64, got int32"):
        kv.write(0, slots.int(), keys, values)
    with pytest.raises(ValueError, match=r"targets: expected blocks in \[0, 8\), got 8 to 8"):
        kv.copy(BlockCopies(np.array([1]), np.array([8]), np.array([2])))
