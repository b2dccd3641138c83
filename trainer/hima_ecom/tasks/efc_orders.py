"""EFC, reading: what a customer asks about their orders and parcels."""

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.names import CARRIERS
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.efc_wishes import also
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.phrases import WORDS_ZH, Phrases, dates
from trainer.hima_ecom.tasks.qa_products import product_name

STATUSES = ("pending", "processing", "shipped", "delivered", "cancelled")

STATUS = Phrases(
    (
        "What is the status of my order {order}?", "Where do things stand with order {order}?", "How far along is {order}?",
        "Please check how far my order {order} is.", "I wonder what is happening with {order}.",
    ),
    ("Could I get an update on {order}?", "In which state is the purchase {order} at the moment?"),
    ("我的订单 {order} 是什么状态？", "请查一下订单 {order} 的进度。"),
    ("订单 {order} 现在到哪一步了？",),
)  # fmt: skip
TOTAL = Phrases(
    (
        "What is the total of my order {order}?", "How much did I pay for order {order}?",
        "I need the total amount of {order}.",
        "Tell me what {order} cost altogether.", "For my taxes: what was the sum of order {order}?",
    ),
    ("What was I charged for {order}, everything included?", "The final price of purchase {order}, please."),
    ("订单 {order} 一共多少钱？", "请告诉我订单 {order} 的总金额。"),
    ("{order} 这笔订单总共花了多少？",),
)  # fmt: skip
ADDRESS = Phrases(
    (
        "To which street is my order {order} going?", "What is the delivery address of {order}?",
        "Which address did I give for order {order}?", "I forgot where {order} is being sent. Which street?",
    ),
    ("At what street will {order} arrive?", "Read me the shipping street of purchase {order}."),
    ("订单 {order} 的收货地址是哪里？", "{order} 寄到哪条街？"),
    ("请问 {order} 会送到什么街道？",),
)  # fmt: skip
CARRIER = Phrases(
    (
        "Which carrier brings my order {order}?", "Who delivers {order}?", "What company is the parcel of {order} with?",
        "Tell me the carrier of order {order}.",
    ),
    ("By which delivery service was {order} sent out?", "Whose van should I look for, concerning {order}?"),
    ("订单 {order} 是哪家快递？", "{order} 由哪个承运商配送？"),
    ("请问 {order} 用的是什么快递公司？",),
)  # fmt: skip
TRACKING = Phrases(
    (
        "What is the tracking number of order {order}?", "Give me the tracking number for {order}.",
        "I want to track {order} myself. What is its number?", "Which parcel number belongs to {order}?",
    ),
    ("The carrier wants a tracking code for {order}; what is it?", "I need the code to follow {order} with."),
    ("订单 {order} 的快递单号是多少？", "请给我 {order} 的运单号。"),
    ("我想自己查 {order} 的物流，单号是什么？",),
)  # fmt: skip
ARRIVED = Phrases(
    (
        "When was order {order} delivered?", "On which day did {order} arrive?", "What is the delivery date of {order}?",
        "I need the day on which my order {order} came.",
    ),
    ("Which day did the courier hand over {order}?", "Look up when I received {order}."),
    ("订单 {order} 是哪天送达的？", "{order} 什么时候到的？"),
    ("请查 {order} 的签收日期。",),
)  # fmt: skip
QUANTITY = Phrases(
    (
        "How many pieces of the {name} are in order {order}?", "What quantity of the {name} did I buy with {order}?",
        "How many times is the {name} in my order {order}?", "Check how many of the {name} are in my order {order}.",
    ),
    ("Of the {name}, how many did I take in {order}?", "{order} contains the {name}: how many of them?"),
    ("订单 {order} 里有几件 {name}？", "{order} 中 {name} 买了几个？"),
    ("我在 {order} 里订了多少 {name}？",),
)  # fmt: skip
PRICE_PAID = Phrases(
    (
        "What did one {name} cost me in order {order}?", "Which unit price did I pay for the {name} in {order}?",
        "How much was the {name} in my order {order}, per piece?", "In order {order}, what is the price of a single {name}?",
    ),
    ("At what price per unit did you sell me the {name} ({order})?", "One {name} in {order}: what was it billed at?"),
    ("订单 {order} 里 {name} 的单价是多少？", "{order} 中一件 {name} 多少钱？"),
    ("我在 {order} 买的 {name} 每件多少钱？",),
)  # fmt: skip
LATEST = Phrases(
    (
        "Which is my latest order, and what is its status?", "Give me the number and the status of my most recent order.",
        "I ordered something lately. What are the order's number and status?",
        "Check the newest order on my account: what is its number, and what state is it in?",
    ),
    ("My last purchase: under which number does it run, and in which state is it?",
     "I forgot the number of the newest order I placed. Tell me that, and how far it is."),
    ("我最近一笔订单是哪个，什么状态？", "请查我最新订单的编号和状态。"),
    ("我最后下的那单编号是多少，现在到哪一步了？",),
)  # fmt: skip
NAMED = Phrases(
    (
        "I am {first}, customer {customer}.", "This is {first} {last}.", "{first} here, account {customer}.",
        "My name is {first} {last}.",
    ),
    ("You are talking to {first} {last}.", "Customer {customer} speaking."),
    ("我是 {first}，客户号 {customer}。", "我叫 {first} {last}。"),
    ("这里是 {first} {last}。",),
)  # fmt: skip
COUNT = Phrases(
    (
        "How many of my orders are {status}?", "Count my {status} orders, please.",
        "I want to know how many {status} orders I have.",
        "What is the number of orders on my account that are {status}?",
    ),
    ("Of all I bought, how many orders are {status}?", "Number of {status} orders in my name?"),
    ("我有几个{status}的订单？", "请数一下我{status}的订单。"),
    ("我名下{status}的订单有多少个？",),
)  # fmt: skip
ITS_TOTAL = Phrases(
    (
        "And what is its total?",
        "Tell me its sum, too.",
        "What does it come to?",
        "I no longer know what it cost; how much was it?",
    ),
    ("State the amount as well.", "And which sum stands under it?"),
    ("总金额是多少？", "也请告诉我总价。"),
    ("顺便说一下一共多少钱。",),
)
NUMBERS = Phrases(
    ("Give me their numbers, too.", "And which are they?", "List their numbers as well.", "Name each of them, please."),
    ("I also want to see under which numbers they run.", "Spell out the order numbers with it."),
    ("也请列出订单号。", "分别是哪些订单？"),
    ("订单编号也一并告诉我。",),
)  # fmt: skip


