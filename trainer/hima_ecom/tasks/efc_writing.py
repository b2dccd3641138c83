"""EFC, writing: cancel, return, exchange, change, apply. The state that is left is checked."""

from collections.abc import Callable

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.efc_orders import item_named, own_order
from trainer.hima_ecom.tasks.qa_products import product_name
from trainer.hima_ecom.tasks.template import Facts, Number, Template, Text, call, templates
from trainer.hima_ecom.tasks.texts import table, translations

PAYMENTS = {"credit_card": "credit card", "paypal": "PayPal account", "gift_card": "gift card"}


def a_reason(b: Builder) -> Facts:
    """Draw why an order is cancelled: its code, and how the customer says it."""
    reasons = table("efc_writing/reasons")
    code = b.rng.choice(list(reasons))
    return {"code": code, "why": reasons[code][b.zh]}


def a_cancellation(*statuses: str) -> Callable[[Builder], Facts]:
    """Return what draws an order with one of the statuses and why it is cancelled."""
    return lambda b: {"order": own_order(b, *statuses)["order_id"]} | a_reason(b)


def an_item_to_return(*conditions: str) -> Callable[[Builder], Facts]:
    """Return what draws an item of a delivered order and its condition, one of those given."""

    def draw(b: Builder) -> Facts:
        row, item = _delivered_item(b)
        state = b.rng.choice(conditions)
        said = translations("efc_writing/conditions")[state] if b.zh else state
        return {"order": row["order_id"], "item": item, "name": product_name(item), "state": state, "condition": said}

    return draw


def an_order_and_a_coupon(b: Builder) -> Facts:
    """Draw an order that may get a coupon, and a coupon."""
    order = own_order(b, *rules.COUPON_APPLICABLE)["order_id"]
    return {"order": order, "code": b.rng.choice(b.pools.world.all("coupons"))["code"]}


def _delivered_item(b: Builder) -> tuple[Row, Row]:
    row = own_order(b, "delivered")
    return row, item_named(b, b.peek(row["customer_id"], "get_order", order_id=row["order_id"]))


def _the_only_open_order(b: Builder) -> Facts:
    row = own_order(b, *rules.CANCELLABLE)
    customer, key = row["customer_id"], row["order_id"]
    listed = [b.peek(customer, "list_orders", status=status)["orders"] for status in rules.CANCELLABLE]
    if [order["order_id"] for orders in listed for order in orders] != [key]:
        raise Skip("more than one open order: which call finds it first is luck")
    name = product_name(item_named(b, b.peek(customer, "get_order", order_id=key)))
    return {"order": key, "name": name} | a_reason(b)


def _an_address(b: Builder) -> Facts:
    row = own_order(b, *rules.ADDRESS_CHANGEABLE)
    places = b.peek(row["customer_id"], "get_customer")["addresses"]
    others = [place for place in places if place["address_id"] != row["address_id"]]
    if not others:
        raise Skip("one address only")
    place = b.rng.choice(others)
    return {"order": row["order_id"], "place": place, "label": place["label"]}


def _a_payment(b: Builder) -> Facts:
    row = own_order(b, *rules.PAYMENT_CHANGEABLE)
    methods = b.peek(row["customer_id"], "get_customer")["payment_methods"]
    method = b.rng.choice([m for m in methods if m["payment_method_id"] != row["payment_method_id"]])
    return {"order": row["order_id"], "payment": method, "kind": PAYMENTS[method["kind"]]}


def _an_exchange(b: Builder) -> Facts:
    row, item = _delivered_item(b)
    products = b.pools.world.products
    old = products[item["product_id"]].row
    new = b.rng.choice([p.row for p in products.values() if p.row["family_id"] == old["family_id"] and p.row is not old])
    methods = b.peek(row["customer_id"], "get_customer")["payment_methods"]
    method = b.rng.choice([m for m in methods if m["kind"] != "gift_card"])
    kind = PAYMENTS[method["kind"]]
    payment = {"payment": method, "kind": kind, "method": kind if b.zh else f"my {kind}"}
    return {"order": row["order_id"], "item": item, "name": product_name(item), "product": new["product_id"]} | payment


