"""EFC, reading: what a customer asks about their orders and parcels."""

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.names import CARRIERS
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.qa_products import product_name
from trainer.hima_ecom.tasks.wording import chinese, dates

STATUSES = ("pending", "processing", "shipped", "delivered", "cancelled")


def named(b: Builder, customer_id: str) -> str:
    """A sentence that says who asks."""
    row = b.pools.world.row("customers", customer_id)
    assert row is not None
    return b.phrase("efc_orders/named", first=row["first_name"], last=row["last_name"], customer=customer_id)


def _order(b: Builder, ask: str, task: str, *statuses: str, more: str | None = None) -> tuple[Expert, Row]:
    """A question about one order by its number: (the expert, the order as it sees it)."""
    row = b.pools.order(b.rng, *statuses)
    b.customer(row["customer_id"])
    key = row["order_id"]
    b.ask(b.phrase(ask, order=key) if more is None else b.join(b.phrase(ask, order=key), b.phrase(more)))
    efc = b.delegate("efc", task.format(order=key), "A question about an order; the efc agent can look.")
    return efc, efc.call("get_order", "I read the order.", order_id=key)


@family("efc", 1)
def order_status(b: Builder) -> None:
    """The status of an order, and its total."""
    efc, order = _order(
        b, "efc_orders/order_status", "What is the status of order {order}, and what is its total?", more="efc_orders/its_total"
    )
    key, status, total = order["order_id"], order["status"], order["total"]
    efc.answer(f"Order {key} is {status}; its total is {total} USD.")
    b.expect_text(status, reject=tuple(other for other in STATUSES if other != status))
    b.expect_number(total, "USD")
    b.finish(f"Your order {key} is {status}; its total is {total} USD.", f"订单 {key} {chinese(status)}，总额 {total} USD。")


@family("efc", 1)
def order_total(b: Builder) -> None:
    """The total of an order."""
    efc, order = _order(b, "efc_orders/order_total", "What is the total of order {order}?")
    key, total = order["order_id"], order["total"]
    efc.answer(f"The total of order {key} is {total} USD.")
    b.expect_number(total, "USD")
    b.finish(f"The total of your order {key} is {total} USD.", f"订单 {key} 的总金额是 {total} USD。")


@family("efc", 1)
def order_address(b: Builder) -> None:
    """The street that an order goes to."""
    efc, order = _order(b, "efc_orders/order_address", "To which street does order {order} go?")
    key, place = order["order_id"], order["address"]
    efc.answer(f"Order {key} goes to {place['street']}, {place['city']}.")
    b.expect_text(place["street"])
    b.finish(
        f"Your order {key} goes to {place['street']}, {place['city']}.", f"订单 {key} 寄往 {place['street']}, {place['city']}。"
    )


@family("efc", 1)
def delivery_date(b: Builder) -> None:
    """The day an order was delivered."""
    efc, order = _order(b, "efc_orders/delivery_date", "When was order {order} delivered?", "delivered")
    key, day = order["order_id"], order["delivered_on"]
    efc.answer(f"Order {key} was delivered on {day}.")
    b.expect_text(day, *dates(day))
    b.finish(f"Your order {key} was delivered on {day}.", f"订单 {key} 于 {day} 送达。")


@family("efc", 1)
def tracking_number(b: Builder) -> None:
    """The tracking number of an order's parcel."""
    efc, order = _order(
        b, "efc_orders/tracking_number", "What is the tracking number of order {order}?", "shipped", "delivered"
    )
    key, number = order["order_id"], order["tracking_number"]
    efc.answer(f"The tracking number of order {key} is {number}.")
    b.expect_text(number)
    b.finish(f"The tracking number of your order {key} is {number}.", f"订单 {key} 的快递单号是 {number}。")


@family("efc", 1)
def carrier(b: Builder) -> None:
    """Who carries an order's parcel."""
    row = b.pools.order(b.rng, "shipped", "delivered")
    b.customer(row["customer_id"])
    key = row["order_id"]
    b.ask(b.phrase("efc_orders/carrier", order=key))
    efc = b.delegate("efc", f"Which carrier brings order {key}?", "A question about a parcel; the efc agent can track it.")
    parcel = efc.call("track_shipment", "I track the parcel.", order_id=key)
    efc.answer(f"Order {key} is with {parcel['carrier']}.")
    b.expect_text(parcel["carrier"], reject=tuple(c for c in CARRIERS if c != parcel["carrier"]))
    b.finish(f"Your order {key} is with {parcel['carrier']}.", f"订单 {key} 由 {parcel['carrier']} 配送。")