def named(b: Builder, customer_id: str) -> str:
    """A sentence that says who asks."""
    row = b.pools.world.row("customers", customer_id)
    assert row is not None
    return b.phrase(NAMED, first=row["first_name"], last=row["last_name"], customer=customer_id)


def _order(b: Builder, ask: Phrases, task: str, *statuses: str, more: Phrases | None = None) -> tuple[Expert, Row]:
    """A question about one order by its number: (the expert, the order as it sees it)."""
    row = b.pools.order(b.rng, *statuses)
    b.customer(row["customer_id"])
    key = row["order_id"]
    b.ask(b.phrase(ask, order=key) if more is None else also(b, b.phrase(ask, order=key), more))
    efc = b.delegate("efc", task.format(order=key), "A question about an order; the efc agent can look.")
    return efc, efc.call("get_order", "I read the order.", order_id=key)


@family("efc", 1)
def order_status(b: Builder) -> None:
    """The status of an order, and its total."""
    efc, order = _order(b, STATUS, "What is the status of order {order}, and what is its total?", more=ITS_TOTAL)
    key, status, total = order["order_id"], order["status"], order["total"]
    efc.answer(f"Order {key} is {status}; its total is {total} USD.")
    b.expect_text(status, reject=tuple(other for other in STATUSES if other != status))
    b.expect_number(total, "USD")
    b.finish(f"Your order {key} is {status}; its total is {total} USD.", f"订单 {key} {WORDS_ZH[status]}，总额 {total} USD。")


