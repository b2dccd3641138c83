"""What a configuration comes to: RL's and SFT's learners, the engine, the ends of a turn, the longest prompt."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from himakernels.integrations.transformers_models import max_positions
from trainer.chat import ends_of_turn
from trainer.config import TrainConfig
from trainer.engine.base import Engine
from trainer.engine.local import LocalEngine
from trainer.engine.vllm import VLLMEngine
from trainer.models import Policies
from trainer.step import LearnerConfig


def rl_config(config: TrainConfig) -> LearnerConfig:
    """What RL's learner is: `learner`; a schedule without a number of steps is over when the run is."""
    chosen = config.learner
    if chosen.schedule == "constant" or chosen.total_steps is not None:
        return chosen
    steps = max(1, config.max_steps or 0)
    return replace(chosen, total_steps=steps, warmup_steps=min(chosen.warmup_steps, steps - 1))


def sft_config(config: TrainConfig, total_steps: int | None = None) -> LearnerConfig:
    """What SFT's learner is: optimiser and schedule of `sft`, the rest of `learner`. Without a number of steps: constant."""
    sft = config.sft
    warmup = sft.warmup_steps if total_steps is None else min(sft.warmup_steps, total_steps - 1)
    return LearnerConfig(
        learning_rate=sft.learning_rate,
        optimizer=sft.optimizer,
        weight_decay=sft.weight_decay,
        betas=config.learner.betas,
        eps=config.learner.eps,
        max_grad_norm=config.learner.max_grad_norm,
        token_budget=config.learner.token_budget,
        schedule="constant" if total_steps is None else sft.schedule,
        warmup_steps=warmup,
        total_steps=total_steps,
    )


def engine_of(config: TrainConfig, policies: Policies) -> Engine:
    """What generates."""
    return VLLMEngine(policies, config.vllm) if config.engine == "vllm" else LocalEngine(policies, config.local)


def stop_tokens(tokenizer: Any, template_kwargs: Mapping[str, Any], policies: Policies | None = None) -> tuple[int, ...]:
    """The ids that end a sampled turn, see `trainer.chat.ends_of_turn`; with `policies`, those of their networks too."""
    return ends_of_turn(tokenizer, template_kwargs, [] if policies is None else [base.network for base in policies.bases])


def prompt_limit(config: TrainConfig, policies: Policies) -> int:
    """The longest prompt that leaves the networks a position for a token, and the learner a budget for a whole action.

    Raises: ValueError if there is none.
    """
    limits = [] if config.max_prompt_tokens is None else [config.max_prompt_tokens]
    for base in policies.bases:
        positions = max_positions(base.network.config.get_text_config(decoder=True))
        limits += [] if positions is None else [positions - 1]
    if config.engine == "vllm" and config.vllm.max_model_len is not None:
        limits.append(config.vllm.max_model_len - 1)
    if config.learner.token_budget is not None:
        limits.append(config.learner.token_budget - config.sampling.max_new_tokens)
    limit = min(limits, default=sys.maxsize)
    if limit < 1:
        budget, new = config.learner.token_budget, config.sampling.max_new_tokens
        raise ValueError(f"learner.token_budget: expected more than sampling.max_new_tokens = {new}, got {budget}")
    return limit
