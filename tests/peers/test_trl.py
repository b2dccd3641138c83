"""vrgrpo_loss equals TRL 1.16, its own `_compute_loss` run on the padded form of our packed batches, except where TRL is wrong.

Tolerances are on the largest error over the largest element. fp64: 1e-12. fp32: 5e-6, some forty roundings; both sides
stay below 2e-6 of the fp64 truth here. The loss itself can cancel to near 0, so its error is over max(1, |loss|).
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from bench.batches import PackedBatch, make_batch
from bench.cases import CASES
from bench.opponents import loss_and_grads, our_loss, reference_loss, trl_loss
from bench.shapes import Shape
from himakernels import vrgrpo_loss, vrgrpo_loss_from_logits
from himakernels.ops.vrgrpo_loss.options import LOSS_TYPES, PolicyOptions
from himakernels.testing import assert_near, assert_same

pytest.importorskip("trl")

SHAPE = Shape("peers", 60, 32, 300, 16)
FP32, FP64 = 5e-6, 1e-12


@pytest.fixture(scope="module")
def batch() -> PackedBatch:
    """Ragged samples whose rows lie in random order, a tenth of them ignored, off-policy so that clipping happens."""
    return make_batch(SHAPE, shuffled=True, ignored=0.1, agents=2)


@pytest.fixture
def fp64_numbers() -> Iterator[None]:
    """TRL turns some of its options into tensors of the default dtype: 1.05 must not be rounded to fp32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("fp64_numbers")
@pytest.mark.parametrize("name", CASES)
def test_reference_is_trl_in_fp64(batch: PackedBatch, name: str) -> None:
    batch = batch.to(torch.float64)
    ours = loss_and_grads(reference_loss, batch, CASES[name], temperature=0.8)
    assert_same(ours, loss_and_grads(trl_loss, batch, CASES[name], temperature=0.8), FP64)


@pytest.mark.parametrize("name", [name for name in CASES if name != "grpo"])
def test_batch_exercises_every_option(batch: PackedBatch, name: str) -> None:
    """Otherwise the equalities below would say nothing."""
    batch = batch.to(torch.float64)
    option = CASES[name]
    without = CASES[option.loss_type]
    if name == option.loss_type:
        without = CASES["grpo"]
    elif option.kl_ratio_correction:
        without = replace(option, kl_ratio_correction=False)
    elif option.ratio_level == "sequence" and not name.endswith("-sequence"):
        without = replace(option, ratio_level="token")
    _, grads = loss_and_grads(reference_loss, batch, option)
    _, others = loss_and_grads(reference_loss, batch, without)
    assert (grads[0] - others[0]).abs().max() > 1e-3 * others[0].abs().max()


@pytest.mark.parametrize("chunked", [False, True], ids=["whole-logits", "chunked"])
@pytest.mark.parametrize("name", CASES)
def test_linear(batch: PackedBatch, name: str, chunked: bool) -> None:
    ours = loss_and_grads(our_loss, batch, CASES[name], temperature=0.8)
    assert_same(ours, loss_and_grads(trl_loss, batch, CASES[name], temperature=0.8, chunked=chunked), FP32)


@pytest.mark.parametrize("name", CASES)
def test_from_logits(batch: PackedBatch, name: str) -> None:
    batch = batch.from_logits()
    ours = loss_and_grads(our_loss, batch, CASES[name], temperature=0.8)
    assert_same(ours, loss_and_grads(trl_loss, batch, CASES[name], temperature=0.8), FP32)


@pytest.mark.parametrize("name", ["grpo", "dapo", "sapo", "luspo-sequence", "entropy", "kl"])
def test_agents_are_separate_trl_calls(batch: PackedBatch, name: str) -> None:
    """TRL knows no agents: one packed call of ours is the sum of TRL's calls, one an agent."""

    def per_agent(batch: PackedBatch, options: PolicyOptions) -> torch.Tensor:
        return torch.stack([trl_loss(batch.of_agent(a), options) for a in range(2)]).sum()

    ours = loss_and_grads(our_loss, batch, CASES[name], agent_id=batch.agent_id, num_agents=2)
    assert_same(ours, loss_and_grads(per_agent, batch, CASES[name]), FP32)


