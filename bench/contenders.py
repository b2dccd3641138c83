"""Who runs beside whom: names, the callables behind them, and the three bare matrix products that nobody can beat."""

import argparse
import importlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from bench import opponents
from bench.batches import PackedBatch, make_batch
from bench.measure import peak_of
from bench.shapes import BY_NAME, Shape
from himakernels.lm_head.head import _chunks, route
from himakernels.lm_head.types import Head, Needs
from himakernels.ops.vrgrpo_loss.options import PolicyOptions
from himakernels.testing import assert_gate

# The setting of all speed benches: grpo, off-policy so that some tokens are clipped, no KL term.
OPTIONS = PolicyOptions(clip_low=0.2, clip_high=0.28)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True)
class Contender:
    """A loss on a packed batch. `needs` is the module to look for, or "module:name" where not every version of it has the name;
    `slow` ones run once; `compiles` anew per vocabulary.
    """

    loss: opponents.Loss
    needs: str | None = None
    slow: bool = False
    compiles: bool = False

    @property
    def installed(self) -> bool:
        if self.needs is None:
            return True
        module, _, name = self.needs.partition(":")
        return importlib.util.find_spec(module) is not None and (not name or hasattr(importlib.import_module(module), name))


OURS = "himakernels"
LINEAR_CROSS_ENTROPY = "torch.nn.functional:linear_cross_entropy"  # from torch 2.13
LINEAR = {
    OURS: Contender(opponents.our_loss),
    "TRL chunked": Contender(partial(opponents.trl_loss, chunked=True), "trl", slow=True),
    "Liger fused linear": Contender(opponents.liger_fused_loss, "liger_kernel", slow=True),
    "Liger fused linear, compiled": Contender(partial(opponents.liger_fused_loss, compiled=True), "liger_kernel", slow=True),
    "F.linear_cross_entropy": Contender(opponents.linear_cross_entropy_loss, LINEAR_CROSS_ENTROPY),
    "F.linear_cross_entropy, chunked": Contender(
        partial(opponents.linear_cross_entropy_loss, chunked=True), LINEAR_CROSS_ENTROPY
    ),
    "cut-cross-entropy, torch_compile": Contender(opponents.cce_loss, "cut_cross_entropy", compiles=True),
    "eager torch": Contender(opponents.eager_loss),
}
LOGITS = {
    OURS: Contender(opponents.our_loss),
    "ours, in place": Contender(partial(opponents.our_loss, inplace=True)),
    "TRL": Contender(opponents.trl_loss, "trl"),
    "eager torch": Contender(opponents.eager_loss),
}
FORMS = {"linear": LINEAR, "frozen": LINEAR, "logits": LOGITS}


def batch_for(shape: Shape, dtype: torch.dtype, form: str, *, inactive: float = 0.0) -> PackedBatch:
    """The batch of a bench. Samples have equal lengths, so that peers that pad pay for no padding.

    `inactive` is the fraction of samples whose advantage is 0.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = make_batch(shape, dtype=dtype, device=device, ragged=False, frozen_head=form == "frozen")
    # Every other sample counts for something: a bench's rewards must not happen to agree within a group.
    signs = torch.ones_like(batch.advantages)
    signs[::2] = -1
    signs[: round(inactive * len(signs))] = 0
    batch.advantages.copy_(signs)
    return batch.from_logits() if form == "logits" else batch


def gate(dtype: torch.dtype, form: str) -> None:
    """Loss and gradients of ours within the numerical gate on a small batch: no bench runs before this has passed."""
    shape = Shape("gate", 96, 64, 1_000, 8)
    batch = batch_for(shape, dtype, form)
    results = []
    for loss, precision in (
        (opponents.our_loss, dtype),
        (opponents.reference_loss, torch.float64),
        (opponents.reference_loss, dtype),
    ):
        value, grads = opponents.loss_and_grads(loss, batch.to(precision), OPTIONS)
        results.append([value, *grads])
    names = ("loss", "dlogits") if form == "logits" else ("loss", "dhidden", "dweight")
    for name, actual, truth, eager in zip(names, *results, strict=False):
        # Every gradient carries the rounding of a sum over the vocabulary, that of its row's lse.
        assert_gate(name, actual, truth, eager, dtype=dtype, n=shape.vocab)


def step(loss: opponents.Loss, batch: PackedBatch) -> Callable[[], torch.Tensor]:
    """Forward + backward with fresh gradients each time."""

    def run() -> torch.Tensor:
        for leaf in batch.leaves:
            leaf.grad = None
        value = loss(batch, OPTIONS)
        value.backward()
        return value.detach()

    return run


def warm_up(contender: Contender, batch: PackedBatch, dtype: torch.dtype, form: str) -> Callable[[], torch.Tensor]:
    """A step that loads, and compiles, what a step on `batch` will need, but is cheap where that is possible."""
    if contender.compiles:
        return step(contender.loss, batch)
    tiny = Shape("warm-up", len(batch.labels), 16, 512, len(batch.agent_id))
    return step(contender.loss, batch_for(tiny, dtype, form))


def forward_only(loss: opponents.Loss, batch: PackedBatch) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.no_grad():
            return loss(batch, OPTIONS)

    return run


def bare_gemms(batch: PackedBatch, *, frozen: bool = False) -> Callable[[], None]:
    """logits = h @ w.T, dhidden = dz @ w, dweight = dz.T @ h into preallocated outputs; two of them for a frozen head.

    Nothing but the products: no softmax, no loss. What takes as long as this costs nothing beside them.
    """
    hidden, weight = batch.hidden.detach(), batch.weight.detach()
    logits = hidden.new_empty(len(hidden), len(weight))
    dhidden, dweight = torch.empty_like(hidden), torch.empty_like(weight)
    # Denormals or zeros in dz could change the speed of a product, so it is filled.
    dlogits = torch.randn_like(logits)

    def run() -> None:
        torch.mm(hidden, weight.T, out=logits)
        torch.mm(dlogits, weight, out=dhidden)
        if not frozen:
            torch.mm(dlogits.T, hidden, out=dweight)

    return run


def fp32_dweight_bytes(batch: PackedBatch) -> int:
    """V x H x 4 where ours holds the sum of dweight in fp32 beside the gradient in the weight's dtype; else 0."""
    head = Head(batch.hidden.detach(), batch.weight.detach(), None, batch.labels, 1.0, None)
    held = route(head.hidden).GradSum(head, Needs(False, True, False), len(_chunks(head))).dweight
    return 0 if held.dtype == head.weight.dtype else held.nbytes


def output_bytes(batch: PackedBatch) -> int:
    """The gradients, which every contender has to return."""
    return sum(leaf.numel() * leaf.element_size() for leaf in batch.leaves)


def main() -> None:
    """The peak memory of one contender in this process, as JSON: what `bench.compare` starts once for each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("contender")
    parser.add_argument("--shape", choices=BY_NAME, required=True)
    parser.add_argument("--dtype", choices=DTYPES, required=True)
    parser.add_argument("--form", choices=FORMS, required=True)
    args = parser.parse_args()
    contender = FORMS[args.form][args.contender]
    dtype = DTYPES[args.dtype]
    batch = batch_for(BY_NAME[args.shape], dtype, args.form)
    peak = peak_of(step(contender.loss, batch), warm_up(contender, batch, dtype, args.form))
    print(json.dumps({"peak": peak, "outputs": output_bytes(batch)}))


if __name__ == "__main__":
    main()
