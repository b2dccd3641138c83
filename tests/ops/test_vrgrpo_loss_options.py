"""Every loss type at both ratio levels with every importance mode, KL estimator and normaliser, in fp64 on the CPU route."""

from typing import Any

import pytest
import torch

from himakernels import PolicyOptions, token_logprobs_reference, vrgrpo_loss, vrgrpo_loss_from_logits, vrgrpo_loss_reference
from himakernels.ops.vrgrpo_loss.options import IMPORTANCE, LOSS_TYPES, PPO_LOSS_TYPES, RATIO_LEVELS
from himakernels.testing import PolicyBatch, policy_arguments, policy_batch, policy_reference, repeatable

pytestmark = pytest.mark.once  # fp64 takes the CPU route in every mode
BATCH = policy_batch(dtype=torch.float64, rows=29, samples=7, drift=0.5)
EXTRAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "k1": {"kl_coef": 0.1, "kl_estimator": "k1", "kl_ratio_correction": True},
    "k2": {"kl_coef": 0.1, "kl_estimator": "k2", "entropy_coef": 0.05},
    "k3": {"kl_coef": 0.1, "kl_estimator": "k3", "kl_ratio_correction": True, "agents": True},
    "token": {"advantage_level": "token", "agents": True, "entropy_coef": 0.05},
    "rewards": {"rewards": True, "kl_coef": 0.1},
    "top_k": {"rewards": True, "top_k": 1, "agents": True, "entropy_coef": 0.05},
    "on_policy": {"on_policy": True, "kl_coef": 0.1},
    "normalisers": {"agents": True, "num_samples": torch.tensor([7, 9.5, 3]), "num_tokens": torch.tensor([40, 60, 80])},
    "softcap": {"softcap": 5.0, "temperature": 0.7, "entropy_coef": 0.1},
}


def loss_options(loss_type: str) -> dict[str, Any]:
    options: dict[str, Any] = {"loss_type": loss_type}
    if loss_type in PPO_LOSS_TYPES:
        options |= {"clip_low": 0.2, "clip_high": 0.28}
    if loss_type == "cispo":
        options["clip_high"] = 1.3
    if loss_type == "dr_grpo":
        options["max_completion_length"] = 20
    if loss_type in ("grpo", "dapo"):
        options["delta"] = 1.5
    if loss_type == "sapo":
        options |= {"sapo_temperature_pos": 0.9, "sapo_temperature_neg": 1.3}
    if loss_type == "vespo":
        options |= {"vespo_k_pos": 1.5, "vespo_lambda_pos": 2.0, "vespo_k_neg": 2.5, "vespo_lambda_neg": 1.0}
    return options


