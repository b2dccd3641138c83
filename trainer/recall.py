"""What episodes retrieve from the agents' memory while a batch is played: the memory doesn't change, so each question is asked
once, and those of a round together."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from trainer.memory import Memory

Question = tuple[str, str]  # agent, query


class Recall:
    """The memory's answers, kept by (agent, query). Without a memory every answer is empty."""

    def __init__(self, memory: Memory | None) -> None:
        self._memory = memory
        self._known: dict[Question, tuple[tuple[int, ...], tuple[str, ...]]] = {}

    def look_up(self, questions: Iterable[Question]) -> None:
        """Asks the memory what it was not asked before, all at once."""
        if self._memory is None:
            return
        new = list(dict.fromkeys(question for question in questions if question not in self._known))
        if new:
            found = self._memory.retrieve_many([agent for agent, _ in new], [query for _, query in new])
            for question, entries in zip(new, found, strict=True):
                self._known[question] = (tuple(entry.id for entry in entries), tuple(entry.strategy for entry in entries))

    def strategies(self, agent: str, query: str) -> tuple[str, ...]:
        """The texts for an agent's first message."""
        self.look_up([(agent, query)])
        return self._known.get((agent, query), ((), ()))[1]

    def used(self, agent: str, query: str) -> tuple[int, ...]:
        """The ids of those entries."""
        return self._known.get((agent, query), ((), ()))[0]


@dataclass(slots=True)
class Asking:
    """An episode's `retrieve`: queries is {agent: what its memory was asked}."""

    recall: Recall
    queries: dict[str, str] = field(default_factory=dict)

    def __call__(self, agent: str, query: str) -> tuple[str, ...]:
        self.queries[agent] = query
        return self.recall.strategies(agent, query)
