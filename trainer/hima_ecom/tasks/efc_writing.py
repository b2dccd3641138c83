"""EFC, writing: cancel, return, exchange, change, apply. The state that is left is checked."""

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.efc_orders import item_named
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.phrases import Phrases
from trainer.hima_ecom.tasks.qa_products import product_name

CANCEL = Phrases(
    (
        "Please cancel my order {order}; {why}.", "I want to cancel {order} because {why}.", "Cancel {order}, {why}.",
        "{why}, so order {order} can be cancelled.",
    ),
    ("Stop order {order} before it goes out: {why}.", "Order {order} must not be sent, as {why}."),
    ("请取消订单 {order}，{why}。", "我要取消 {order}，因为{why}。"),
    ("{order} 不要发货了，{why}。",),
)  # fmt: skip
WHY = {
    "no_longer_needed": ("I no longer need it", "我不需要了"),
    "ordered_by_mistake": ("I ordered it by mistake", "我下错单了"),
    "found_cheaper": ("I found it cheaper elsewhere", "我在别处找到更便宜的"),
}
CANCEL_ITEM = Phrases(
    (
        "I have an order with the {name} that has not left yet. Cancel it; {why}.",
        "Cancel the order that contains the {name}: {why}.",
        "Please find the order of the {name} and cancel it, as {why}.", "The order with the {name} is to be cancelled, {why}.",
    ),
    ("Somewhere among my orders is the {name}. Call that order off; {why}.",
     "I changed my mind about the {name}: {why}. Drop that order."),
    ("我有一笔含 {name} 的订单，请取消，{why}。", "请找到买了 {name} 的订单并取消，{why}。"),
    ("含有 {name} 的那笔订单不要了，{why}。",),
)  # fmt: skip
MOVE = Phrases(
    (
        "Send order {order} to my {label} address instead.", "Please change the address of {order} to {label}.",
        "Order {order} should go to my {label} address.", "I will be at {label}; deliver {order} there, please.",
    ),
    ("Redirect {order} to where I am saved as {label}.", "{order}: ship it to the place called {label} in my account."),
    ("把订单 {order} 改寄到我的 {label} 地址。", "请将 {order} 的收货地址换成 {label}。"),
    ("{order} 请送到我保存的 {label} 地址。",),
)  # fmt: skip
PAY = Phrases(
    (
        "Pay order {order} with my {kind} instead.", "Please change the payment of {order} to my {kind}.",
        "I want {order} to be charged to my {kind}.", "Switch order {order} over to the {kind}.",
    ),
    ("Take the money for {order} from my {kind} rather than from what I chose.",
     "{order} on the {kind}, please, not the old method."),
    ("订单 {order} 改用我的 {kind} 支付。", "请把 {order} 的付款方式换成 {kind}。"),
    ("{order} 用 {kind} 付款吧。",),
)  # fmt: skip
KINDS = {"credit_card": "credit card", "paypal": "PayPal account", "gift_card": "gift card"}
RETURN = Phrases(
    (
        "I want to return the {name} from order {order}. It is {condition}.",
        "Please take back the {name} of {order}, {condition}.",
        "Return the {condition} {name} that came with order {order}.", "The {name} in {order} goes back; it is {condition}.",
    ),
    ("From {order} I do not want to keep the {name} ({condition}).",
     "How about sending back my {condition} {name}, bought with {order}? Do it."),
    ("我想退掉订单 {order} 里的 {name}，{condition}。", "请办理退货：{order} 中的 {name}，状态：{condition}。"),
    ("{order} 的 {name} 我要退，{condition}。",),
)  # fmt: skip
CONDITIONS = {"unopened": "未拆封", "opened": "已拆封", "defective": "有质量问题"}
EXCHANGE = Phrases(
    (
        "Exchange the {name} from order {order} for {product}. Any difference goes on {method}.",
        "I would like {product} instead of the {name} in {order}; charge {method} if it costs more.",
        "Please swap the {name} ({order}) for product {product}, difference to {method}.",
        "In order {order}, replace the {name} by {product}. Use {method} for the difference.",
    ),
    (
        "The {name} of {order} does not suit me; give me {product} for it and settle a surplus with {method}.",
        "Trade my {name} ({order}) against {product}; {method} pays what is missing.",
    ),
    ("把订单 {order} 的 {name} 换成 {product}，差价用 {method} 支付。",
     "我想用 {product} 换掉 {order} 里的 {name}，差价走 {method}。"),
    ("{order} 的 {name} 想换 {product}，多出的钱从 {method} 扣。",),
)  # fmt: skip
APPLY = Phrases(
    (
        "Apply coupon {code} to my order {order}.", "Please use {code} on order {order}.",
        "I forgot to enter {code} for {order}. Add it.",
        "Order {order} should get the coupon {code}.",
    ),
    ("Redeem {code} against {order}.", "There is a voucher, {code}. Put it to work on {order}."),
    ("请把优惠券 {code} 用在订单 {order} 上。", "订单 {order} 使用 {code}。"),
    ("我忘了用 {code}，请加到 {order}。",),
)  # fmt: skip
BETTER = Phrases(
    (
        "Which of the coupons {a} and {b} saves more on order {order}? Apply that one.",
        "Use the better of {a} and {b} on {order}.",
        "I have two codes, {a} and {b}. Put the one with the larger discount on order {order}.",
        "Compare {a} with {b} for {order} and apply the one that takes off more.",
    ),
    ("Only one of {a} and {b} can go on {order}: choose what is cheapest for me and do it.",
     "{order}: redeem {a} or {b}, whichever gives more."),
    ("{a} 和 {b} 哪张用在 {order} 上更划算？请直接使用。", "请在 {a} 与 {b} 中选优惠更大的用于订单 {order}。"),
    ("订单 {order} 只能用一张券，{a} 和 {b} 选省得多的用上。",),
)  # fmt: skip


