"""Where a chain of cooperating agents begins: a value that the store or the knowledge base knows."""

from typing import NamedTuple

from trainer.hima_ecom import rules
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.efc_wishes import WHY
from trainer.hima_ecom.tasks.phrases import Phrases, dates
from trainer.hima_ecom.tasks.qa_products import fact, knowledge_question, knowledge_value
from trainer.hima_ecom.tasks.wording import rounded


class Value(NamedTuple):
    """What a part of a chain hands on: as text, in its unit ("" for a date), and what it is."""

    text: str
    unit: str
    what: str
    order_id: str = ""  # that it comes from, where the next step may need it


TOTAL = Phrases(
    (
        "Look up the total of my order {order}.", "I need to know what order {order} cost.", "Start with the total of {order}.",
        "Tell me what I paid for order {order}.",
    ),
    ("First, the sum of purchase {order}.", "What did {order} come to?"),
    ("先查订单 {order} 的总金额。", "我想知道订单 {order} 花了多少钱。"),
    ("订单 {order} 的总价是多少？",),
    (
        "What does my purchase {order} come to?", "First tell me the sum of order {order}.",
        "The sum of the purchase {order}, first.", "What did my purchase {order} cost?",
    ),
)  # fmt: skip
PRICE = Phrases(
    (
        "Find the list price of product {product}.", "What does {product} cost without promotions?",
        "I am interested in {product}; look up its list price.",
        "Tell me the list price of {product}.",
    ),
    ("At what price is {product} listed?", "Begin with what {product} is listed at."),
    ("查一下商品 {product} 的标价。", "{product} 的标价是多少？"),
    ("先看 {product} 标价多少。",),
    (
        "{product} is listed at what price?", "Begin with the list price of {product}.", "What is {product} listed at?",
        "To begin: the price at which {product} is listed.",
    ),
)  # fmt: skip
CANCEL = Phrases(
    (
        "Cancel my order {order}, {why}, and tell me the refund.",
        "I want {order} cancelled because {why}. How much do I get back?",
        "{why}: cancel order {order} and note the refund.", "Please cancel {order} ({why}). What is refunded?",
    ),
    ("Get rid of order {order} since {why}, and say what comes back to me.", "Order {order} is off: {why}. State the refund."),
    ("取消订单 {order}，{why}，并告诉我退款金额。", "请取消 {order}（{why}），退多少钱？"),
    ("{order} 不要了，{why}，退款是多少？",),
    (
        "Get me rid of {order}, {why}, and state the refund.", "Since {why}, order {order} is off. What comes back?",
        "Order {order} can go, since {why}. Say what I get back.",
        "Call {order} off because {why}, and state what comes back to me.",
    ),
)  # fmt: skip
WEIGHT = Phrases(
    (
        "Find out how many grams the {name} weighs.", "What does the {name} weigh, packed?", "I need the weight of the {name}.",
        "Look up how heavy the {name} is.",
    ),
    ("How many grams is the {name}, boxed?", "To begin, the packed weight of the {name}."),
    ("查一下 {name} 有多少克。", "{name} 连包装多重？"),
    ("先告诉我 {name} 的重量。",),
    (
        "Boxed, how many grams does the {name} have?", "Begin with the packed weight of the {name}.",
        "The {name}, packed and boxed: how many grams?", "To begin, how heavy is the {name}?",
    ),
)  # fmt: skip
DELIVERED = Phrases(
    (
        "Find out when my order {order} was delivered.", "On which day did order {order} arrive?",
        "Look up the delivery date of {order}.",
        "I need the day on which {order} came.",
    ),
    ("When did {order} reach me?", "First the arrival date of {order}."),
    ("查一下订单 {order} 是哪天送达的。", "订单 {order} 什么时候到的？"),
    ("先看 {order} 的送达日期。",),
    (
        "What was the arrival date of order {order}?", "When did my order {order} reach its address?",
        "First, on which date did {order} reach me?", "The date of arrival of {order}, first.",
    ),
)  # fmt: skip
SUM = Phrases(
    (
        "Add up the totals of my orders {a} and {b}.", "What did orders {a} and {b} cost together?",
        "Tell me the sum of the totals of {a} and {b}.", "I need one figure for {a} plus {b}: their totals together.",
    ),
    ("Both {a} and {b}: how much in sum?", "Combine what I paid for {a} with what I paid for {b}."),
    ("把订单 {a} 和 {b} 的总额加起来。", "订单 {a} 与 {b} 一共花了多少？"),
    ("{a} 加 {b} 总共多少钱？",),
    (
        "How much did I pay for both {a} and {b}?", "Combine the totals of {a} and {b}.",
        "In sum, how much are {a} and {b}?", "What I paid for {a} and {b}, combined.",
    ),
)  # fmt: skip


