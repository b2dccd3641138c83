"""SFT samples: what one agent reads and writes while the expert solves a task."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from trainer.agents import hima_ecom_agents
from trainer.episode import Episode
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.strategies import Lessons, Step
from trainer.hima_ecom.tasks import Task
from trainer.hima_ecom.tasks.families import FAMILIES
from trainer.prompts import first_message
from trainer.react import Action, Answer, parse


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

    @property
    def told(self) -> tuple[str, ...]:
        """All that the agent reads and writes but its memory: two samples with the same differ in their memory at most."""
        first, *others = (message["content"] for message in self.messages)
        return (self.agent, first.removeprefix(first_message("", self.memory)), *others)


def samples(task: Task, env: HimaEcomEnv, memory: Lessons | None) -> Iterator[Sample]:
    """The contexts of all agents in the expert's episode of a task; with `memory`, each recalls what it learned from episodes
    before this one, and learns from it."""
    agents = hima_ecom_agents()

    def retrieve(agent: str, query: str) -> list[str]:
        return memory.recall(agent, task.family) if memory is not None else []

    episode = Episode(env, agents, task=task, episode_id=task.id, retrieve=retrieve)
    for node in task.trajectory:
        episode.act(node["text"])
    assert episode.reward == 1.0, task
    for agent, context in episode.contexts.items():
        sample = Sample(
            id=f"{task.id}/{agent}",
            agent=agent,
            column=task.column,
            language=task.language,
            difficulty=task.difficulty,
            family=task.family,
            memory=episode.strategies[agent],
            messages=tuple({"role": message.role, "content": message.content} for message in context[1:]),
        )
        yield sample
        if memory is not None:
            memory.learn(agent, task.family, _topic(task), sample.told[1], _steps(sample))


def _topic(task: Task) -> str:
    """The topic of a task's family; of a chain of parts, which agents it takes."""
    if task.column == "cooperation":
        asked = [
            step.name
            for node in task.trajectory
            if node["agent"] == "master" and isinstance(step := parse(node["text"]), Action)
        ]
        return f"a request for {' and '.join(dict.fromkeys(asked))} in {len(asked)} parts"
    text = next(family.topic for family in FAMILIES[task.column] if family.name == task.family).rstrip(".")
    return text[0].lower() + text[1:]


def _steps(sample: Sample) -> list[Step]:
    """The turns that the agent wrote, each with what it observed next."""
    contents = [message["content"] for message in sample.messages[1:]]
    read = [parse(text) for text in contents[::2]]
    seen = [text.removeprefix("Observation: ") for text in contents[1::2]] + [""]
    return [Step(act, saw) for act, saw in zip(read, seen, strict=False) if isinstance(act, Action | Answer)]