def _own(b: Builder, *statuses: str) -> Row:
    row = b.pools.order(b.rng, *statuses)
    b.customer(row["customer_id"])
    return row


def _why(b: Builder) -> tuple[str, str]:
    """(the reason's code, how the customer says it)."""
    code = b.rng.choice(list(WHY))
    return code, WHY[code][b.zh]


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
    b.ask(b.phrase(CANCEL, order=key, why=said))
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
    b.ask(b.phrase(CANCEL_ITEM, name=name, why=said))
    efc = b.delegate("efc", f"Find the customer's {order['status']} order with the {name} and cancel it. Reason: {code}.")
    listed = efc.call("list_orders", f"I look for {order['status']} orders.", status=order["status"])["orders"]
    key = listed[0]["order_id"]
    efc.call("get_order", "I check that it has the item.", order_id=key)
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
    b.ask(b.phrase(MOVE, order=key, label=place["label"]))
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
    b.ask(b.phrase(PAY, order=key, kind=kind))
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
    condition = b.rng.choice(list(CONDITIONS))
    name, said = product_name(item), CONDITIONS[condition] if b.zh else condition
    b.ask(b.phrase(RETURN, order=key, name=name, condition=said))
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
    b.ask(b.phrase(EXCHANGE, order=key, name=name, product=new["product_id"], method=f"my {kind}" if not b.zh else kind))
    efc = b.delegate(
        "efc", f"Exchange the {name} of order {key} for {new['product_id']}; the customer's {kind} pays a difference."
    )
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
    efc.answer(f"The {name} is exchanged for {new['product_id']}; the difference is {done['difference']} USD.")
    b.expect_number(done["difference"], "USD")
    b.finish(
        f"Done: {new['product_id']} replaces the {name}; the difference is {done['difference']} USD.",
        f"已将 {name} 换成 {new['product_id']}，差价 {done['difference']} USD。",
    )


@family("efc", 1)
def apply_coupon(b: Builder) -> None:
    """Apply a coupon to an order."""
    row = _own(b, *rules.COUPON_APPLICABLE)
    key, code = row["order_id"], b.rng.choice(b.pools.world.all("coupons"))["code"]
    b.ask(b.phrase(APPLY, order=key, code=code))
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
    b.ask(b.phrase(BETTER, a=codes[0], b=codes[1], order=key))
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
