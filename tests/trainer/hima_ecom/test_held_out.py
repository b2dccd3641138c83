"""What a QA task of the test split asks about is asked about in no other split, in any words: memorised facts are of no use."""

from collections.abc import Iterable
from itertools import islice

import pytest

from trainer.hima_ecom import World
from trainer.hima_ecom.tasks import Task, stream_tasks
from trainer.hima_ecom.tasks.task import SPLITS
from trainer.react import Action, parse

SEARCHES = ("return period", "warranty", "made", "heavy", "clean")


@pytest.fixture(scope="module")
def full() -> World:
    return World.in_memory(0, "full")


def facts(tasks: Iterable[Task]) -> set[tuple[str, str]]:
    """(kind of question, subject) of everything that the qa agent looks up in an expert's episode."""
    found = set()
    for task in tasks:
        for node in task.trajectory:
            step = parse(node["text"])
            if isinstance(step, Action) and step.name == "search_knowledge":
                query = step.arguments["query"]
                kind = next(kind for kind in SEARCHES if kind in query)
                found.add((kind, query.replace(kind, "").strip()))
    return found


@pytest.mark.long
def test_no_fact_of_the_test_split_is_asked_in_training(full: World) -> None:
    counts = {"qa": 900, "cooperation": 500}
    test = facts(task for column in counts for task in islice(stream_tasks(full, 0, "test", column), 150))
    learned: set[tuple[str, str]] = set()
    for split in set(SPLITS) - {"test"}:
        learned |= facts(
            task for column, count in counts.items() for task in islice(stream_tasks(full, 0, split, column), count)
        )
    assert {kind for kind, _ in test} == {kind for kind, _ in learned} == set(SEARCHES)
    assert len(test) > 100
    assert len(learned) > 500
    assert not test & learned


def test_every_qa_task_of_the_test_split_looks_something_up(full: World) -> None:
    for task in islice(stream_tasks(full, 0, "test", "qa"), 100):
        assert facts([task]), task


def test_departments_have_rules_of_their_own(full: World) -> None:
    """Knowing the return periods of training says nothing about those of the test split."""
    from trainer.hima_ecom import rules
    from trainer.hima_ecom.catalog import BRANDS
    from trainer.hima_ecom.tasks.pools import held_out

    days: dict[bool, list[int]] = {True: [], False: []}
    for brand in BRANDS:
        for category in set(rules.CATEGORIES) - set(rules.NEVER_RETURNED):
            test = held_out(rules.department(brand, category))
            days[test].append(rules.return_rule(brand, category).days)
    assert len(days[True]) >= 15
    assert len(set(days[True])) > 10
    most = max(days[False].count(value) for value in days[False])
    assert most < 0.1 * len(days[False])  # the most frequent period of training is rare
