"""The tools' rules on a hand-written store, with hand-computed amounts."""

from collections.abc import Callable
from typing import Any

import pytest

from trainer.hima_ecom.tools.registry import ToolError
from trainer.tau_retail.registry import FUNCTIONS, Function
from trainer.tau_retail.world import World

Make = Callable[[], Any]
NEW_ADDRESS = {"address1": "2 Side St", "address2": "", "city": "Reno", "country": "USA", "state": "NV", "zip": "89501"}


def test_customers_are_found_by_email_and_by_name_with_the_zip_as_it_now_is(store: Make) -> None:
    s = store()
    assert s.call("find_user_id_by_email", email="ANN@example.COM") == {"user_id": "ann"}
    s.refused("find_user_id_by_email", "user not found", email="nobody@example.com")
    assert s.call("find_user_id_by_name_zip", first_name="ann", last_name="LEE", zip="78701") == {"user_id": "ann"}
    assert s.call("find_user_id_by_name_zip", first_name="Ann", last_name="Lee", zip="10001") == {"user_id": "bob"}
    assert s.call("modify_user_address", user_id="ann", **NEW_ADDRESS)["address"] == NEW_ADDRESS
    s.refused("find_user_id_by_name_zip", "user not found", first_name="Ann", last_name="Lee", zip="78701")
    assert s.call("find_user_id_by_name_zip", first_name="Ann", last_name="Lee", zip="89501") == {"user_id": "ann"}
    s.refused("modify_user_address", "user 'eve' not found", user_id="eve", **NEW_ADDRESS)


def test_what_is_read(store: Make) -> None:
    s = store()
    assert s.call("list_all_product_types") == {"Lamp": "P2", "Mug": "P1"}
    assert s.call("get_product_details", product_id="P2")["variants"]["21"]["price"] == 30.5
    assert s.call("get_order_details", order_id="#W4")["status"] == "processed"
    s.refused("get_product_details", "product '11' not found", product_id="11")
    s.refused("get_order_details", "order 'W4' not found", order_id="W4")
    s.refused("get_user_details", "user 'eve' not found", user_id="eve")
    assert s.world.changes() == {}


def test_general_tools(store: Make) -> None:
    s = store()
    assert s.call("calculate", expression="(10.10 + 12.35) * 2 / 3") == {"result": "14.97"}
    s.refused("calculate", "numbers, + - * / and parentheses only", expression="abs(1)")
    s.refused("calculate", "division by zero", expression="1/(2-2)")
    assert s.call("think", thought="hm") == {"noted": True}
    assert s.call("transfer_to_human_agents", summary="a fire") == {"transferred": True}
    assert s.world.changes() == {}


def test_cancel_refunds_a_gift_card_at_once(store: Make) -> None:
    s = store()
    order = s.call("cancel_pending_order", order_id="#W1", reason="ordered by mistake")
    assert (order["status"], order["cancel_reason"]) == ("cancelled", "ordered by mistake")
    refund = {"transaction_type": "refund", "amount": 63.05, "payment_method_id": "gift_card_1"}
    assert order["payment_history"][1:] == [refund]
    assert s.balance() == 123.05
    s.refused(
        "cancel_pending_order", "expected the status 'pending', got 'cancelled'", order_id="#W1", reason="no longer needed"
    )
    s.refused("cancel_pending_order", "got 'processed'", order_id="#W4", reason="no longer needed")
    s.refused("cancel_pending_order", "expected one of no longer needed", order_id="#W2", reason="too dear")


