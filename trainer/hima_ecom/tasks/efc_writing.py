"""EFC, writing: cancel, return, exchange, change, apply. The state that is left is checked."""

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.efc_orders import item_named
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.qa_products import product_name
from trainer.hima_ecom.tasks.texts import table, translations

KINDS = {"credit_card": "credit card", "paypal": "PayPal account", "gift_card": "gift card"}


def _own(b: Builder, *statuses: str) -> Row:
    row = b.pools.order(b.rng, *statuses)
    b.customer(row["customer_id"])
    return row


def _why(b: Builder) -> tuple[str, str]:
    """(the reason's code, how the customer says it)."""
    reasons = table("efc_writing/reasons")
    code = b.rng.choice(list(reasons))
    return code, reasons[code][b.zh]


def _cancelled(b: Builder, done: Row) -> None:
    b.expect_number(done["refund"], "USD")
    b.finish(
        f"Order {done['order_id']} is cancelled; {done['refund']} USD go back to {done['refunded_to']}.",
        f"订单 {done['order_id']} 已取消，{done['refund']} USD 将退回 {done['refunded_to']}。",
    )


@family("efc", 1)
def cancel_order(b: Builder) -> None:
    """Cancel an order by its number."""
    row = _own(b, *rules.CANCELLABLE)
    key, (code, said) = row["order_id"], _why(b)
    b.ask(b.join(b.phrase("efc_writing/cancel_order", order=key, why=said), b.phrase("efc_writing/refund")))
    efc = b.delegate("efc", f"Cancel order {key}. Reason: {code}.", "The efc agent can cancel orders.")
    done = efc.call("cancel_order", "I cancel it.", order_id=key, reason=code)
    efc.answer(f"Order {key} is cancelled. {done['refund']} USD are refunded to {done['refunded_to']}.")
    _cancelled(b, done)


@family("efc", 3)
def cancel_by_item(b: Builder) -> None:
    """Cancel the order that has an item; its number must be found first."""
    row = _own(b, *rules.CANCELLABLE)
    open_orders = [
        other["order_id"]
        for status in rules.CANCELLABLE
        for other in b.peek(row["customer_id"], "list_orders", status=status)["orders"]
    ]
    if open_orders != [row["order_id"]]:
        raise Skip("more than one open order: which call finds it first is luck")
    order = b.peek(row["customer_id"], "get_order", order_id=row["order_id"])
    name, (code, said) = product_name(item_named(b, order)), _why(b)
    b.ask(b.join(b.phrase("efc_writing/cancel_by_item", name=name, why=said), b.phrase("efc_writing/refund")))
    efc = b.delegate("efc", f"Find the customer's open order with the {name} and cancel it. Reason: {code}.")
    listed = efc.call("list_orders", "I look which orders there are.")["orders"]
    key = next((seen["order_id"] for seen in listed if seen["status"] in rules.CANCELLABLE), None)
    if key is None:
        raise Skip("not among the newest orders")
    efc.call("get_order", f"{key} has not left yet; I check that it has the item.", order_id=key)
    done = efc.call("cancel_order", "It has; I cancel it.", order_id=key, reason=code)
    efc.answer(f"Order {key} with the {name} is cancelled. {done['refund']} USD are refunded to {done['refunded_to']}.")
    _cancelled(b, done)


@family("efc", 2)
def change_address(b: Builder) -> None:
    """Send an order to another saved address."""
    row = _own(b, *rules.ADDRESS_CHANGEABLE)
    places = b.peek(row["customer_id"], "get_customer")["addresses"]
    others = [place for place in places if place["address_id"] != row["address_id"]]
    if not others:
        raise Skip("one address only")
    place, key = b.rng.choice(others), row["order_id"]
    b.ask(b.join(b.phrase("efc_writing/change_address", order=key, label=place["label"]), b.phrase("efc_writing/street")))
    efc = b.delegate("efc", f"Change the address of order {key} to the customer's {place['label']} address.")
    efc.call("get_customer", "I look up the saved addresses.")
    efc.call("change_address", f"{place['address_id']} is {place['label']}.", order_id=key, address_id=place["address_id"])
    efc.answer(f"Order {key} now goes to {place['street']}, {place['city']}.")
    b.expect_text(place["street"])
    b.finish(
        f"Order {key} now goes to {place['street']}, {place['city']}.",
        f"订单 {key} 现在寄往 {place['street']}, {place['city']}。",
    )


@family("efc", 2)
def change_payment(b: Builder) -> None:
    """Pay an order with another method."""
    row = _own(b, *rules.PAYMENT_CHANGEABLE)
    methods = b.peek(row["customer_id"], "get_customer")["payment_methods"]
    method = b.rng.choice([m for m in methods if m["payment_method_id"] != row["payment_method_id"]])
    key, kind = row["order_id"], KINDS[method["kind"]]
    b.ask(b.join(b.phrase("efc_writing/change_payment", order=key, kind=kind), b.phrase("efc_writing/charged")))
    efc = b.delegate("efc", f"Change the payment method of order {key} to the customer's {kind}.")
    efc.call("get_customer", "I look up the payment methods.")
    identity = method["payment_method_id"]
    done = efc.call("change_payment_method", f"{identity} is the {kind}.", order_id=key, payment_method_id=identity)
    efc.answer(f"Order {key} is paid with {method['label']}; {done['charged']} USD were charged.")
    b.expect_number(done["charged"], "USD")
    b.finish(
        f"Order {key} is now paid with {method['label']}: {done['charged']} USD.",
        f"订单 {key} 现在用 {method['label']} 支付：{done['charged']} USD。",
    )


