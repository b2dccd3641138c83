"""paged_attention: the gate, sharing, invariance to everything but what a query sees, edges, strides, compile."""

import time
from typing import Any

import pytest
import torch

from himakernels import paged_attention, paged_attention_reference, tree_attention
from himakernels.testing import assert_gate

pytestmark = [
    pytest.mark.usefixtures("poison"),
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),  # numpy, inside the interpreter, on NaN and inf
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# rows: (tokens in common with the row before, tokens in all, of which the last are queries); heads: query heads, key heads.
CASES: dict[str, dict[str, Any]] = {
    # Siblings of one prompt that decode, of several lengths; blocks as a GPU would have them.
    "siblings": {"rows": [(0, 40, 1), (32, 41, 1), (32, 65, 1), (32, 33, 1)], "block_size": 16, "heads": (4, 2), "D": 32},
    # A system prompt, two contexts behind it, siblings behind these; token-granular blocks.
    "levels": {
        "rows": [(0, 50, 1), (45, 52, 1), (20, 61, 1), (60, 70, 1), (60, 61, 1), (0, 9, 1)], "block_size": 1, "heads": (2, 1),
        "D": 24,
    },
    # Prefill from the beginning, on a cached prefix, and a decode between them; shared blocks end inside a panel of keys.
    "prefill": {"rows": [(0, 37, 37), (20, 52, 30), (40, 41, 1), (40, 60, 5)], "block_size": 4, "heads": (3, 3), "D": 16},
    # Sliding window, narrower than what is shared.
    "window": {"rows": [(0, 70, 3), (64, 66, 1), (64, 90, 25)], "block_size": 8, "heads": (2, 1), "D": 16, "window": 11},
    # Gemma 2's cap, gpt-oss's sinks, a scale of the caller's.
    "options": {
        "rows": [(0, 30, 2), (16, 40, 1), (16, 21, 5)], "block_size": 16, "heads": (6, 2), "D": 40, "window": 25,
        "softcap": 3.0, "sinks": True, "scale": 0.4,
    },
    # Wide heads that all read one key head; nothing shared.
    "wide_heads": {"rows": [(0, 35, 1), (0, 20, 20)], "block_size": 48, "heads": (3, 1), "D": 136},
    # One token each: a query that sees itself alone.
    "single": {"rows": [(0, 1, 1), (0, 1, 1), (0, 2, 1)], "block_size": 16, "heads": (2, 2), "D": 16},
}  # fmt: skip


