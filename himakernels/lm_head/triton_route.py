"""The Triton route of the LM head: the launchers behind the same names as in the CPU route.

Logits and dlogits of a chunk are in the operands' dtype, as a model's own head makes them; all sums are fp32. The number of
active rows stays on the device: products over rows that nobody needs exit at once.
"""

import torch

from himakernels.lm_head.gemm_kernels import head_dhidden_bwd, head_dweight_bwd, head_logits_fwd
from himakernels.lm_head.logits_kernels import logits_bwd, logits_stats_fwd
from himakernels.lm_head.row_kernels import compact_rows, head_dbias_bwd
from himakernels.lm_head.types import IGNORE_INDEX, Head, HeadGrads, Needs, RowStats

_CHUNK_BYTES = 512 << 20  # of logits: 2,048 rows in bf16 at V = 131,072; with fewer, dweight would travel more often


def chunk_rows(head: Head) -> int:
    """How many rows of logits are in memory at a time."""
    return max(16, _CHUNK_BYTES // (head.hidden.element_size() * head.weight.shape[0]) // 16 * 16)


def empty_logits(head: Head, rows: int) -> torch.Tensor:
    """Memory for the logits of `rows` rows."""
    return head.hidden.new_empty(rows, head.weight.shape[0])


def keep_logits(memory: torch.Tensor) -> None:
    """torch's allocator keeps GPU memory for the next call by itself."""


def head_logits(head: Head, out: torch.Tensor) -> torch.Tensor:
    """hidden @ weight.T + bias, written to the first rows of `out`."""
    out = out[: head.hidden.shape[0]]
    head_logits_fwd(head.hidden, head.weight, None if head.bias is None else head.bias.contiguous(), out)
    return out


def logits_stats(logits: torch.Tensor, labels: torch.Tensor, temperature: float, softcap: float | None) -> RowStats:
    """Log-probability, log-sum-exp and entropy of each row."""
    return RowStats(*logits_stats_fwd(logits, labels, temperature=temperature, softcap=softcap))


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
    logits_bwd(logits, labels, *stats, coef, coef_entropy, dlogits, temperature=temperature, softcap=softcap)


class GradSum:
    """Adds up the gradients of a head over chunks; rows whose coefficients are exactly zero never enter a product."""

    def __init__(self, head: Head, needs: Needs, chunks: int) -> None:
        self.head, self.needs = head, needs
        vocab = head.weight.shape[0]
        like = head.hidden
        self.dhidden = torch.zeros_like(like, memory_format=torch.contiguous_format) if needs.dhidden else None
        self.dweight = like.new_empty(head.weight.shape, dtype=torch.float32) if needs.dweight else None
        self.dbias = like.new_empty(vocab, dtype=torch.float32) if needs.dbias else None
        self.started = False  # the first chunk writes dweight and dbias, the others add to them

    def add(
        self,
        begin: int,
        logits: torch.Tensor,
        stats: RowStats,
        coef: torch.Tensor,
        coef_entropy: torch.Tensor | None,
    ) -> None:
        """Adds rows [begin, begin + len(logits)); `logits` is overwritten."""
        end = begin + logits.shape[0]
        head = self.head.rows(begin, end)
        active = coef != 0
        if coef_entropy is not None:
            active |= coef_entropy != 0
        active &= head.labels != IGNORE_INDEX  # their logits are left as they are
        rows, count = compact_rows(active)
        logits_bwd(
            logits,
            head.labels,
            *stats,
            coef,
            coef_entropy,
            logits,
            temperature=head.temperature,
            softcap=head.softcap,
            write_zeros=False,
        )
        if self.dhidden is not None:
            head_dhidden_bwd(logits, head.weight, rows, count, self.dhidden[begin:end])
        if self.dweight is not None:
            head_dweight_bwd(logits, head.hidden, rows, count, self.dweight, accumulate=self.started)
        if self.dbias is not None:
            head_dbias_bwd(logits, rows, count, self.dbias, accumulate=self.started)
        self.started = True

    def finish(self) -> HeadGrads:
        """The sums, each in the dtype of what it belongs to."""
        if not self.started:
            for total in (self.dweight, self.dbias):
                if total is not None:
                    total.zero_()
        dweight = None if self.dweight is None else self.dweight.to(self.head.weight.dtype)
        dbias = None if self.dbias is None or self.head.bias is None else self.dbias.to(self.head.bias.dtype)
        return HeadGrads(self.dhidden, dweight, dbias)
