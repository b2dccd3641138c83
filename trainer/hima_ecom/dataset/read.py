"""Reading JSONL of tasks and samples, ours or anybody's, and saying of every bad line what is wrong with it.

A task needs `query` and `final_response`; everything else has a default, so that a file of plain pairs is a dataset. A sample
needs `agent` and `messages`. A line is a sample if it has `messages`. Unknown keys are left alone.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trainer.hima_ecom.checkers import problems
from trainer.hima_ecom.dataset.samples import Sample
from trainer.hima_ecom.tasks.task import COLUMNS, LANGUAGES, SPLITS, Task
from trainer.hima_ecom.tools.registry import is_text
from trainer.jsonlines import lines
from trainer.react import Malformed, parse
from trainer.reading import load_json, short

AGENTS = ("master", "qa", "efc", "gfc", "math")
_TEXTS = ("id", "query", "final_response", "family")
_CHOICES = {"column": COLUMNS, "split": SPLITS, "language": LANGUAGES, "agent": AGENTS}


class Problem(NamedTuple):
    """A bad line of a file, counted from 1, and why."""

    line: int
    reason: str


class InvalidDatasetError(ValueError):
    """A file with bad lines; `problems` has all of them."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        first = "; ".join(f"line {p.line}: {p.reason}" for p in problems[:3])
        super().__init__(f"{path}: {len(problems)} problems: {first}{'; ...' if len(problems) > 3 else ''}")
        self.path, self.problems = path, problems


def read_tasks(path: str | Path, *, split: str | None = None) -> list[Task]:
    """The tasks of a file. `split` is that of lines that name none; "test" if the file's name begins so, else "train".

    Raises: FileNotFoundError; InvalidDatasetError with every bad line.
    """
    path = Path(path)
    default = split or ("test" if path.name.startswith("test") else "train")
    records = [(line, record) for line, record in _checked(path) if "messages" not in record]
    return [Task.from_json(_task_defaults(line, default, record) | record) for line, record in records]


def read_samples(path: str | Path) -> list[Sample]:
    """The SFT samples of a file. Raises: as `read_tasks`."""
    path = Path(path)
    records = [(line, record) for line, record in _checked(path) if "messages" in record]
    return [Sample.from_json(_sample_defaults(line, record) | record) for line, record in records]


def validate(path: str | Path) -> Iterator[Problem]:
    """Every problem of every line. Raises: FileNotFoundError; ValueError for a line of more than 2^24 characters."""
    seen: dict[str, int] = {}
    for line, text in lines(path):
        try:
            record = load_json(text)
        except ValueError as error:
            yield Problem(line, f"not JSON: {error}")
            continue
        if not isinstance(record, dict):
            yield Problem(line, f"expected a JSON object, got a {type(record).__name__}")
            continue
        if not is_text(json.dumps(record, ensure_ascii=False)):
            yield Problem(line, "expected valid Unicode, got an unpaired surrogate")
        for reason in _sample(record) if "messages" in record else _task(record):
            yield Problem(line, reason)
        identity = record.get("id")
        if isinstance(identity, str):
            if identity in seen:
                yield Problem(line, f"id: {short(identity)} is that of line {seen[identity]} already")
            seen.setdefault(identity, line)


def _checked(path: Path) -> list[tuple[int, dict[str, Any]]]:
    found = list(validate(path))
    if found:
        raise InvalidDatasetError(path, found)
    return [(line, load_json(text)) for line, text in lines(path)]


def _task_defaults(line: int, split: str, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{split}-{line:05d}",
        "column": "cooperation",
        "split": split,
        "language": _language(record["query"]),
        "difficulty": 1,
        "family": "given",
        "checker": {"kind": "text", "value": record["final_response"]},
        "minimal_calls": 1,
    }


def _sample_defaults(line: int, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"sft-{line:05d}",
        "column": "cooperation",
        "language": _language(str(record["messages"][0]["content"])),
        "difficulty": 1,
        "family": "given",
        "memory": [],
    }


def _language(text: str) -> str:
    return "zh" if any("一" <= letter <= "鿿" for letter in text) else "en"


def _common(record: dict[str, Any]) -> Iterator[str]:
    for name in _TEXTS:
        if name in record and not (isinstance(record[name], str) and record[name].strip()):
            yield f"{name}: expected a text, got {short(record[name])}"
    for name, choices in _CHOICES.items():
        if name in record and record[name] not in choices:
            yield f"{name}: expected one of {', '.join(choices)}, got {short(record[name])}"
    for name, most in (("difficulty", 3), ("minimal_calls", 10_000)):
        value = record.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            yield f"{name}: expected an integer from 1 to {most}, got {short(value)}"


def _task(record: dict[str, Any]) -> Iterator[str]:
    missing = [name for name in ("query", "final_response") if name not in record]
    if missing:
        yield f"missing: {', '.join(missing)}"
    yield from _common(record)
    if "checker" in record:
        yield from problems(record["checker"])
    if not isinstance(record.get("customer_id"), str | None):
        yield f"customer_id: expected a text or null, got {short(record['customer_id'])}"
    trajectory = record.get("trajectory", [])
    if not isinstance(trajectory, list):
        yield f"trajectory: expected a list, got {short(trajectory)}"
        return
    for i, node in enumerate(trajectory):
        if not isinstance(node, dict) or node.get("agent") not in AGENTS or not isinstance(node.get("text"), str):
            yield f"trajectory[{i}]: expected {{agent, text}} with an agent of {', '.join(AGENTS)}, got {short(node)}"
        elif isinstance(step := parse(node["text"]), Malformed):
            yield f"trajectory[{i}].text: {step.reason}"


def _sample(record: dict[str, Any]) -> Iterator[str]:
    if "agent" not in record:
        yield "missing: agent"
    yield from _common(record)
    memory = record.get("memory", [])
    if not isinstance(memory, list) or not all(isinstance(text, str) for text in memory):
        yield f"memory: expected a list of texts, got {short(memory)}"
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        yield f"messages: expected a list of at least one message, got {short(messages)}"
        return
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant"):
            yield f"messages[{i}]: expected an object whose role is system, user or assistant, got {short(message)}"
        elif not isinstance(message.get("content"), str):
            yield f"messages[{i}].content: expected a text, got {short(message.get('content'))}"
        elif message["role"] == "assistant" and isinstance(step := parse(message["content"]), Malformed):
            yield f"messages[{i}].content: {step.reason}"
    if not any(isinstance(message, dict) and message.get("role") == "assistant" for message in messages):
        yield "messages: expected at least one of the assistant"
