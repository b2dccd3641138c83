"""Tasks of one turn: a data set of prompts, as single-agent GRPO has it: the agent reads one, what it writes is scored.

    tasks = prompt_tasks([{"prompt": "2 + 2 =", "answer": "4"}, ...])
    tokenizer.chat_template = prompt_template(tokenizer, tasks)
    sample_groups(engine, policies, PromptsEnv, prompt_agents(), tasks, config, seed, params=params, entry=NAME,
                  judge=RewardFuncs(exact_match))

Rows and prompts are TRL's: a text goes to the model as it stands, messages go through the tokenizer's chat template.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer.agents import Agent
from trainer.chat import chat_of, template_of
from trainer.env import Step
from trainer.foreign import read_prompt
from trainer.react import Action, Answer
from trainer.types import Message

NAME = "assistant"
_ALONE = "{% if messages | length == 1 %}"


def prompt_agents() -> dict[str, Agent]:
    """The one agent: it reads the prompt and nothing else, and whatever it writes is its answer."""
    return {NAME: Agent(NAME, "answers.", (), plain=True)}


def prompt_tasks(
    dataset: Iterable[Mapping[str, Any]], name: str = "train_dataset", *, like: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The rows of a data set (of `datasets`, or any rows that are mappings), checked.

    Args: name: what errors call it. like: rows of another data set, whose prompts are of the same kind.

    Raises: TypeError for what has no rows, a row that isn't a mapping or a prompt of another kind than a text or messages;
    ValueError for no rows, a row without `prompt`, or texts and messages mixed. It names the row.
    """
    if isinstance(dataset, str | Mapping) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(f"{name}: expected rows that can be counted, got {type(dataset).__name__}")
    tasks: list[dict[str, Any]] = []
    for number, row in enumerate(dataset):
        where = f"{name}[{number}]"
        if not isinstance(row, Mapping):
            raise TypeError(f"{where}: expected a row (a mapping), got {type(row).__name__}")
        if "prompt" not in row:
            raise ValueError(f"{where}: expected a column 'prompt', got {', '.join(map(str, row)) or 'no column'}")
        try:
            messages = read_prompt(row["prompt"])
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from None
        first, of = (like[0], "train_dataset[0]") if like else (tasks[0] if tasks else row, "row 0")
        if isinstance(messages, str) != is_text(first):
            raise ValueError(f"{where}: expected a prompt of the kind of {of}, all texts or all messages, got {messages!r}")
        if not isinstance(messages, str) and messages[-1].role != "user":
            raise ValueError(f"{where}: expected messages that end with the user's, got one of the {messages[-1].role}")
        tasks.append(dict(row))
    if not tasks:
        raise ValueError(f"{name}: expected at least one row, got none")
    return tasks


def is_text(task: Mapping[str, Any]) -> bool:
    """Whether a task's prompt is a text (TRL's "standard" format), not messages ("conversational")."""
    return isinstance(task["prompt"], str)


def prompt_template(tokenizer: Any, tasks: Sequence[Mapping[str, Any]]) -> str | None:
    """The chat template under which an agent reads the prompts of `tasks` as TRL does.

    For messages the tokenizer's own (None if it has none). For texts one that writes a single message's text and nothing else,
    after the tokens that the tokenizer puts before every text; several messages go through the tokenizer's own, which tells
    what ends a turn in the chats that such texts were rendered from.
    """
    own = template_of(tokenizer)
    if not is_text(tasks[0]) or (own or "").startswith(_ALONE):
        return own
    try:
        chat_of(tokenizer)
    except Exception:  # whatever a template raises that fails here: texts don't need it
        own = None
    plain, marked = (tokenizer("x", add_special_tokens=special)["input_ids"] for special in (False, True))
    before = tokenizer.convert_ids_to_tokens(marked[: len(marked) - len(plain)])
    if marked[len(before) :] != plain:
        raise ValueError(f"tokenizer: expected one that adds tokens before a text or none, got {marked} for {plain}")
    start = "".join(before).replace("\\", "\\\\").replace("'", "\\'")
    texts = f"{{{{ '{start}' }}}}{{% for message in messages %}}{{{{ message['content'] }}}}{{% endfor %}}"
    return f"{_ALONE}{texts}{{% else %}}{own or texts}{{% endif %}}"


class PromptsEnv:
    """An episode over a row: its prompt, then one answer. It gives no reward: that is the reward functions' affair."""

    tools: list[dict[str, Any]] = []  # noqa: RUF012 - nobody writes into it

    def reset(self, task: Mapping[str, Any], seed: int = 0) -> str | list[Message]:
        """The row's prompt. Raises: as `read_prompt`."""
        return read_prompt(task["prompt"])

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        """The end, whatever was written."""
        return Step("", None, True)

    def snapshot(self) -> None:
        """There is no state."""

    def restore(self, state: None) -> None:
        """There is none to go back to."""
