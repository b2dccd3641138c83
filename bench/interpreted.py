"""Liger's Triton loss on CPU: a process of its own, because TRITON_INTERPRET must be set before triton is imported."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from bench.batches import PackedBatch
from bench.opponents import liger_triton_loss, loss_and_grads
from himakernels.ops.vrgrpo_loss.options import PolicyOptions


@dataclass(frozen=True)
class Case:
    """One call of `liger_triton_loss` on a batch of logits."""

    batch: PackedBatch
    options: PolicyOptions
    temperature: float = 1.0


class Results(NamedTuple):
    losses: list[torch.Tensor]  # [] of every case
    dlogits: list[torch.Tensor]  # [R, V] of every case
    logits_after: torch.Tensor  # [R, V]: the first case's logits after a backward in Liger's default setting


def liger_triton(cases: list[Case]) -> Results:
    """Liger's losses and gradients of every case, all from one interpreter process."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "cases.pt"), Path(folder, "results.pt")
        torch.save(cases, source)
        done = subprocess.run(
            [sys.executable, "-m", "bench.interpreted", str(source), str(target)],
            env={**os.environ, "TRITON_INTERPRET": "1"},
            cwd=Path(__file__).resolve().parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"bench.interpreted failed:\n{done.stderr[-4000:]}")
        return torch.load(target, weights_only=False)


def _after_default_backward(batch: PackedBatch) -> torch.Tensor:
    from liger_kernel.transformers.grpo_loss import triton_grpo_loss

    assert batch.logits is not None
    logits = torch.nn.functional.pad(batch.logits.detach()[None], (0, 0, 0, 1)).requires_grad_()  # [1, R + 1, V]: one sample
    loss, _ = triton_grpo_loss(logits, None, None, batch.labels.clamp(min=0)[None], torch.ones(1), beta=0.0, reduce=True)
    loss.backward()
    return logits.detach()[0, :-1]


def main(source: str, target: str) -> None:
    cases = torch.load(source, weights_only=False)
    losses, dlogits = [], []
    for case in cases:
        loss, grads = loss_and_grads(liger_triton_loss, case.batch, case.options, temperature=case.temperature)
        losses.append(loss)
        dlogits.append(grads[0])
    torch.save(Results(losses, dlogits, _after_default_backward(cases[0].batch)), target)


if __name__ == "__main__":
    # By its importable name, so that the classes saved are those of the reading side.
    from bench import interpreted

    interpreted.main(*sys.argv[1:])
