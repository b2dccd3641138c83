"""What vrgrpo_loss promises beside its numbers: edges, errors, compile, invariance, metrics, memory, specialisation."""

from typing import Any

import pytest
import torch

from himakernels import PolicyMetrics, vrgrpo_loss, vrgrpo_loss_from_logits
from himakernels.lm_head import cpu
from himakernels.testing import PolicyBatch, policy_batch

pytestmark = [
    pytest.mark.usefixtures("poison"),
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),  # numpy, inside the interpreter, on NaN and inf
]
INF, NAN = float("inf"), float("nan")


def grads_of(b: PolicyBatch, **options: Any) -> tuple[Any, list[torch.Tensor]]:
    leaves = [t.clone().requires_grad_() for t in (b.hidden, b.weight)]
    options = {"advantages": b.advantages, "old_logprobs": b.old_logprobs, **options}
    if options["advantages"] is None:
        del options["advantages"]
    out = vrgrpo_loss(*leaves, b.labels, sample_id=b.sample_id, **options)
    out.loss.backward()
    return out, [t.grad for t in leaves]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-6 * max(1e-3, float(b.abs().max()) if b.numel() else 0.0))


# ------------------------------------------------------------------------------------------------------------ edges


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True), (False, True, True)])
def test_only_what_is_asked_for(wanted: tuple[bool, ...], device: torch.device) -> None:
    b = policy_batch(rows=18, device=device)
    results = []
    for flags in ((True, True, True), wanted):
        leaves = [t.clone().requires_grad_(f) for t, f in zip((b.hidden, b.weight, b.bias), flags, strict=True)]
        out = vrgrpo_loss(*leaves[:2], b.labels, bias=leaves[2], sample_id=b.sample_id, advantages=b.advantages)
        out.loss.backward()
        results.append([t.grad for t in leaves])
    for whole, part, want in zip(*results, wanted, strict=True):
        assert (part is not None) == want
        assert part is None or torch.equal(part, whole)


def test_a_frozen_head_takes_two_products(device: torch.device, monkeypatch: pytest.MonkeyPatch, triton_route: bool) -> None:
    if triton_route:
        pytest.skip("counts the products of the CPU route")
    b = policy_batch(rows=18)
    calls: list[tuple[int, ...]] = []
    plain = cpu.gemm
    monkeypatch.setattr(cpu, "gemm", lambda a, *rest, **kw: (calls.append(tuple(a.shape)), plain(a, *rest, **kw))[1])
    hidden = b.hidden.clone().requires_grad_()
    for weight, products in ((b.weight, 2), (b.weight.clone().requires_grad_(), 3)):
        calls.clear()
        vrgrpo_loss(hidden, weight, b.labels, sample_id=b.sample_id, advantages=b.advantages).loss.backward()
        assert len(calls) == products
    calls.clear()
    with torch.no_grad():
        out = vrgrpo_loss(hidden, weight, b.labels, sample_id=b.sample_id, advantages=b.advantages)
    assert len(calls) == 1
    assert not out.loss.requires_grad


@pytest.mark.parametrize("rows", [0, 1, 6])
@pytest.mark.parametrize("ratio_level", ["token", "sequence"])
def test_nothing_to_learn_is_a_connected_zero(rows: int, ratio_level: str, device: torch.device) -> None:
    """No rows at all; one row, or several, that are all ignored."""
    b = policy_batch(rows=rows, samples=3, device=device)
    b = b._replace(labels=torch.full_like(b.labels, -100), old_logprobs=torch.full_like(b.old_logprobs, NAN))
    for samples in (3, 0) if rows == 0 else (3,):
        agents = {"agent_id": b.agent_id[:samples], "num_agents": 3}
        options = {"ratio_level": ratio_level, "entropy_coef": 0.1, "advantages": b.advantages[:samples]}
        out, grads = grads_of(b, **options, **agents)
        assert float(out.loss) == 0
        assert all(bool((g == 0).all()) for g in grads)
        assert out.metrics.ratio_min.tolist() == [1, 1, 1]
        assert out.metrics.num_tokens.tolist() == [0, 0, 0]
    for inplace in (False, True):
        logits = b.logits.requires_grad_()
        out = vrgrpo_loss_from_logits(
            logits, b.labels, sample_id=b.sample_id, advantages=b.advantages, ratio_level=ratio_level, inplace=inplace
        )
        out.loss.backward()
        assert float(out.loss) == 0
        assert bool((logits.grad == 0).all())


