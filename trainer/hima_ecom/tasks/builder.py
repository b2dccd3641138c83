"""Write one task: the expert calls the real tools, and the family reads their results."""

import json
import random
from dataclasses import dataclass, field
from typing import Any

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.session import Session
from trainer.hima_ecom.tasks.pools import Pools
from trainer.hima_ecom.tasks.task import Task
from trainer.hima_ecom.tasks.texts import phrases, translations
from trainer.hima_ecom.tools import WRITING_TOOLS
from trainer.react import Action, Answer, render


class Skip(Exception):  # noqa: N818 - not an error: the generator draws again
    """Raised where the facts drawn make no task (nothing in stock, a rule forbids it)."""


@dataclass
class Builder:
    """A task being written. A family calls `customer` (if it is about one), `ask`, `delegate`, `expect_...` and `finish`."""

    pools: Pools
    rng: random.Random
    split: str
    language: str
    difficulty: int = 1
    query: str = ""
    final_response: str = ""
    customer_id: str | None = None
    email: str | None = None  # given in the query of a customer who is not logged in
    nodes: list[dict[str, str]] = field(default_factory=list)
    actions: int = 0
    parts: list[dict[str, Any]] = field(default_factory=list)
    writes: list[dict[str, Any]] = field(default_factory=list)
    clauses: list[str] = field(default_factory=list)  # the query of a composed task, by part
    findings: list[str] = field(default_factory=list)  # its answer, by part
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.session = self.pools.world.session()

    @property
    def zh(self) -> bool:
        """Return True if the customer writes Chinese."""
        return self.language == "zh"

    def customer(self, customer_id: str, *, logged_in: float = 0.75) -> None:
        """Set the customer who asks. With probability 1 - logged_in they are not logged in and give their e-mail address."""
        row = self.pools.world.row("customers", customer_id)
        assert row is not None
        if self.rng.random() < logged_in:
            self.customer_id = customer_id
        else:
            self.email = row["email"]
            self.difficulty = min(3, self.difficulty + 1)
        self.session = self.pools.world.session(self.customer_id)

    def peek(self, customer_id: str, tool: str, **arguments: Any) -> Row:
        """Call a tool as a customer to learn facts for the query; no call of the expert. Raises: Skip where it refuses."""
        result: Row = json.loads(self.pools.world.session(customer_id).call(tool, arguments))
        if "error" in result:
            raise Skip(result["error"])
        return result

    def phrase(self, name: str, /, **facts: Any) -> str:
        """Draw one of the phrases "file/key" of this split and language, and fill in its facts."""
        return phrases(name).draw(self.rng, self.split, self.language).format(**facts)

    def join(self, *sentences: str) -> str:
        """Join sentences with a space, or with none in Chinese."""
        return ("" if self.zh else " ").join(sentences)

    def ask(self, query: str) -> None:
        """Set the query. Adds the e-mail address where it is needed and, from difficulty 2, perhaps an irrelevant sentence."""
        sentences = [query]
        if self.email is not None:
            sentences.insert(self.rng.randrange(2), self.phrase("common/email", email=self.email))
        if self.difficulty > 1 and self.rng.random() < 0.4:
            sentences.insert(self.rng.randrange(len(sentences) + 1), self.phrase("common/distractors"))
        self.query = self.join(*sentences)

    def delegate(self, agent: str, task: str, thought: str = "") -> "Expert":
        """Let the master hand a task to a sub-agent; the efc agent first identifies a customer who is not logged in."""
        identify = agent == "efc" and self.email is not None and self.session.customer_id is None
        if identify:
            task += f" The customer's e-mail is {self.email}."
        self.act("master", agent, {"task": task}, thought or f"The {agent} agent can do this.")
        expert = Expert(self, agent)
        if identify:
            expert.call("find_customer", "I identify the customer.", email=self.email)
        return expert

    def finish(self, en: str, zh: str, thought: str = "I have what I need.") -> None:
        """Record the master's final answer, in the language of the query."""
        self.final_response = zh if self.zh else en
        self.nodes.append({"agent": "master", "text": render(Answer(self.final_response, thought))})

    def part(self, clause: str, en: str, zh: str) -> None:
        """Add one part of a composed task: its clause of the query and its sentence of the answer."""
        self.clauses.append(clause)
        self.findings.append(zh if self.zh else en)

    def compose(self) -> None:
        """Set the query and the final answer from all parts."""
        self.ask(self.join(*self.clauses))
        answer = self.join(*self.findings)
        self.finish(answer, answer, "All parts are done.")

    def act(self, agent: str, name: str, arguments: dict[str, Any], thought: str) -> None:
        """Record an action."""
        self.actions += 1
        self.nodes.append({"agent": agent, "text": render(Action(name, arguments, thought))})

    def expect_text(self, value: str, *accept: str, reject: tuple[str, ...] = ()) -> None:
        """Require a text in the answer. Words of common/words count in both languages."""
        chinese = translations("common/words")
        accepted = [*accept, *(chinese[word] for word in (value, *accept) if word in chinese)]
        rejected = [*reject, *(chinese[word] for word in reject if word in chinese)]
        self.parts.append({"kind": "text", "value": value, "accept": accepted, "reject": rejected})

    def expect_number(self, value: str, unit: str | None = None, tolerance: str = "0.005") -> None:
        """Require a quantity in the answer."""
        self.parts.append({"kind": "number", "value": str(value), "unit": unit, "tolerance": tolerance})

    def expect_calls(self, *calls: tuple[str, str, dict[str, Any]]) -> None:
        """Require calls: (agent, name, arguments)."""
        listed = [{"agent": agent, "name": name, "arguments": arguments} for agent, name, arguments in calls]
        self.parts.append({"kind": "calls", "calls": listed})

    def expect_refusal(self, *reasons: str, reject: tuple[str, ...] = ()) -> None:
        """Require a refusal that gives one of the reasons; `reject` are reasons of other refusals."""
        others = [text for text in reject if text not in reasons]
        self.parts.append({"kind": "refusal", "reasons": list(reasons), "reject": others})

    def task(self, id: str, column: str, family: str) -> Task:
        """Return the finished task. Where the expert changed the store, its state is checked too."""
        assert self.query, family
        assert self.final_response, family
        parts = self.parts + ([{"kind": "state", "calls": self.writes}] if any(_writes(c) for c in self.writes) else [])
        assert parts, family
        return Task(
            id=id,
            column=column,
            split=self.split,
            language=self.language,
            difficulty=self.difficulty,
            family=family,
            query=self.query,
            final_response=self.final_response,
            checker=parts[0] if len(parts) == 1 else {"kind": "all", "parts": parts},
            minimal_calls=self.actions,
            customer_id=self.customer_id,
            trajectory=tuple(self.nodes),
        )