def order_total(b: Builder) -> Value:
    """The total of an order."""
    row = b.pools.order(b.rng)
    b.customer(row["customer_id"])
    key = row["order_id"]
    efc = b.delegate("efc", f"What is the total of order {key}?", "First the order; the efc agent can look.")
    total = efc.call("get_order", "I read the order.", order_id=key)["total"]
    efc.answer(f"The total of order {key} is {total} USD.")
    b.expect_number(total, "USD")
    b.part(b.phrase(TOTAL, order=key), f"The total of {key} is {total} USD.", f"{key} 的总金额是 {total} USD。")
    return Value(total, "USD", f"the total of order {key}")


def product_price(b: Builder) -> Value:
    """The list price of a product."""
    key = b.rng.choice(b.pools.products)["product_id"]
    efc = b.delegate("efc", f"What is the list price of product {key}?", "First the price; the efc agent can look.")
    price = efc.call("get_product", "I look at the product.", product_id=key)["price"]
    efc.answer(f"The list price of {key} is {price} USD.")
    b.expect_number(price, "USD")
    b.part(b.phrase(PRICE, product=key), f"{key} costs {price} USD.", f"{key} 的标价是 {price} USD。")
    return Value(price, "USD", f"the price of {key}")


def cancel_refund(b: Builder) -> Value:
    """The refund of an order that is cancelled."""
    row = b.pools.order(b.rng, *rules.CANCELLABLE)
    b.customer(row["customer_id"])
    key, code = row["order_id"], b.rng.choice(list(WHY))
    efc = b.delegate("efc", f"Cancel order {key}. Reason: {code}. What is refunded?", "First the order is cancelled, by efc.")
    refund = efc.call("cancel_order", "I cancel it.", order_id=key, reason=code)["refund"]
    efc.answer(f"Order {key} is cancelled; {refund} USD are refunded.")
    b.expect_number(refund, "USD")
    clause = b.phrase(CANCEL, order=key, why=WHY[code][b.zh])
    b.part(clause, f"Order {key} is cancelled and {refund} USD come back.", f"订单 {key} 已取消，退款 {refund} USD。")
    return Value(refund, "USD", f"the refund of order {key}")


def orders_sum(b: Builder) -> Value:
    """The sum of the totals of two orders, by two agents."""
    first = b.pools.order(b.rng)
    others = [
        order["order_id"]
        for order in b.peek(first["customer_id"], "list_orders", limit=20)["orders"]
        if order["order_id"] != first["order_id"]
    ]
    if not others:
        raise Skip("one order only")
    b.customer(first["customer_id"])
    keys = (first["order_id"], b.rng.choice(others))
    efc = b.delegate("efc", f"What are the totals of the orders {keys[0]} and {keys[1]}?", "First both orders; efc can look.")
    totals = [efc.call("get_order", f"I read {key}.", order_id=key)["total"] for key in keys]
    efc.answer(f"The total of {keys[0]} is {totals[0]} USD, of {keys[1]} {totals[1]} USD.")
    math = b.delegate("math", f"Add {totals[0]} and {totals[1]}.", "Now the sum; math can add.")
    total = rounded(str(math.call("calculate", "I add them.", expression=f"{totals[0]} + {totals[1]}")["result"]), 2)
    math.answer(f"The sum is {total}.")
    b.expect_number(total, "USD")
    b.part(b.phrase(SUM, a=keys[0], b=keys[1]), f"Together they cost {total} USD.", f"两笔订单共 {total} USD。")
    return Value(total, "USD", "the sum")


def weight(b: Builder) -> Value:
    """The packed weight of a product."""
    name, row = fact(b, knowledge_question("weight"))
    qa = b.delegate("qa", f"How heavy is the {name}?", "First the weight; the qa agent knows it.")
    grams = str(knowledge_value(qa, "weight", name, row))
    qa.answer(row["answer"])
    b.expect_number(grams, "g", "0")
    b.part(b.phrase(WEIGHT, name=name), f"The {name} weighs {grams} g.", f"{name} 重 {grams} g。")
    return Value(grams, "g", f"the weight of the {name}")


def delivered_on(b: Builder) -> Value:
    """The day an order was delivered."""
    row = b.pools.order(b.rng, "delivered")
    b.customer(row["customer_id"])
    key = row["order_id"]
    efc = b.delegate("efc", f"When was order {key} delivered?", "First the delivery; the efc agent can look.")
    day = efc.call("get_order", "I read the order.", order_id=key)["delivered_on"]
    efc.answer(f"Order {key} was delivered on {day}.")
    b.expect_text(day, *dates(day))
    b.part(b.phrase(DELIVERED, order=key), f"Order {key} was delivered on {day}.", f"订单 {key} 于 {day} 送达。")
    return Value(day, "", f"the delivery of order {key}", key)
