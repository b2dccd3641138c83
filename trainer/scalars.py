"""What a step and an evaluation are told by: flat names and numbers, and an episode as a record."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trainer.averages import mean
from trainer.engine.base import EngineStats
from trainer.evaluate import Report
from trainer.memory import Evolution, Memory
from trainer.models import Policies
from trainer.play import Player
from trainer.rollout import RolloutStats, task_id
from trainer.step import StepMetrics
from trainer.vrgrpo import NodeGroup, Selection

_OBSERVATION = "Observation: "
_EVOLUTION = ("added", "replaced", "duplicates", "updated", "penalised", "deleted", "evicted")


def changed(update: StepMetrics) -> list[str]:
    """The policies that a step has changed."""
    return list(update.grad_norms) if update.iterations else []


def rollout_scalars(stats: RolloutStats) -> dict[str, float]:
    """rollout/{name}: the numbers of RolloutStats."""
    return {f"rollout/{name}": float(value) for name, value in asdict(stats).items() if not isinstance(value, tuple)}


def selection_scalars(groups: Sequence[NodeGroup], selection: Selection, agents: Iterable[str]) -> dict[str, float]:
    """select/groups, select/variance_mean; by agent variance (the mean of its groups') and selected (how many learn)."""
    variance: defaultdict[str, list[float]] = defaultdict(list)
    selected: Counter[str] = Counter()
    for group, value, taken in zip(groups, selection.variance, selection.selected, strict=True):
        variance[group.agent].append(value)
        selected[group.agent] += taken
    found = {"select/groups": float(sum(selection.selected))}
    found |= {"select/variance_mean": mean(selection.variance)} if groups else {}
    found |= {f"variance/{agent}": mean(variance[agent]) for agent in agents if agent in variance}
    return found | {f"selected/{agent}": float(selected[agent]) for agent in agents}


def update_scalars(update: StepMetrics, policies: Policies) -> dict[str, float]:
    """learner/{name}, updated/{policy} (0 or 1), tokens_saved: the share of tokens that packing has not forwarded."""
    found = {f"learner/{name}": value for name, value in update.scalars().items()}
    found |= {f"updated/{policy}": float(policy in changed(update)) for policy in policies.names}
    original = update.original_tokens
    return found | {"tokens_saved": 1 - update.packed_tokens / original if original else 0.0}


def memory_scalars(memory: Memory, evolution: Evolution, agents: Iterable[str]) -> dict[str, float]:
    """memory/{name}: what the step did to all memories; by agent the number of entries, and the bounds that it learnt with."""
    found = {f"memory/{name}": float(getattr(evolution, name)) for name in _EVOLUTION}
    entries = Counter(entry.agent for entry in memory.entries())
    for agent in agents:
        found[f"memory/{agent}/entries"] = float(entries[agent])
        if agent in evolution.bounds:
            low, high = evolution.bounds[agent]
            found |= {f"memory/{agent}/low": low, f"memory/{agent}/high": high}
    return found


def engine_scalars(before: EngineStats, after: EngineStats) -> dict[str, float]:
    """engine/{name}: what the engine did in between, and the share of prompt tokens that it had computed already."""
    values = {name: value - getattr(before, name) for name, value in asdict(after).items()}
    values["hit_rate"] = EngineStats(**values).hit_rate
    return {f"engine/{name}": float(value) for name, value in values.items()}


def report_scalars(report: Report) -> dict[str, float]:
    """{column}/{name} and avg/{name}: accuracy R_A; solved in per cent, with low and high of its interval; calls; tokens."""
    found: dict[str, float] = {}
    for prefix, column in [*((column.name, column) for column in report.columns), ("avg", report.average)]:
        values = {"accuracy": column.accuracy, "solved": column.solved, "low": column.low, "high": column.high}
        values |= {"calls": column.calls, "tokens": column.written}
        found |= {f"{prefix}/{name}": float(value) for name, value in values.items()}
    return found


def episode(tasks: Sequence[Any], number: int, player: Player, reward: float, entry: str) -> dict[str, Any]:
    """A trajectory as it went: {"task_id", "query", "expected", "reward", "turns": [{"agent", "text", "observation"}]}."""
    contexts, task = player.episode.contexts, tasks[number]
    turns, at = [], dict.fromkeys(player.written, 0)
    places = {
        name: [i for i, message in enumerate(context) if message.role == "assistant"] for name, context in contexts.items()
    }
    for agent in player.order:
        texts, context = player.written[agent], contexts[agent]
        place = places[agent][at[agent] - len(texts)]  # from the end: what the context begins with may have turns
        after = context[place + 1].content if place + 1 < len(context) else ""
        observation = after.removeprefix(_OBSERVATION) if after.startswith(_OBSERVATION) else None
        turns.append({"agent": agent, "text": texts[at[agent]], "observation": observation})
        at[agent] += 1
    query = next((message.content for message in contexts[entry] if message.role == "user"), "")
    expected = task.get("final_response") if isinstance(task, Mapping) else getattr(task, "final_response", None)
    named = {"task_id": task_id(tasks, number), "query": getattr(task, "query", query)}
    return named | {"expected": expected, "reward": reward, "turns": turns}