def item_named(b: Builder, order: Row) -> Row:
    """An item of an order whose short name no other item of it shares."""
    names = [product_name(item) for item in order["items"]]
    alone = [item for item, name in zip(order["items"], names, strict=True) if names.count(name) == 1]
    if not alone:
        raise Skip("no item with a name of its own")
    return dict(b.rng.choice(alone))


def _item(b: Builder, ask: str, task: str) -> tuple[Expert, Row, str]:
    """A question about one item of an order: (the expert, the item, the order's id)."""
    row = b.pools.order(b.rng)
    b.customer(row["customer_id"])
    key = row["order_id"]
    item = item_named(b, b.peek(row["customer_id"], "get_order", order_id=key))
    b.ask(b.phrase(ask, order=key, name=product_name(item)))
    efc = b.delegate("efc", task.format(order=key, name=product_name(item)), "It is about an item of an order; efc can look.")
    efc.call("get_order", "I read the order and look for the item.", order_id=key)
    return efc, item, key


@family("efc", 1)
def item_quantity(b: Builder) -> None:
    """How many of an item an order has."""
    efc, item, key = _item(b, "efc_orders/item_quantity", "How many pieces of the {name} are in order {order}?")
    name, count = product_name(item), item["quantity"]
    efc.answer(f"Order {key} has {count} of the {name}.")
    b.expect_number(str(count), None, "0")
    b.finish(f"You ordered {count} of the {name}.", f"您订了 {count} 件 {name}。")


@family("efc", 1)
def item_price(b: Builder) -> None:
    """What one piece of an item cost."""
    efc, item, key = _item(b, "efc_orders/item_price", "What is the unit price of the {name} in order {order}?")
    name, price = product_name(item), item["unit_price"]
    efc.answer(f"In order {key} the {name} cost {price} USD a piece.")
    b.expect_number(price, "USD")
    b.finish(f"The {name} cost {price} USD a piece.", f"{name} 每件 {price} USD。")


@family("efc", 2)
def latest_status(b: Builder) -> None:
    """The status of the newest order, whose number is not given."""
    customer = b.rng.choice(b.pools.customers)["customer_id"]
    b.customer(customer)
    b.ask(b.join(named(b, customer), b.phrase("efc_orders/latest_status")))
    efc = b.delegate(
        "efc", "What is the status of the customer's latest order?", "No number is given; the efc agent can list orders."
    )
    orders = efc.call("list_orders", "I list the orders; the newest comes first.", limit=1)["orders"]
    if not orders:
        raise Skip("no orders")
    key, status = orders[0]["order_id"], orders[0]["status"]
    efc.answer(f"The latest order is {key}; it is {status}.")
    b.expect_text(status, reject=tuple(other for other in STATUSES if other != status))
    b.expect_text(key)
    b.finish(f"Your latest order {key} is {status}.", f"您最近的订单 {key} {chinese(status)}。")


@family("efc", 2)
def count_orders(b: Builder) -> None:
    """How many orders of a status a customer has, and which."""
    customer = b.rng.choice(b.pools.customers)["customer_id"]
    status = b.rng.choice(STATUSES)
    b.customer(customer)
    said = chinese(status) if b.zh else status
    b.ask(b.join(named(b, customer), b.phrase("efc_orders/count_orders", status=said), b.phrase("efc_orders/numbers")))
    task = f"How many orders of the customer are {status}, and what are their numbers?"
    efc = b.delegate("efc", task, "The efc agent can list the orders of a status.")
    listed = efc.call("list_orders", f"I list the {status} orders.", status=status)
    count = listed["count"]
    if not count:
        raise Skip("none: a guess would do")
    ids = [order["order_id"] for order in listed["orders"]]
    if len(ids) != count:
        raise Skip("not all are shown")
    shown = ", ".join(ids)
    efc.answer(f"The customer has {count} {status} order{'s' * (count != 1)}: {shown}.")
    b.expect_number(str(count), None, "0")
    for key in ids:
        b.expect_text(key)
    b.finish(
        f"You have {count} {status} order{'s' * (count != 1)}: {shown}.", f"您有 {count} 个{chinese(status)}的订单：{shown}。"
    )
