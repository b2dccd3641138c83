"""The stage before RL: what the policies are made of, and supervised fine-tuning on the experts' episodes.

policies = pretrain(run)  # from the model, by SFT, or what an earlier process left in {output_dir}/sft/policies
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from trainer.chat import check_tokens
from trainer.checkpoint import Checkpoint, random_state, save_tensors, write_folder
from trainer.config import differences
from trainer.hima_ecom.dataset.samples import Sample
from trainer.learner import Learner
from trainer.models import ModelConfig, Policies
from trainer.parts_of import prompt_limit, sft_config
from trainer.run import Run, progress
from trainer.run_folder import LEARNER, restore
from trainer.sft import SFT, sft_sequences
from trainer.tiny import NAME as TINY
from trainer.tiny import create as create_tiny
from trainer.unfamiliar import blurred


def pretrain(run: Run, *, model: PreTrainedModel | None = None, tokenizer: Any = None) -> Policies:
    """The policies that RL begins with, also in {output_dir}/sft/policies.

    Args: model, tokenizer: instead of what transformers loads by `config.model.name`.

    Raises: ValueError for SFT without samples, a chat template of tokens that a model doesn't have, or `init_from` of other
        agents or another `model`; Stopped, after a checkpoint.
    """
    config, start = run.config, run.start
    left = run.left
    there = start if left.start is not None else None if left.last is None else left.last.path / "policies"
    if there is not None:
        shutil.rmtree(run.sft_checkpoints.folder, ignore_errors=True)  # a kill may have left some
        return _check(Policies.open(there, device=config.model.device), run, there)
    if config.init_from is not None:
        policies = _check(Policies.open(config.init_from, device=config.model.device), run, Path(config.init_from))
        if different := differences(config.model, replace(policies.config, device=config.model.device)):
            raise ValueError(f"model: expected that of init_from={config.init_from}, got (here and there) {different}")
    else:
        policies = _made(run, model, tokenizer)
    learnt = config.init_from is not None or (config.sft.runs and config.sft.trains == "policies")
    if config.learner.kl_coef and learnt:
        policies.freeze_reference()
    run.lock.check()
    write_folder(start, {"step": run.sft_steps, "time": run.metrics.elapsed}, policies.save)
    shutil.rmtree(run.sft_checkpoints.folder, ignore_errors=True)
    return policies


def _made(run: Run, model: PreTrainedModel | None, tokenizer: Any) -> Policies:
    config, agents = run.config, tuple(run.setting.agents)
    name = config.model.name
    models = {} if model is None else {name: model}
    samples: Sequence[Sample] = ()
    if config.sft.runs or (name == TINY and model is None):
        samples = run.setting.samples(config.sft.memory)
        if not samples:
            instead = "sft.epochs=0" if config.sft.runs and name != TINY else f"model.name to another than {TINY!r}"
            raise ValueError(f"sft: expected samples of experts, got none; set {instead}, or data.sft_tasks above 0")
    if name == TINY and model is None:
        tokenizer, models[name] = create_tiny(samples, run.setting.agents, config.seed, style=config.prompt_style)

    def create(made: ModelConfig, networks: Mapping[str, PreTrainedModel], given: Any) -> Policies:
        policies = Policies.create(made, agents, tokenizer=given, models=networks, seed=config.seed)
        check_tokens(policies.tokenizer, config.chat_template_kwargs, [base.network for base in policies.bases])
        return policies

    if not config.sft.runs:
        return create(config.model, models, tokenizer)
    if config.sft.trains == "policies":
        policies = create(config.model, models, tokenizer)
        _sft(run, policies, samples)
        return policies
    one = create(replace(config.model, paradigm="shared", shared_trains="full"), models, tokenizer)
    _sft(run, one, samples)
    (base,) = one.bases

    def write(folder: Path) -> None:
        one.base_of(one.SHARED).save(one.SHARED, folder)
        one.tokenizer.save_pretrained(folder)

    write_folder(run.sft_folder / "base", None, write)  # a model that other runs can begin with, by its folder
    return create(config.model, {name: base.network}, one.tokenizer)


def _sft(run: Run, policies: Policies, samples: Sequence[Sample]) -> None:
    """All updates that are left, with checkpoints. Raises: Stopped."""
    config = run.config
    chosen = config.sft
    learner = Learner(policies, sft_config(config), failures=run.folder / "failures" / "sft")
    limit = min(prompt_limit(replace(config, max_prompt_tokens=None, engine="local"), policies), chosen.max_tokens or 2**31)
    sequences = sft_sequences(
        blurred(samples, run.setting.entry, chosen.unfamiliar, config.seed),
        run.setting.agents,
        policies,
        max_tokens=limit,
        style=config.prompt_style,
        template_kwargs=config.chat_template_kwargs,
    )
    if not sequences:
        limits = "sft.max_tokens, learner.token_budget, the model's positions"
        raise ValueError(f"sft: expected a sample of at most {limit} tokens ({limits}), got {len(samples)} longer ones")
    sft = SFT(
        learner,
        sequences,
        batch_tokens=chosen.batch_tokens,
        epochs=chosen.epochs,
        seconds=chosen.seconds,
        schedule=chosen.schedule,
        seed=config.seed,
    )
    if sft.total_steps is not None:
        learner.config = sft_config(config, sft.total_steps)
    checkpoints, before = run.sft_checkpoints, run.metrics.elapsed
    last = run.left.sft
    spent = 0.0 if last is None else _continue(last, learner)

    def save() -> None:
        run.lock.check()

        def write(folder: Path) -> None:
            policies.save(folder / "policies")
            save_tensors(learner.state_dict(), folder / LEARNER)

        state = {"time": run.metrics.elapsed, "seconds": spent + run.metrics.elapsed - before, "random": random_state()}
        checkpoints.save(learner.step_number, state, write)

    with progress(sft.total_steps, "SFT", "update", learner.step_number) as bar:
        for metrics in sft.run(start=learner.step_number, elapsed=spent):
            run.log("sft", learner.step_number, {f"learner/{name}": value for name, value in metrics.scalars().items()})
            bar.set_postfix(loss=f"{metrics.loss / max(len(metrics.agents), 1):.3f}", refresh=False)
            bar.update()
            if run.stop.asked or (chosen.save_steps and learner.step_number % chosen.save_steps == 0):
                save()
            run.stop.check()
    run.sft_steps = learner.step_number


def _continue(last: Checkpoint, learner: Learner) -> float:
    """Back to a checkpoint of SFT; returns the seconds that it had taken."""
    learner.policies.load(last.path / "policies")
    restore(last, learner)
    return float(last.state["seconds"])


def _check(policies: Policies, run: Run, folder: Path) -> Policies:
    """Raises: ValueError for policies of other agents."""
    if set(policies.agents) != set(run.setting.agents):
        expected, got = ", ".join(run.setting.agents), ", ".join(policies.agents)
        raise ValueError(f"{folder}: expected policies of the agents {expected}, got those of {got}")
    return policies