def _writes(call: dict[str, Any]) -> bool:
    return call["name"] in WRITING_TOOLS


@dataclass
class Expert:
    """A sub-agent that solves its part through the session's tools."""

    builder: Builder
    agent: str

    def call(self, tool: str, thought: str, **arguments: Any) -> Row:
        """Call a tool and return its result. Raises: Skip where the tool refuses."""
        result = self._call(tool, thought, arguments)
        if "error" in result:
            raise Skip(result["error"])
        if tool in WRITING_TOOLS or tool == "find_customer":
            self.builder.writes.append({"name": tool, "arguments": arguments})
        return result

    def refused(self, tool: str, thought: str, **arguments: Any) -> str:
        """Call a tool that must refuse and return its reason. Raises: Skip where it does not."""
        result = self._call(tool, thought, arguments)
        if "error" not in result:
            raise Skip(f"{tool} does not refuse")
        return str(result["error"])

    def answer(self, text: str, thought: str = "That answers it.") -> None:
        """Record the sub-agent's answer to the master."""
        self.builder.nodes.append({"agent": self.agent, "text": render(Answer(text, thought))})

    def _call(self, tool: str, thought: str, arguments: dict[str, Any]) -> Row:
        self.builder.act(self.agent, tool, arguments, thought)
        result: Row = json.loads(self.builder.session.call(tool, arguments, agent=self.agent))
        return result
