"""What a training step is asked for, and what it tells."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from himakernels import PolicyOptions
from himakernels.checks import check_non_negative, check_positive
from trainer.kinds import check_fields
from trainer.models import Policies
from trainer.optim import OptimConfig
from trainer.sequences import Batch, TrainSequence

_SUMS = ("active_rows", "num_tokens", "num_samples", "loss", "aux_loss")


@dataclass(frozen=True, kw_only=True)
class LearnerConfig(OptimConfig):
    """What a step optimises, and in what pieces. The loss's options are those of `vrgrpo_loss`; None: its default."""

    token_budget: int | None = 16384  # distinct tokens of a micro-batch; None: the whole batch at once
    num_iterations: int = 1  # updates with one batch; from the second on, ratios are against the policy before the first
    temperature: float = 1.0  # at which actions are sampled
    loss_type: str = "grpo"
    ratio_level: str = "token"
    clip_low: float | None = None
    clip_high: float | None = None
    delta: float | None = None
    kl_coef: float = 0.0  # above 0, one more forward without gradients gives the reference's log-probabilities
    kl_estimator: str | None = None
    kl_ratio_correction: bool = False
    importance: str | None = None  # correction by rollout_logprobs
    importance_min: float | None = None
    importance_max: float | None = None
    entropy_coef: float = 0.0
    router_aux_loss_coef: float | None = 0.0  # of the balancing loss of networks with experts; None: their configurations'
    max_completion_length: int | None = None
    sapo_temperature_pos: float | None = None
    sapo_temperature_neg: float | None = None
    vespo_k_pos: float | None = None
    vespo_lambda_pos: float | None = None
    vespo_k_neg: float | None = None
    vespo_lambda_neg: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        super().__post_init__()
        if self.token_budget is not None:
            check_positive("token_budget", self.token_budget)
        check_positive("num_iterations", self.num_iterations)
        check_positive("temperature", self.temperature)
        if self.router_aux_loss_coef is not None:
            check_non_negative("router_aux_loss_coef", self.router_aux_loss_coef)
        self.options()

    def options(self) -> PolicyOptions:
        """Of the loss, checked."""
        return PolicyOptions.of({name: getattr(self, name) for name in PolicyOptions.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """What a step did. loss is the sum over agents; of the last iteration, as are norms. iterations: updates that were made.
    skipped: why there was no other."""

    step: int
    loss: float
    learning_rate: float
    agents: dict[str, dict[str, float]]  # {agent: {name: value}}, for those that had a sequence
    grad_norms: dict[str, float]  # {policy: before clipping}
    original_tokens: int  # every sequence on its own
    packed_tokens: int  # forwarded
    micro_batches: int
    iterations: int
    seconds: dict[str, float] = field(default_factory=dict)  # on a GPU, when each was issued
    skipped: str | None = None
    kept: Path | None = None  # the batch of a skipped step

    def scalars(self) -> dict[str, float]:
        """Flat, for a log: {"loss": 0.1, "qa/entropy": 2.0, "grad_norm/qa": 0.3, "seconds/pack": 0.01, ...}."""
        flat = {name: getattr(self, name) for name in ("loss", "learning_rate", "original_tokens", "packed_tokens")}
        flat |= {"micro_batches": self.micro_batches, "iterations": self.iterations}
        flat["skipped"] = float(self.skipped is not None)
        flat |= {f"{agent}/{name}": value for agent, values in self.agents.items() for name, value in values.items()}
        flat |= {f"grad_norm/{policy}": norm for policy, norm in self.grad_norms.items()}
        return flat | {f"seconds/{name}": value for name, value in self.seconds.items()}


def not_finite(loss: float, norms: dict[str, float]) -> list[str]:
    """What of a step can't be used."""
    wrong = [] if math.isfinite(loss) else [f"the loss is {loss}"]
    norms = {policy: norm for policy, norm in norms.items() if not math.isfinite(norm)}
    return wrong + [f"the gradient of policy {policy!r} has norm {norm}" for policy, norm in norms.items()]


def causes(sequences: Sequence[TrainSequence], policies: Policies, names: Sequence[str]) -> list[str]:
    """What of a step's input isn't finite: one policy's NaN is soon in all that share its forest."""
    wrong = [f"sequences[{i}].advantage is {s.advantage}" for i, s in enumerate(sequences) if not math.isfinite(s.advantage)]
    finite = {policy: all(bool(p.isfinite().all()) for p in policies.parameters(policy)) for policy in names}
    return wrong + [f"the parameters of policy {policy!r} are not finite" for policy in names if not finite[policy]]


def by_agent(
    agents: Sequence[str], names: Sequence[str], parts: list[torch.Tensor], batch: Batch
) -> dict[str, dict[str, float]]:
    """The micro-batches' metrics [len(names), A] as one: sums, extremes, and means weighted by tokens."""
    if not parts:
        return {}
    table = torch.stack(parts).double().cpu()  # [M, len(names), A]
    weight = table[:, list(names).index("num_tokens")]  # [M, A]
    found: dict[str, dict[str, float]] = {}
    for a, agent in enumerate(agents):
        if not batch.num_samples[a]:
            continue
        here, values = weight[:, a] > 0, {}
        for n, name in enumerate(names):
            column = table[here, n, a]
            if name in _SUMS:
                values[name] = float(column.sum())
            elif name.endswith("_min"):
                values[name] = float(column.min())
            elif name.endswith("_max"):
                values[name] = float(column.max())
            else:
                values[name] = float((column * weight[here, a]).sum() / weight[here, a].sum())
        if "num_samples" in values:
            values["num_samples"] = float(batch.num_samples[a])  # a call counts those of other micro-batches too
        found[agent] = values
    return found
