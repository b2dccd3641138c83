"""Episodes over the benchmark's store, for the tests: an environment and what agents write."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from trainer.env import Step
from trainer.episode import Episode
from trainer.hima_ecom import TOOLS, Session, World
from trainer.react import Action, Answer, render
from trainer.types import Message


@cache
def world() -> World:
    return World.in_memory(7)


PENDING = next(row for row in world().all("orders") if row["status"] == "pending")
ORDER, CUSTOMER = PENDING["order_id"], PENDING["customer_id"]


class StoreEnv:
    """A session of the store; the answer must be the task's."""

    def __init__(self) -> None:
        self.tools = [tool for tools in TOOLS.values() for tool in tools]
        self.session: Session
        self.gave_up = 0

    def reset(self, task: Any, seed: int = 0) -> str | list[Message]:
        self.session = world().session(CUSTOMER)
        self.answer = task["answer"]
        begin: str | list[Message] = task["query"]
        return begin

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        if isinstance(action, Action):
            known = agent if agent in TOOLS else None
            return Step(self.session.call(action.name, action.arguments, agent=known))
        self.gave_up += action is None
        return Step("", float(action is not None and action.text == self.answer), True)

    def snapshot(self) -> Any:
        return self.session.snapshot()

    def restore(self, state: Any) -> None:
        self.session.restore(state)


def task(answer: str = "done", query: Any = "Where is my order?") -> dict[str, Any]:
    return {"query": query, "answer": answer}


def ask(agent: str, text: str) -> str:
    return render(Action(agent, {"task": text}, "It can."))


def call(name: str, **arguments: Any) -> str:
    return render(Action(name, arguments))


def say(text: str) -> str:
    return render(Answer(text, "I know."))


def play(episode: Episode, texts: Sequence[str]) -> Episode:
    for text in texts:
        episode.act(text)
    return episode


def last(episode: Episode) -> str:
    """What the agent to act has been told last."""
    request = episode.request
    assert request is not None
    assert request.messages[-1].role == "user"
    return request.messages[-1].content


def walk() -> list[str]:
    """An episode of ten nodes: efc, math, and efc again."""
    return [
        ask("efc", f"Look up {ORDER}."),
        call("get_order", order_id=ORDER),
        say(f"{ORDER} is there."),
        ask("math", "2 + 3?"),
        call("calculate", expression="2 + 3"),
        say("5"),
        ask("efc", "And its parcel?"),
        call("track_shipment", order_id=ORDER),
        say("It has none."),
        say("done"),
    ]
