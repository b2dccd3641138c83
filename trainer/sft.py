"""Supervised fine-tuning of all agents together on experts' contexts, in shuffled batches, by the learner's `sft_step`.

sequences = sft_sequences(read_samples("sft.jsonl"), hima_ecom_agents(), policies)
for metrics in SFT(learner, sequences, epochs=2, seed=0).run(): ...
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Literal

from himakernels.checks import check_positive
from trainer.agents import Agent
from trainer.dialogue import TokenContext
from trainer.hima_ecom.dataset.samples import Sample
from trainer.learner import Learner, StepMetrics, TrainSequence
from trainer.models import Policies
from trainer.optim import decay
from trainer.prompts import Style, system_prompt
from trainer.types import Message

__all__ = ["SFT", "sft_sequence", "sft_sequences"]


def sft_sequence(
    sample: Sample,
    agent: Agent,
    policies: Policies,
    *,
    style: Style = "compact",
    template_kwargs: Mapping[str, Any] | None = None,
) -> TrainSequence:
    """A sample as its agent will see it in an episode, after the system prompt; its assistant messages are trained.

    Each ends with the end-of-turn token, trained as well. Args: style, template_kwargs: as in Episode and TokenContext.

    Raises: ValueError for messages that don't alternate between user and assistant, or end with another than an assistant's.
    """
    roles = [message["role"] for message in sample.messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError(f"sample {sample.id!r}: expected messages of user and assistant in turn, got roles {roles}")
    context = TokenContext(policies.tokenizer, template_kwargs=template_kwargs)
    seen = [Message("system", system_prompt(agent, style=style))]
    for asked, written in zip(sample.messages[::2], sample.messages[1::2], strict=True):
        seen.append(Message("user", asked["content"]))
        context.sync(seen)
        context.append(context.reply_ids(written["content"]))
        seen.append(Message("assistant", written["content"]))
    trained = tuple(value == 1 for value in context.mask)
    return TrainSequence(policies.policy_of[sample.agent], sample.agent, tuple(context.token_ids), trained)


def sft_sequences(
    samples: Sequence[Sample],
    agents: Mapping[str, Agent],
    policies: Policies,
    *,
    max_tokens: int | None = None,
    style: Style = "compact",
    template_kwargs: Mapping[str, Any] | None = None,
) -> list[TrainSequence]:
    """The samples of agents that `policies` has, in their order; those of more than `max_tokens` tokens are left out."""
    found = []
    for sample in samples:
        if sample.agent in policies.policy_of:
            agent = agents[sample.agent]
            sequence = sft_sequence(sample, agent, policies, style=style, template_kwargs=template_kwargs)
            if max_tokens is None or len(sequence.token_ids) <= max_tokens:
                found.append(sequence)
    return found


class SFT:
    """Epochs over sequences.

    Args:
        batch_tokens: the trained tokens of an update; the last batch of an epoch may have fewer, and a longer sequence is a
            batch of its own. The learner's token budget cuts what that takes to forward.
        epochs: None: until `seconds` are over.
        seconds: no step begins later; None: no limit.
        schedule: without epochs, how the learner's learning rate falls with the share of `seconds` that has passed, after
            `warmup_steps` of the learner's configuration. Such a run depends on the machine and is never repeated bit for bit;
            with epochs the learner's own schedule counts.
        seed: an epoch's order depends on it and on the number of the epoch, on nothing else.

    Raises: ValueError for no sequences, or neither epochs nor seconds.
    """

    def __init__(
        self,
        learner: Learner,
        sequences: Sequence[TrainSequence],
        *,
        batch_tokens: int = 2048,
        epochs: int | None = 1,
        seconds: float | None = None,
        schedule: Literal["constant", "linear", "cosine"] = "constant",
        seed: int = 0,
    ) -> None:
        check_positive("batch_tokens", batch_tokens)
        if not sequences:
            raise ValueError("sequences: expected at least one, got none")
        if epochs is None and seconds is None:
            raise ValueError("epochs, seconds: expected one of them, got None for both")
        self.learner, self.sequences, self.seed = learner, list(sequences), seed
        self.batch_tokens, self.epochs, self.seconds, self.schedule = batch_tokens, epochs, seconds, schedule
        self._trained = [int(sequence.mask().sum()) for sequence in self.sequences]

    def batches(self, epoch: int) -> list[list[int]]:
        """Which sequences each update of an epoch takes."""
        order = list(range(len(self.sequences)))
        random.Random(f"{self.seed}/{epoch}").shuffle(order)
        found: list[list[int]] = [[]]
        size = 0
        for i in order:
            if found[-1] and size + self._trained[i] > self.batch_tokens:
                found.append([])
                size = 0
            found[-1].append(i)
            size += self._trained[i]
        return found

    @property
    def total_steps(self) -> int | None:
        """Of all epochs, for the schedule; None where only the time ends them."""
        return None if self.epochs is None else sum(len(self.batches(epoch)) for epoch in range(self.epochs))

    def run(self, *, start: int = 0, elapsed: float = 0.0) -> Iterator[StepMetrics]:
        """Trains, update by update, from update `start` on (a resumed run's `learner.step_number`), `elapsed` seconds later."""
        begin, number = time.perf_counter() - elapsed, 0
        for epoch in count() if self.epochs is None else range(self.epochs):
            for batch in self.batches(epoch):
                share = 0.0 if self.seconds is None else (time.perf_counter() - begin) / self.seconds
                if share >= 1:
                    return
                if number >= start:
                    yield self.learner.sft_step([self.sequences[i] for i in batch], rate=self._rate(number, share))
                number += 1

    def _rate(self, number: int, share: float) -> float | None:
        """Of update `number` when the share of the time has passed; None: the learner's schedule."""
        if self.epochs is not None:
            return None
        config = self.learner.config
        warm = min((number + 1) / config.warmup_steps, 1.0) if config.warmup_steps else 1.0
        return config.learning_rate * warm * decay(self.schedule, share)