def test_one_token(device: torch.device) -> None:
    b = policy_batch(rows=1, samples=1, device=device)
    out, grads = grads_of(b, advantages=torch.full((1,), 2.0, device=device), old_logprobs=None)
    assert float(out.loss) == -2
    row = torch.softmax(b.hidden.double() @ b.weight.double().T, 1)
    row[0, b.labels[0]] -= 1
    close(grads[0].double(), 2 * row @ b.weight.double())


def test_an_agent_without_samples_and_samples_without_rows(device: torch.device) -> None:
    """Neither disturbs the others, also where the global normalisers of the empty agent are zero."""
    b = policy_batch(rows=20, samples=6, agents=2, device=device)
    for loss_type in ("grpo", "dapo"):
        want, dwant = grads_of(b, agent_id=b.agent_id, num_agents=2, loss_type=loss_type)
        got, dgot = grads_of(b, agent_id=b.agent_id * 2, num_agents=4, loss_type=loss_type)
        assert torch.equal(got.loss, want.loss)
        assert all(torch.equal(x, y) for x, y in zip(dgot, dwant, strict=True))
        assert got.metrics.num_samples.tolist()[1::2] == [0, 0]
        n = {k: torch.zeros(4, device=device) for k in ("num_samples", "num_tokens")}
        n["num_samples"][::2], n["num_tokens"][::2] = want.metrics.num_samples, want.metrics.num_tokens
        again, _ = grads_of(b, agent_id=b.agent_id * 2, loss_type=loss_type, **n)
        assert torch.equal(again.loss, want.loss)


def test_strided_inputs_and_int32(device: torch.device) -> None:
    b = policy_batch(rows=24, device=device)
    options = {"kl_coef": 0.1, "importance": "token_mask"}
    vectors = {"ref_logprobs": b.ref_logprobs, "rollout_logprobs": b.rollout_logprobs}
    want, dwant = grads_of(b, **vectors, **options)

    def scattered(t: torch.Tensor) -> torch.Tensor:
        return torch.stack([t, t * 0 + 17], -1)[..., 0]

    s = PolicyBatch(*(scattered(t) for t in b))
    got, dgot = grads_of(
        s._replace(labels=scattered(b.labels.int()), sample_id=scattered(b.sample_id.int())),
        ref_logprobs=s.ref_logprobs, rollout_logprobs=s.rollout_logprobs, **options,
    )  # fmt: skip
    assert torch.equal(got.loss, want.loss)
    assert all(torch.equal(x, y) for x, y in zip(dgot, dwant, strict=True))
    # Logits inside a wider matrix, per-token advantages out of a column; in place as well.
    results = []
    for wide, inplace in ((False, False), (True, False), (True, True)):
        memory = torch.full((24, 60), 5.0, device=device)
        memory[:, 4:57] = b.logits
        leaf = (memory[:, 4:57] if wide else b.logits).requires_grad_()
        adv = s.token_advantages if wide else b.token_advantages
        out = vrgrpo_loss_from_logits(
            leaf * 1 if inplace and not wide else leaf, s.labels if wide else b.labels, sample_id=b.sample_id,
            advantages=adv, advantage_level="token", old_logprobs=s.old_logprobs if wide else b.old_logprobs, inplace=inplace,
        )  # fmt: skip
        (3 * out.loss).backward()
        results.append((out.loss.detach(), leaf.grad))
        assert bool((memory[:, :4] == 5).all())
        assert bool((memory[:, 57:] == 5).all())
    for loss, grad in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(grad, results[0][1])


