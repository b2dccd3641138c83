"""Policies that follow no reasoning: the expert's replay, and what must score near nothing."""

from collections.abc import Iterable, Mapping, Sequence

from trainer.hima_ecom.tasks.task import Task
from trainer.policies.base import query_of
from trainer.react import Answer, render
from trainer.types import Request


class ReplayPolicy:
    """Writes known texts. Args: texts: {episode id: what its nodes wrote, in order}."""

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self._texts = texts

    def act(self, requests: Sequence[Request]) -> list[str]:
        """The texts of these nodes. Raises: ValueError for an episode or a node without one."""
        return [self._text(request) for request in requests]

    def _text(self, request: Request) -> str:
        texts = self._texts.get(request.episode_id)
        if texts is None:
            raise ValueError(f"replay: expected texts of episode {request.episode_id!r}, got none")
        if request.node >= len(texts):
            raise ValueError(f"replay: episode {request.episode_id!r} has {len(texts)} nodes, got node {request.node}")
        return texts[request.node]


class ExpertPolicy(ReplayPolicy):
    """The expert of the benchmark's tasks, over the five agents. Raises: ValueError for a task that has no trajectory."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        texts = {task.id: [node["text"] for node in task.trajectory] for task in tasks}
        missing = [id for id, nodes in texts.items() if not nodes]
        if missing:
            raise ValueError(f"expert: expected tasks with trajectories, got none in {len(missing)}, {missing[0]!r} the first")
        super().__init__(texts)


class ConstantPolicy:
    """Always answers the same."""

    def __init__(self, answer: str = "Yes.") -> None:
        self._text = render(Answer(answer))

    def act(self, requests: Sequence[Request]) -> list[str]:
        """The answer, for each."""
        return [self._text] * len(requests)


class RefusingPolicy(ConstantPolicy):
    """Always refuses, in a sentence of many reasons."""

    def __init__(self) -> None:
        super().__init__(
            "Sorry, this cannot be done: it was not found, is out of stock, already shipped, cancelled or expired, past the "
            "period for returns, not allowed by the policy, or I need more information. 抱歉，无法办理。"
        )


class CopyPolicy:
    """Answers with the task itself."""

    def act(self, requests: Sequence[Request]) -> list[str]:
        """Each task as its own answer."""
        return [render(Answer(query_of(request).strip() or "?")) for request in requests]
