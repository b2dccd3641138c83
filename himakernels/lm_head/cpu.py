"""The CPU route of the LM head: products and row work in C++, fp32 sums throughout.

bf16 and fp16 operands are widened while they are packed, and the logits of a chunk are fp32: the result is nearer to the
truth than same-dtype eager torch, and no slower (measured: docs/log.md). Where the CPU multiplies bf16 faster (AMX; AMD from
Zen 4 on) bf16 operands are multiplied as they are, into fp32, and dlogits are rounded to bf16 for the two backward products,
as eager torch does. fp64 is for gradcheck: there the products are torch's.
"""

from collections.abc import Sequence

import torch

from himakernels import _core
from himakernels.arrays import array_of, dtype_name
from himakernels.lm_head.types import IGNORE_INDEX, Head, HeadGrads, Needs, RowStats, accumulator_dtype

_CHUNK_BYTES = 320 << 20  # of fp32 logits: 512 rows at V = 151,936
_MAX_HALF_ROWS = 1024  # up to here dweight is summed in one block of the product and rounded once, straight to bf16

_BF16_PRODUCTS = _core.bf16_products_pay()


def gemm(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, *, accumulate: bool = False) -> None:
    """out (+)= a @ b, with the bits of a row of `out` independent of the other rows and of the number of threads."""
    if out.dtype == torch.float64:
        out.addmm_(a.double(), b.double(), beta=1 if accumulate else 0)
        return
    names = [dtype_name(t.dtype) for t in (a, b, out)]
    _core.gemm(
        array_of(a),
        names[0],
        array_of(b),
        names[1],
        array_of(out),
        names[2],
        accumulate,
        bf16_products=_BF16_PRODUCTS and "bfloat16" in names[:2],
        threads=torch.get_num_threads(),
    )


def _empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """torch.empty, on large pages where there is much of it."""
    out = torch.empty(shape, dtype=dtype)
    if out.nbytes >= 32 << 20:
        _core.prefer_huge_pages(out.data_ptr(), out.nbytes)
    return out


