"""The parts of docs/benchmark.md that come from the code: episodes as a reader sees them, and tables."""

import json
import textwrap
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from trainer.agents import hima_ecom_agents
from trainer.episode import Episode
from trainer.hima_ecom import TOOLS, World
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.schema import COLUMNS as TABLES
from trainer.hima_ecom.tasks import COLUMNS, Task, stream_tasks
from trainer.hima_ecom.tasks.families import FAMILIES
from trainer.hima_ecom.tools import WRITING_TOOLS
from trainer.react import Action, Answer, parse

SEED = 0
HEADINGS = {"cooperation": "Cooperation", "qa": "QA", "efc": "EFC", "gfc": "GFC", "math": "Math"}
WIDTH = 118
MAX_OBSERVATION = 230  # characters that are shown
_TABLES_OF = {
    "the catalogue": ("products", "reviews", "promotions", "coupons", "coupon_uses"),
    "customers": ("customers", "addresses", "payment_methods"),
    "orders": ("orders", "order_items", "payments", "shipments", "shipment_events", "returns", "exchanges"),
    "the knowledge base": ("policies", "product_questions"),
    "the general tools": ("weather", "reminders"),
    "the store itself": ("meta",),
}


@lru_cache(maxsize=1)
def world() -> World:
    """The store of the dataset of SEED."""
    return World.in_memory(SEED, "full")


@lru_cache(maxsize=1)
def test_split() -> tuple[Task, ...]:
    """The 500 tasks of test.jsonl of SEED."""
    seen: set[str] = set()
    return tuple(task for c in COLUMNS for task in islice(stream_tasks(world(), SEED, "test", c, seen=seen), 100))


def shown_task(column: str) -> Task:
    """The first task of a column, in English, with as many agents as any of it and nodes of the middle."""
    tasks = [task for task in test_split() if task.column == column and task.language == "en" and _is_whole(task)]
    agents = max(len({node["agent"] for node in task.trajectory}) for task in tasks)
    tasks = [task for task in tasks if len({node["agent"] for node in task.trajectory}) == agents]
    middle = sorted(len(task.trajectory) for task in tasks)[len(tasks) // 2]
    return next(task for task in tasks if len(task.trajectory) >= middle)


def _is_whole(task: Task) -> bool:
    return task.checker["kind"] != "refusal"


def episode(task: Task) -> str:
    """An expert episode as indented text."""
    played = Episode(HimaEcomEnv(world()), hima_ecom_agents(), task=task)
    lines = [*_wrapped(f"Task: {task.query}", 0), ""]
    before = ""
    for node in task.trajectory:
        agent, step, depth = node["agent"], parse(node["text"]), int(node["agent"] != "master")
        if agent != before:
            lines.append(f"{'    ' * depth}{agent}")
            before = agent
        assert isinstance(step, Action | Answer)
        lines += _wrapped(f"Thought: {step.thought}", depth + 0.5)
        played.act(node["text"])
        if isinstance(step, Answer):
            lines += _wrapped(f"Final Answer: {step.text}", depth + 0.5)
            continue
        arguments = json.dumps(step.arguments, ensure_ascii=False)
        lines += _wrapped(f"Action: {step.name}", depth + 0.5) + _wrapped(f"Action Input: {arguments}", depth + 0.5)
        if step.name not in HEADINGS:
            lines += _wrapped(f"Observation: {_short(played.contexts[agent][-1].content)}", depth + 0.5)
    assert played.reward == 1.0
    checker = json.dumps(task.checker, ensure_ascii=False)
    outcome = played.outcome
    assert outcome is not None
    calls = len(outcome.calls) + sum(node["agent"] == "master" for node in task.trajectory) - 1
    lines += [
        "",
        *_wrapped(f"checker: {checker}", 0),
        f"reward: {played.reward}, with {calls} calls (at least {task.minimal_calls})",
    ]
    return "\n".join(lines)


def _short(message: str) -> str:
    """An observation with spaces between its parts, cut where it is long."""
    text = json.dumps(json.loads(message.removeprefix("Observation: ")), ensure_ascii=False)
    return text if len(text) <= MAX_OBSERVATION else text[: MAX_OBSERVATION - 1] + "…"


def _wrapped(text: str, depth: float) -> list[str]:
    indent = "    " * int(depth) + "  " * (depth > int(depth))
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)


def episodes() -> str:
    """One episode a column."""
    parts = []
    for column in COLUMNS:
        task = shown_task(column)
        about = f"`{task.id}`, family `{task.family}`, difficulty {task.difficulty}"
        parts.append(f"### {HEADINGS[column]}\n\n{about}:\n\n```text\n{episode(task)}\n```")
    return "\n\n".join(parts)


def tools() -> str:
    """The tools by agent, from their schemas."""
    rows = []
    for agent, schemas in TOOLS.items():
        for schema in (item["function"] for item in schemas):
            required = schema["parameters"]["required"]
            arguments = ", ".join(name if name in required else f"{name}?" for name in schema["parameters"]["properties"])
            mark = " (writes)" if schema["name"] in WRITING_TOOLS else ""
            rows.append((agent, f"`{schema['name']}`{mark}", f"`{arguments}`" if arguments else "", schema["description"]))
    return table(("agent", "tool", "arguments (`?`: may be left out)", "what it does"), rows)


def store() -> str:
    """The tables of the store and how many rows they have."""
    rows = []
    for what, names in _TABLES_OF.items():
        for name in names:
            rows.append((what, f"`{name}`", f"{len(list(world().all(name))):,}", ", ".join(f"`{c}`" for c in TABLES[name])))
    assert {name for names in _TABLES_OF.values() for name in names} == set(TABLES)
    return table(("of", "table", "rows", "columns"), rows)


def families() -> str:
    """Every family of templates."""
    rows = [
        (column, f"`{family.name}`", str(family.difficulty), family.topic)
        for column in COLUMNS
        for family in sorted(FAMILIES[column], key=lambda family: (family.impossible, family.difficulty))
        if not family.impossible
    ]
    return table(("column", "family", "difficulty", "what is asked"), rows)


def impossible() -> str:
    """The families whose right answer is a refusal."""
    rows = [
        (column, f"`{family.name}`", family.topic) for column in COLUMNS for family in FAMILIES[column] if family.impossible
    ]
    return table(("column", "family", "what cannot be done"), rows)


def counts() -> str:
    """The test split in numbers."""
    rows = [(HEADINGS[column], *_numbers([task for task in test_split() if task.column == column])) for column in COLUMNS]
    rows.append(("all", *_numbers(test_split())))
    return table(
        ("column", "tasks", "difficulty 1 / 2 / 3", "Chinese", "impossible", "nodes of the expert", "calls of the expert"), rows
    )


def _numbers(tasks: Sequence[Task]) -> Iterator[str]:
    yield str(len(tasks))
    yield " / ".join(str(sum(task.difficulty == level for task in tasks)) for level in (1, 2, 3))
    yield str(sum(task.language == "zh" for task in tasks))
    yield str(sum(task.checker["kind"] == "refusal" for task in tasks))
    for values in ([len(task.trajectory) for task in tasks], [task.minimal_calls for task in tasks]):
        yield f"{min(values)} to {max(values)}, mean {sum(values) / len(values):.1f}"


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


PARTS = {
    "counts": counts,
    "store": store,
    "tools": tools,
    "families": families,
    "impossible": impossible,
    "episodes": episodes,
}