# --------------------------------------------------------------------------------------------------------- backward


def test_upstream_scalar_and_second_backward(device: torch.device) -> None:
    b = policy_batch(rows=18, device=device)
    _, want = grads_of(b)
    leaves = [t.clone().requires_grad_() for t in (b.hidden, b.weight)]
    out = vrgrpo_loss(*leaves, b.labels, sample_id=b.sample_id, advantages=b.advantages, old_logprobs=b.old_logprobs)
    (out.loss * -2.5).backward(retain_graph=True)
    for leaf, grad in zip(leaves, want, strict=True):
        close(leaf.grad, -2.5 * grad)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.loss.backward()


def test_what_is_overwritten_in_place_is_not_used_by_others(device: torch.device) -> None:
    """A producer that saved the logits for its own backward is refused, not misled."""
    b = policy_batch(rows=6, device=device)
    leaf = b.logits.requires_grad_()
    for producer, refused in ((torch.exp, True), (torch.clone, False)):
        logits = producer(leaf)
        loss = vrgrpo_loss_from_logits(logits, b.labels, sample_id=b.sample_id, advantages=b.advantages, inplace=True).loss
        if refused:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
        else:
            loss.backward()
    plain = b.logits.requires_grad_()
    vrgrpo_loss_from_logits(plain, b.labels, sample_id=b.sample_id, advantages=b.advantages).loss.backward()
    assert torch.equal(leaf.grad, plain.grad)


# ------------------------------------------------------------------------------------------------ values that show


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("options", [{}, {"old": True}, {"ratio_level": "sequence"}, {"loss_type": "cispo", "clip_high": 2.0}])
def test_nan_in_hidden_shows(value: float, options: dict[str, Any], device: torch.device) -> None:
    b = policy_batch(rows=8, samples=2, device=device)
    b.hidden[3, 0] = value
    assert b.labels[3] != -100
    options = dict(options)
    old = b.old_logprobs if options.pop("old", False) else None
    out, grads = grads_of(b, old_logprobs=old, **options)
    assert bool(out.loss.isnan())
    assert bool(grads[0][3].isnan().any())
    logits = b.logits.requires_grad_()
    out = vrgrpo_loss_from_logits(logits, b.labels, sample_id=b.sample_id, advantages=b.advantages, old_logprobs=old, **options)
    out.loss.backward()
    assert bool(out.loss.isnan())
    assert bool(logits.grad[3].isnan().any())