@family("efc", 1)
def order_total(b: Builder) -> None:
    """The total of an order."""
    efc, order = _order(b, TOTAL, "What is the total of order {order}?")
    key, total = order["order_id"], order["total"]
    efc.answer(f"The total of order {key} is {total} USD.")
    b.expect_number(total, "USD")
    b.finish(f"The total of your order {key} is {total} USD.", f"订单 {key} 的总金额是 {total} USD。")


@family("efc", 1)
def order_address(b: Builder) -> None:
    """The street that an order goes to."""
    efc, order = _order(b, ADDRESS, "To which street does order {order} go?")
    key, place = order["order_id"], order["address"]
    efc.answer(f"Order {key} goes to {place['street']}, {place['city']}.")
    b.expect_text(place["street"])
    b.finish(
        f"Your order {key} goes to {place['street']}, {place['city']}.", f"订单 {key} 寄往 {place['street']}, {place['city']}。"
    )


@family("efc", 1)
def delivery_date(b: Builder) -> None:
    """The day an order was delivered."""
    efc, order = _order(b, ARRIVED, "When was order {order} delivered?", "delivered")
    key, day = order["order_id"], order["delivered_on"]
    efc.answer(f"Order {key} was delivered on {day}.")
    b.expect_text(day, *dates(day))
    b.finish(f"Your order {key} was delivered on {day}.", f"订单 {key} 于 {day} 送达。")


@family("efc", 1)
def tracking_number(b: Builder) -> None:
    """The tracking number of an order's parcel."""
    efc, order = _order(b, TRACKING, "What is the tracking number of order {order}?", "shipped", "delivered")
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
    b.ask(b.phrase(CARRIER, order=key))
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


def _item(b: Builder, ask: Phrases, task: str) -> tuple[Expert, Row, str]:
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
    efc, item, key = _item(b, QUANTITY, "How many pieces of the {name} are in order {order}?")
    name, count = product_name(item), item["quantity"]
    efc.answer(f"Order {key} has {count} of the {name}.")
    b.expect_number(str(count), None, "0")
    b.finish(f"You ordered {count} of the {name}.", f"您订了 {count} 件 {name}。")


@family("efc", 1)
def item_price(b: Builder) -> None:
    """What one piece of an item cost."""
    efc, item, key = _item(b, PRICE_PAID, "What is the unit price of the {name} in order {order}?")
    name, price = product_name(item), item["unit_price"]
    efc.answer(f"In order {key} the {name} cost {price} USD a piece.")
    b.expect_number(price, "USD")
    b.finish(f"The {name} cost {price} USD a piece.", f"{name} 每件 {price} USD。")


@family("efc", 2)
def latest_status(b: Builder) -> None:
    """The status of the newest order, whose number is not given."""
    customer = b.rng.choice(b.pools.customers)["customer_id"]
    b.customer(customer)
    b.ask(("" if b.zh else " ").join((named(b, customer), b.phrase(LATEST))))
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
    b.finish(f"Your latest order {key} is {status}.", f"您最近的订单 {key} {WORDS_ZH[status]}。")


@family("efc", 2)
def count_orders(b: Builder) -> None:
    """How many orders of a status a customer has, and which."""
    customer = b.rng.choice(b.pools.customers)["customer_id"]
    status = b.rng.choice(STATUSES)
    b.customer(customer)
    said = WORDS_ZH[status] if b.zh else status
    b.ask(("" if b.zh else " ").join((named(b, customer), b.phrase(COUNT, status=said), b.phrase(NUMBERS))))
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
        f"You have {count} {status} order{'s' * (count != 1)}: {shown}.", f"您有 {count} 个{WORDS_ZH[status]}的订单：{shown}。"
    )
