"""The folder: users, orders, products, policy, tool schemas and tasks of tau-bench's retail domain.

users.json, orders.json, products.json    {key: row}
wiki.md                                   the agent's policy
tools.json                                a list of OpenAI function schemas
tasks_<split>.jsonl                       one task a line: id, user_id, instruction, actions, outputs
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from trainer.react import Action
from trainer.reading import load_json
from trainer.tau_retail import tools  # noqa: F401 - registers them
from trainer.tau_retail.registry import Toolbox
from trainer.tau_retail.shapes import ORDER, PRODUCT, TASK, TOOL, USER, Each, check_links, check_shape
from trainer.tau_retail.world import Base

FILES = {
    "users.json": "{user id: profile}",
    "orders.json": "{order id: order}",
    "products.json": "{product id: product with variants}",
    "wiki.md": "the agent's policy",
    "tools.json": "a list of OpenAI function schemas",
}
TASK_FILES = "tasks_*.jsonl"


@dataclass(frozen=True)
class Task:
    """A task: what a customer wants, the actions that do it, and texts that the answer must hold.

    `Task("dev-0", "olivia_ito_3591", "Your name is Olivia Ito and ...", (Action("cancel_pending_order", {...}),), ())`.
    `instruction` is written to the customer: "you" is the customer.
    """

    id: str
    user_id: str
    instruction: str
    actions: tuple[Action, ...] = field(hash=False)
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Retail:
    """A folder, loaded; shared by all episodes and changed by none. `tasks`: {split: tasks}."""

    folder: Path
    base: Base
    policy: str
    toolbox: Toolbox
    tasks: dict[str, tuple[Task, ...]]


def load(folder: str | Path) -> Retail:
    """Loads a folder, once in a process: the same folder gives the same object.

    Raises: FileNotFoundError for a missing folder or file, ValueError for content that isn't what the module's docstring says;
    both name the file and what is expected there.
    """
    return _load(Path(folder).expanduser().resolve())


def tool_schemas(folder: str | Path) -> list[dict[str, Any]]:
    """The sixteen tools as OpenAI function schemas."""
    return list(load(folder).toolbox.schemas)


@cache
def _load(folder: Path) -> Retail:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder with {', '.join(FILES)} and {TASK_FILES}, found none")
    for name, content in FILES.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: expected {content}, found no such file")
    task_files = sorted(folder.glob(TASK_FILES))
    if not task_files:
        raise FileNotFoundError(f"{folder / TASK_FILES}: expected one task a line, found no such file")
    try:
        users, orders, products = (_table(folder / name) for name in ("users.json", "orders.json", "products.json"))
        check_shape(users, Each(USER), "users.json")
        check_shape(orders, Each(ORDER), "orders.json")
        check_shape(products, Each(PRODUCT), "products.json")
        check_links(users, orders, products)
        schemas = _json(_text(folder / "tools.json"), "tools.json")
        check_shape(schemas, [TOOL], "tools.json")
        toolbox = Toolbox(schemas)
        tasks = {path.stem.removeprefix("tasks_"): _tasks(path) for path in task_files}
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return Retail(folder, Base(users, orders, products), _text(folder / "wiki.md"), toolbox, tasks)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: expected UTF-8 text, got an error: {error}") from error


def _json(text: str, where: str) -> Any:
    try:
        return load_json(text, finite=False)  # a check says in which row a number isn't finite
    except ValueError as error:
        raise ValueError(f"{where}: expected JSON, got an error: {error}") from error


def _table(path: Path) -> dict[str, Any]:
    rows = _json(_text(path), path.name)
    if not isinstance(rows, dict) or not rows:
        raise ValueError(f"{path.name}: expected {FILES[path.name]} with at least one row, got none")
    return rows


def _tasks(path: Path) -> tuple[Task, ...]:
    tasks = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            where = f"{path.name}: line {number}"
            row = _json(line, where)
            check_shape(row, TASK, where)
            name = f"{path.stem.removeprefix('tasks_')}-{row['id']}"
            actions = tuple(Action(action["name"], action["arguments"]) for action in row["actions"])
            tasks.append(Task(name, row["user_id"], row["instruction"], actions, tuple(row["outputs"])))
    if len({task.id for task in tasks}) != len(tasks):
        raise ValueError(f"{path.name}: expected an id once, got one twice")
    return tuple(tasks)
