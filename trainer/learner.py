"""One step of all agents: sequences -> forests -> one packed forward a network -> the fused loss -> AdamW, policy by policy.

learner = Learner(policies, LearnerConfig(learning_rate=1e-4, token_budget=16384), failures="runs/1/failures")
metrics = learner.step(sequences)      # VR-GRPO, on the advantages that the sequences bring
metrics = learner.sft_step(sequences)  # maximum likelihood
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from himakernels import PolicyMetrics, token_cross_entropy, token_logprobs, vrgrpo_loss
from himakernels.integrations.transformers import OutputHead
from trainer.balance import balancing_losses, coefficient_of
from trainer.models import Policies
from trainer.network import Base
from trainer.optim import Optimizer
from trainer.sequences import Batch, MicroBatch, TrainSequence, make_batch
from trainer.step import LearnerConfig, StepMetrics, by_agent, causes, not_finite

__all__ = ["Learner", "LearnerConfig", "StepMetrics", "TrainSequence"]


class _Result:
    """What the micro-batches of one iteration gave, on their device until `read`."""

    def __init__(self) -> None:
        self.losses: list[torch.Tensor] = []  # [] each
        self.per_agent: list[torch.Tensor] = []  # [len(names), A] each
        self.logprobs: list[torch.Tensor] = []  # [R] each, detached


_BALANCING = "aux_loss"  # of networks with experts; TRL's name
_GAP = ("rollout_gap_mean", "rollout_gap_max")  # |logprobs - rollout_logprobs| of a token: the engine against the trainer
Loss = Callable[[Base, MicroBatch, Batch, int, "_Result"], torch.Tensor]


class Learner:
    """Trains policies. A policy without a sequence in a step is not forwarded, and not changed by a bit.

    Args:
        failures: the folder that keeps the batch of a step which was skipped for a loss or gradient that isn't finite.

    Raises: ValueError for kl_coef with policies that have no reference; see `coefficient_of`.
    """

    def __init__(self, policies: Policies, config: LearnerConfig, *, failures: str | Path = "failures") -> None:
        self.policies, self.config, self.failures = policies, config, Path(failures)
        self.step_number = 0  # steps taken, skipped ones too
        self.optimizers = {
            policy: Optimizer(policies.parameters(policy), config, hidden=policies.base_of(policy).hidden_matrices(policy))
            for policy in policies.names
        }
        self._options = config.options().arguments()
        self._balancing = {id(base): coefficient_of(base.network, config.router_aux_loss_coef) for base in policies.bases}
        if config.kl_coef and not all(base.has_reference for base in policies.bases):
            raise ValueError(
                f"kl_coef: expected 0, or policies with a reference (Policies.freeze_reference()), got {config.kl_coef}"
            )
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def step(self, sequences: Sequence[TrainSequence]) -> StepMetrics:
        """One update (`num_iterations` of them) by `vrgrpo_loss`, normalised per agent over the whole batch.

        Raises: ValueError for a sequence that doesn't fit its agent or the token budget, or that lacks rollout_logprobs where
            `importance` needs them.
        """
        if self.config.importance is not None:
            for i, sequence in enumerate(sequences):
                if sequence.rollout_logprobs is None:
                    expected = f"those of the sampler with importance={self.config.importance!r}"
                    raise ValueError(f"sequences[{i}].rollout_logprobs: expected {expected}, got None")
        old: list[torch.Tensor] | None = None
        ref = None if self.config.kl_coef == 0 else dict[int, torch.Tensor]()

        def loss(base: Base, batch: MicroBatch, whole: Batch, at: int, result: _Result) -> torch.Tensor:
            return self._policy_loss(base, batch, whole, result, None if old is None else old[at], ref, at)

        names = (*PolicyMetrics._fields, *_GAP, *([_BALANCING] if any(self._balancing.values()) else []))
        with self._batch(sequences) as batch:
            for iteration in range(self.config.num_iterations):
                result, metrics = self._update(batch, sequences, loss, names, iteration, self.config.num_iterations)
                if metrics is not None:
                    return metrics
                old = old or result.logprobs
        raise AssertionError("the last iteration has metrics")

    def sft_step(self, sequences: Sequence[TrainSequence], *, rate: float | None = None) -> StepMetrics:
        """One update by the mean cross-entropy over the trained tokens of each agent, summed over agents.

        Args: rate: the learning rate; None: the schedule's.
        """
        with self._batch(sequences) as batch:
            names = ("loss", "num_tokens")
            metrics = self._update(batch, sequences, self._cross_entropy, names, rate=rate)[1]
        assert metrics is not None
        return metrics

    @torch.no_grad()
    def logprobs(self, sequences: Sequence[TrainSequence], *, reference: bool = False) -> list[torch.Tensor]:
        """For each sequence the log-probabilities of its trained tokens, at the sampling temperature; on the CPU."""
        batch = make_batch(self.policies, sequences, self.config.token_budget)
        found: list[torch.Tensor] = [torch.empty(0)] * len(sequences)
        for part in batch.parts:
            for micro in part.micro_batches:
                values, owner = self._logprobs(part.base, micro, reference).cpu(), micro.packed.sample_id.cpu()
                for sample in owner.unique().tolist():
                    found[part.indices[sample]] = values[owner == sample]
        return found

    def state_dict(self) -> dict[str, Any]:
        """The optimisers' moments and the step, which the schedule goes by; the parameters are `Policies.save`'s."""
        return {"step": self.step_number, "optimizers": {p: opt.state_dict() for p, opt in self.optimizers.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises: ValueError for the state of other policies."""
        if set(state["optimizers"]) != set(self.optimizers):
            raise ValueError(
                f"optimizers: expected those of {', '.join(self.optimizers)}, got {', '.join(state['optimizers'])}"
            )
        self.step_number = state["step"]
        for policy, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][policy])

    # What a step consists of

    @contextmanager
    def _batch(self, sequences: Sequence[TrainSequence]) -> Iterator[Batch]:
        self._seconds = defaultdict(float)
        with self._timed("pack"):
            batch = make_batch(self.policies, sequences, self.config.token_budget)
        try:
            yield batch
        finally:
            for policy in batch.policies:
                self.optimizers[policy].clear()
            for part in batch.parts:
                part.base.network.zero_grad(set_to_none=True)  # of a backward that was cut off
        self.step_number += 1

    def _update(
        self,
        batch: Batch,
        sequences: Sequence[TrainSequence],
        loss: Loss,
        names: Sequence[str],
        iteration: int = 0,
        iterations: int = 1,
        *,
        rate: float | None = None,
    ) -> tuple[_Result, StepMetrics | None]:
        """One forward, backward and update; the metrics of the last iteration, or of one that was skipped."""
        result, at = _Result(), 0
        for part in batch.parts:
            for micro in part.micro_batches:
                with self._timed("forward"):
                    value = loss(part.base, micro, batch, at, result)
                result.losses.append(value.detach())
                with self._timed("backward"):
                    value.backward()
                    part.base.take_gradients()
                at += 1
        with self._timed("update"):
            norms = [self.optimizers[policy].grad_norm().double() for policy in batch.policies]
            losses = [value.double() for value in result.losses]
            found = torch.stack([*losses, *norms]).tolist() if losses else []  # waits for the device
            total, sizes = math.fsum(found[: len(losses)]), dict(zip(batch.policies, found[len(losses) :], strict=True))
            wrong = not_finite(total, sizes)
            if wrong:
                wrong[1:1] = causes(sequences, self.policies, batch.policies)
            skipped = "; ".join(wrong) or None
            if skipped is not None and iteration:
                skipped = f"after {iteration} of {iterations} iterations, whose updates stand: {skipped}"
            rate = self.config.rate(self.step_number) if rate is None else rate
            if skipped is None:
                self._apply(batch, sizes, rate)
        kept = None if skipped is None else self._keep(sequences, skipped)
        if skipped is None and iteration < iterations - 1:
            return result, None
        return result, StepMetrics(
            step=self.step_number,
            loss=total,
            learning_rate=rate,
            agents=by_agent(self.policies.agents, names, result.per_agent, batch),
            grad_norms=sizes,
            original_tokens=batch.original_tokens,
            packed_tokens=batch.packed_tokens,
            micro_batches=sum(len(part.micro_batches) for part in batch.parts),
            iterations=iteration + (skipped is None),
            seconds=dict(self._seconds),
            skipped=skipped,
            kept=kept,
        )

    def _apply(self, batch: Batch, norms: dict[str, float], rate: float) -> None:
        for policy in batch.policies:
            self.policies.renew_weights_id(policy)  # before, so that a step that is interrupted leaves nothing in use
            self.optimizers[policy].step(norms[policy], rate)
            self.optimizers[policy].clear()
            self.policies.versions[policy] += 1
        for part in batch.parts:
            part.base.publish()

    def _policy_loss(
        self,
        base: Base,
        batch: MicroBatch,
        whole: Batch,
        result: _Result,
        old: torch.Tensor | None,
        ref: dict[int, torch.Tensor] | None,
        at: int,
    ) -> torch.Tensor:
        packed = batch.packed
        if ref is not None and at not in ref:
            with torch.no_grad():
                ref[at] = self._logprobs(base, batch, True)
        coefficient, routed = self._balancing[id(base)], list[torch.Tensor]()
        hidden, head = base.hidden_states(packed, router_logits=routed if coefficient else None), self._head(base)
        counts = torch.tensor([whole.num_samples, whole.num_tokens], dtype=torch.float64).clamp(min=1)
        counts = counts.to(base.device, non_blocking=True)
        out = vrgrpo_loss(
            hidden,
            labels=packed.labels,
            sample_id=packed.sample_id,
            advantages=batch.advantages,
            agent_id=packed.agent_id,
            num_agents=len(self.policies.agents),
            num_samples=counts[0],
            num_tokens=counts[1],
            old_logprobs=old,
            ref_logprobs=None if ref is None else ref[at],
            rollout_logprobs=None if self.config.importance is None else batch.rollout_logprobs,
            **head._asdict(),
            **self._options,
        )
        result.logprobs.append(out.logprobs)
        gap = torch.zeros(2, len(self.policies.agents), device=base.device)
        if batch.rollout_logprobs is not None:
            distance = (out.logprobs - batch.rollout_logprobs).abs().nan_to_num(0.0).float()
            for agent, rows in batch.of_agent.items():
                gap[0, agent], gap[1, agent] = distance[rows].mean(), distance[rows].max()
        found, loss = [torch.stack(list(out.metrics)), gap], out.loss
        if any(self._balancing.values()):
            balancing = torch.zeros_like(gap[0]) if not coefficient else balancing_losses(base, batch, whole, routed)
            found.append(balancing.detach()[None])
            loss = loss + coefficient * balancing.sum()
        result.per_agent.append(torch.cat(found))
        return loss

    def _cross_entropy(self, base: Base, batch: MicroBatch, whole: Batch, at: int, result: _Result) -> torch.Tensor:
        packed = batch.packed
        hidden, head = base.hidden_states(packed), self._head(base)
        per_agent = torch.zeros(2, len(self.policies.agents), device=base.device)
        losses = []
        for agent, rows in batch.of_agent.items():
            labels = packed.labels[rows]
            out = token_cross_entropy(hidden[rows], labels=labels, num_tokens=whole.num_tokens[agent], **head._asdict())
            losses.append(out.loss)
            per_agent[0, agent], per_agent[1, agent] = out.loss.detach(), labels.shape[0]
        result.per_agent.append(per_agent)
        return torch.stack(losses).sum()

    def _logprobs(self, base: Base, batch: MicroBatch, reference: bool) -> torch.Tensor:
        hidden = base.hidden_states(batch.packed, reference=reference)
        return token_logprobs(hidden, labels=batch.packed.labels, **self._head(base, reference)._asdict()).logprobs

    def _head(self, base: Base, reference: bool = False) -> OutputHead:
        head = base.head(reference=reference)
        return head._replace(temperature=head.temperature * self.config.temperature)

    def _keep(self, sequences: Sequence[TrainSequence], reason: str) -> Path:
        self.failures.mkdir(parents=True, exist_ok=True)
        path = self.failures / f"step-{self.step_number:06d}.pt"
        record = {"reason": reason, "step": self.step_number, "versions": dict(self.policies.versions)}
        torch.save(record | {"config": asdict(self.config), "sequences": [asdict(s) for s in sequences]}, path)
        return path

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - begin