def compare(case: dict[str, Any], form: str, b: PolicyBatch = BATCH) -> None:
    shared, options = policy_arguments(b, case)
    logits = b.logits if form == "logits" else None
    truth = policy_reference(b, torch.float64, PolicyOptions(**options), from_logits=logits, **shared)
    leaves = [t.clone().requires_grad_() for t in ((b.hidden, b.weight, b.bias) if logits is None else (logits,))]
    if logits is None:
        out = vrgrpo_loss(*leaves[:2], b.labels, bias=leaves[2], sample_id=b.sample_id, **shared, **options)
    else:
        out = vrgrpo_loss_from_logits(leaves[0], b.labels, sample_id=b.sample_id, **shared, **options)
    got = (out.loss.detach(), out.logprobs, *torch.autograd.grad(out.loss, leaves))
    for (name, want), mine in zip(truth.items(), got, strict=True):
        torch.testing.assert_close(
            mine, want, rtol=1e-10, atol=1e-10 * max(float(want.abs().max()), 1e-3), msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("importance", [None, *IMPORTANCE])
@pytest.mark.parametrize("ratio_level", RATIO_LEVELS)
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_every_combination(loss_type: str, ratio_level: str, importance: str | None) -> None:
    if loss_type == "vespo" and ratio_level == "sequence":
        with pytest.raises(NotImplementedError, match="ratio_level: expected 'token' with loss_type='vespo'"):
            PolicyOptions(loss_type=loss_type, ratio_level=ratio_level)
        return
    options = {**loss_options(loss_type), "ratio_level": ratio_level, "importance": importance}
    if importance is not None:
        options |= {"importance_min": 0.7, "importance_max": 1.2}
    # Over the importance modes every extra meets both forms.
    offset = 0 if importance is None else 1 + IMPORTANCE.index(importance)
    for i, extra in enumerate(EXTRAS.values()):
        compare({**options, **extra}, ("linear", "logits")[(i + offset) % 2])


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_chunks_change_nothing(loss_type: str, many_chunks: None) -> None:
    for extra in EXTRAS.values():
        compare({**loss_options(loss_type), **extra}, "linear")
    if loss_type != "vespo":
        compare({**loss_options(loss_type), "ratio_level": "sequence", "importance": "sequence_mask"}, "linear")


@pytest.mark.parametrize("importance", ["token_truncate", "sequence_mask"])
@pytest.mark.parametrize("gap", [60.0, -60.0, 1e4])
def test_saturation_follows_the_reference(importance: str, gap: float) -> None:
    b = BATCH._replace(old_logprobs=BATCH.old_logprobs - gap, rollout_logprobs=BATCH.rollout_logprobs + gap / 2)
    for loss_type in LOSS_TYPES:
        compare({**loss_options(loss_type), "importance": importance, "kl_coef": 0.1, "kl_ratio_correction": True}, "logits", b)


def test_rollout_logprobs_that_are_missing_count_as_ratio_one() -> None:
    rollout = BATCH.rollout_logprobs.clone()
    rollout[::3] = torch.nan
    for importance in IMPORTANCE:
        compare({"importance": importance}, "linear", BATCH._replace(rollout_logprobs=rollout))


SMALL = policy_batch(dtype=torch.float64, rows=6, samples=3, hidden_size=2, vocab=4, agents=2)


@pytest.mark.parametrize(
    ("loss_type", "ratio_level"), [(t, "token") for t in LOSS_TYPES] + [("grpo", "sequence"), ("sapo", "sequence")]
)
def test_gradcheck(loss_type: str, ratio_level: str) -> None:
    """Both the reference and the CPU route. cispo's and vespo's weights are constants, so there the ratio is frozen at 1."""
    b = SMALL
    options = {**loss_options(loss_type), "ratio_level": ratio_level, "kl_coef": 0.1, "entropy_coef": 0.1}
    frozen = loss_type in ("cispo", "vespo")
    if frozen:
        # With the cap below every ratio the weight is the cap; with lambda = k = 0 phi is 1.
        options |= {"clip_high": 1e-3} if loss_type == "cispo" else dict.fromkeys(("vespo_k_pos", "vespo_k_neg"), 0.0)
        options |= {} if loss_type == "cispo" else {"vespo_lambda_pos": 1e-4, "vespo_lambda_neg": 1e-4}
    shared = {"sample_id": b.sample_id, "advantages": b.advantages, "ref_logprobs": b.ref_logprobs, "agent_id": b.agent_id}
    shared["old_logprobs"] = b.old_logprobs  # no row of this batch is at the kink of a clip bound
    heads = [t.clone().requires_grad_() for t in (b.hidden, b.weight, b.bias)]
    tolerance = {"atol": 1e-3} if loss_type == "vespo" else {}  # lambda is at least 1e-4

    def fused(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return vrgrpo_loss(hidden, weight, b.labels, bias=bias, num_agents=2, **shared, **options).loss

    def specified(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        logprobs, entropy = token_logprobs_reference(hidden @ weight.T + bias, b.labels)
        return vrgrpo_loss_reference(logprobs, entropy, options=PolicyOptions(**options), counted=b.labels != -100, **shared)

    assert torch.autograd.gradcheck(repeatable(fused), heads, **tolerance)
    assert torch.autograd.gradcheck(specified, heads, **tolerance)


@pytest.mark.parametrize("normalize", ["std", "mean", "leave_one_out", "none"])
def test_an_infinite_reward_shows_in_the_loss(normalize: str, device: torch.device) -> None:
    """It makes the statistics of its group worthless: never a group that silently leaves."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 7, generator=g).to(device).requires_grad_()
    ids = torch.arange(5, device=device)
    rewards = torch.tensor([1.0, float("inf"), 0.0, 1.0, 2.0], device=device)
    group_id = torch.tensor([0, 0, 1, 1, 1], device=device)
    options = {"sample_id": ids, "rewards": rewards, "group_id": group_id, "normalize": normalize}
    assert bool(vrgrpo_loss_from_logits(logits, ids, **options).loss.isnan())
    reference = vrgrpo_loss_reference(
        torch.zeros(5),
        torch.zeros(5),
        options=PolicyOptions(),
        **{k: v.cpu() if k != "normalize" else v for k, v in options.items()},
    )
    assert bool(reference.isnan())


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"agent_id": True, "num_agents": 2.5}, TypeError, "num_agents: expected an int, got float"),
        ({"loss_type": "dr_grpo", "max_completion_length": 2.5}, ValueError, "max_completion_length: expected a whole number"),
        (
            {"kl_coef": 0.1, "ref_logprobs": True, "kl_ratio_correction": "no"},
            ValueError,
            "kl_ratio_correction: expected one of",
        ),
        ({"grad_scale": 1e300}, ValueError, r"grad_scale: expected a number that fp32 holds, got 1e\+300"),
        ({"grad_scale": 1e-50}, ValueError, "grad_scale: expected a number that fp32 holds, got 1e-50"),
    ],
)
def test_numbers_that_nothing_could_be_done_with(
    options: dict, error: type[Exception], match: str, device: torch.device
) -> None:
    logits, ids = torch.randn(3, 5, device=device), torch.zeros(3, dtype=torch.int64, device=device)
    tensors = {"agent_id": ids[:1], "ref_logprobs": torch.zeros(3, device=device)}
    given = {name: tensors[name] if value is True else value for name, value in options.items()}
    with pytest.raises(error, match=match):
        vrgrpo_loss_from_logits(logits, ids, sample_id=ids, advantages=torch.ones(1, device=device), **given)
