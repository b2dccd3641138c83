"""Each kind of checker against answers and stores that are right, near and wrong."""

import re
from typing import Any

import pytest

from trainer.hima_ecom import World
from trainer.hima_ecom.checkers import UNCHANGED, Evidence, check, problems
from trainer.types import Call


def evidence(world: World, answer: str = "", calls: tuple[Call, ...] = (), state: str = UNCHANGED, query: str = "") -> Evidence:
    return Evidence(answer, calls, state, query, None, world)


def test_unchanged_is_the_hash_of_a_session_that_wrote_nothing(world: World) -> None:
    assert world.session().state_hash() == UNCHANGED


def test_text_gives_all_for_the_value_half_of_f1_for_a_near_miss_and_nothing_for_a_rejected_one(world: World) -> None:
    spec = {"kind": "text", "value": "red kettle", "accept": ["红色水壶"], "reject": ["blue kettle"]}
    assert check(spec, evidence(world, "It is the Red Kettle!")) == 1.0
    assert check(spec, evidence(world, "是红色水壶。")) == 1.0
    assert check(spec, evidence(world, "the kettle")) == pytest.approx(0.25)
    assert check(spec, evidence(world, "red kettle or blue kettle")) == 0.0
    assert check(spec, evidence(world, "the red kettle rather than the blue kettle")) == 1.0
    assert check(spec, evidence(world, "red kettle, blue kettle?", query="red kettle, blue kettle?")) == 0.0
    assert check(spec, evidence(world, "red kettle " * 100)) == 0.0  # a dump


def test_calls_give_partial_credit_and_serve_once(world: World) -> None:
    wanted = {"agent": "gfc", "name": "date_add", "arguments": {"date": "2026-01-01", "days": 3}}
    spec = {"kind": "calls", "calls": [wanted, wanted]}
    right = Call("gfc", "date_add", {"date": " 2026-01-01", "days": 3.0}, "")
    near = Call("gfc", "date_add", {"date": "2026-01-01", "days": 4}, "")
    assert check(spec, evidence(world, calls=(right, right))) == 1.0
    assert check(spec, evidence(world, calls=(right,))) == 0.5
    assert check(spec, evidence(world, calls=(right, near))) == pytest.approx((1 + 0.75) / 2)
    assert check(spec, evidence(world, calls=(Call("efc", "date_add", wanted["arguments"], ""),))) == 0.0


def test_a_default_that_is_spelled_out_is_no_other_argument(world: World) -> None:
    wanted = {"agent": "gfc", "name": "set_reminder", "arguments": {"text": "pay", "date": "2026-07-01"}}
    for arguments, score in (
        ({}, 1.0),
        ({"time": "09:00"}, 1.0),
        ({"time": None}, 1.0),
        ({"time": "10:00"}, 0.5 + 0.5 * 2 / 3),
    ):
        made = Call("gfc", "set_reminder", wanted["arguments"] | arguments, "")
        assert check({"kind": "calls", "calls": [wanted]}, evidence(world, calls=(made,))) == pytest.approx(score)
    spelled = wanted | {"arguments": wanted["arguments"] | {"time": "09:00"}}
    made = Call("gfc", "set_reminder", wanted["arguments"], "")
    assert check({"kind": "calls", "calls": [spelled]}, evidence(world, calls=(made,))) == 1.0


def test_a_wrong_write_and_one_too_many_are_caught(world: World) -> None:
    order = next(row for row in world.all("orders") if row["status"] == "pending")
    cancel: dict[str, Any] = {"name": "cancel_order", "arguments": {"order_id": order["order_id"], "reason": "other"}}
    spec = {"kind": "state", "calls": [cancel]}

    def state(*calls: tuple[str, dict[str, Any]]) -> float:
        session = world.session(order["customer_id"])
        for name, arguments in calls:
            assert "error" not in session.call(name, arguments)
        return check(spec, Evidence("", (), session.state_hash(), "", order["customer_id"], world))

    right = ("cancel_order", cancel["arguments"])
    assert state(right) == 1.0
    assert state() == 0.0
    assert state(("cancel_order", cancel["arguments"] | {"reason": "found_cheaper"})) == 0.0  # the reason is written, too
    assert state(right, ("set_reminder", {"text": "x", "date": world.today})) == 0.0


def test_a_store_written_by_hand_is_caught(world: World) -> None:
    order = next(row for row in world.all("orders") if row["status"] == "pending")
    spec = {"kind": "state", "calls": [{"name": "cancel_order", "arguments": {"order_id": order["order_id"]}}]}
    session = world.session(order["customer_id"])
    session.store.update("orders", order, status="cancelled")  # without refund and stock
    assert check(spec, Evidence("", (), session.state_hash(), "", order["customer_id"], world)) == 0.0


def test_a_refusal_needs_its_reason_and_an_untouched_store(world: World) -> None:
    spec = {"kind": "refusal", "reasons": ["shipped"]}
    assert check(spec, evidence(world, "Sorry, I cannot: it has shipped.")) == 1.0
    assert check(spec, evidence(world, "Sorry, I cannot.")) == 0.0
    assert check(spec, evidence(world, "It has shipped.")) == 0.0
    assert check(spec, evidence(world, "Sorry, I cannot: it has shipped.", state="other")) == 0.0


def test_all_is_the_mean_and_its_numbers_are_no_guesses(world: World) -> None:
    numbers = [{"kind": "number", "value": str(n)} for n in (10, 20, 30, 40, 50)]
    spec = {"kind": "all", "parts": numbers}
    assert check(spec, evidence(world, "10, 20, 30, 40 and 50")) == 1.0
    assert check(spec, evidence(world, "10 and 20")) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (3, "expected an object whose kind"),
        ({"kind": "judge"}, "got 'judge'"),
        ({"kind": "text"}, "needs value"),
        ({"kind": "number", "value": "many"}, "expected a number as text, got 'many'"),
        ({"kind": "calls", "calls": []}, "at least one call"),
        ({"kind": "state", "calls": [{}]}, "objects with name, arguments"),
        ({"kind": "refusal", "reasons": []}, "at least one text"),
        ({"kind": {}}, "got {}"),
        ({"kind": "number", "value": float("inf")}, "expected a number as text, got inf"),
        ({"kind": "number", "value": "3", "unit": 7}, "unit: expected a text or null, got 7"),
        ({"kind": "text", "value": "x", "accept": 5}, "accept: expected a list of texts, got 5"),
        ({"kind": "text", "value": "x", "reject": "abc"}, "reject: expected a list of texts, got 'abc'"),
        ({"kind": "refusal", "reasons": [1]}, "at least one text"),
        ({"kind": "state", "calls": [{"name": "cancel_order", "arguments": "x"}]}, "objects as arguments"),
        ({"kind": "calls", "calls": [{"agent": "efc", "name": [], "arguments": {}}]}, "texts as names"),
        ({"kind": "all", "parts": [{"kind": "text", "value": 3}]}, r"parts\[0\].value: expected a text"),
    ],
)
def test_bad_specifications_are_named(spec: Any, message: str) -> None:
    found = problems(spec)
    assert len(found) == 1
    assert re.search(message, found[0])


def test_an_unknown_kind_raises(world: World) -> None:
    with pytest.raises(ValueError, match="expected kind to be one of"):
        check({"kind": "judge"}, evidence(world))
