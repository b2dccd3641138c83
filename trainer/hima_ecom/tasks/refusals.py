"""What the store must refuse: the right answer says so and gives the reason, and nothing is changed."""

from trainer.hima_ecom import rules
from trainer.hima_ecom.catalog import BRANDS
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.efc_writing import a_cancellation, an_item_to_return, an_order_and_a_coupon
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.pools import department, held_out
from trainer.hima_ecom.tasks.qa_policies import policy
from trainer.hima_ecom.tasks.qa_products import product_name
from trainer.hima_ecom.tasks.template import Facts, Refusal, Template, call, refused, templates
from trainer.hima_ecom.tasks.texts import table, word_list
from trainer.hima_ecom.tasks.wording import chinese


def reasons(*names: str) -> tuple[str, ...]:
    """Return the words of the named groups of reasons."""
    return tuple(text for name in names for text in word_list(f"reasons/{name}"))


def _an_order_that_left(b: Builder) -> Facts:
    facts = a_cancellation("shipped", "delivered")(b)
    row = b.pools.world.row("orders", facts["order"])
    assert row is not None
    return facts | {"status": row["status"], "chinese": chinese(row["status"])}


def _an_item(b: Builder) -> Facts:
    facts = an_item_to_return("unopened", "opened")(b)
    return facts | {"category": department(b.pools.world.products[facts["item"]["product_id"]].row)}


def _an_unknown_product(b: Builder) -> Facts:
    known = product_name(b.rng.choice(b.pools.products))
    name = f"{b.rng.choice(word_list('refusals/invented'))} {known.split(' ', 1)[1]}"
    if held_out(name) != b.pools.test:
        raise Skip("a name of the other split")
    return {"name": name}


def _has_left(facts: Facts) -> Facts:
    return {"words": [facts["status"], facts["chinese"]], "reject": reasons("left", "too_late", "coupon", "which_one")}


def _not_returned(facts: Facts) -> Facts:
    words = {"within": "refusals/too_late", "only unopened": "refusals/unopened"}
    sign = next((sign for sign in words if sign in facts["reason"]), "never")
    en, zh = (text.format(**facts) for text in table("refusals/return_refused")[sign])
    told = word_list(words[sign]) if sign in words else (facts["category"],)
    return {"en": en, "zh": zh, "words": told, "reject": (*reasons("coupon", "which_one"), "shipped", "已发货")}


def _not_applied(facts: Facts) -> Facts:
    others = reasons("coupon", "too_late", "which_one", "left")
    reject = [text for text in others if text not in ("coupon", "优惠券", "not valid")]
    for sign, (en, zh) in table("refusals/coupon_refused").items():
        if sign in facts["reason"]:
            return {"en": en, "zh": zh, "words": [en, sign, zh], "reject": reject}
    raise Skip(facts["reason"])


def _not_found(facts: Facts) -> Facts:
    if any(facts["name"] in document["title"] for document in facts["seen"]["documents"]):
        raise Skip("it exists")
    return {"words": reasons("not_known"), "reject": reasons("no_return")}


REFUSED = Refusal("{words}", reject="{reject}")
templates(
    "efc",
    "refusals",
    Template(
        "cancel_too_late", 1, "Cancelling an order that has left.", _an_order_that_left,
        refused("cancel_order", order_id="{order}", reason="{code}"),
        REFUSED,
        read=_has_left,
        ask=("efc_writing/cancel_order", "efc_writing/refund"),
        impossible=True,
    ),
    Template(
        "return_refused", 2, "Returning what may not come back: too late, opened, or of a category that never may.", _an_item,
        (
            call("get_order", order_id="{order}"),
            refused("return_items", order_id="{order}", item_ids=["{item[item_id]}"], condition="{state}"),
        ),
        REFUSED,
        read=_not_returned,
        ask=("efc_writing/return_item", "efc_writing/refund"),
        impossible=True,
    ),
    Template(
        "coupon_refused", 1, "Applying a coupon that is over, not yet valid, below its minimum, or for other things.",
        an_order_and_a_coupon,
        refused("apply_coupon", order_id="{order}", code="{code}"),
        REFUSED,
        read=_not_applied,
        ask=("efc_writing/apply_coupon", "efc_writing/new_total"),
        impossible=True,
    ),
)  # fmt: skip
templates(
    "qa",
    "refusals",
    Template(
        "unknown_product", 1, "A question about a product that the store does not have.", _an_unknown_product,
        call("search_knowledge", query="{name} warranty"),
        REFUSED,
        read=_not_found,
        impossible=True,
    ),
)  # fmt: skip


@family("efc", 2, 'Cancelling "my order" where several could be meant: the customer must say which.', impossible=True)
def which_order(b: Builder) -> None:
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


@family("qa", 1, "The return period of a department whose items never come back.", impossible=True)
def never_returned(b: Builder) -> None:
    names = [rules.department(brand, category) for category in rules.NEVER_RETURNED for brand in BRANDS]
    name = b.rng.choice([name for name in names if held_out(name) == b.pools.test])
    b.ask(b.phrase("qa_policies/return_period", category=name))
    qa, _ = policy(b, f"return period {name}", f"Return period: {name}", f"How many days are there to return {name} items?")
    qa.answer(f"{name} items can not be returned.", "The policy allows no returns.")
    b.expect_refusal(*reasons("no_return"), reject=reasons("not_known"))
    b.finish(
        f"I am sorry, {name} items can not be returned.", f"抱歉，{name} 类商品不能退货。", "There is no period; I say so."
    )