def chunk_rows(head: Head) -> int:
    """How many rows of logits are in memory at a time: no more than _CHUNK_BYTES, nor than one and a half times dweight."""
    vocab, hidden_size = head.weight.shape
    budget = _CHUNK_BYTES // (accumulator_dtype(head.hidden).itemsize * vocab)
    return max(16, min(budget, max(64, 3 * hidden_size // 2)) // 16 * 16)


# The logits' memory of the last call, for the next one: asking the system for it anew costs time (docs/log.md).
_kept: list[torch.Tensor] = []


def empty_logits(head: Head, rows: int) -> torch.Tensor:
    """Memory for the logits of `rows` rows, at most one chunk; `keep_logits` takes it back."""
    vocab, dtype = head.weight.shape[0], accumulator_dtype(head.hidden)
    try:
        memory = _kept.pop()  # taken out while in use: another thread gets memory of its own
    except IndexError:
        memory = torch.empty(0, dtype=torch.float32)
    if memory.dtype != dtype or memory.numel() < rows * vocab:
        memory = _empty((rows * vocab,), dtype)
    return memory[: rows * vocab].view(rows, vocab)


def keep_logits(memory: torch.Tensor) -> None:
    """Keeps the memory for the next call, one piece at most; not that of inference mode, which other calls can't write to."""
    if memory.is_inference():
        return
    _kept[:] = [memory.new_empty(0).set_(memory.untyped_storage())]


def head_logits(head: Head, out: torch.Tensor) -> torch.Tensor:
    """hidden @ weight.T + bias, written to the first rows of `out`."""
    out = out[: head.hidden.shape[0]]
    gemm(head.hidden, head.weight.t(), out)
    if head.bias is not None:
        out += head.bias
    return out


def logits_stats(logits: torch.Tensor, labels: torch.Tensor, temperature: float, softcap: float | None) -> RowStats:
    """Log-probability, log-sum-exp and entropy of each row."""
    dtype = accumulator_dtype(logits)
    stats = RowStats(*(torch.empty(logits.shape[0], dtype=dtype) for _ in range(3)))
    run = getattr(_core, f"logits_stats_{dtype_name(logits.dtype)}")
    arrays = [array_of(t) for t in stats]
    run(array_of(logits), array_of(labels), 1 / temperature, softcap or 0.0, *arrays, threads=torch.get_num_threads())
    return stats


def logits_grad(
    logits: torch.Tensor,
    dlogits: torch.Tensor,
    labels: torch.Tensor,
    stats: RowStats,
    coef: torch.Tensor,
    coef_entropy: torch.Tensor | None,
    temperature: float,
    softcap: float | None,
    *,
    source: torch.Tensor,
    target: torch.Tensor,
) -> None:
    """Writes row target[i] of `dlogits` from row source[i] of `logits` (the same memory is allowed)."""
    into = "" if dlogits.dtype == logits.dtype else f"_to_{dtype_name(dlogits.dtype)}"
    run = getattr(_core, f"logits_grad_{dtype_name(logits.dtype)}{into}")
    by_entropy = torch.zeros_like(coef) if coef_entropy is None else coef_entropy
    run(
        array_of(logits),
        array_of(dlogits),
        array_of(source),
        array_of(target),
        array_of(labels),
        1 / temperature,
        softcap or 0.0,
        *(array_of(t) for t in (*stats, coef, by_entropy)),
        threads=torch.get_num_threads(),
    )


def logits_grad_rows(
    logits: torch.Tensor,
    dlogits: torch.Tensor,
    labels: torch.Tensor,
    stats: RowStats,
    coef: torch.Tensor,
    coef_entropy: torch.Tensor | None,
    temperature: float,
    softcap: float | None,
) -> None:
    """Every row of `dlogits` from its row of `logits` (the same memory is allowed); zeros where both coefficients are."""
    every = torch.arange(logits.shape[0])
    logits_grad(
        logits, dlogits, labels, stats, coef, coef_entropy, temperature, softcap, source=every, target=every
    )  # fmt: skip


def _active_rows(coef: torch.Tensor, coef_entropy: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
    """For each of the first n rows, which active row goes there: an active row stays, an inactive one is a hole."""
    active = coef != 0
    if coef_entropy is not None:
        active |= coef_entropy != 0
    active &= labels != IGNORE_INDEX  # whatever their hidden state holds must not reach a product
    n = int(active.sum())
    source = torch.arange(n)
    source[~active[:n]] = n + active[n:].nonzero()[:, 0]
    return source


def _dlogits_memory(head: Head, logits: torch.Tensor) -> torch.Tensor:
    """The memory of `logits` [r, V] for their gradient: where the products round it to bf16, it is stored as bf16."""
    if not (_BF16_PRODUCTS and head.hidden.dtype == torch.bfloat16):
        return logits
    return logits.view(torch.bfloat16)[:, : logits.shape[1]]


class GradSum:
    """Adds up the gradients of a head over chunks; rows whose coefficients are exactly zero never enter a product."""

    def __init__(self, head: Head, needs: Needs, chunks: int) -> None:
        self.head, self.needs = head, needs
        rows, (vocab, _) = head.hidden.shape[0], head.weight.shape
        dtype = accumulator_dtype(head.hidden)
        weight_dtype = head.weight.dtype
        once = weight_dtype == torch.bfloat16 and chunks == 1 and rows <= _MAX_HALF_ROWS
        self.dhidden = torch.zeros_like(head.hidden, memory_format=torch.contiguous_format) if needs.dhidden else None
        self.dweight = _empty(head.weight.shape, weight_dtype if once else dtype) if needs.dweight else None
        self.dbias = torch.zeros(vocab, dtype=dtype) if needs.dbias else None
        self.started = False  # dweight is written, not added to, by the first chunk that has an active row

    def add(self, begin: int, logits: torch.Tensor, stats: RowStats, coef: torch.Tensor, coef_entropy: torch.Tensor) -> None:
        """Adds rows [begin, begin + len(logits)); `logits` is overwritten."""
        head = self.head.rows(begin, begin + logits.shape[0])
        source = _active_rows(coef, coef_entropy, head.labels)
        n = len(source)
        if n == 0:
            return
        dlogits = _dlogits_memory(head, logits)
        logits_grad(
            logits, dlogits, head.labels, stats, coef, coef_entropy, head.temperature, head.softcap,
            source=source, target=torch.arange(n),
        )  # fmt: skip
        dlogits, all_active = dlogits[:n], n == logits.shape[0]
        if self.dhidden is not None:
            out = torch.empty(n, head.hidden.shape[1], dtype=logits.dtype)
            gemm(dlogits, head.weight, out)
            self.dhidden[begin + source] = out.to(self.dhidden.dtype)
        if self.dweight is not None:
            gemm(dlogits.t(), head.hidden if all_active else head.hidden[source], self.dweight, accumulate=self.started)
            self.started = True
        if self.dbias is not None:
            self.dbias += dlogits.sum(0, dtype=self.dbias.dtype)

    def finish(self) -> HeadGrads:
        """The sums, each in the dtype of what it belongs to."""
        if self.dweight is not None and not self.started:
            self.dweight.zero_()
        dweight = None if self.dweight is None else self.dweight.to(self.head.weight.dtype)
        dbias = None if self.dbias is None or self.head.bias is None else self.dbias.to(self.head.bias.dtype)
        return HeadGrads(self.dhidden, dweight, dbias)
