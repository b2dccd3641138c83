"""What the Triton route does without the host: it never waits for a value, and bad ids show in the loss all the same.

Where there is no GPU the kernels run in the interpreter, on CPU tensors, whose values the CPU route would check and read.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import himakernels as hk
from himakernels.lm_head import scale
from himakernels.ops.group_advantages import op as advantages_op
from himakernels.ops.token_cross_entropy import op as cross_entropy_op
from himakernels.ops.token_logprobs import op as logprobs_op
from himakernels.ops.vrgrpo_loss import op as loss_op
from himakernels.testing import INTERPRET, PolicyBatch, policy_batch

pytestmark = [
    pytest.mark.skipif(not INTERPRET and not torch.cuda.is_available(), reason="the Triton route"),
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),  # numpy, inside the interpreter, on NaN
]
FORMS = ["linear", "logits"]


def loss_of(b: PolicyBatch, form: str, **changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, the gradient for hidden states or logits)."""
    values: dict[str, Any] = {"sample_id": b.sample_id, "advantages": b.advantages, "labels": b.labels, **changes}
    leaf = (b.hidden if form == "linear" else b.logits).clone().requires_grad_()
    if form == "linear":
        loss = hk.vrgrpo_loss(leaf, b.weight, **values).loss
    else:
        loss = hk.vrgrpo_loss_from_logits(leaf, **values).loss
    loss.backward()
    return loss.detach(), leaf.grad


