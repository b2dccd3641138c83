"""A whole step (forest, all adapters at once, fused loss, AdamW) gives the parameters of the plain one."""

from typing import Any

import pytest
import torch
from plain_step import PlainPolicy, wide_norm
from tiny_policies import policies, same, sequences, values
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from himakernels.testing import assert_gate
from trainer.learner import Learner, LearnerConfig
from trainer.models import Policies

TRAINED = ("qa", "efc", "master")  # math stays at home
CONFIG: dict[str, Any] = {"learning_rate": 1e-2, "weight_decay": 0.1, "max_grad_norm": 0.5, "schedule": "linear"}
CONFIG |= {"total_steps": 4, "warmup_steps": 1, "temperature": 1.3}
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("lora", {}, {"token_budget": 30}),
    ("lora", {}, {"kl_coef": 0.1}),
    ("full", {}, {"token_budget": 30}),
    ("shared", {}, {}),  # agents have normalisers of their own, also on one policy
    ("shared", {"shared_trains": "lora"}, {"kl_coef": 0.1, "token_budget": 30}),
]


def plain(of: Policies, config: LearnerConfig, dtype: torch.dtype, attention: str) -> dict[str, PlainPolicy]:
    return {policy: PlainPolicy(of, policy, config, dtype, attention) for policy in of.names}


@pytest.mark.parametrize(("paradigm", "made_of", "options"), CASES)
@pytest.mark.parametrize("sft", [False, True])
def test_two_steps_in_fp64(
    paradigm: str, made_of: dict[str, Any], options: dict[str, Any], sft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Qwen3RMSNorm, "forward", wide_norm)
    ours = policies(paradigm, dtype="float64", **made_of)
    config = LearnerConfig(**CONFIG | options)
    theirs = plain(ours, config, torch.float64, "sdpa")
    learner = Learner(ours, config)
    for step in range(2):
        batch = sequences(ours, TRAINED, seed=step)
        metrics = (learner.sft_step if sft else learner.step)(batch)
        assert metrics.micro_batches > len(TRAINED) or config.token_budget != 30  # agents are cut
        total = 0.0
        for policy, other in theirs.items():
            mine = [sequence for sequence in batch if sequence.policy == policy]
            if not mine:
                continue
            loss, norm = other.step(mine, metrics.learning_rate, sft=sft)
            total += loss
            assert metrics.grad_norms[policy] == pytest.approx(norm, rel=1e-7)
            for a, b in zip(other.order, other.parameters, strict=True):
                assert torch.allclose(a, b, rtol=1e-8, atol=1e-8)
        assert metrics.loss == pytest.approx(total, rel=1e-7, abs=1e-9)
    assert all(version == (2 if policy != "math" else 0) for policy, version in ours.versions.items())


@pytest.mark.parametrize(
    ("paradigm", "dtype", "roundings"), [("lora", "float32", 1), ("full", "float32", 1), ("full", "bfloat16", 252)]
)
def test_a_step_within_the_gate(paradigm: str, dtype: str, roundings: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No farther from fp64 than Hugging Face's eager attention with PEFT is in the same precision.

    AdamW with a large eps: its update is then the gradient, nearly, also where that is 0 but for rounding.
    """
    options = CONFIG | {"eps": 10.0, "max_grad_norm": 1e9, "weight_decay": 0.0, "learning_rate": 10.0, "warmup_steps": 0}
    config = LearnerConfig(**options, token_budget=30)
    ours = policies(paradigm, dtype=dtype)
    batch = sequences(ours, TRAINED)
    narrow = getattr(torch, dtype)
    eager = plain(ours, config, narrow, "eager")
    truth = plain(ours, config, torch.float64, "sdpa")
    before = values(ours)
    metrics = Learner(ours, config).step(batch)
    monkeypatch.setattr(Qwen3RMSNorm, "forward", wide_norm)
    for policy in TRAINED:
        mine = [sequence for sequence in batch if sequence.policy == policy]
        truth[policy].step(mine, metrics.learning_rate)
    monkeypatch.undo()
    for policy in TRAINED:
        mine = [sequence for sequence in batch if sequence.policy == policy]
        # bf16 parameters would lose the update in their own rounding: the plain step keeps fp32 ones, as ours does.
        if narrow == torch.bfloat16:
            eager[policy].grpo(mine).backward()
            wide = [torch.nn.Parameter(p.detach().float()) for p in eager[policy].parameters]
            for p, source in zip(wide, eager[policy].parameters, strict=True):
                p.grad = None if source.grad is None else source.grad.float()
            torch.optim.AdamW(wide, lr=metrics.learning_rate, eps=config.eps, weight_decay=0.0).step()
            eager[policy].parameters = wide  # type: ignore[assignment]
        else:
            eager[policy].step(mine, metrics.learning_rate)
        old = {id(p): b for p, b in zip(ours.parameters(policy), before[policy], strict=True)}
        moves = [
            [p.detach().double() - old[id(o)].double() for p, o in zip(ps, truth[policy].order, strict=True)]
            for ps in (truth[policy].order, truth[policy].parameters, eager[policy].parameters)
        ]
        scale = float(torch.cat([m.flatten() for m in moves[1]]).square().mean().sqrt())
        assert scale > 1e-3
        whole_o, whole_t, whole_e = (torch.cat([m.flatten() for m in each]) for each in moves)
        assert float((whole_o - whole_t).norm()) <= 1.5 * float((whole_e - whole_t).norm())  # 0.8 to 1.15 times, as it stands
        for i, (o, t, e) in enumerate(zip(*moves, strict=True)):
            assert_gate(f"{policy} {i}", o, t, e, dtype=narrow, n=2 * 32 * 258, roundings=roundings, scale=scale)


@pytest.mark.parametrize("paradigm", ["lora", "full"])
def test_an_agent_without_a_sequence_is_not_touched(paradigm: str) -> None:
    """Neither parameters nor moments, by a bit; and it never runs: whatever it would compute is NaN."""
    ours = policies(paradigm)
    config = LearnerConfig(**CONFIG)
    learner = Learner(ours, config)
    learner.step(sequences(ours, ("qa", "math")))
    state = learner.state_dict()["optimizers"]["math"]["parts"][0]["state"]
    moments = {i: {name: t.clone() for name, t in entry.items()} for i, entry in state.items()}
    assert moments
    with torch.no_grad():
        for parameter in ours.parameters("math"):
            parameter.fill_(torch.nan)
    network, calls = ours.base_of("math").network, list[int]()
    network.get_decoder().register_forward_pre_hook(lambda *_: calls.append(1))
    versions = dict(ours.versions)
    before = values(ours)
    metrics = learner.step(sequences(ours, TRAINED, seed=1))
    assert metrics.skipped is None
    assert sorted(metrics.agents) == sorted(TRAINED)
    assert len(calls) == (0 if paradigm == "full" else metrics.micro_batches)
    after = learner.state_dict()["optimizers"]["math"]["parts"][0]["state"]
    assert all(torch.equal(after[i][name], t) for i, entry in moments.items() for name, t in entry.items())
    assert all(p.isnan().all() for p in ours.parameters("math"))
    assert ours.versions == versions | {policy: versions[policy] + 1 for policy in TRAINED}
    assert not any(same(values(ours)[policy], before[policy]) for policy in TRAINED)
