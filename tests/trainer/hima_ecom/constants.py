"""The best constant answer that a search finds for many tasks: what an answer without any reading can solve at most.

The search knows every right answer of the tasks that it is given. It puts together pieces of these, whatever the checkers let
through together, in the order that solves most.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from trainer.hima_ecom import World
from trainer.hima_ecom.answers import tokens
from trainer.hima_ecom.checkers import UNCHANGED, Evidence, check
from trainer.hima_ecom.tasks import Task

PIECES = 60  # the most frequent right answers that are tried
LONGEST = 100  # words of the constant


def leaves(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The checkers of a specification that have no parts."""
    yield from spec["parts"] if spec["kind"] == "all" else [spec]


def score(world: World, task: Task, answer: str) -> float:
    """Of an answer that no call stands behind."""
    return check(task.checker, Evidence(answer, (), UNCHANGED, task.query, task.customer_id, world))


def pieces(task: Task) -> list[str]:
    """Short texts that are right for a task; none where calls must be made."""
    said: list[list[str]] = []
    for part in leaves(task.checker):
        if part["kind"] == "number":
            said.append([f"{part['value']} {part['unit'] or ''}".strip()])
        elif part["kind"] == "text":
            said.append([part["value"], *part["accept"][:3]])
        elif part["kind"] == "refusal":
            said.append([f"Sorry: {reason}" for reason in part["reasons"]])
        else:
            return []
    return [" ".join(texts) for texts in product(*said)] if len(said) == 1 else [" ".join(texts[0] for texts in said)]


def best_constant(world: World, tasks: Sequence[Task]) -> tuple[str, float]:
    """(the constant, the share of the tasks that it solves): the piece that gains most is added, in front or behind, as long as
    one gains."""
    told = [(task, texts) for task in tasks if (texts := pieces(task))]
    counts = Counter(text for _, texts in told for text in dict.fromkeys(texts))
    open_to = [task for task, _ in told]

    def solved(answer: str, among: Sequence[int]) -> set[int]:
        return {i for i in among if score(world, open_to[i], answer) == 1.0}

    everything = range(len(open_to))
    alone = {text: solved(text, everything) for text, _ in counts.most_common(PIECES)}
    answer, found = "", set[int]()
    while True:
        best, gained = answer, 0
        for piece, own in sorted(alone.items(), key=lambda item: -len(item[1] - found)):
            if len(own - found) <= gained:
                break  # no later piece can gain more
            for text in (f"{piece}. {answer}", f"{answer}. {piece}"):
                gain = len(solved(text, sorted(found | own))) - len(found)
                if gain > gained and len(tokens(text)) <= LONGEST:
                    best, gained = text, gain
        if not gained:
            return answer.strip(" ."), len(found) / len(tasks)
        answer, found = best, solved(best, everything)
