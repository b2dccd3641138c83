"""What the store must refuse: the right answer says so and gives the reason, and nothing is changed."""

from trainer.hima_ecom import rules
from trainer.hima_ecom.catalog import BRANDS
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.efc_orders import item_named
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.pools import department, held_out
from trainer.hima_ecom.tasks.qa_policies import policy
from trainer.hima_ecom.tasks.qa_products import product_name
from trainer.hima_ecom.tasks.texts import table, translations, word_list
from trainer.hima_ecom.tasks.wording import chinese


def reasons(*names: str) -> tuple[str, ...]:
    """The words of the named groups of reasons."""
    return tuple(text for name in names for text in word_list(f"reasons/{name}"))


def refuse(b: Builder, expert: Expert, reason: str, en: str, zh: str, *reasons: str, reject: tuple[str, ...]) -> None:
    """The sub-agent reports the reason, the master refuses."""
    expert.answer(f"It can not be done: {reason}.", "The store's rules refuse it.")
    b.expect_refusal(*reasons, reject=reject)
    b.finish(f"I am sorry, I cannot do that: {en}.", f"抱歉，无法办理：{zh}。", "It was refused; I say why.")


@family("efc", 1, impossible=True)
def cancel_too_late(b: Builder) -> None:
    """Cancelling an order that has left."""
    row = b.pools.order(b.rng, "shipped", "delivered")
    b.customer(row["customer_id"])
    key, code = row["order_id"], b.rng.choice(list(table("efc_writing/reasons")))
    why = table("efc_writing/reasons")[code][b.zh]
    b.ask(b.join(b.phrase("efc_writing/cancel_order", order=key, why=why), b.phrase("efc_writing/refund")))
    efc = b.delegate("efc", f"Cancel order {key}. Reason: {code}.", "The efc agent can cancel orders.")
    reason = efc.refused("cancel_order", "I cancel it.", order_id=key, reason=code)
    status = row["status"]
    told, reject = (status, chinese(status)), reasons("left", "too_late", "coupon", "which_one")
    refuse(b, efc, reason, f"order {key} is already {status}", f"订单 {key} {chinese(status)}", *told, reject=reject)


@family("efc", 2, impossible=True)
def return_refused(b: Builder) -> None:
    """Returning what may not come back: too late, opened, or of a category that never may."""
    row = b.pools.order(b.rng, "delivered")
    b.customer(row["customer_id"])
    key = row["order_id"]
    item = item_named(b, b.peek(row["customer_id"], "get_order", order_id=key))
    condition = b.rng.choice(("unopened", "opened"))
    name, said = product_name(item), translations("efc_writing/conditions")[condition] if b.zh else condition
    b.ask(b.join(b.phrase("efc_writing/return_item", order=key, name=name, condition=said), b.phrase("efc_writing/refund")))
    efc = b.delegate("efc", f"Return the {name} of order {key}. Condition: {condition}.", "The efc agent can take returns.")
    efc.call("get_order", "I look for the item's id.", order_id=key)
    arguments = {"order_id": key, "item_ids": [item["item_id"]], "condition": condition}
    reason = efc.refused("return_items", f"It is {item['item_id']}.", **arguments)
    category = department(b.pools.world.products[item["product_id"]].row)
    said_why: tuple[str, ...]
    if "within" in reason:
        en, zh, said_why = (
            f"the return period of {category} is over",
            f"{category} 的退货期已过",
            ("within", "period", "days", "退货期"),
        )
    elif "only unopened" in reason:
        en, zh, said_why = (
            f"{category} items must be unopened",
            f"{category} 类商品必须未拆封",
            ("unopened", "opened", "未拆封"),
        )
    else:
        en, zh, said_why = f"{category} items can not be returned", f"{category} 类商品不能退货", (category,)
    refuse(b, efc, reason, en, zh, *said_why, reject=(*reasons("coupon", "which_one"), "shipped", "已发货"))