# ------------------------------------------------------------------------------------------------ ids out of range


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody checks values on the host, as on a GPU."""
    for module in ("himakernels.ops.vrgrpo_loss.batch", "himakernels.lm_head.arguments"):
        monkeypatch.setattr(f"{module}.check_range", lambda *args, **kwargs: None)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("options", [{}, {"ratio_level": "sequence"}, {"loss_type": "dapo", "entropy_coef": 0.1}])
@pytest.mark.parametrize("form", FORMS)
def test_an_id_out_of_range_makes_the_loss_nan(form: str, options: dict[str, Any], device: torch.device) -> None:
    b = policy_batch(rows=10, samples=5, device=device)
    # Row 0 counts; sample 4 has no rows.
    b = b._replace(labels=b.labels.clamp(min=0), sample_id=b.sample_id % 4)
    agents = {"agent_id": b.agent_id, "num_agents": 3}

    def at(ids: torch.Tensor, index: int, value: int) -> torch.Tensor:
        return ids.index_fill(0, torch.tensor(index, device=device), value)

    good, _ = loss_of(b, form, **agents, **options)
    assert bool(good.isfinite())
    far = 2**40
    cases: list[dict[str, Any]] = [{"sample_id": at(b.sample_id, 0, v)} for v in (5, -1, far)]
    cases += [{"agent_id": at(b.agent_id, s, v)} for s in (0, 4) for v in (3, -1, far)]
    cases += [{"labels": at(b.labels, 0, v)} for v in (53, -1, far)]
    for case in cases:
        loss, grad = loss_of(b, form, **{**agents, **case}, **options)
        assert bool(loss.isnan()), case
        assert bool(grad.isnan().any()), case


@pytest.mark.usefixtures("unread")
def test_a_label_out_of_range_in_the_other_ops(device: torch.device) -> None:
    b = policy_batch(rows=6, device=device)
    for value in (53, -1, 2**40):
        labels = b.labels.index_fill(0, torch.tensor(1, device=device), value)
        for logprobs in (
            hk.token_logprobs(b.hidden, b.weight, labels).logprobs,
            hk.token_logprobs_from_logits(b.logits, labels).logprobs,
        ):
            assert logprobs.isnan().nonzero().tolist() == [[1]]
        assert bool(hk.token_cross_entropy(b.hidden, b.weight, labels).loss.isnan())


# --------------------------------------------------------------------------------------------------------- waiting


class _NoReads(TorchDispatchMode):
    """An error for whatever brings a tensor's value, or a size that depends on values, to the host."""

    READS = (
        "_local_scalar_dense",
        "is_nonzero",
        "equal",
        "nonzero",
        "masked_select",
        "unique",
        "repeat_interleave",
        "bincount",
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0].lstrip("_")
        by_mask = name in ("index", "index_put", "index_put_") and any(
            t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]
        )
        if by_mask or any(name.startswith(read.lstrip("_")) for read in self.READS):
            raise AssertionError(f"{func.name()} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch, unread: None) -> Iterator[Any]:
    """A context in which waiting for the device is an error."""
    if torch.cuda.is_available():

        class Watched:
            def __enter__(self) -> None:
                torch.cuda.set_sync_debug_mode("error")

            def __exit__(self, *exc: object) -> None:
                torch.cuda.set_sync_debug_mode("default")

        yield Watched()
        return

    def tolist(tensor: torch.Tensor) -> None:
        raise AssertionError("tolist waits for the device")

    monkeypatch.setattr(torch.Tensor, "tolist", tolist)  # never dispatched
    # A dispatch mode does not look inside an operator, so each operator is replaced by the function behind it.
    for module, name, function in (
        (loss_op, "_linear_op", loss_op._linear),
        (loss_op, "_logits_op", loss_op._logits),
        (loss_op, "_logits_inplace_op", loss_op._logits_inplace),
        (logprobs_op, "_op", logprobs_op._fwd),
        (logprobs_op, "_op_bwd", logprobs_op._bwd),
        (logprobs_op, "_op_logits", logprobs_op._logits_fwd),
        (logprobs_op, "_op_logits_bwd", logprobs_op._logits_bwd),
        (cross_entropy_op, "_op", cross_entropy_op._fwd),
        (advantages_op, "_op", advantages_op._run),
        (scale, "_scale", scale._run),
    ):
        monkeypatch.setattr(module, name, function)
    yield _NoReads()


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything within a row": {"kl_coef": 0.1, "importance": "token_mask", "entropy_coef": 0.1, "grad_scale": 8.0},
    "sequences": {"ratio_level": "sequence", "importance": "sequence_truncate"},
    "vespo": {"loss_type": "vespo"},
    "agents": {"loss_type": "dapo", "agents": True},
    "rewards": {"rewards": True, "top_k": 2, "loss_type": "bnpo"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_loss_waits_for_nothing(name: str, form: str, no_waiting: Any, many_chunks: None, device: torch.device) -> None:
    b = policy_batch(rows=20, device=device)
    options = dict(OPTIONS[name])
    if options.pop("agents", False):
        options |= {"agent_id": b.agent_id, "num_agents": 3}
    if options.pop("rewards", False):
        options |= {"advantages": None, "rewards": b.rewards, "group_id": b.group_id}
    if "kl_coef" in options:
        options["ref_logprobs"] = b.ref_logprobs
    if "importance" in options:
        options["rollout_logprobs"] = b.rollout_logprobs
    want = loss_of(b, form, old_logprobs=b.old_logprobs, **options)  # compiles what is to be compiled
    with no_waiting:
        got = loss_of(b, form, old_logprobs=b.old_logprobs, **options)
    assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))


def test_the_other_ops_wait_for_nothing(no_waiting: Any, many_chunks: None, device: torch.device) -> None:
    b = policy_batch(rows=20, device=device)

    def step() -> list[torch.Tensor]:
        hidden, logits = b.hidden.clone().requires_grad_(), b.logits.requires_grad_()
        linear = hk.token_logprobs(hidden, b.weight, b.labels, return_entropy=True)
        direct = hk.token_logprobs_from_logits(logits, b.labels)
        loss = hk.token_cross_entropy(hidden, b.weight, b.labels, softcap=9.0).loss
        advantages = hk.group_advantages(b.rewards, b.group_id, num_groups=9).advantages
        (linear.logprobs.sum() + linear.entropy.sum() + direct.logprobs.sum() + loss + advantages.sum()).backward()
        return [hidden.grad, logits.grad]

    want = step()
    with no_waiting:
        got = step()
    assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))


def test_waiting_is_noticed(no_waiting: Any, device: torch.device) -> None:
    """The two tests above could not fail otherwise."""
    x = torch.ones(3, device=device)
    for read in (lambda: float(x.sum()), lambda: bool(x.any()), lambda: x.tolist(), lambda: x[x > 0], lambda: x.nonzero()):
        with pytest.raises((AssertionError, RuntimeError)), no_waiting:
            read()
