"""The loops over chunks of rows, the same for every route."""

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import torch

from himakernels.backend import use_triton
from himakernels.lm_head import cpu
from himakernels.lm_head.types import IGNORE_INDEX, Head, HeadGrads, Needs, RowStats, accumulator_dtype

# From rows [begin, end) and their statistics to the derivatives of the loss by logprobs and by entropy (None: all zero).
RowPolicy = Callable[[int, int, RowStats], tuple[torch.Tensor, torch.Tensor | None]]


def route(tensor: torch.Tensor) -> ModuleType:
    """The module that does the work for this tensor."""
    if use_triton(tensor):
        from himakernels.lm_head import triton_route

        return triton_route
    return cpu


def _chunks(head: Head) -> list[tuple[int, int]]:
    """Nearly equal chunks of rows: [begin, end) of each.

    They begin at multiples of 16, so that no vector [R] is cut where it is not aligned: Triton compiles for alignment.
    """
    rows = head.hidden.shape[0]
    count = -(-rows // route(head.hidden).chunk_rows(head))
    step = -(-rows // max(16 * count, 1)) * 16
    return [(begin, min(begin + step, rows)) for begin in range(0, rows, step)] if rows else []


def _logits(head: Head, chunks: list[tuple[int, int]]) -> Iterator[tuple[int, int, torch.Tensor]]:
    r = route(head.hidden)
    memory = r.empty_logits(head, max((end - begin for begin, end in chunks), default=0))
    for begin, end in chunks:
        yield begin, end, r.head_logits(head.rows(begin, end), memory)
    r.keep_logits(memory)


def _stats(head: Head, logits: torch.Tensor) -> RowStats:
    """The statistics of the rows of `head`, whose logits are given."""
    stats: RowStats = route(head.hidden).logits_stats(logits, head.labels, head.temperature, head.softcap)
    if head.softcap is None:
        return stats
    # The cap makes an ordinary -softcap of a logit of -inf. Bias or weight may mask a token so, but an infinity in a hidden
    # state must show.
    bad = ~head.hidden.isfinite().all(1) & (head.labels != IGNORE_INDEX)
    return RowStats(*(s.masked_fill(bad, torch.nan) for s in stats))


def head_stats(head: Head) -> RowStats:
    """Forward only: one product."""
    out = RowStats(
        *(torch.empty(head.hidden.shape[0], dtype=accumulator_dtype(head.hidden), device=head.hidden.device) for _ in range(3))
    )
    for begin, end, logits in _logits(head, _chunks(head)):
        stats = _stats(head.rows(begin, end), logits)
        for whole, part in zip(out, stats, strict=True):
            whole[begin:end] = part
    return out


def head_backward(
    head: Head, stats: RowStats, coef: torch.Tensor, coef_entropy: torch.Tensor | None, needs: Needs
) -> HeadGrads:
    """The gradients for given derivatives of the loss by each row's logprob and entropy: up to three products."""
    chunks = _chunks(head)
    grads = route(head.hidden).GradSum(head, needs, len(chunks))
    if any(needs):
        for begin, end, logits in _logits(head, chunks):
            part = RowStats(*(s[begin:end] for s in stats))
            by_entropy = None if coef_entropy is None else coef_entropy[begin:end]
            grads.add(begin, logits, part, coef[begin:end], by_entropy)
    return HeadGrads(*grads.finish())


def head_fused(head: Head, policy: RowPolicy, needs: Needs, *, whole_samples: bool) -> tuple[RowStats, HeadGrads]:
    """Forward and backward together: a row's coefficient is known as soon as its logprob is, so logits are formed once.

    With `whole_samples` a coefficient needs other rows too; if the rows take more than one chunk, all statistics come
    first and the logits are formed a second time (four products instead of three).
    """
    chunks = _chunks(head)
    r = route(head.hidden)
    if not any(needs) or (whole_samples and len(chunks) > 1):
        stats = head_stats(head)
        coef, coef_entropy = policy(0, head.hidden.shape[0], stats)
        return stats, head_backward(head, stats, coef, coef_entropy, needs)
    parts = []
    grads = r.GradSum(head, needs, len(chunks))
    for begin, end, logits in _logits(head, chunks):
        stats = _stats(head.rows(begin, end), logits)
        coef, coef_entropy = policy(begin, end, stats)
        grads.add(begin, logits, stats, coef, coef_entropy)
        parts.append(stats)
    if not parts:
        stats = head_stats(head)
        policy(0, 0, stats)
        return stats, grads.finish()
    return RowStats(*(torch.cat(column) for column in zip(*parts, strict=True))), grads.finish()


def op_grads(grads: HeadGrads, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The gradients as an operator returns them: an empty tensor where one was not asked for."""
    return tuple(like.new_empty(0) if g is None else g for g in grads)


def fake_grads(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, needs: Sequence[bool]
) -> tuple[torch.Tensor, ...]:
    """Tensors like those of `op_grads`, for an operator's fake."""
    return tuple(
        torch.empty_like(t, memory_format=torch.contiguous_format) if need and t is not None else hidden.new_empty(0)
        for need, t in zip(needs, (hidden, weight, bias), strict=True)
    )