@family("efc", 1, impossible=True)
def coupon_refused(b: Builder) -> None:
    """Applying a coupon that is over, not yet valid, below its minimum, or for other things."""
    row = b.pools.order(b.rng, *rules.COUPON_APPLICABLE)
    b.customer(row["customer_id"])
    key, code = row["order_id"], b.rng.choice(b.pools.world.all("coupons"))["code"]
    b.ask(b.join(b.phrase("efc_writing/apply_coupon", order=key, code=code), b.phrase("efc_writing/new_total")))
    efc = b.delegate("efc", f"Apply coupon {code} to order {key}.", "The efc agent can apply coupons.")
    reason = efc.refused("apply_coupon", "I apply it.", order_id=key, code=code)
    why = (
        ("expired", "expired", "已过期"),
        ("valid from", "not valid yet", "尚未生效"),
        ("at least", "its minimum is not reached", "未达到最低金额"),
        ("already has", "the order already has a coupon", "订单已使用优惠券"),
        ("already used", "it was already used", "已经使用过"),
        ("the order has none", "it is for other items", "不适用于这些商品"),
    )
    for sign, en, zh in why:
        if sign in reason:
            others = tuple(
                text
                for text in reasons("coupon", "too_late", "which_one", "left")
                if text not in ("coupon", "优惠券", "not valid")
            )
            refuse(b, efc, reason, f"coupon {code}: {en}", f"优惠券 {code} {zh}", en, sign, zh, reject=others)
            return
    raise Skip(reason)


@family("efc", 2, impossible=True)
def which_order(b: Builder) -> None:
    """Cancelling "my order" where several could be meant: the customer must say which."""
    customer = b.rng.choice(b.pools.customers)
    b.email, b.customer_id = customer["email"], None
    hello = b.phrase("refusals/hello", name=customer["first_name"], email=b.email)
    b.query = b.phrase("refusals/which_order", hello=hello)
    efc = b.delegate(
        "efc", "Cancel the customer's order, if it is clear which.", "No number is given; efc can list the orders."
    )
    listed = efc.call("list_orders", "I look which orders there are.")["orders"]
    open_orders = [order["order_id"] for order in listed if order["status"] in rules.CANCELLABLE]
    if len(open_orders) < 2:
        raise Skip("clear enough")
    both = ", ".join(open_orders)
    efc.answer(
        f"More than one order can be cancelled: {both}. The customer must say which.", "It is not clear which one is meant."
    )
    b.expect_refusal(*reasons("which_one"), reject=(*reasons("left", "too_late"), "opened", "days", *reasons("coupon")))
    b.finish(
        f"I cannot tell which order you mean. Please tell me which one to cancel: {both}.",
        f"无法确定是哪一笔订单，请告诉我要取消哪个：{both}。",
        "I must ask.",
    )


@family("qa", 1, impossible=True)
def unknown_product(b: Builder) -> None:
    """A question about a product that the store does not have."""
    product = b.rng.choice(b.pools.products)
    name = f"{b.rng.choice(word_list('refusals/invented'))} {product_name(product).split(' ', 1)[1]}"
    if held_out(name) != b.pools.test:
        raise Skip("a name of the other split")
    b.ask(b.phrase("refusals/unknown_product", name=name))
    qa = b.delegate("qa", f"How long is the warranty on the {name}?", "A question about a product; the qa agent knows.")
    found = qa.call("search_knowledge", "I search the knowledge base.", query=f"{name} warranty")["documents"]
    if any(name in document["title"] for document in found):
        raise Skip("it exists")
    qa.answer(f"There is no information about the {name}.", "No document is about this product.")
    b.expect_refusal(*reasons("not_known"), reject=reasons("no_return"))
    b.finish(
        f"I am sorry, I have no information about the {name}.",
        f"抱歉，没有找到 {name} 的信息。",
        "Nothing was found; I say so.",
    )


@family("qa", 1, impossible=True)
def never_returned(b: Builder) -> None:
    """The return period of a department whose items never come back."""
    names = [rules.department(brand, category) for category in rules.NEVER_RETURNED for brand in BRANDS]
    name = b.rng.choice([name for name in names if held_out(name) == b.pools.test])
    b.ask(b.phrase("qa_policies/return_period", category=name))
    qa, _ = policy(b, f"return period {name}", f"Return period: {name}", f"How many days are there to return {name} items?")
    qa.answer(f"{name} items can not be returned.", "The policy allows no returns.")
    b.expect_refusal(*reasons("no_return"), reject=reasons("not_known"))
    b.finish(
        f"I am sorry, {name} items can not be returned.", f"抱歉，{name} 类商品不能退货。", "There is no period; I say so."
    )
