"""SFT samples: what one agent reads and writes while the expert solves a task."""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from trainer.agents import hima_ecom_agents
from trainer.episode import Episode
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.strategies import recall
from trainer.hima_ecom.tasks import Task
from trainer.react import Action, parse


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One agent's whole context in one episode; every assistant message is trained.

    Example: Sample(id="sft-efc-00001/efc", agent="efc", column="efc", language="en", difficulty=1, family="order_total",
    memory=("get_order shows items ...",), messages=({"role": "user", "content": "Task: ..."}, {"role": "assistant", ...}))
    """

    id: str
    agent: str
    column: str
    language: str
    difficulty: int
    family: str
    memory: tuple[str, ...]  # the strategies that stand in the first message
    messages: tuple[dict[str, str], ...]  # without the system prompt, which trainer.prompts writes

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"memory": list(self.memory), "messages": list(self.messages)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Sample":
        """From an object that has been checked."""
        fields = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        return cls(**fields | {"memory": tuple(record["memory"]), "messages": tuple(record["messages"])})


def samples(task: Task, env: HimaEcomEnv, rng: random.Random, *, memory: bool) -> Iterator[Sample]:
    """The contexts of all agents in the expert's episode of a task; with `memory`, each has strategies of its own."""
    agents = hima_ecom_agents()
    used: dict[str, list[str]] = {}
    for node in task.trajectory:
        step = parse(node["text"])
        if isinstance(step, Action):
            used.setdefault(node["agent"], []).append(step.name)

    def retrieve(agent: str, query: str) -> list[str]:
        return recall(rng, used[agent], sorted(agents[agent].tool_names)) if memory else []

    episode = Episode(env, agents, task=task, episode_id=task.id, retrieve=retrieve)
    for node in task.trajectory:
        episode.act(node["text"])
    assert episode.reward == 1.0, task
    for agent, context in episode.contexts.items():
        yield Sample(
            id=f"{task.id}/{agent}",
            agent=agent,
            column=task.column,
            language=task.language,
            difficulty=task.difficulty,
            family=task.family,
            memory=episode.strategies[agent],
            messages=tuple({"role": message.role, "content": message.content} for message in context[1:]),
        )
