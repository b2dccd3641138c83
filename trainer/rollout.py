"""Sampling for VR-GRPO: one initial trajectory a query, then G actions at each of its nodes, each completed once.

    groups, stats = sample_groups(engine, policies, lambda: HimaEcomEnv(world), hima_ecom_agents(), tasks, config, seed=7,
                                  params=SamplingParams(stop_token_ids=(2,)))

One initial trajectory a query is played. When it has acted at a node, the node's other G - 1 siblings start from the state that
was kept, and each goes on to the end of its episode under the same policies: 1 + T (G - 1) trajectories a query of T nodes. All
of a batch are in flight together; with an engine that takes whole batches only, in lockstep. Memory is retrieved at an agent's
first task and kept in the state, so that siblings read the same prompt.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.agents import Agent
from trainer.averages import mean
from trainer.env import Environment
from trainer.episode import Episode, Limits, check_agents
from trainer.judging import Judge, Judged, Score, environment_score, judge_all, one_by_one
from trainer.memory import Memory
from trainer.play import Player, Policies, Table, Traffic
from trainer.prompts import Style
from trainer.recall import Asking, Recall
from trainer.rewards import Reward, RewardWeights, action_reward, format_reward
from trainer.vrgrpo import NodeGroup, Sibling, VRGRPOConfig
from trainer.walks import Draft, Leaf, Node, Sampler

if TYPE_CHECKING:
    from trainer.engine.base import Engine, SamplingParams

_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class RolloutStats:
    """What sampling a batch took and found. `accuracy`, `reward` and `calls` are means over whole trajectories that the current
    policies sampled from the query on (the initial ones; all leaves of trees), with R_F = 1 if all their actions are in the
    grammar; NaN where none could be scored."""

    queries: int
    trajectories: int  # 1 + T (G - 1) a query
    groups: int
    samples: int  # of the engine
    prompt_tokens: int  # before any cache
    sampled_tokens: int
    truncated: int  # samples cut at max_new_tokens
    malformed: float  # share of the sampled actions that are outside the grammar
    failed: int  # trajectories without a score because something raised: their environment, or who scores
    unscored: int  # trajectories without a score although nothing raised: it was None, NaN, infinite or out of range
    errors: tuple[str, ...]  # the first different ones of those that failed
    reasons: tuple[str, ...]  # and of those that are unscored
    accuracy: float
    reward: float
    calls: float
    seconds: float
    engine_seconds: float


def sample_groups(
    engine: "Engine",
    policies: Policies,
    make_env: Callable[[], Environment],
    agents: Mapping[str, Agent],
    tasks: Sequence[Any],
    config: VRGRPOConfig,
    seed: int,
    *,
    params: "SamplingParams",
    memory: Memory | None = None,
    limits: Limits = _LIMITS,
    score: Score = environment_score,
    judge: Judge | None = None,
    entry: str = "master",
    style: Style = "compact",
    max_prompt_tokens: int | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
    on_end: Callable[[int, Player, float], None] | None = None,
    strict: bool = True,
) -> tuple[list[NodeGroup], RolloutStats]:
    """Plays `tasks` and returns the nodes with their siblings, by task and node, and what it took.

    R = R_A + R_F - R_E (`trainer.rewards`): R_A of the episode that an action was completed to, by `score`; 0 if it ended
    malformed. The same seed, weights and tasks give the same groups: each (task, node, sibling, step) has a seed of its own.

    Args:
        make_env: an environment for each trajectory.
        tasks: for `env.reset`. `id` and `minimal_calls` are taken from an attribute or a key; by default the number in `tasks`,
            and 0.
        seed: another one for every batch.
        params: for the engine.
        memory: what the agents retrieve from; not changed.
        score: (task, episode that has ended) -> R_A. What it raises, or the environment when it is made, reset, stepped, kept
            (`snapshot`) or restored, costs that trajectory only: the reward is NaN and `Sibling.error` says why. A sibling that
            could not begin is missing from its group. None, NaN, an infinity, and a number outside [0, 1] while R_E is in use,
            are no score either.
        judge: in place of `score`, all trajectories in one call: (their tasks, their players) -> R_A of each. Those of a task
            stand together, the initial one first; those that failed, were not completed or ended malformed are not among them.
            What it raises, `sample_groups` does.
        limits, entry, style: of the episodes, see `Episode`. R_E's max calls is limits.nodes.
        max_prompt_tokens, template_kwargs: see `trainer.play.Table`.
        on_end: told of each whole trajectory that could be scored: (number in `tasks`, its player, R).
        strict: False: the two kinds of failure below are told by `RolloutStats` alone.

    Raises: ValueError for an agent without a policy, an entry, sub-agents or `trained_agents` that aren't agents; RuntimeError
    if something raised in every trajectory, or kept all of several siblings from beginning, as an environment that always fails
    would fail for ever, and if the weights changed while siblings were sampled; what the engine raises. That nobody is scored
    is no error otherwise.
    """
    begin = time.perf_counter()
    check_agents(agents, entry)
    unknown = sorted(set(config.trained_agents or ()) - set(agents))
    if unknown:
        raise ValueError(f"config.trained_agents: expected agents among {', '.join(agents)}, got {', '.join(unknown)}")
    table = Table(engine, policies, params, seed=seed, max_prompt_tokens=max_prompt_tokens, template_kwargs=template_kwargs)
    recall = Recall(memory)
    weights = RewardWeights(format=config.format, efficiency=config.efficiency, max_calls=limits.nodes)

    def episode(number: int, asking: Asking) -> Episode:
        return Episode(
            make_env(), agents, task=tasks[number], episode_id=task_id(tasks, number), seed=seed, limits=limits,
            retrieve=asking, entry=entry, style=style,
        )  # fmt: skip

    sampler = Sampler(table, recall, tasks, config, episode)
    try:
        (sampler.trees if config.sampling == "tree" else sampler.trajectories)()
    finally:
        table.cancel()
    judged = judge_all(sampler.walkers, tasks, one_by_one(score) if judge is None else judge)
    ends: list[Leaf] = []
    for i, walker in enumerate(sampler.walkers):
        leaf = _leaf(walker.player, judged.get(i, Judged(0.0)), bounded=config.efficiency > 0)
        ends.append(leaf)
        for draft in walker.drafts:
            draft.leaves.append(leaf)
    lost = [Leaf(math.nan, 0, None, one.error, False, {}, failed=True) for one in sampler.lost]
    if strict:
        _check_failures(sampler, [*ends, *lost])
    groups = [_group(node, agents[node.agent], tasks, table, recall, weights) for node in sampler.nodes]
    whole = []
    for walker, leaf in zip(sampler.walkers, ends, strict=True):
        if (walker.node is None or config.sampling == "tree") and not math.isnan(leaf.accuracy):
            reward = _reward(float(leaf.parsed), leaf, _minimal_calls(tasks[walker.task]), weights).total
            whole.append((leaf, reward))
            if on_end is not None:
                on_end(walker.task, walker.player, reward)
    return groups, _stats(groups, whole, [*ends, *lost], len(tasks), table.traffic, time.perf_counter() - begin)


def _check_failures(sampler: Sampler, ends: Sequence[Leaf]) -> None:
    """An environment or a scorer that always fails must not pass for a batch of bad luck."""
    if ends and all(leaf.failed for leaf in ends):
        raise RuntimeError(f"score: expected at least one trajectory of {len(ends)} to be scored, got none: {ends[0].error}")
    siblings = [one.error for one in sampler.lost if one.sibling]
    if len(siblings) > 1 and not any(walker.node is not None for walker in sampler.walkers):
        expected = f"expected at least one sibling of {len(siblings)} to begin at its node's state"
        raise RuntimeError(f"env.restore: {expected}, got none: {siblings[0]}")


def _leaf(player: Player, judged: Judged, *, bounded: bool) -> Leaf:
    outcome = player.episode.outcome
    accuracy, error = judged.accuracy, player.error or judged.error
    if error is None and math.isnan(accuracy):
        error = "score: expected a number, got NaN"
    elif error is None and (math.isinf(accuracy) or (bounded and not 0.0 <= accuracy <= 1.0)):
        error = f"score: expected {'0 to 1' if bounded else 'a finite number'}, got {accuracy}"
    accuracy = math.nan if error is not None else accuracy
    failed = player.error is not None or judged.failed
    if outcome is None:
        return Leaf(accuracy, 0, None, error, False, player.written, failed)
    return Leaf(accuracy, outcome.actions, outcome.reason, error, all(outcome.parsed), player.written, failed)


def _reward(format: float, leaf: Leaf, minimal_calls: int, weights: RewardWeights) -> Reward:
    return action_reward(format, leaf.accuracy, calls=leaf.calls, minimal_calls=minimal_calls, weights=weights)


def _sibling(draft: Draft, agent: Agent, minimal_calls: int, weights: RewardWeights) -> Sibling:
    """The mean over the leaves that could be scored; what else is told is of the best of them."""
    format = 1.0 if agent.plain else format_reward(draft.text)
    scored = [leaf for leaf in draft.leaves if not math.isnan(leaf.accuracy)] or draft.leaves[:1]
    terms = [_reward(format, leaf, minimal_calls, weights) for leaf in scored]
    best = scored[max(range(len(scored)), key=lambda i: terms[i].total)]
    return Sibling(
        token_ids=draft.sample.token_ids,
        rollout_logprobs=draft.sample.rollout_logprobs,
        finish_reason=draft.sample.finish_reason,
        text=draft.text,
        terms=Reward(mean([t.accuracy for t in terms]), terms[0].format, mean([t.cost for t in terms])),
        parsed=format == 1.0,
        calls=best.calls,
        reason=best.reason,
        error=best.error,
        texts=best.written[agent.name],
    )


def _group(node: Node, agent: Agent, tasks: Sequence[Any], table: Table, recall: Recall, weights: RewardWeights) -> NodeGroup:
    minimal_calls = _minimal_calls(tasks[node.task])
    query = node.queries[node.agent]
    return NodeGroup(
        task=node.task,
        task_id=task_id(tasks, node.task),
        agent=node.agent,
        policy=table.policy(node.agent),
        policy_version=node.drafts[0].sample.policy_version,
        node=node.node,
        prompt_ids=tuple(node.contexts[node.agent].token_ids),
        siblings=tuple(_sibling(draft, agent, minimal_calls, weights) for draft in node.drafts),
        query=query,
        used=recall.used(node.agent, query),
        written=len(node.written.get(node.agent, ())),
    )


def _stats(
    groups: Sequence[NodeGroup],
    whole: Sequence[tuple[Leaf, float]],
    ends: Sequence[Leaf],
    queries: int,
    traffic: Traffic,
    seconds: float,
) -> RolloutStats:
    failed = [leaf.error for leaf in ends if leaf.error is not None and leaf.failed]
    unscored = [leaf.error for leaf in ends if leaf.error is not None and not leaf.failed]
    actions = [sibling for group in groups for sibling in group.siblings]
    return RolloutStats(
        queries=queries,
        trajectories=len(ends),
        groups=len(groups),
        samples=traffic.samples,
        prompt_tokens=traffic.prompt_tokens,
        sampled_tokens=traffic.sampled_tokens,
        truncated=traffic.truncated,
        malformed=mean([float(not sibling.parsed) for sibling in actions]),
        failed=len(failed),
        unscored=len(unscored),
        errors=tuple(dict.fromkeys(failed))[:5],
        reasons=tuple(dict.fromkeys(unscored))[:5],
        accuracy=mean([leaf.accuracy for leaf, _ in whole]),
        reward=mean([reward for _, reward in whole]),
        calls=mean([float(leaf.calls) for leaf, _ in whole]),
        seconds=seconds,
        engine_seconds=traffic.seconds,
    )


def _of(task: Any, name: str, default: Any) -> Any:
    return task.get(name, default) if isinstance(task, Mapping) else getattr(task, name, default)


def task_id(tasks: Sequence[Any], number: int) -> str:
    """What a task is called: its `id`, or its number."""
    return str(_of(tasks[number], "id", number))


def _minimal_calls(task: Any) -> int:
    return int(_of(task, "minimal_calls", 0))
