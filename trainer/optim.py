"""How a policy's parameters are stepped: AdamW or Muon on fp32, the gradient norm clipped, a schedule of the learning rate."""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from himakernels.checks import check_choice, check_non_negative, check_positive


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser of every policy, which has its own moments and its own gradient norm."""

    learning_rate: float = 1e-5
    # "muon" steps the matrices between layers by their orthogonalised momentum (scaled as in arXiv 2502.16982, so that AdamW's
    # learning rates fit), and all else, token embeddings and heads too, by AdamW. For networks trained from scratch.
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.0  # of matrices; norms and biases have none
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float = 1.0  # of each policy; infinity: never clipped
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # after the warm-up; the last two fall to 0 at total_steps
    warmup_steps: int = 0  # the rate rises in equal steps, to learning_rate in the last of these
    total_steps: int | None = None  # None: in a run of `TrainConfig` its max_steps

    def __post_init__(self) -> None:
        check_positive("learning_rate", self.learning_rate)
        check_choice("optimizer", self.optimizer, ("adamw", "muon"))
        check_non_negative("weight_decay", self.weight_decay)
        if not (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {self.betas}")
        check_positive("eps", self.eps)
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm: expected a number > 0 (infinity: no clipping), got {self.max_grad_norm}")
        check_choice("schedule", self.schedule, ("constant", "linear", "cosine"))
        check_non_negative("warmup_steps", self.warmup_steps)
        if self.total_steps is not None and self.total_steps <= self.warmup_steps:
            raise ValueError(f"total_steps: expected more than warmup_steps = {self.warmup_steps}, got {self.total_steps}")

    def rate(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0: learning_rate times

        (step + 1) / warmup_steps in the warm-up; then, with x the part of the steps after it that are done, 1 for constant,
        1 - x for linear, (1 + cos(pi x)) / 2 for cosine. Raises: ValueError for one of these two without total_steps.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        if self.total_steps is None:
            raise ValueError(f"total_steps: expected the number of steps with schedule={self.schedule!r}, got None")
        return self.learning_rate * decay(self.schedule, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))


def decay(schedule: str, x: float) -> float:
    """What of the learning rate is left when the share x in [0, 1] of the run is done: see `OptimConfig.rate`."""
    x = min(x, 1.0)
    return {"constant": 1.0, "linear": 1 - x, "cosine": (1 + math.cos(math.pi * x)) / 2}[schedule]


class Optimizer:
    """AdamW of one policy's parameters, with Muon for its `hidden` matrices where config asks for it."""

    def __init__(self, parameters: Iterable[nn.Parameter], config: OptimConfig, *, hidden: Sequence[nn.Parameter] = ()) -> None:
        self.parameters, self.config = list(parameters), config
        own = {id(p) for p in hidden} if config.optimizer == "muon" else set()
        left = [p for p in self.parameters if id(p) not in own]
        matrices, rest = [p for p in left if p.dim() >= 2], [p for p in left if p.dim() < 2]
        groups: list[dict[str, Any]] = [
            {"params": group, "weight_decay": decay} for group, decay in ((matrices, config.weight_decay), (rest, 0.0)) if group
        ]
        self.parts: list[torch.optim.Optimizer] = []
        if groups:
            self.parts.append(
                torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
            )
        if own:
            self.parts.append(
                torch.optim.Muon(
                    [p for p in self.parameters if id(p) in own],
                    lr=config.learning_rate,
                    weight_decay=config.weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )

    def grad_norm(self) -> torch.Tensor:
        """[] of all its gradients together, on their device."""
        return nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])

    def step(self, norm: float, rate: float) -> None:
        """Clips gradients of norm `norm` and steps. Parameters without a gradient stay as they are."""
        if norm > self.config.max_grad_norm:
            grads = [p.grad for p in self.parameters if p.grad is not None]
            torch._foreach_mul_(grads, self.config.max_grad_norm / (norm + 1e-6))
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def clear(self) -> None:
        """No parameter has a gradient after it."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Moments and steps."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises: ValueError for the state of other parameters."""
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(copy.deepcopy(saved))  # it would step the tensors of `state`
            for parameter, moments in part.state.items():
                for name, value in moments.items():
                    if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                        raise ValueError(f"{name}: expected shape {list(parameter.shape)}, got {list(value.shape)}")