class Inputs:
    """Rows whose tables begin with blocks of the row before where they share them; all other blocks somewhere in the pool."""

    def __init__(
        self,
        case: dict[str, Any],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        seed: int = 0,
        placed: int = 0,
        block_size: int | None = None,
    ) -> None:
        g = torch.Generator().manual_seed(seed)
        (Hq, Hk), D, rows = case["heads"], case["D"], case["rows"]
        size = block_size or case["block_size"]
        lengths = [length for _, length, _ in rows]
        width = max(-(-length // size) for length in lengths) + 1
        order = torch.randperm(len(rows) * width, generator=torch.Generator().manual_seed(placed)).tolist()

        def randn(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)

        # What is in no sequence is NaN: nobody may read it.
        self.keys, self.values = (torch.full((len(order), size, Hk, D), float("nan"), dtype=dtype) for _ in range(2))
        self.block_table = torch.full((len(rows), width), -1, dtype=torch.int32)
        paths: list[tuple[torch.Tensor, torch.Tensor]] = []
        for n, (shared, length, _) in enumerate(rows):
            own = [randn(length - shared, Hk, D) for _ in range(2)]
            before = [part[:shared] for part in paths[-1]] if shared else [part[:0] for part in own]
            k, v = (torch.cat(parts) for parts in zip(before, own, strict=True))
            paths.append((k, v))
            same = shared // size
            self.block_table[n, :same] = self.block_table[n - 1, :same]
            for b in range(same, -(-length // size)):
                block = order.pop()
                self.block_table[n, b] = block
                part = slice(b * size, min((b + 1) * size, length))
                self.keys[block, : part.stop - part.start] = k[part]
                self.values[block, : part.stop - part.start] = v[part]
        self.paths = paths
        counts = torch.tensor([0] + [count for *_, count in rows], dtype=torch.int32)
        self.cu_seqlens = counts.cumsum(0, dtype=torch.int32)
        self.seq_lens = torch.tensor(lengths, dtype=torch.int32)
        self.q = randn(int(counts.sum()), Hq, D)
        self.sinks = randn(Hq) * 3 if case.get("sinks") else None
        self.options = {name: case[name] for name in ("window", "softcap", "scale") if name in case}
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value.to(device))

    def run(self, attention: Any = paged_attention, dtype: torch.dtype | None = None, **changes: Any) -> torch.Tensor:
        """In `dtype` on the CPU if one is given."""
        names = ("q", "keys", "values", "block_table", "cu_seqlens", "seq_lens")
        tensors = {**{name: getattr(self, name) for name in names}, "sinks": self.sinks, **changes}
        if dtype is not None:
            tensors = {name: t if t is None else t.cpu() for name, t in tensors.items()}
            tensors = {name: t.to(dtype) if t is not None and t.is_floating_point() else t for name, t in tensors.items()}
        return attention(*(tensors[name] for name in names), sinks=tensors["sinks"], **self.options)

    def along_paths(self) -> torch.Tensor:
        """The same queries through tree_attention, each row alone as a chain."""
        out = []
        for n, (k, v) in enumerate(self.paths):
            begin, end = self.cu_seqlens[n : n + 2].tolist()
            length = len(k)
            q = torch.zeros(length, *self.q.shape[1:], dtype=self.q.dtype)
            q[length - (end - begin) :] = self.q[begin:end]
            ends, at = torch.full((length,), length, dtype=torch.int32), torch.arange(length, dtype=torch.int32)
            out.append(
                tree_attention(q, k, v, ends, position_ids=at, sinks=self.sinks, **self.options)[length - (end - begin) :]
            )
        return torch.cat(out)


def judge(x: Inputs, got: torch.Tensor) -> None:
    assert got.dtype == x.q.dtype
    assert got.is_contiguous()
    truth, eager = (x.run(paged_attention_reference, dtype) for dtype in (torch.float64, x.q.dtype))
    assert_gate("out", got, truth, eager, n=int(x.seq_lens.max()) * x.q.shape[2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_gate(name: str, dtype: torch.dtype, device: torch.device) -> None:
    x = Inputs(CASES[name], dtype, device)
    judge(x, x.run())


def test_double_precision_is_the_reference() -> None:
    x = Inputs(CASES["options"], torch.float64)
    assert torch.equal(x.run(), x.run(paged_attention_reference))


WRONG = {
    "a query that does not see itself": lambda x: {"seq_lens": x.seq_lens - (x.seq_lens > x.cu_seqlens.diff()).int()},
    "blocks of the row before": lambda x: {"block_table": x.block_table.roll(1, 0).where(x.block_table >= 0, -1)},
    "keys for values": lambda x: {"values": x.keys},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_gate_rejects(wrong: str, device: torch.device) -> None:
    case = {"rows": [(0, 40, 1), (16, 40, 1), (16, 40, 1)], "block_size": 16, "heads": (4, 2), "D": 32}
    for dtype in DTYPES:
        x = Inputs(case, dtype, device)
        judge(x, x.run())
        with pytest.raises(AssertionError, match="out"):
            judge(x, x.run(**WRONG[wrong](x)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_bits_are_those_of_tree_attention_on_the_path(name: str, dtype: torch.dtype, triton_route: bool) -> None:
    """So what is sampled and what is trained on meet the same attention, cached or not."""
    if triton_route:
        pytest.skip("promised on the CPU route")
    x = Inputs(CASES[name], dtype)
    assert torch.equal(x.run(), x.along_paths())


@pytest.mark.parametrize("name", CASES)
def test_bits_do_not_depend_on_what_is_shared_or_where_it_lies(name: str, triton_route: bool) -> None:
    if triton_route:
        pytest.skip("promised on the CPU route")
    case = CASES[name]
    x = Inputs(case, torch.float32)
    out = x.run()
    for size in (1, 3, 16, 64):
        assert torch.equal(out, Inputs(case, torch.float32, placed=size, block_size=size).run())
    for n in range(len(case["rows"])):  # alone
        begin, end = x.cu_seqlens[n : n + 2].tolist()
        bounds = torch.tensor([0, end - begin], dtype=torch.int32)
        row = slice(n, n + 1)
        changes = {"q": x.q[begin:end], "cu_seqlens": bounds, "block_table": x.block_table[row], "seq_lens": x.seq_lens[row]}
        assert torch.equal(out[begin:end], x.run(**changes))
    threads = torch.get_num_threads()
    try:
        for count in (1, 5):
            torch.set_num_threads(count)
            big = Inputs({**case, "heads": tuple(8 * h for h in case["heads"])}, torch.float32)
            assert torch.equal(big.run(), big.along_paths())
    finally:
        torch.set_num_threads(threads)


@pytest.mark.once
def test_the_same_bits_twice(device: torch.device) -> None:
    x = Inputs(CASES["options"], torch.bfloat16, device)
    assert torch.equal(x.run(), x.run())


def test_a_prompt_in_pieces_is_the_prompt(device: torch.device) -> None:
    """Chunked prefill: what each piece gives is what the whole gives."""
    x = Inputs({"rows": [(0, 75, 75)], "block_size": 16, "heads": (4, 2), "D": 16}, torch.float32, device)
    whole = x.run()
    pieces = []
    for begin, end in ((0, 20), (20, 21), (21, 64), (64, 75)):
        bounds = torch.tensor([0, end - begin], dtype=torch.int32, device=device)
        lens = torch.tensor([end], dtype=torch.int32, device=device)
        pieces.append(x.run(q=x.q[begin:end], cu_seqlens=bounds, seq_lens=lens))
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-5, atol=1e-6)


def test_many_rows_and_many_queries(device: torch.device) -> None:
    """More queries than a task or a program holds; rows that share at every depth."""
    rows = [(0, 120, 100)] + [(16 * (n % 7), 112 + n % 5, 1) for n in range(1, 60)] + [(112, 150, 38)]
    x = Inputs({"rows": rows, "block_size": 16, "heads": (8, 2), "D": 16}, torch.float32, device)
    judge(x, x.run())


def test_a_shared_prefix_is_met_once(triton_route: bool) -> None:
    """Sequences of two prefixes take less than 2/3 of the time side by side that they take in turns (measured: 0.4)."""
    if triton_route:
        pytest.skip("the interpreter's time says nothing")
    pool = torch.randn(100, 16, 1, 64)
    q, lens = torch.randn(64, 2, 64), torch.full((64,), 800, dtype=torch.int32)
    bounds, prefixes = torch.arange(65, dtype=torch.int32), torch.arange(100, dtype=torch.int32).view(2, 50)

    def seconds(table: torch.Tensor) -> float:
        begin = time.perf_counter()
        paged_attention(q, pool, pool, table, bounds, lens)
        return time.perf_counter() - begin

    tables = prefixes.repeat_interleave(32, dim=0), prefixes.repeat(32, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two would wait for each other where others use the machine
    try:
        once, in_turns = (min(seconds(table) for _ in range(9)) for table in tables)
    finally:
        torch.set_num_threads(threads)
    assert once < in_turns / 1.5, (once, in_turns)


def test_no_sequences_no_queries_no_tokens(device: torch.device) -> None:
    x = Inputs(CASES["siblings"], torch.float32, device)
    none = torch.zeros(1, dtype=torch.int32, device=device)
    empty = x.run(q=x.q[:0], block_table=x.block_table[:0], cu_seqlens=none, seq_lens=none[:0])
    assert empty.shape == (0, 4, 32)
    # The second and the last sequence have no queries this time; the last has no tokens at all.
    bounds = torch.tensor([0, 1, 1, 2, 2], dtype=torch.int32, device=device)
    lens = x.seq_lens.clone()
    lens[3] = 0
    assert torch.allclose(x.run(q=x.q[[0, 2]], cu_seqlens=bounds, seq_lens=lens), x.run()[[0, 2]], atol=1e-6)


def test_strides(device: torch.device) -> None:
    """Queries from a fused projection, keys and values as layers of a pool of both, what belongs to a row from a table."""
    x = Inputs(CASES["options"], torch.float32, device)
    fused = torch.cat([x.q, x.q.new_zeros(x.q.shape[0], 2, 40)], dim=1)[:, :6]
    pool = torch.stack([x.keys, x.values], dim=3)
    names = ("block_table", "cu_seqlens", "seq_lens", "sinks")
    tables = {name: torch.stack([getattr(x, name)] * 2, dim=-1)[..., 0] for name in names}
    assert not any(t.is_contiguous() for t in (fused, pool[:, :, :, 0], *tables.values()))
    strided = x.run(q=fused, keys=pool[:, :, :, 0], values=pool[:, :, :, 1], **tables)
    assert torch.equal(strided, x.run())


def test_nan_in_a_query_shows(device: torch.device) -> None:
    x = Inputs(CASES["siblings"], torch.float32, device)
    q = x.q.clone()
    q[1, 2, 3] = float("nan")
    out = x.run(q=q)
    assert out[1, 2].isnan().all()
    assert not out[[0, 2, 3]].isnan().any()


def test_opcheck_and_compile(device: torch.device) -> None:
    x = Inputs(CASES["options"], torch.float32, device)
    tables = (x.block_table, x.cu_seqlens, x.seq_lens)
    args = (x.q, x.keys, x.values, *tables, x.sinks, 0.25, 0, 0.0)
    torch.library.opcheck(torch.ops.himakernels.paged_attention.default, args)
    compiled = torch.compile(lambda q: paged_attention(q, x.keys, x.values, *tables), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x.q), paged_attention(x.q, x.keys, x.values, *tables))
