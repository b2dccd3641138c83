"""Tasks: solvable, the same from a seed, and nothing of the test split in training."""

import json
import random
import re
from itertools import islice

import pytest

from trainer.agents import hima_ecom_agents
from trainer.episode import Episode
from trainer.hima_ecom import World
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.tasks import COLUMNS, Task, make_tasks, stream_tasks
from trainer.hima_ecom.tasks.cooperation import chains
from trainer.hima_ecom.tasks.families import FAMILIES
from trainer.hima_ecom.tasks.pools import department, held_out
from trainer.hima_ecom.tasks.task import SPLITS
from trainer.hima_ecom.tasks.texts import phrases
from trainer.react import Action, parse

AGENTS = hima_ecom_agents()


WORD = re.compile(r"[a-z]+")


@pytest.fixture(scope="module")
def full() -> World:
    return World.in_memory(0, "full")


@pytest.fixture(scope="module")
def drawn(full: World) -> dict[tuple[str, str], list[Task]]:
    return {(s, c): make_tasks(full, 1, s, c, n) for s, n in (("train", 240), ("test", 120)) for c in COLUMNS}


def play(env: HimaEcomEnv, task: Task, nodes: int | None = None) -> Episode:
    episode = Episode(env, AGENTS, task=task)
    for node in islice(task.trajectory, nodes):
        request = episode.request
        assert request is not None
        assert request.agent == node["agent"], task.id
        episode.act(node["text"])
    return episode


def test_the_expert_solves_every_task_and_half_an_episode_does_not(full: World, drawn: dict) -> None:
    env = HimaEcomEnv(full)
    for tasks in drawn.values():
        for task in tasks:
            episode = play(env, task)
            assert episode.reward == 1.0, task
            assert episode.outcome is not None
            assert episode.outcome.answer == task.final_response
            episode = play(env, task, 1)
            episode.restore(episode.snapshot())
            assert not episode.done


def test_tasks_are_the_same_from_a_seed_and_new_from_another(full: World) -> None:
    for column in COLUMNS:
        one, same, other = (make_tasks(full, seed, "test", column, 20) for seed in (3, 3, 4))
        assert [task.to_json() for task in one] == [task.to_json() for task in same]
        assert {task.query for task in one} != {task.query for task in other}
    assert [t.id for t in make_tasks(full, 3, "test", "qa", 10)] == [t.id for t in make_tasks(full, 3, "test", "qa", 20)][:10]


def test_nothing_of_the_test_split_is_in_training(full: World, drawn: dict) -> None:
    train = {task.query for (split, _), tasks in drawn.items() for task in tasks if split == "train"}
    test = {task.query for (split, _), tasks in drawn.items() for task in tasks if split == "test"}
    assert not train & test
    families = {row.row["product_id"]: department(row.row) for row in full.products.values()}
    orders = {row["order_id"]: row["customer_id"] for row in full.all("orders")}
    for (split, _), tasks in drawn.items():
        for task in tasks:
            words = task.query.replace("?", " ").replace(".", " ").replace(",", " ").split()
            for word in words:
                if word in families and "exchange" not in task.family:
                    assert held_out(families[word]) == (split == "test"), task
                if word in orders:
                    assert held_out(orders[word]) == (split == "test"), task
    assert not set(chains(test=True)) & set(chains(test=False))
    assert chains(test=True)


@pytest.mark.parametrize("name", ["qa_products/warranty", "qa_products/weight"])
def test_customers_use_other_wordings_than_experts_demonstrate(name: str) -> None:
    rng, said = random.Random(0), phrases(name)
    drawn = {split: {said.draw(rng, split, "en") for _ in range(300)} for split in SPLITS}
    assert drawn["sft"] == set(said.sft)
    assert drawn["train"] == set(said.more)
    assert drawn["test"] == set(said.test)
    assert not drawn["sft"] & drawn["train"] | drawn["test"] & (drawn["train"] | drawn["sft"])
    known = drawn["train"] | drawn["sft"]
    heard, asked = ({w for text in texts for w in WORD.findall(text.lower())} for texts in (known, said.test))
    assert asked <= heard  # the words of test are known, from other sentences


def test_impossible_tasks_are_few_and_refused(full: World) -> None:
    names = {family.name for column in FAMILIES.values() for family in column if family.impossible}
    for column in ("qa", "efc", "gfc", "math"):
        tasks = make_tasks(full, 5, "test", column, 100)
        refused = [task for task in tasks if task.family in names]
        assert 0 < len(refused) <= 5
        assert all(task.checker["kind"] == "refusal" for task in refused)
        for count in range(1, 100):
            assert sum(task.family in names for task in tasks[:count]) <= max(0.05 * count, 0), count


def test_cooperation_has_several_agents_and_seven_nodes(drawn: dict) -> None:
    for split in ("train", "test"):
        for task in drawn[split, "cooperation"]:
            assert len(task.trajectory) >= 7
            agents = {node["agent"] for node in task.trajectory} - {"master"}
            delegations = [s for n in task.trajectory if n["agent"] == "master" and isinstance(s := parse(n["text"]), Action)]
            assert len(agents) >= 2 or len(delegations) >= 2
            assert len(agents) <= 4


def test_minimal_calls_count_actions(drawn: dict) -> None:
    for tasks in drawn.values():
        for task in tasks:
            assert task.minimal_calls == sum(isinstance(parse(node["text"]), Action) for node in task.trajectory)


def test_every_family_difficulty_and_language_occurs(drawn: dict) -> None:
    for column in COLUMNS:
        tasks = drawn["train", column]
        assert {task.family for task in tasks} >= {f.name for f in FAMILIES[column] if not f.impossible}
        assert {task.difficulty for task in tasks} >= {1, 2}
        assert {task.language for task in tasks} == {"en", "zh"}


def test_tasks_survive_json(drawn: dict) -> None:
    for task in drawn["test", "efc"]:
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_wrong_arguments(full: World) -> None:
    with pytest.raises(ValueError, match="split: expected one of sft, train, test, got 'dev'"):
        make_tasks(full, 0, "dev", "qa", 1)
    with pytest.raises(ValueError, match="column: expected one of"):
        next(stream_tasks(full, 0, "train", "art"))
