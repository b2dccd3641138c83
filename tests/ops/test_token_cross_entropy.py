"""token_cross_entropy: the gate, normalisers, edges; what it shares with token_logprobs is tested there."""

import pytest
import torch

from himakernels import token_cross_entropy, token_cross_entropy_reference
from himakernels.backend import use_triton
from himakernels.testing import assert_gate, policy_batch, repeatable

pytestmark = [
    pytest.mark.usefixtures("poison"),
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),  # numpy, inside the interpreter, on NaN
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ON_TRITON = use_triton(torch.zeros(0)) or torch.cuda.is_available()
# Collapsed policies have large logits, and Triton's route holds logits in the operands' dtype, as eager torch does. It can't be
# held to what eager's other roundings happen to give; so there the logits are smaller, and in half precision left out.
COLLAPSED = 1.0 if ON_TRITON else 4.0
SKIP = "logits rounded to half precision: elementwise nearer to or farther from the truth than eager's by chance"
CASES = {
    "plain": {},
    "softcap_and_temperature": {"softcap": 8.0, "temperature": 1.2},
    "collapsed": {"scale": COLLAPSED},  # most tokens are predicted with certainty
    "global_denominator": {"num_tokens": 123.0},  # micro-batches and ranks
    "upstream": {"upstream": -2.5},  # the loss is scaled from above
    "chunks": {"chunks": True, "rows": 50},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_gate(name: str, dtype: torch.dtype, device: torch.device, request: pytest.FixtureRequest) -> None:
    case = dict(CASES[name])
    if name == "collapsed" and ON_TRITON and dtype != torch.float32:
        pytest.skip(SKIP)
    if case.pop("chunks", False):
        request.getfixturevalue("many_chunks")
    scale = float(case.pop("upstream", 1.0))
    b = policy_batch(dtype=dtype, device=device, rows=int(case.pop("rows", 21)), scale=float(case.pop("scale", 0.4)))
    heads = (b.hidden, b.weight, b.bias)
    results = []
    for dt in (torch.float64, dtype):
        leaves = [t.detach().cpu().to(dt).requires_grad_() for t in heads]
        loss = token_cross_entropy_reference(leaves[0] @ leaves[1].T + leaves[2], b.labels.cpu(), **case)
        results.append((loss, *torch.autograd.grad(scale * loss, leaves)))
    leaves = [t.clone().requires_grad_() for t in heads]
    got = token_cross_entropy(*leaves[:2], b.labels, bias=leaves[2], **case)
    assert got.loss.dtype == torch.float32
    assert not got.logprobs.requires_grad
    ours = (got.loss, *torch.autograd.grad(scale * got.loss, leaves))
    for leaf, mine, truth, eager in zip(("loss", "dhidden", "dweight", "dbias"), ours, *results, strict=True):
        assert_gate(leaf, mine, truth, eager, dtype=dtype, n=53)
    torch.testing.assert_close(-got.logprobs.sum() / case.get("num_tokens", (b.labels != -100).sum()), got.loss.detach())


@pytest.mark.once
def test_gradcheck() -> None:
    b = policy_batch(rows=7, vocab=9, hidden_size=4, dtype=torch.float64)
    heads = [t.clone().requires_grad_() for t in (b.hidden, b.weight, b.bias)]
    ours = repeatable(lambda h, w, c: token_cross_entropy(h, w, b.labels, bias=c, softcap=5.0).loss)
    assert torch.autograd.gradcheck(ours, heads)
    assert torch.autograd.gradcheck(lambda x: token_cross_entropy_reference(x, b.labels), b.logits.requires_grad_())


def test_micro_batches_sum_to_one_call(device: torch.device) -> None:
    b = policy_batch(device=device, rows=40)
    num_tokens = (b.labels != -100).sum()
    whole, parts = b.weight.clone().requires_grad_(), b.weight.clone().requires_grad_()
    loss = token_cross_entropy(b.hidden, whole, b.labels).loss
    loss.backward()
    total = torch.zeros((), device=device)
    for rows in (slice(0, 7), slice(7, 7), slice(7, 40)):
        part = token_cross_entropy(b.hidden[rows], parts, b.labels[rows], num_tokens=num_tokens).loss
        part.backward()
        total += part.detach()
    torch.testing.assert_close(total, loss.detach())
    torch.testing.assert_close(parts.grad, whole.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rows", [0, 6])
def test_nothing_to_learn_is_a_connected_zero(rows: int, device: torch.device) -> None:
    b = policy_batch(device=device, rows=rows)
    leaves = [t.clone().requires_grad_() for t in (b.hidden, b.weight, b.bias)]
    loss = token_cross_entropy(*leaves[:2], torch.full_like(b.labels, -100), bias=leaves[2]).loss
    assert float(loss) == 0
    loss.backward()
    assert all(t.grad is not None and bool((t.grad == 0).all()) for t in leaves)


def test_frozen_head_and_second_backward(device: torch.device) -> None:
    b = policy_batch(device=device, rows=18)
    hidden = b.hidden.clone().requires_grad_()
    loss = token_cross_entropy(hidden, b.weight, torch.stack([b.labels, b.labels])[0].int()).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert not token_cross_entropy(b.hidden, b.weight, b.labels).loss.requires_grad
    # Labels out of one column of a matrix.
    columns = torch.stack([b.labels, b.labels], 1)
    assert torch.equal(token_cross_entropy(hidden, b.weight, columns[:, 1]).loss, loss)