def test_payment_moves_once_and_a_cancellation_refunds_what_is_held(store: Make) -> None:
    s = store()
    s.refused("modify_pending_order_payment", "another one", order_id="#W2", payment_method_id="paypal_1")
    s.refused("modify_pending_order_payment", "not found", order_id="#W2", payment_method_id="paypal_2")
    order = s.call("modify_pending_order_payment", order_id="#W2", payment_method_id="gift_card_1")
    assert s.balance() == 19.4  # 60 - 40.6
    assert [(p["transaction_type"], p["amount"], p["payment_method_id"]) for p in order["payment_history"]] == [
        ("payment", 40.6, "paypal_1"),
        ("payment", 40.6, "gift_card_1"),
        ("refund", 40.6, "paypal_1"),
    ]
    s.refused("modify_pending_order_payment", "got 3 transactions", order_id="#W2", payment_method_id="credit_card_1")
    order = s.call("cancel_pending_order", order_id="#W2", reason="no longer needed")
    assert order["payment_history"][3:] == [{"transaction_type": "refund", "amount": 40.6, "payment_method_id": "gift_card_1"}]
    assert s.balance() == 60


def test_payment_refunds_a_gift_card_and_needs_its_balance(store: Make) -> None:
    s = store()
    s.call("modify_pending_order_payment", order_id="#W1", payment_method_id="paypal_1")
    assert s.balance() == 123.05
    s = store()
    s.call("modify_pending_order_payment", order_id="#W2", payment_method_id="gift_card_1")
    s.refused(
        "modify_pending_order_items",
        "expected a balance of at least 79.9, got 19.4",
        order_id="#W1",
        item_ids=["11"],
        new_item_ids=["15"],
        payment_method_id="gift_card_1",
    )


def test_address_of_an_order(store: Make) -> None:
    s = store()
    assert s.call("modify_pending_order_address", order_id="#W1", **NEW_ADDRESS)["address"] == NEW_ADDRESS
    assert s.call("get_user_details", user_id="ann")["address"]["zip"] == "78701"
    s.refused("modify_pending_order_address", "got 'delivered'", order_id="#W3", **NEW_ADDRESS)


def test_items_are_replaced_in_their_places(store: Make) -> None:
    s = store()
    change = {"order_id": "#W1", "payment_method_id": "gift_card_1"}
    # One of two red mugs becomes the blue one while the blue one becomes green: each id stands for one item.
    order = s.call("modify_pending_order_items", item_ids=["11", "12"], new_item_ids=["12", "13"], **change)
    assert [i["item_id"] for i in order["items"]] == ["12", "11", "13", "21"]
    assert (order["items"][0]["price"], order["items"][0]["options"]) == (12.35, {"colour": "blue"})
    # 12.35 - 10.1 + 8 - 12.35 = -2.1: a refund.
    assert order["payment_history"][1:] == [{"transaction_type": "refund", "amount": 2.1, "payment_method_id": "gift_card_1"}]
    assert s.balance() == 62.1
    assert order["status"] == "pending (item modified)"
    s.refused("modify_pending_order_items", "expected the status", item_ids=["11"], new_item_ids=["12"], **change)
    s.refused("cancel_pending_order", "expected the status", order_id="#W1", reason="no longer needed")
    other = store()
    other.call("modify_pending_order_items", item_ids=["12", "11"], new_item_ids=["13", "12"], **change)
    assert other.world.state_hash() == s.world.state_hash()
    paid = store()
    order = paid.call("modify_pending_order_items", item_ids=["11", "11"], new_item_ids=["12", "12"], **change)
    assert order["payment_history"][1:] == [{"transaction_type": "payment", "amount": 4.5, "payment_method_id": "gift_card_1"}]
    assert [i["item_id"] for i in order["items"]] == ["12", "12", "12", "21"]
    assert paid.balance() == 55.5


@pytest.mark.parametrize(
    ("items", "new", "method", "reason"),
    [
        (["99"], ["12"], "paypal_1", "item '99' is not in order"),
        (["11", "11", "11"], ["12", "12", "12"], "paypal_1", "item '11' is not 3 times in order"),
        (["11"], ["12", "13"], "paypal_1", "as many new items as items, got 2 and 1"),
        (["11"], ["21"], "paypal_1", "new item '21' is no variant of Mug"),
        (["11"], ["14"], "paypal_1", "new item '14' is not available"),
        (["11"], ["12"], "paypal_2", "payment method 'paypal_2' not found"),
        (["11"], ["15"], "gift_card_1", "expected a balance of at least 79.9, got 60"),
        ([], [], "paypal_1", "expected a list of 1 to 100 strings"),
    ],
)
@pytest.mark.parametrize(
    ("name", "order_id"), [("modify_pending_order_items", "#W1"), ("exchange_delivered_order_items", "#W3")]
)
def test_replacements_that_are_refused(
    store: Make, name: str, order_id: str, items: list[str], new: list[str], method: str, reason: str
) -> None:
    store().refused(name, reason, order_id=order_id, item_ids=items, new_item_ids=new, payment_method_id=method)


