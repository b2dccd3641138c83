"""EFC, reading: questions of customers about their orders and parcels."""

from collections.abc import Callable

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.names import CARRIERS
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.qa_products import product_name
from trainer.hima_ecom.tasks.template import Facts, Number, Template, Text, call, templates
from trainer.hima_ecom.tasks.wording import chinese, dates

STATUSES = ("pending", "processing", "shipped", "delivered", "cancelled")


def own_order(b: Builder, *statuses: str) -> Row:
    """Draw an order with one of the statuses (any if none is given); its customer is who asks."""
    row = b.pools.order(b.rng, *statuses)
    b.customer(row["customer_id"])
    return row


def item_named(b: Builder, order: Row) -> Row:
    """Draw an item of an order whose short name no other item of it shares."""
    names = [product_name(item) for item in order["items"]]
    alone = [item for item, name in zip(order["items"], names, strict=True) if names.count(name) == 1]
    if not alone:
        raise Skip("no item with a name of its own")
    return dict(b.rng.choice(alone))


def _an_order(*statuses: str) -> Callable[[Builder], Facts]:
    return lambda b: {"order": own_order(b, *statuses)["order_id"]}


def _an_item(b: Builder) -> Facts:
    row = own_order(b)
    item = item_named(b, b.peek(row["customer_id"], "get_order", order_id=row["order_id"]))
    return {"order": row["order_id"], "item": item, "name": product_name(item)}


def _a_customer(b: Builder) -> Facts:
    key = b.rng.choice(b.pools.customers)["customer_id"]
    b.customer(key)
    row = b.pools.world.row("customers", key)
    assert row is not None
    return {"customer": key, "first": row["first_name"], "last": row["last_name"]}


def _a_status(b: Builder) -> Facts:
    key = b.rng.choice(b.pools.customers)["customer_id"]
    status = b.rng.choice(STATUSES)
    b.customer(key)
    row = b.pools.world.row("customers", key)
    assert row is not None
    customer = {"customer": key, "first": row["first_name"], "last": row["last_name"]}
    return customer | {"english": status, "chinese": chinese(status), "status": chinese(status) if b.zh else status}


def _status(status: str) -> Facts:
    return {"status": status, "chinese": chinese(status), "others": [other for other in STATUSES if other != status]}


def _latest(facts: Facts) -> Facts:
    orders = facts["seen"]["orders"]
    if not orders:
        raise Skip("no orders")
    return _status(orders[0]["status"]) | {"order": orders[0]["order_id"]}


def _counted(facts: Facts) -> Facts:
    listed = facts["seen"]
    if not listed["count"]:
        raise Skip("none: a guess would do")
    ids = [order["order_id"] for order in listed["orders"]]
    if len(ids) != listed["count"]:
        raise Skip("not all are shown")
    return {"ids": ids, "shown": ", ".join(ids), "orders": "order" if len(ids) == 1 else "orders"}


READ = call("get_order", order_id="{order}")
TOTAL = Number("{seen[total]}", "USD")
STATUS = Text("{status}", reject="{others}")
templates(
    "efc",
    "efc_orders",
    Template(
        "order_status", 1, "The status of an order, and its total.", _an_order(), READ, (STATUS, TOTAL),
        read=lambda facts: _status(facts["seen"]["status"]),
        ask=("efc_orders/order_status", "efc_orders/its_total"),
    ),
    Template("order_total", 1, "The total of an order.", _an_order(), READ, TOTAL),
    Template("order_address", 1, "The street that an order goes to.", _an_order(), READ, Text("{seen[address][street]}")),
    Template(
        "delivery_date", 1, "The day an order was delivered.", _an_order("delivered"), READ,
        Text("{seen[delivered_on]}", accept="{dates}"),
        read=lambda facts: {"dates": dates(facts["seen"]["delivered_on"])},
    ),
    Template(
        "tracking_number", 1, "The tracking number of an order's parcel.", _an_order("shipped", "delivered"), READ,
        Text("{seen[tracking_number]}"),
    ),
    Template(
        "carrier", 1, "Who carries an order's parcel.", _an_order("shipped", "delivered"),
        call("track_shipment", order_id="{order}"),
        Text("{seen[carrier]}", reject="{others}"),
        read=lambda facts: {"others": [name for name in CARRIERS if name != facts["seen"]["carrier"]]},
    ),
    Template("item_quantity", 1, "How many of an item an order has.", _an_item, READ, Number("{item[quantity]}", None, "0")),
    Template("item_price", 1, "What one piece of an item cost.", _an_item, READ, Number("{item[unit_price]}", "USD")),
    Template(
        "latest_status", 2, "The status of the newest order, whose number is not given.", _a_customer,
        call("list_orders", limit=1),
        (STATUS, Text("{order}")),
        read=_latest,
        ask=("efc_orders/named", "efc_orders/latest_status"),
    ),
    Template(
        "count_orders", 2, "How many orders of a status a customer has, and which.", _a_status,
        call("list_orders", status="{english}"),
        (Number("{seen[count]}", None, "0"), Text("{ids}")),
        read=_counted,
        ask=("efc_orders/named", "efc_orders/count_orders", "efc_orders/numbers"),
    ),
)  # fmt: skip
