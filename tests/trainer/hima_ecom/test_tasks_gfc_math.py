"""The families of GFC and Math: every draw is solved by its recorded answer and by no empty words."""

import json
import random
import re
from fractions import Fraction

import pytest

from trainer.hima_ecom import World
from trainer.hima_ecom.checkers import Evidence, check, problems
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import FAMILIES, Family
from trainer.hima_ecom.tasks.pools import Pools
from trainer.hima_ecom.tasks.task import Task
from trainer.hima_ecom.tasks.texts import Phrases, file_names, read
from trainer.hima_ecom.tools import tool_names
from trainer.react import Action, Answer, parse
from trainer.types import Call

CASES = [family for column in ("gfc", "math") for family in FAMILIES[column]]
FILES = [name for name in file_names() if name.startswith(("gfc", "math"))]
PHRASES = [(f"{file}/{name}", said) for file in FILES for name, said in read(file).phrases.items()]
DRAWS = 20


def draw(world: World, family: Family, split: str, language: str, rng: random.Random) -> Task:
    """One task of the family."""
    for _ in range(500):
        builder = Builder(Pools(world, split), rng, split, language, difficulty=family.difficulty)
        try:
            family.write(builder)
        except Skip:
            continue
        return builder.task("task", family.column, family.name)
    raise AssertionError(f"{family.name}: 500 draws were skipped")


def draws(world: World, family: Family, count: int = DRAWS) -> list[Task]:
    """Tasks of both splits and languages."""
    rng = random.Random(family.name)
    sets = [(split, language) for split in ("train", "test") for language in ("en", "zh")]
    return [draw(world, family, *chosen, rng) for chosen in sets for _ in range(count)]


def replayed(world: World, task: Task) -> Evidence:
    """What the recorded trajectory leaves when its calls are made again."""
    session, calls, answer = world.session(task.customer_id), [], ""
    for node in task.trajectory:
        step = parse(node["text"])
        if isinstance(step, Answer):
            answer = step.text
            continue
        assert isinstance(step, Action), step
        if node["agent"] == "master":
            assert (step.name, list(step.arguments)) == (task.column, ["task"])
            continue
        assert step.name in tool_names(node["agent"])
        calls.append(
            Call(node["agent"], step.name, step.arguments, session.call(step.name, step.arguments, agent=node["agent"]))
        )
    assert answer == task.final_response
    return Evidence(answer, calls, session.state_hash(), task.query, task.customer_id, world)


def without_calls(world: World, task: Task, answer: str) -> float:
    """The accuracy of an answer that no call stands behind."""
    return check(task.checker, Evidence(answer, (), world.session().state_hash(), task.query, task.customer_id, world))


@pytest.mark.parametrize("family", CASES, ids=lambda family: f"{family.column}-{family.name}")
def test_the_recorded_answer_is_right_and_empty_words_are_not(world: World, family: Family) -> None:
    for task in draws(world, family):
        assert problems(task.checker) == []
        assert check(task.checker, replayed(world, task)) == 1.0, task
        assert without_calls(world, task, "") == 0.0, task
        assert without_calls(world, task, "I am sorry, I cannot do that.") < 0.1, task
        assert without_calls(world, task, task.query) < 0.3, task


@pytest.mark.parametrize(
    ("column", "what", "most"), [("gfc", "query", 0.03), ("gfc", "42", 0.01), ("math", "query", 0.01), ("math", "42", 0.01)]
)
def test_copies_and_constants_score_near_nothing(world: World, column: str, what: str, most: float) -> None:
    """The mean over all families; no right answer is any one constant."""
    tasks = [task for family in CASES if family.column == column for task in draws(world, family)]
    scores = [without_calls(world, task, task.query if what == "query" else what) for task in tasks]
    print(f"{column}, answer {what}: {sum(scores) / len(scores):.4f}")
    assert sum(scores) / len(scores) < most


@pytest.mark.parametrize("family", CASES, ids=lambda family: f"{family.column}-{family.name}")
def test_difficulty_is_the_number_of_tool_calls(world: World, family: Family) -> None:
    for task in draws(world, family, 4):
        tools = sum(isinstance(parse(node["text"]), Action) for node in task.trajectory if node["agent"] != "master")
        assert task.minimal_calls == tools + 1
        assert task.difficulty == family.difficulty == tools


@pytest.mark.parametrize("family", CASES, ids=lambda family: f"{family.column}-{family.name}")
def test_sub_agents_are_told_in_english_what_the_query_says(world: World, family: Family) -> None:
    for task in draws(world, family, 4):
        told = parse(task.trajectory[0]["text"])
        assert isinstance(told, Action)
        text = told.arguments["task"]
        assert "{" not in task.query + text + task.final_response, task
        assert re.sub('"[^"]*"', "", text).isascii(), task  # only what is quoted, the text of a reminder, may be Chinese
        assert (task.language == "zh") == bool(re.search("[一-鿿]", task.query)), task
        assert task.language == "zh" or not re.search("[一-鿿]", task.final_response), task


@pytest.mark.parametrize(("name", "phrases"), PHRASES, ids=lambda value: value if isinstance(value, str) else "")
def test_test_phrases_are_new(name: str, phrases: Phrases) -> None:
    assert len(phrases.sft) >= 4
    assert len(phrases.test) >= 2
    assert len(phrases.zh) >= 2
    assert len(phrases.zh_test) >= 1
    every = [*phrases.sft, *phrases.more, *phrases.test, *phrases.zh, *phrases.zh_test]
    assert len(set(every)) == len(every)
    assert len({"".join(character for character in text.lower() if character.isalnum()) for text in every}) == len(every)


def test_there_are_tasks_enough_without_repeats(world: World) -> None:
    """200 draws of a family repeat hardly a query, so 3,000 of a column never run dry."""
    for family in CASES:
        rng = random.Random(family.name)
        queries = {draw(world, family, "test", "en", rng).query for _ in range(200)}
        assert len(queries) > 140, (family.name, len(queries))


def test_a_wrong_number_is_wrong(world: World) -> None:
    """A number that is off by one part in fifty, or by one, scores less than the right one."""
    for family in CASES:
        for task in draws(world, family, 2):
            parts = task.checker.get("parts", [task.checker])
            evidence = replayed(world, task)
            for part in parts:
                if part["kind"] == "number":
                    value = Fraction(part["value"])
                    wrong = evidence._replace(answer=str(float(value + max(abs(value) / 50, 1))))
                    assert check(task.checker, wrong) < 1, json.dumps(task.checker)
