"""What a query asks is what its checker wants, and right answers in other words are right."""

import random
import re
from fractions import Fraction

import pytest

from trainer.hima_ecom import World, catalog, rules
from trainer.hima_ecom.care import ADVICE, CARE
from trainer.hima_ecom.checkers import UNCHANGED, Evidence, check
from trainer.hima_ecom.tasks import Task, attributes, make_tasks
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import FAMILIES
from trainer.hima_ecom.tasks.pools import Pools


@pytest.fixture(scope="module")
def full() -> World:
    return World.in_memory(0, "full")


def draws(world: World, column: str, name: str, language: str = "en", count: int = 12) -> list[Task]:
    """Tasks of a family, of training."""
    family = next(family for family in FAMILIES[column] if family.name == name)
    rng, pools, found = random.Random(name), Pools(world, "train"), []
    while len(found) < count:
        builder = Builder(pools, rng, "train", language, difficulty=family.difficulty)
        try:
            family.write(builder)
        except Skip:
            continue
        found.append(builder.task("task", column, name))
    return found


def score(world: World, task: Task, answer: str) -> float:
    """Of an answer without any call."""
    return check(task.checker, Evidence(answer, (), UNCHANGED, task.query, task.customer_id, world))


@pytest.mark.parametrize(("column", "most"), [("cooperation", 0.01), ("qa", 0.02), ("efc", 0.02)])
def test_copies_constants_and_refusals_score_near_nothing(full: World, column: str, most: float) -> None:
    tasks = [task for seed in (0, 1, 2) for task in make_tasks(full, seed, "test", column, 100)]
    assert sum(score(full, task, "no") for task in tasks) < 0.07 * len(tasks)  # of questions with yes or no it is half
    copied = sum(score(full, task, task.query) for task in tasks) / len(tasks)
    assert copied < most
    for answer in ("42", "I am sorry, I cannot do that.", "", "抱歉，无法办理。"):
        assert sum(score(full, task, answer) for task in tasks) / len(tasks) < most, answer


@pytest.mark.parametrize("language", ["en", "zh"])
def test_qa_answers_may_be_worded_otherwise(full: World, language: str) -> None:
    for task in draws(full, "qa", "origin", language):
        country = task.checker["value"]
        for answer in (f"It comes from {country}.", f"产地是{catalog.ORIGINS[country]}。"):
            assert score(full, task, answer) == 1.0
        assert score(full, task, "It comes from Iceland.") < 0.5
    for task in draws(full, "qa", "care", language):
        advice = task.checker["value"]
        assert score(full, task, f"Please: {advice}!") == 1.0
        assert score(full, task, ADVICE[advice].chinese) == 1.0
        for other in ADVICE:
            if other != advice:
                assert score(full, task, other) < 0.5, (advice, other)
    for task in draws(full, "qa", "warranty", language):
        months = Fraction(task.checker["value"])
        assert score(full, task, f"{float(months / 12)} years") == 1.0
        assert score(full, task, f"保修{months}个月") == 1.0
        assert score(full, task, f"{months} days") == 0.0


def test_yes_and_no_are_understood_in_other_words(full: World) -> None:
    may = ["Yes.", "Yes, that is no problem.", "It can be returned after it was opened.", "可以退"]
    not_may = ["No.", "It must be unopened.", "It can't be returned once it is open.", "不可以", "This is not allowed."]
    for task in draws(full, "qa", "opened_return"):
        said, days = task.checker["parts"]
        right, wrong = (may, not_may) if said["value"] == "yes" else (not_may, may)
        assert [score(full, task, f"{answer} {days['value']} days.") for answer in right] == [1.0] * len(right)
        assert max(score(full, task, f"{answer} {days['value']} days.") for answer in wrong) < 0.8
        assert max(score(full, task, answer) for answer in right) < 0.6


def test_comparisons_may_name_both(full: World) -> None:
    for name in ("heavier", "longer_warranty"):
        for task in draws(full, "qa", name):
            choice, figure = task.checker["parts"]
            right, (wrong,) = choice["value"], choice["reject"]
            said = f"{figure['value']} {figure['unit']}"
            assert score(full, task, f"The {right} beats the {wrong}: {said}.") == 1.0
            assert score(full, task, f"The {wrong} beats the {right}: {said}.") == 0.5
            assert score(full, task, f"The {right} beats the {wrong}.") == 0.5
    for task in draws(full, "qa", "longer_return"):
        choice, days = task.checker["parts"]
        name, (product,) = choice["value"], choice["accept"]
        for answer in (f"The {product}: {days['value']} days.", f"{name} items, {days['value']} days."):
            assert score(full, task, answer) == 1.0


def test_a_change_asks_for_what_its_answer_must_name(full: World) -> None:
    """And one that is refused asks for the same, so that the question does not give it away."""
    names = (
        "cancel_order",
        "cancel_by_item",
        "return_item",
        "exchange_item",
        "change_payment",
        "apply_coupon",
        "better_coupon",
    )
    asks = re.compile(
        r"refund|get back|comes back|charged|cost me|sum|total|remains to be paid|with it\?|after it|order costs? after"
    )
    for name in (*names, "cancel_too_late", "return_refused", "coupon_refused"):
        for task in draws(full, "efc", name, count=6):
            assert asks.search(task.query), task.query
    for task in draws(full, "efc", "exchange_item"):
        number = next(part for part in task.checker["parts"] if part["kind"] == "number")
        assert Fraction(number["value"]) > 0  # of nothing or a refund there are several ways to speak


def test_a_price_is_the_list_price_where_a_promotion_may_run(full: World) -> None:
    for task in draws(full, "efc", "product_price", count=20):
        assert re.search("(?i)list|regular|without|no offers", task.query), task.query


def test_a_return_period_in_a_chain_is_that_of_the_order(full: World) -> None:
    orders = {row["order_id"]: row for row in full.all("orders")}
    found = 0
    for task in make_tasks(full, 3, "train", "cooperation", 240):
        if "return period" in str(task.trajectory):
            key = re.search(r"O\d{5}", task.query)
            assert key is not None
            customer = full.row("customers", orders[key.group()]["customer_id"])
            assert customer is not None
            assert customer["tier"] != "gold"
            session = full.session(customer["customer_id"])
            items = session.store.rows("order_items", "order_id", key.group())
            mine = {full.products[item["product_id"]].row["category"] for item in items}
            assert any(f"Return period: {name}" in str(task.trajectory) or name in task.query for name in mine)
            found += 1
    assert found


def test_amounts_have_two_decimals(full: World) -> None:
    for task in make_tasks(full, 4, "train", "cooperation", 120):
        for part in task.checker["parts"]:
            if part["kind"] == "number" and part["unit"] not in ("g", "lb"):
                assert re.fullmatch(r"\d+\.\d\d", part["value"]), part


def test_every_word_list_is_whole() -> None:
    assert {text for texts in CARE.values() for text in texts} == set(ADVICE)
    assert min(len(texts) for texts in CARE.values()) >= 10
    keys = [key for advice in ADVICE.values() for key in advice.keys]
    assert len(set(keys)) == len(keys)
    assert {kind.name for kind in catalog.TYPES} == set(catalog.GRAMS)
    names = {name: values for kind in catalog.TYPES for name, values in (*kind.shared.items(), *kind.varied.items())}
    assert all(attributes.can_be_said(name) != ("yes" in values) for name, values in names.items())
    assert set(CARE) == set(rules.CATEGORIES) - {*rules.NEVER_RETURNED, "beauty"}
