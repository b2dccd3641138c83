"""The training loop: queries -> sampled groups -> selection -> one packed update -> memory, step after step.

with Stop() as stop:
    run = Run(config, hima_ecom_setting(config.data), stop)
    run.begin(pretrain(run))
    train(run)
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trainer.checkpoint import replace_text, write_folder
from trainer.escaping import for_terminal
from trainer.evaluate import Job, Report, evaluate_jobs
from trainer.lessons import observations
from trainer.play import Player, seed_of
from trainer.policies.engine import EnginePolicy
from trainer.react import is_thinking
from trainer.recall import Recall
from trainer.reward_funcs import RewardFuncs
from trainer.rollout import RolloutStats, sample_groups
from trainer.run import Run, progress
from trainer.scalars import (
    changed,
    engine_scalars,
    episode,
    memory_scalars,
    report_scalars,
    rollout_scalars,
    selection_scalars,
    update_scalars,
)
from trainer.sequences import TrainSequence
from trainer.stopping import Stopped
from trainer.vrgrpo import NodeGroup, Selection, select, trained


def train(run: Run) -> bool:
    """RL from where the run stands. Returns whether it came to its end; if it was asked to stop, there is a checkpoint.

    Raises: FullDiskError; the last good checkpoint stays. FolderRemovedError.
    """
    config = run.config
    try:
        with progress(config.max_steps, "VR-GRPO", "step", run.step) as bar:
            while True:
                finished = run.is_over(run.step, run.seconds)
                if run.step and (finished or (config.save_steps and run.step % config.save_steps == 0)):
                    save(run)
                if not finished and is_tested(run) and run.evaluated < run.step:
                    evaluate(run, f"step-{run.step}" if run.step else "sft", None if run.step == 0 else config.eval_tasks)
                    run.evaluated = run.step
                if finished:
                    break
                run.stop.check()
                reward = step(run)
                bar.set_postfix(reward=f"{reward:.3f}", refresh=False)
                bar.update()
        evaluate(run, "final" if run.step else "sft")
    except Stopped:
        save(run)
        return False
    finish(run)
    return True


def step(run: Run) -> float:
    """One step: sample, select, update, remember. Returns the mean reward of the trajectories.

    Until the update nothing has changed that a checkpoint holds: whoever stops before it stops after the step before.
    """
    config, setting = run.config, run.setting
    number, before = run.step + 1, run.engine.stats
    run.engine.reset()  # a resumed run has nothing either: so both round alike
    episodes: dict[int, dict[str, Any]] = {}

    def on_end(task: int, player: Player, reward: float) -> None:
        if task not in episodes and len(episodes) < config.logged_episodes:
            episodes[task] = episode(tasks, task, player, reward, setting.entry)

    if isinstance(setting.judge, RewardFuncs):
        setting.judge.state.global_step, setting.judge.state.max_steps = run.step, config.max_steps or 0
    with run.timed("step"):
        assert run.queries is not None
        tasks = run.queries.take(run.cursor, config.queries_per_step)
        with run.timed("rollout"):
            groups, stats = sample_groups(
                run.engine,
                run.policies,
                setting.make_env,
                setting.agents,
                tasks,
                config.rl,
                seed_of(config.seed, number),
                params=run.params,
                memory=run.memory,
                limits=config.limits,
                score=setting.score,
                judge=setting.judge,
                entry=setting.entry,
                style=config.prompt_style,
                max_prompt_tokens=run.max_prompt_tokens,
                template_kwargs=config.chat_template_kwargs,
                on_end=on_end,
            )
        run.stop.check()
        warn_of_losses(run, "rollout", stats)
        if not (stats.samples or stats.failed):
            limits = f"{run.max_prompt_tokens} tokens (max_prompt_tokens, the model's positions, learner.token_budget)"
            warnings.warn(f"a step without a sample: all its queries have prompts of more than {limits}", stacklevel=2)
        if any(one.finish_reason == "length" and is_thinking(one.text) for group in groups for one in group.siblings):
            warnings.warn(
                "actions were cut off inside <think>, before they came to anything. Raise sampling.max_new_tokens (TRL: "
                "max_completion_length), or turn thinking off: chat_template_kwargs={'enable_thinking': False} for most models",
                stacklevel=2,
            )
        seen = observations(groups)
        if run.memory is not None:
            run.memory.check(seen)  # before anything has changed
        with run.timed("select"):
            selection = select(groups, config.rl)
        with run.timed("update"):
            update = run.learner.step(train_sequences(groups, selection))
            for policy in changed(update):
                run.engine.update_policy(policy)
        with run.timed("memory"):
            evolution = None if run.memory is None else run.memory.evolve(number, seen)
    run.step, run.cursor = number, run.cursor + len(tasks)
    run.seconds += run.phases["step"]
    if number % config.logging_steps == 0:
        scalars = rollout_scalars(stats) | selection_scalars(groups, selection, setting.agents)
        scalars |= engine_scalars(before, run.engine.stats) | update_scalars(update, run.policies)
        if run.memory is not None and evolution is not None:
            scalars |= memory_scalars(run.memory, evolution, setting.agents)
        scalars |= judge_scalars(run)
        said = {"errors": [*stats.errors, *stats.reasons]} if stats.errors or stats.reasons else {}
        said |= {"skipped": [update.skipped]} if update.skipped else {}
        run.log("train", number, scalars | {f"seconds/{name}": value for name, value in run.phases.items()}, **said)
        for record in episodes.values():
            run.metrics.episode(number, record)
    run.phases.clear()
    return stats.reward


def train_sequences(groups: Sequence[NodeGroup], selection: Selection) -> list[TrainSequence]:
    """Make the sequences that the learner is given: the siblings of the selected groups."""
    return [
        TrainSequence(
            node.policy,
            node.agent,
            node.prompt_ids + sibling.token_ids,
            len(node.prompt_ids),
            advantage,
            sibling.rollout_logprobs,
            group,
        )
        for group, node, sibling, advantage in trained(groups, selection)
    ]


def is_tested(run: Run) -> bool:
    """Return True if an evaluation belongs after the present step."""
    every = run.config.eval_steps
    return run.step == 0 or (every is not None and run.step % every == 0)


def save(run: Run) -> None:
    """A checkpoint, if the last one is not of this very step."""
    if run.saved != run.step:
        with run.timed("checkpoint"):
            run.save()


def evaluate(run: Run, name: str, per_column: int | None = None) -> Report | None:
    """Plays the tests, all or the first so many of each column, with the memory as it is; None if there is no report.

    The report is in {output_dir}/eval/{name}.json, its numbers among the metrics. Tests that reward functions judge have no
    report, only numbers.
    """
    config, setting = run.config, run.setting
    jobs = first_of_each(setting.tests, per_column)
    if not jobs:
        return None
    run.engine.reset()
    if setting.judge is not None:
        judge_tests(run, name, jobs)
        return None
    policy = EnginePolicy(
        run.engine,
        run.policies,
        run.params,
        temperature=config.eval_temperature,
        max_prompt_tokens=run.max_prompt_tokens,
        template_kwargs=config.chat_template_kwargs,
        seed=config.seed,
    )
    with progress(len(jobs), f"evaluation {name}", "episode") as bar:
        report = evaluate_jobs(
            policy,
            jobs,
            setting.make_env,
            setting.agents,
            name=name,
            split="test",
            seed=config.seed,
            entry=setting.entry,
            limits=config.limits,
            retrieve=Recall(run.memory).strategies,
            style=config.prompt_style,
            on_end=lambda _: bar.update(),
        )
    run.lock.check()
    folder = run.folder / "eval"
    folder.mkdir(exist_ok=True)
    replace_text(folder / f"{name}.json", report.dumps())
    if failed := report.errors:
        text = f"{len(failed)} of {len(jobs)} episodes failed and count as unsolved: {failed[0].error}"
        warn_once(run, "evaluation/failed", text)
    run.log("eval", run.step, report_scalars(report), name=name, split=report.split)
    if run.on_report is not None:
        run.on_report(report)
    return report


def judge_tests(run: Run, name: str, jobs: Sequence[Job]) -> None:
    """Plays tests that only reward functions can score: a trajectory each, without siblings."""
    config = run.config
    _, stats = sample_groups(
        run.engine,
        run.policies,
        run.setting.make_env,
        run.setting.agents,
        [job.task for job in jobs],
        replace(config.rl, group_size=1, sampling="trajectory"),
        config.seed,
        params=replace(run.params, temperature=config.eval_temperature),
        memory=run.memory,
        limits=config.limits,
        judge=run.setting.judge,
        entry=run.setting.entry,
        style=config.prompt_style,
        max_prompt_tokens=run.max_prompt_tokens,
        template_kwargs=config.chat_template_kwargs,
        strict=False,
    )
    warn_of_losses(run, "evaluation", stats)
    tokens = stats.sampled_tokens / len(jobs)
    scalars = {"avg/accuracy": stats.accuracy, "avg/calls": stats.calls, "avg/tokens": tokens} | judge_scalars(run)
    scalars |= {"avg/failed": float(stats.failed), "avg/unscored": float(stats.unscored)}
    run.log("eval", run.step, scalars, name=name, split="test")


def warn_of_losses(run: Run, where: str, stats: RolloutStats) -> None:
    """Says once a run that trajectories failed, and once that some are not scored; the metrics count both in every line."""
    if stats.failed:
        warn_once(run, f"{where}/failed", f"{stats.failed} of {stats.trajectories} trajectories failed: {stats.errors[0]}")
    if stats.unscored:
        text = f"{stats.unscored} of {stats.trajectories} trajectories are not scored, and count nowhere: "
        warn_once(run, f"{where}/unscored", text + stats.reasons[0])


def warn_once(run: Run, name: str, text: str) -> None:
    """A warning, unless the run has given one of this name. text: of an environment or a reward function, too."""
    if name not in run.warned:
        run.warned.add(name)
        warnings.warn(for_terminal(f"{name}: {text} (said once)"), stacklevel=2)


def judge_scalars(run: Run) -> dict[str, float]:
    """Return what reward functions have logged since they were last asked."""
    judge = run.setting.judge
    return judge.scalars() if isinstance(judge, RewardFuncs) else {}


def first_of_each(jobs: Sequence[Job], count: int | None) -> list[Job]:
    """The first `count` jobs of each column; None: all."""
    taken: Counter[str] = Counter()
    found = []
    for job in jobs:
        if count is None or taken[job.column] < count:
            taken[job.column] += 1
            found.append(job)
    return found


def finish(run: Run) -> None:
    """{output_dir}/final: the policies, and after how many steps. Raises: FolderRemovedError."""
    run.lock.check()
    state = {"step": run.step, "seconds": run.seconds}
    write_folder(run.final, state, lambda folder: run.policies.save(folder / "policies"))
    run.lock.check()