@pytest.mark.parametrize("name", ["grpo", "dapo", "cispo", "sapo", "vespo"])
def test_token_level_advantages(batch: PackedBatch, name: str) -> None:
    advantages = torch.randn(SHAPE.rows, generator=torch.Generator().manual_seed(1))
    batch = replace(batch, advantages=advantages)
    # Every sample has a counted row, so the sample count does not depend on how advantages are given.
    assert len(batch.sample_id[batch.labels != -100].unique()) == SHAPE.samples
    if name == "vespo":
        # phi is a sequence's, chosen by the sign of its advantage: advantages of one sample share a sign here.
        signs = torch.ones(SHAPE.samples)
        signs[::2] = -1
        batch = replace(batch, advantages=advantages.abs() * signs[batch.sample_id])
    ours = loss_and_grads(our_loss, batch, CASES[name])
    assert_same(ours, loss_and_grads(trl_loss, batch, CASES[name]), FP32)


@pytest.mark.parametrize("name", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask-vespo"])
def test_missing_rollout_logprobs(batch: PackedBatch, name: str) -> None:
    """The engine returned no log-probability for some tokens: NaN counts as a ratio of 1."""
    assert batch.rollout_logprobs is not None
    rollout = batch.rollout_logprobs.clone()
    rollout[::5] = torch.nan
    batch = replace(batch, rollout_logprobs=rollout)
    ours = loss_and_grads(our_loss, batch, CASES[name])
    assert ours[0].isfinite()
    assert_same(ours, loss_and_grads(trl_loss, batch, CASES[name]), FP32)


def test_on_policy(batch: PackedBatch) -> None:
    """Without old_logprobs the ratio is 1 and has a gradient."""
    batch = replace(batch, old_logprobs=None)
    assert_same(loss_and_grads(our_loss, batch, CASES["kl"]), loss_and_grads(trl_loss, batch, CASES["kl"]), FP32)


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "luspo", "vespo", "entropy-dapo-kl"])
def test_micro_batches_sum_to_trl_on_the_whole(batch: PackedBatch, name: str) -> None:
    """With global normalisers, two micro-batches (here the two agents' samples) add up to one call on everything."""
    counts = {"num_samples": SHAPE.samples, "num_tokens": int((batch.labels != -100).sum())}

    def in_parts(batch: PackedBatch, options: PolicyOptions) -> torch.Tensor:
        return torch.stack([our_loss(batch.of_agent(a), options, **counts) for a in range(2)]).sum()

    ours = loss_and_grads(in_parts, batch, CASES[name])
    assert_same(ours, loss_and_grads(trl_loss, batch, CASES[name]), FP32)