@family("efc", 2)
def return_item(b: Builder) -> None:
    """Return an item of a delivered order."""
    row = _own(b, "delivered")
    key = row["order_id"]
    item = item_named(b, b.peek(row["customer_id"], "get_order", order_id=key))
    conditions = translations("efc_writing/conditions")
    condition = b.rng.choice(list(conditions))
    name, said = product_name(item), conditions[condition] if b.zh else condition
    b.ask(b.join(b.phrase("efc_writing/return_item", order=key, name=name, condition=said), b.phrase("efc_writing/refund")))
    efc = b.delegate("efc", f"Return the {name} of order {key}. Condition: {condition}.", "The efc agent can take returns.")
    efc.call("get_order", "I look for the item's id.", order_id=key)
    arguments = {"order_id": key, "item_ids": [item["item_id"]], "condition": condition}
    done = efc.call("return_items", f"It is {item['item_id']}.", **arguments)
    efc.answer(f"The {name} is returned; the refund is {done['refund']} USD.")
    b.expect_number(done["refund"], "USD")
    b.finish(
        f"The return of the {name} is set up; you get {done['refund']} USD.", f"{name} 已退货，退款 {done['refund']} USD。"
    )


@family("efc", 3)
def exchange_item(b: Builder) -> None:
    """Exchange an item for another product; a difference is paid with a method that must be looked up."""
    row = _own(b, "delivered")
    key = row["order_id"]
    item = item_named(b, b.peek(row["customer_id"], "get_order", order_id=key))
    products = b.pools.world.products
    old = products[item["product_id"]].row
    new = b.rng.choice([p.row for p in products.values() if p.row["family_id"] == old["family_id"] and p.row is not old])
    methods = b.peek(row["customer_id"], "get_customer")["payment_methods"]
    method = b.rng.choice([m for m in methods if m["kind"] != "gift_card"])
    kind, name = KINDS[method["kind"]], product_name(item)
    wanted = b.phrase(
        "efc_writing/exchange_item", order=key, name=name, product=new["product_id"], method=f"my {kind}" if not b.zh else kind
    )
    task = f"Exchange the {name} of order {key} for {new['product_id']}; the customer's {kind} pays a difference."
    b.ask(b.join(wanted, b.phrase("efc_writing/charged")))
    efc = b.delegate("efc", task)
    efc.call("get_order", "I look for the item's id.", order_id=key)
    efc.call("get_customer", "I look for the payment method's id.")
    identity = method["payment_method_id"]
    arguments = {
        "order_id": key,
        "item_id": item["item_id"],
        "new_product_id": new["product_id"],
        "payment_method_id": identity,
    }
    done = efc.call("exchange_item", f"The item is {item['item_id']}, the {kind} is {identity}.", **arguments)
    if float(done["difference"]) <= 0:
        raise Skip("nothing is charged")
    efc.answer(f"The {name} is exchanged for {new['product_id']}; {done['difference']} USD are charged.")
    b.expect_number(done["difference"], "USD")
    b.finish(
        f"Done: {new['product_id']} replaces the {name}; {done['difference']} USD are charged.",
        f"已将 {name} 换成 {new['product_id']}，扣款 {done['difference']} USD。",
    )


@family("efc", 1)
def apply_coupon(b: Builder) -> None:
    """Apply a coupon to an order."""
    row = _own(b, *rules.COUPON_APPLICABLE)
    key, code = row["order_id"], b.rng.choice(b.pools.world.all("coupons"))["code"]
    b.ask(b.join(b.phrase("efc_writing/apply_coupon", order=key, code=code), b.phrase("efc_writing/new_total")))
    efc = b.delegate("efc", f"Apply coupon {code} to order {key}.", "The efc agent can apply coupons.")
    done = efc.call("apply_coupon", "I apply it.", order_id=key, code=code)
    efc.answer(f"Coupon {code} takes {done['discount']} USD off order {key}; the total is {done['total']} USD.")
    b.expect_number(done["total"], "USD")
    b.finish(f"With {code} the total of {key} is {done['total']} USD.", f"使用 {code} 后，{key} 的总额是 {done['total']} USD。")


@family("efc", 3)
def better_coupon(b: Builder) -> None:
    """Apply the better of two coupons."""
    row = _own(b, *rules.COUPON_APPLICABLE)
    key, codes = row["order_id"], b.rng.sample([c["code"] for c in b.pools.world.all("coupons")], 2)
    seen = [b.peek(row["customer_id"], "check_coupon", code=code, order_id=key) for code in codes]
    if not any(s["applicable"] for s in seen):
        raise Skip("neither applies")
    saved = [float(s["discount"]) if s["applicable"] else 0.0 for s in seen]
    if saved[0] == saved[1]:
        raise Skip("equal")
    best = codes[saved.index(max(saved))]
    b.ask(
        b.join(b.phrase("efc_writing/better_coupon", a=codes[0], b=codes[1], order=key), b.phrase("efc_writing/which_better"))
    )
    efc = b.delegate("efc", f"Apply the better of the coupons {codes[0]} and {codes[1]} to order {key}.")
    for code in codes:
        efc.call("check_coupon", f"I check {code}.", code=code, order_id=key)
    done = efc.call("apply_coupon", f"{best} takes off more.", order_id=key, code=best)
    efc.answer(f"Coupon {best} is better: it takes {done['discount']} USD off. The total of {key} is {done['total']} USD.")
    b.expect_text(best)
    b.expect_number(done["total"], "USD")
    b.finish(
        f"{best} saves more; the total of {key} is now {done['total']} USD.",
        f"{best} 更划算，{key} 的总额现在是 {done['total']} USD。",
    )
