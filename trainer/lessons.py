"""What the siblings of a node teach their agent's memory: the best one's way through its task, in a sentence, by no model.

    "Call get_order with order_id, then cancel_order with order_id and reason, then answer."

Names of tools and arguments only: values belong to one task, and the entry's key is the query. Equal ways give equal texts,
which the memory knows as duplicates.
"""

from collections.abc import Sequence
from itertools import groupby

from trainer.memory import Observation
from trainer.react import Action, Answer, parse
from trainer.vrgrpo import NodeGroup, Sibling

MAX_CALLS = 6  # different ones in a row that a lesson names


def observations(groups: Sequence[NodeGroup]) -> list[Observation]:
    """One for each group, for `Memory.evolve`: R_A + R_F of its siblings, what they had retrieved, the best one's lesson."""
    return [
        Observation(
            agent=group.agent,
            query=group.query,
            rewards=tuple(sibling.terms.for_memory for sibling in group.siblings),
            used=group.used,
            strategy=lesson(group),
            episode=f"{group.task_id}#{group.task}",
        )
        for group in groups
    ]


def best(group: NodeGroup) -> Sibling | None:
    """The sibling with the highest R_A + R_F, then the highest R, then the first; None if no reward is known."""
    known = [sibling for sibling in group.siblings if sibling.error is None]
    return max(known, key=lambda sibling: (sibling.terms.for_memory, sibling.reward), default=None)


def lesson(group: NodeGroup) -> str | None:
    """What the agent did in the best sibling's episode, from the query that its memory was asked with to its answer to that.

    None where that teaches nothing: no reward is known, the episode earned no accuracy or gave no answer, or the node lies in
    a later task of the agent, so that its siblings share what they did with the query.
    """
    sibling = best(group)
    if sibling is None or not sibling.terms.accuracy > 0 or sibling.reason != "answered":
        return None
    steps = [parse(text) for text in sibling.texts]
    end = next((i for i, step in enumerate(steps) if isinstance(step, Answer)), None)
    if end is None or end < group.written:
        return None
    calls = [_call(step) for step in steps[:end] if isinstance(step, Action)]
    if not calls:
        return "Answer at once, without any call."
    parts = [text if (count := len(list(same))) == 1 else f"{text} ({count} times)" for text, same in groupby(calls)]
    if len(parts) > MAX_CALLS:
        parts = [*parts[:MAX_CALLS], "more calls"]
    return f"Call {', then '.join(parts)}, then answer."


def _call(action: Action) -> str:
    """`cancel_order with order_id and reason`; a sub-agent by its name alone: it takes nothing but a task."""
    names = list(action.arguments)
    if not names or names == ["task"]:
        return action.name
    *rest, last = names
    return f"{action.name} with {', '.join(rest)} and {last}" if rest else f"{action.name} with {last}"