def _two_coupons(b: Builder) -> Facts:
    row = own_order(b, *rules.COUPON_APPLICABLE)
    key, codes = row["order_id"], b.rng.sample([c["code"] for c in b.pools.world.all("coupons")], 2)
    seen = [b.peek(row["customer_id"], "check_coupon", code=code, order_id=key) for code in codes]
    if not any(s["applicable"] for s in seen):
        raise Skip("neither applies")
    saved = [float(s["discount"]) if s["applicable"] else 0.0 for s in seen]
    if saved[0] == saved[1]:
        raise Skip("equal")
    return {"order": key, "a": codes[0], "b": codes[1], "best": codes[saved.index(max(saved))]}


def _is_listed(facts: Facts) -> Facts:
    if facts["order"] not in [order["order_id"] for order in facts["listed"]["orders"]]:
        raise Skip("not among the newest orders")
    return {}


def _is_charged(facts: Facts) -> Facts:
    if float(facts["seen"]["difference"]) <= 0:
        raise Skip("nothing is charged")
    return {}


CANCEL = call("cancel_order", order_id="{order}", reason="{code}")
READ = call("get_order", order_id="{order}")
WHO = call("get_customer")
REFUND = Number("{seen[refund]}", "USD")
TOTAL = Number("{seen[total]}", "USD")
templates(
    "efc",
    "efc_writing",
    Template(
        "cancel_order", 1, "Cancel an order by its number.", a_cancellation(*rules.CANCELLABLE), CANCEL, REFUND,
        ask=("efc_writing/cancel_order", "efc_writing/refund"),
    ),
    Template(
        "cancel_by_item", 3, "Cancel the order that has an item; its number must be found first.", _the_only_open_order,
        (call("list_orders", into="listed"), READ, CANCEL),
        REFUND,
        read=_is_listed,
        ask=("efc_writing/cancel_by_item", "efc_writing/refund"),
    ),
    Template(
        "change_address", 2, "Send an order to another saved address.", _an_address,
        (WHO, call("change_address", order_id="{order}", address_id="{place[address_id]}")),
        Text("{place[street]}"),
        ask=("efc_writing/change_address", "efc_writing/street"),
    ),
    Template(
        "change_payment", 2, "Pay an order with another method.", _a_payment,
        (WHO, call("change_payment_method", order_id="{order}", payment_method_id="{payment[payment_method_id]}")),
        Number("{seen[charged]}", "USD"),
        ask=("efc_writing/change_payment", "efc_writing/charged"),
    ),
    Template(
        "return_item", 2, "Return an item of a delivered order.", an_item_to_return("unopened", "opened", "defective"),
        (READ, call("return_items", order_id="{order}", item_ids=["{item[item_id]}"], condition="{state}")),
        REFUND,
        ask=("efc_writing/return_item", "efc_writing/refund"),
    ),
    Template(
        "exchange_item", 3,
        "Exchange an item for another product; a difference is paid with a method that must be looked up.", _an_exchange,
        (READ, WHO, call(
            "exchange_item", order_id="{order}", item_id="{item[item_id]}", new_product_id="{product}",
            payment_method_id="{payment[payment_method_id]}",
        )),
        Number("{seen[difference]}", "USD"),
        read=_is_charged,
        ask=("efc_writing/exchange_item", "efc_writing/charged"),
    ),
    Template(
        "apply_coupon", 1, "Apply a coupon to an order.", an_order_and_a_coupon,
        call("apply_coupon", order_id="{order}", code="{code}"),
        TOTAL,
        ask=("efc_writing/apply_coupon", "efc_writing/new_total"),
    ),
    Template(
        "better_coupon", 3, "Apply the better of two coupons.", _two_coupons,
        (
            call("check_coupon", code="{a}", order_id="{order}"),
            call("check_coupon", code="{b}", order_id="{order}"),
            call("apply_coupon", order_id="{order}", code="{best}"),
        ),
        (Text("{best}"), TOTAL),
        ask=("efc_writing/better_coupon", "efc_writing/which_better"),
    ),
)  # fmt: skip
