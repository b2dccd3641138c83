"""Sources of cooperation chains: values that the store or the knowledge base knows."""

from typing import NamedTuple

from trainer.hima_ecom import rules
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.qa_products import fact, look_up
from trainer.hima_ecom.tasks.texts import table
from trainer.hima_ecom.tasks.wording import dates, rounded


class Value(NamedTuple):
    """A value that one part of a chain hands to the next."""

    text: str
    unit: str  # "" for a date
    what: str
    order_id: str = ""  # the order that it comes from, where the next step may need it


def order_total(b: Builder) -> Value:
    """Look up the total of an order."""
    row = b.pools.order(b.rng)
    b.customer(row["customer_id"])
    key = row["order_id"]
    efc = b.delegate("efc", f"What is the total of order {key}?", "First the order; the efc agent can look.")
    total = efc.call("get_order", "I read the order.", order_id=key)["total"]
    efc.answer(f"The total of order {key} is {total} USD.")
    b.expect_number(total, "USD")
    b.part(
        b.phrase("cooperation/order_total", order=key), f"The total of {key} is {total} USD.", f"{key} 的总金额是 {total} USD。"
    )
    return Value(total, "USD", f"the total of order {key}")


def product_price(b: Builder) -> Value:
    """Look up the list price of a product."""
    key = b.rng.choice(b.pools.products)["product_id"]
    efc = b.delegate("efc", f"What is the list price of product {key}?", "First the price; the efc agent can look.")
    price = efc.call("get_product", "I look at the product.", product_id=key)["price"]
    efc.answer(f"The list price of {key} is {price} USD.")
    b.expect_number(price, "USD")
    b.part(b.phrase("cooperation/product_price", product=key), f"{key} costs {price} USD.", f"{key} 的标价是 {price} USD。")
    return Value(price, "USD", f"the price of {key}")


def cancel_refund(b: Builder) -> Value:
    """Cancel an order; its refund is the value."""
    row = b.pools.order(b.rng, *rules.CANCELLABLE)
    b.customer(row["customer_id"])
    key, code = row["order_id"], b.rng.choice(list(table("efc_writing/reasons")))
    efc = b.delegate("efc", f"Cancel order {key}. Reason: {code}. What is refunded?", "First the order is cancelled, by efc.")
    refund = efc.call("cancel_order", "I cancel it.", order_id=key, reason=code)["refund"]
    efc.answer(f"Order {key} is cancelled; {refund} USD are refunded.")
    b.expect_number(refund, "USD")
    clause = b.phrase("cooperation/cancel_refund", order=key, why=table("efc_writing/reasons")[code][b.zh])
    b.part(clause, f"Order {key} is cancelled and {refund} USD come back.", f"订单 {key} 已取消，退款 {refund} USD。")
    return Value(refund, "USD", f"the refund of order {key}")


def orders_sum(b: Builder) -> Value:
    """Add the totals of two orders, by two agents."""
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
    b.part(
        b.phrase("cooperation/orders_sum", a=keys[0], b=keys[1]),
        f"Together they cost {total} USD.",
        f"两笔订单共 {total} USD。",
    )
    return Value(total, "USD", "the sum")


def weight(b: Builder) -> Value:
    """Look up the packed weight of a product."""
    name, row = fact(b, "weight")
    qa = b.delegate("qa", f"How heavy is the {name}?", "First the weight; the qa agent knows it.")
    grams = look_up(qa, "weight", name, row)
    qa.answer(row["answer"])
    b.expect_number(grams, "g", "0")
    b.part(b.phrase("cooperation/weight", name=name), f"The {name} weighs {grams} g.", f"{name} 重 {grams} g。")
    return Value(grams, "g", f"the weight of the {name}")


def delivered_on(b: Builder) -> Value:
    """Look up the day an order was delivered."""
    row = b.pools.order(b.rng, "delivered")
    b.customer(row["customer_id"])
    key = row["order_id"]
    efc = b.delegate("efc", f"When was order {key} delivered?", "First the delivery; the efc agent can look.")
    day = efc.call("get_order", "I read the order.", order_id=key)["delivered_on"]
    efc.answer(f"Order {key} was delivered on {day}.")
    b.expect_text(day, *dates(day))
    b.part(
        b.phrase("cooperation/delivered_on", order=key), f"Order {key} was delivered on {day}.", f"订单 {key} 于 {day} 送达。"
    )
    return Value(day, "", f"the delivery of order {key}", key)
