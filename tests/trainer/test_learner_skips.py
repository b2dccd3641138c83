"""Steps that the learner skips, as a loss or a gradient is not finite: what stays, what is told, what is kept."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policies import AGENTS, policies, same, sequences, values

from trainer.learner import Learner, LearnerConfig, TrainSequence
from trainer.scalars import changed

CONFIG = LearnerConfig(learning_rate=1e-2)


@pytest.mark.parametrize(("paradigm", "dtype"), [("lora", "float32"), ("full", "bfloat16")])
def test_a_step_that_is_not_finite_is_skipped(paradigm: str, dtype: str, tmp_path: Path) -> None:
    made = policies(paradigm, dtype=dtype)
    learner = Learner(made, CONFIG, failures=tmp_path / "failures")
    good = sequences(made, AGENTS)
    learner.step(good)
    before, versions, moments = (
        values(made),
        dict(made.versions),
        learner.state_dict()["optimizers"]["qa"]["parts"][0]["state"][0]["step"],
    )
    bad = [*good, TrainSequence("qa", "qa", (5, 6, 7), 2, math.nan)]
    metrics = learner.step(bad)
    assert metrics.skipped is not None
    assert metrics.skipped.startswith("the loss is nan; sequences[24].advantage is nan; the gradient")
    assert metrics.scalars()["skipped"] == 1.0
    assert all(same(values(made)[name], before[name]) for name in AGENTS)
    assert made.versions == versions
    assert learner.state_dict()["optimizers"]["qa"]["parts"][0]["state"][0]["step"] == moments
    assert metrics.kept == tmp_path / "failures" / "step-000001.pt"
    record = torch.load(metrics.kept)
    assert record["reason"] == metrics.skipped
    again = [
        TrainSequence(**{name: tuple(v) if isinstance(v, list) else v for name, v in s.items()}) for s in record["sequences"]
    ]
    assert again[:-1] == good
    assert again[-1].token_ids == (5, 6, 7)
    twin = policies(paradigm, dtype=dtype)  # one that never saw the bad batch
    other = Learner(twin, CONFIG)
    other.step(good)
    learner.step(good)
    other.step(good)
    assert all(same(values(made)[name], values(twin)[name]) for name in AGENTS)


def test_what_earlier_iterations_did_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of NaN in the second of three iterations: the first has updated, and that is what is told."""
    made, once = policies(), policies()
    batch = sequences(made, ("qa", "efc"))
    learner, inner = Learner(made, LearnerConfig(learning_rate=1e-2, num_iterations=3), failures=tmp_path), Learner._policy_loss
    calls: list[int] = []

    def loss(self: Learner, *args: Any) -> torch.Tensor:
        calls.append(1)
        return inner(self, *args) * (math.nan if len(calls) == 2 else 1.0)

    monkeypatch.setattr(Learner, "_policy_loss", loss)
    metrics = learner.step(batch)
    monkeypatch.undo()
    assert metrics.skipped is not None
    assert metrics.skipped.startswith("after 1 of 3 iterations, whose updates stand: the loss is nan")
    assert (metrics.iterations, metrics.micro_batches, sorted(changed(metrics))) == (1, 1, ["efc", "qa"])
    assert made.versions == dict.fromkeys(AGENTS, 0) | {"qa": 1, "efc": 1}
    Learner(once, LearnerConfig(learning_rate=1e-2)).step(batch)
    assert all(same(values(made)[name], values(once)[name]) for name in AGENTS)


def test_a_policy_that_is_not_finite_is_named(tmp_path: Path) -> None:
    made = policies()
    learner = Learner(made, CONFIG, failures=tmp_path)
    with torch.no_grad():
        made.parameters("efc")[0][0, 0] = math.inf
    metrics = learner.step(sequences(made, ("qa", "efc")))
    assert metrics.skipped is not None
    assert "parameters of policy 'efc' are not finite" in metrics.skipped
    assert "parameters of policy 'qa'" not in metrics.skipped
    assert made.versions == dict.fromkeys(AGENTS, 0)