@pytest.fixture
def uneven(batch: PackedBatch) -> PackedBatch:
    """The eight longest samples are one agent's, that is one micro-batch: of as many samples, and of more tokens."""
    lengths = torch.bincount(batch.sample_id[batch.labels != -100], minlength=SHAPE.samples)
    agent_id = torch.ones_like(batch.agent_id)
    agent_id[lengths.argsort(descending=True)[: SHAPE.samples // 2]] = 0
    return replace(batch, agent_id=agent_id)


def accumulated(batch: PackedBatch, options: PolicyOptions) -> torch.Tensor:
    """TRL's update over two micro-batches, here the two agents' samples: its losses of both, as it scales them, summed."""
    tokens = int((batch.labels != -100).sum())
    parts = [batch.of_agent(agent) for agent in range(2)]
    return torch.stack([trl_loss(one, options, of=(2, tokens)) for one in parts]).sum()


@pytest.mark.parametrize("name", [*(t for t in LOSS_TYPES if t != "bnpo"), "luspo-sequence", "kl", "kl-cispo", "token_mask"])
def test_accumulation_changes_nothing(uneven: PackedBatch, name: str) -> None:
    """TRL scales by samples, or by tokens of the whole batch: micro-batches of as many samples give what one gives."""
    assert len(uneven.of_agent(0).advantages) == len(uneven.of_agent(1).advantages)
    ours = loss_and_grads(our_loss, uneven, CASES[name])
    assert_same(ours, loss_and_grads(accumulated, uneven, CASES[name]), FP32)


@pytest.mark.parametrize("name", ["bnpo", "bnpo-sequence", "entropy"])
def test_accumulation_changes_means_over_tokens(uneven: PackedBatch, name: str) -> None:
    """bnpo and the entropy bonus: TRL's is the mean of the micro-batches' means, ours the mean over all tokens."""
    options = CASES[name]
    (ours, our_grads), (theirs, their_grads) = (loss_and_grads(loss, uneven, options) for loss in (our_loss, accumulated))
    assert max((a - b).abs().max() / b.abs().max() for a, b in zip(our_grads, their_grads, strict=True)) > 1e-3
    parts = [uneven.of_agent(agent) for agent in range(2)]
    tokens = torch.tensor([float((part.labels != -100).sum()) for part in parts])
    assert tokens[0] != tokens[1]
    if name != "entropy":  # whose policy term is a mean over samples
        means = torch.stack([trl_loss(part, options).detach() for part in parts])
        assert_near(theirs, means.mean(), FP32)
        assert_near(ours, (means * tokens).sum() / tokens.sum(), FP32)


def test_accumulation_in_numbers() -> None:
    """One token with an advantage of 1, three with -1, on policy: the numbers of docs/peers.md."""
    batch = PackedBatch(
        hidden=torch.zeros(4, 1),
        weight=torch.zeros(1, 1),
        labels=torch.zeros(4, dtype=torch.int64),
        sample_id=torch.tensor([0, 1, 1, 1]),
        agent_id=torch.tensor([0, 1]),
        group_id=torch.zeros(2, dtype=torch.int64),
        rewards=torch.zeros(2),
        advantages=torch.tensor([1.0, -1.0]),
        logits=torch.zeros(4, 3, requires_grad=True),
    )
    together = {name: trl_loss(batch, CASES[name]).item() for name in LOSS_TYPES}
    in_two = {name: accumulated(batch, CASES[name]).item() for name in LOSS_TYPES}
    ours = {name: our_loss(batch, CASES[name]).item() for name in LOSS_TYPES}
    assert (together["bnpo"], in_two["bnpo"], ours["bnpo"]) == (0.5, 0.0, 0.5)
    for name in LOSS_TYPES:
        assert ours[name] == pytest.approx(together[name], abs=1e-6)
        assert name == "bnpo" or in_two[name] == pytest.approx(together[name], abs=1e-6)


def test_zero_variance_groups_do_not_dilute(batch: PackedBatch) -> None:
    """TRL counts samples of groups without spread (their advantage is 0) in its mean; with `rewards` ours leaves them out."""
    rewards = batch.rewards.clone()
    rewards[8:] = 0.5  # the second of two groups
    batch = replace(batch, rewards=rewards, advantages=batch.advantages * (batch.group_id == 0))
    options = CASES["grpo"]
    theirs, their_grads = loss_and_grads(trl_loss, batch, options)

    def with_rewards(batch: PackedBatch, options: PolicyOptions) -> torch.Tensor:
        more = {"advantages": None, "rewards": batch.rewards, "group_id": batch.group_id, "num_groups": 2}
        return our_loss(batch, options, **more)

    ours = loss_and_grads(with_rewards, batch, options)
    assert_same(ours, (2 * theirs, [2 * g for g in their_grads]), FP32)


def one_token(logits: torch.Tensor, label: int, old_logprob: float | None, advantage: float) -> PackedBatch:
    """A batch of one sample of one row, given by its logits [V]."""
    zero = torch.zeros(1, dtype=torch.int64)
    return PackedBatch(
        hidden=torch.zeros(1, 1),
        weight=torch.zeros(1, 1),
        labels=torch.tensor([label]),
        sample_id=zero,
        agent_id=zero,
        group_id=zero,
        rewards=torch.zeros(1),
        advantages=torch.tensor([advantage]),
        old_logprobs=None if old_logprob is None else torch.tensor([old_logprob]),
        logits=logits[None].clone().requires_grad_(),
    )


@pytest.mark.parametrize("ratio_level", ["token", "sequence"])
def test_defect_nan_where_the_clipped_gradient_is_zero(ratio_level: str) -> None:
    """old_logprob = -200: the ratio overflows fp32, the token is clipped, its gradient is 0; inf * 0 makes TRL's NaN."""
    options = PolicyOptions(ratio_level=ratio_level)
    batch = one_token(torch.linspace(-2.0, 2.0, 50), 10, -200.0, 1.0)
    truth, (dlogits,) = loss_and_grads(trl_loss, batch.to(torch.float64), options)
    assert truth.isfinite()
    assert torch.equal(dlogits, torch.zeros_like(dlogits))
    _, (theirs,) = loss_and_grads(trl_loss, batch, options)
    assert theirs.isnan().any()
    for loss in (our_loss, reference_loss):
        value, (ours,) = loss_and_grads(loss, batch, options)
        assert_near(value, truth, FP32)
        assert torch.equal(ours, torch.zeros_like(ours))


@pytest.mark.parametrize("margin", [18.0, 30.0])
def test_defect_gradient_of_a_confident_token(margin: float) -> None:
    """The label stands `margin` nats above all others together. x - lse in fp32 loses what 1 - p is; ours does not."""
    vocab = 1024
    logits = torch.zeros(vocab)
    logits[7] = margin + 10 * torch.tensor(2.0).log() - 0.001  # log(1023) = 10 log 2 - 0.001
    batch = one_token(logits, 7, None, -1.0)
    options = PolicyOptions()
    # dlogits is 1 - p for the label and -p elsewhere. At 30 nats autograd's 1 - p is wrong by a tenth even in fp64.
    p_others = torch.sigmoid(torch.tensor(1023.0).double().log() - logits[7].double())
    truth = -torch.softmax(logits.double(), 0)[None]
    truth[0, 7] = p_others

    _, (theirs,) = loss_and_grads(trl_loss, batch, options)
    assert abs(theirs[0, 7].item() / p_others.item() - 1) > 0.01
    if margin == 30.0:
        assert theirs[0, 7] == 0
    _, (ours,) = loss_and_grads(our_loss, batch, options)
    assert abs(ours[0, 7].item() / p_others.item() - 1) < 1e-4
    assert_near(ours, truth, 1e-4)

    result = vrgrpo_loss_from_logits(batch.logits, batch.labels, sample_id=batch.sample_id, advantages=batch.advantages)
    assert_near(result.logprobs[0], -p_others, 1e-4)


@pytest.mark.parametrize("margin", [18.0, 30.0])
def test_defect_confident_token_behind_the_head(margin: float) -> None:
    """The same through hidden and weight: TRL's fused head gives the label's row of dweight with an error or as 0."""
    hidden = torch.tensor([[1.0, 0.5]], requires_grad=True)
    weight = torch.zeros(1024, 2)
    weight[7, 0] = margin + 6.93
    weight[:, 1] = torch.linspace(-0.25, 0.25, 1024)
    base = one_token(torch.zeros(1024), 7, None, -1.0)
    batch = replace(base, hidden=hidden, weight=weight.requires_grad_(), logits=None)
    options = PolicyOptions()
    logits = (hidden @ weight.T)[0].detach().double()
    others = torch.cat([logits[:7], logits[8:]]).logsumexp(0)
    expected = torch.sigmoid(others - logits[7]) * hidden.detach()[0].double()  # (1 - p) h
    _, (_, theirs) = loss_and_grads(trl_loss, batch, options, chunked=True)
    assert (theirs[7] / expected - 1).abs().max() > 0.01
    _, (_, ours) = loss_and_grads(our_loss, batch, options)
    assert (ours[7] / expected - 1).abs().max() < 1e-4
    result = vrgrpo_loss(hidden, weight, batch.labels, sample_id=batch.sample_id, advantages=batch.advantages)
    assert_near(result.logprobs[0], -torch.nn.functional.softplus(others - logits[7]), 1e-4)