def test_exchange(store: Make) -> None:
    s = store()
    change = {"item_ids": ["21", "11"], "new_item_ids": ["21", "12"], "payment_method_id": "gift_card_1"}
    order = s.call("exchange_delivered_order_items", order_id="#W3", **change)
    assert order["status"] == "exchange requested"
    assert (order["exchange_items"], order["exchange_new_items"]) == (["11", "21"], ["12", "21"])
    assert (order["exchange_payment_method_id"], order["exchange_price_difference"]) == ("gift_card_1", 2.25)
    assert s.balance() == 60
    s.refused("exchange_delivered_order_items", "expected the status 'delivered'", order_id="#W3", **change)
    s.refused(
        "return_delivered_order_items", "expected the status", order_id="#W3", item_ids=["11"], payment_method_id="paypal_1"
    )
    s.refused("exchange_delivered_order_items", "got 'pending'", order_id="#W1", **change)


def test_return(store: Make) -> None:
    s = store()
    name, to_paypal = "return_delivered_order_items", {"order_id": "#W3", "payment_method_id": "paypal_1"}
    s.refused(
        name,
        "expected the original one (paypal_1) or a gift card",
        **to_paypal | {"payment_method_id": "credit_card_1"},
        item_ids=["11"],
    )
    s.refused(name, "not found", **to_paypal | {"payment_method_id": "paypal_2"}, item_ids=["11"])
    s.refused(name, "item '11' is not 3 times", **to_paypal, item_ids=["11", "11", "11"])
    s.refused(name, "got 'pending'", **to_paypal | {"order_id": "#W2"}, item_ids=["11"])
    order = s.call(name, **to_paypal, item_ids=["21", "11", "11"])
    assert (order["status"], order["return_items"]) == ("return requested", ["11", "11", "21"])
    assert order["return_payment_method_id"] == "paypal_1"
    assert store().call(name, order_id="#W3", item_ids=["11"], payment_method_id="gift_card_1")["status"] == "return requested"


def test_a_refusal_takes_back_what_was_written(store: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(world: World, *, thought: str) -> None:
        world.put("users", "ann", {"written": thought})
        raise ToolError("halfway")

    s = store()
    s.call("cancel_pending_order", order_id="#W2", reason="no longer needed")
    monkeypatch.setitem(FUNCTIONS, "think", Function(half, frozenset(("thought",))))
    s.refused("think", "halfway", thought="hm")
    assert list(s.world.changes()) == ["orders"]


def test_arguments_are_checked(store: Make) -> None:
    s = store()
    s.refused("get_order_details", "missing argument 'order_id'")
    s.refused("get_order_details", "unknown argument 'x'; get_order_details takes: order_id", order_id="#W1", x=1)
    s.refused("get_order_details", "expected a string, got 1", order_id=1)
    s.refused("get_order_details", "at most 10000 characters, got 10001", order_id="x" * 10001)
    s.refused("get_order_details", "unpaired surrogate", order_id="\ud800")
    s.refused("list_all_product_types", "takes: nothing", order_id="#W1")
    s.refused("drop_tables", "unknown tool 'drop_tables'")
    s.refused(
        "return_delivered_order_items", "expected a string, got null", order_id="#W3", item_ids=[None], payment_method_id="x"
    )
    s.refused("return_delivered_order_items", "got a list of 101", order_id="#W3", item_ids=["1"] * 101, payment_method_id="x")
    assert "expected an object, got a list" in s.retail.toolbox.call(s.world, "think", []).observation