@pytest.mark.parametrize("options", [{}, {"ratio_level": "sequence"}, {"loss_type": "vespo"}, {"importance": "sequence_mask"}])
def test_garbage_in_rows_that_do_not_count(options: dict[str, Any], device: torch.device) -> None:
    """Ignored labels and excluded samples (a failed scorer, a group without variance) may hold NaN anywhere."""
    b = policy_batch(rows=24, samples=6, device=device)
    group_id = torch.tensor([0, 0, 1, 1, 2, 2], device=device)
    rewards = torch.tensor([1.0, 0, 1, 1, NAN, 0], device=device)  # group 1 has no variance, group 2 one member
    common = {"advantages": None, "rewards": rewards, "group_id": group_id, "kl_coef": 0.1, "entropy_coef": 0.1, **options}
    out = ((b.labels == -100) | (b.sample_id >= 2)).nonzero()[:, 0]
    results = []
    for value in (0.0, NAN):
        x = b._replace(
            **{k: getattr(b, k).index_fill(0, out, value) for k in ("old_logprobs", "ref_logprobs", "rollout_logprobs")}
        )
        more = {"rollout_logprobs": x.rollout_logprobs} if "importance" in options else {}
        results.append(grads_of(x, **common, ref_logprobs=x.ref_logprobs, old_logprobs=x.old_logprobs, **more))
    (want, dwant), (got, dgot) = results
    assert bool(got.loss.isfinite())
    assert torch.equal(got.loss, want.loss)
    assert all(torch.equal(x, y) for x, y in zip(dgot, dwant, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(got.metrics, want.metrics, strict=True))
    assert bool((dgot[0][out] == 0).all())
    assert float(got.metrics.num_samples) == 2
    # The same as the two samples of the one group alone.
    rows = ((b.labels != -100) & (b.sample_id < 2)).nonzero()[:, 0]
    alone = PolicyBatch(*(t[rows] if t.shape[:1] == b.labels.shape else t for t in b))
    more = {"rollout_logprobs": alone.rollout_logprobs} if "importance" in options else {}
    single, dsingle = grads_of(
        alone, **{**common, "rewards": rewards[:2], "group_id": group_id[:2]}, ref_logprobs=alone.ref_logprobs, **more
    )
    close(single.loss.detach(), got.loss.detach())
    close(dsingle[1], dgot[1])


def test_nan_where_it_counts_is_not_swallowed(device: torch.device) -> None:
    b = policy_batch(rows=8, samples=2, device=device)
    for name in ("old_logprobs", "ref_logprobs"):
        vector = getattr(b, name).clone()
        vector[2] = NAN
        out, grads = grads_of(b, **{"ref_logprobs": b.ref_logprobs, "kl_coef": 0.1, name: vector})
        assert bool(out.loss.isnan())
        assert bool(grads[0][2].isnan().all())
        assert bool(grads[0][[0, 1, 3]].isfinite().all())
    out, grads = grads_of(b, advantages=torch.tensor([NAN, 1.0], device=device))
    assert bool(out.loss.isnan())


# ---------------------------------------------------------------------------------------------------------- metrics


def test_metrics_by_hand(device: torch.device) -> None:
    """Four tokens of V = 2 with p = 1/2 each; ratios 2, 1/2, 1, 4 against advantages 1, -1, 1, -1; one token ignored."""
    log = torch.log(torch.tensor([2.0, 0.5, 1, 4, 1], device=device))
    half = torch.full((5,), 0.5, device=device).log()
    logits = torch.zeros(5, 2, device=device, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 1, -100], device=device)
    sample_id = torch.tensor([0, 1, 0, 1, 1], device=device)
    out = vrgrpo_loss_from_logits(
        logits, labels, sample_id=sample_id, advantages=torch.tensor([1.0, -1.0], device=device), loss_type="dapo",
        agent_id=torch.tensor([0, 1], device=device), num_agents=2, old_logprobs=half - log, clip_low=0.2, clip_high=0.3,
    )  # fmt: skip
    ln2 = 0.6931472
    want = PolicyMetrics(
        clip_frac_low=[0, 0.5], clip_frac_high=[0.5, 0],
        approx_kl=[(2 - 1 - ln2) / 2, (0.5 - 1 + ln2 + 4 - 1 - 2 * ln2) / 2], ref_kl=[0, 0], entropy=[ln2, ln2],
        ratio_min=[1, 0.5], ratio_max=[2, 4], active_rows=[1, 1], num_tokens=[2, 2], num_samples=[1, 1],
    )  # fmt: skip
    for name, got, expected in zip(PolicyMetrics._fields, out.metrics, want, strict=True):
        torch.testing.assert_close(got.cpu(), torch.tensor(expected, dtype=torch.float32), msg=lambda m, n=name: f"{n}: {m}")
        assert not got.requires_grad
    # -(1.3 + 1) / 2 of the first agent, (0.8 + 4) / 2 of the second.
    assert abs(float(out.loss) - (-1.15 + 2.4)) < 1e-6
    with torch.no_grad():
        one = vrgrpo_loss_from_logits(logits, labels, sample_id=sample_id, advantages=torch.ones(2, device=device))
    assert one.metrics.entropy.shape == ()
    assert float(one.metrics.num_tokens) == 4
    torch.testing.assert_close(out.logprobs[:4], half[:4])
