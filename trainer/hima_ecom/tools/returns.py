"""Writing tools for delivered orders: return and exchange."""

from datetime import date
from typing import Annotated, Any, Literal

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.money import decimal, discount_share
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.account import identified, own_order, own_payment_method
from trainer.hima_ecom.tools.catalog import existing_product
from trainer.hima_ecom.tools.payments import charge, refund
from trainer.hima_ecom.tools.registry import Arg, ToolError, shown, tool


def _delivered_days(store: Overlay, order: Row) -> int:
    """Days since the order was delivered. Raises: ToolError if it was not."""
    if order["status"] != "delivered":
        raise ToolError(f"order {order['order_id']} is {order['status']}; only delivered items can be returned or exchanged")
    shipment = store.rows("shipments", "order_id", order["order_id"])[0]
    return (date.fromisoformat(store.today) - date.fromisoformat(shipment["delivered_on"])).days


def _own_item(store: Overlay, order: Row, item_id: str) -> Row:
    item = store.row("order_items", item_id)
    if item is None or item["order_id"] != order["order_id"]:
        raise ToolError(f"no item {shown(item_id)} in order {order['order_id']}")
    if item["status"] != "ordered":
        raise ToolError(f"item {item_id} was already {item['status']}")
    return item


def _within(product: Row, item_id: str, elapsed: int, days: int, what: str) -> None:
    department = rules.department(product["brand"], product["category"])
    if not days:
        raise ToolError(f"item {item_id}: {department} items can not be {what}")
    if elapsed > days:
        raise ToolError(
            f"item {item_id}: {department} items can be {what} within {days} days of delivery; {elapsed} have passed"
        )


@tool("efc", writes=True)
def return_items(
    store: Overlay,
    *,
    order_id: Annotated[str, Arg("id of the delivered order")],
    item_ids: Annotated[list[str], Arg("ids of the items, such as O00001-1", max_items=10)],
    condition: Annotated[Literal["unopened", "opened", "defective"], Arg("what the customer says of the items")],
    reason: Annotated[
        Literal["no_longer_needed", "wrong_item", "not_as_described", "defective", "other"],
        Arg("why, where the customer says so"),
    ] = "other",
) -> dict[str, Any]:
    """Return items of a delivered order, all in the same condition; refunded to the order's payment method. All or none."""
    order = own_order(store, order_id)
    tier = identified(store)["tier"]
    elapsed = _delivered_days(store, order)
    if len(set(item_ids)) != len(item_ids):
        raise ToolError("item_ids: an item is named twice")
    total = 0
    for item_id in item_ids:
        item = _own_item(store, order, item_id)
        product = existing_product(store, item["product_id"])
        brand, category = product["brand"], product["category"]
        days = rules.return_days(brand, category, tier, defective=condition == "defective")
        _within(product, item_id, elapsed, days, "returned")
        if condition == "opened" and not rules.return_rule(brand, category).opened:
            raise ToolError(f"item {item_id}: {rules.department(brand, category)} items can be returned only unopened")
        amount = item["quantity"] * item["unit_price_cents"]
        cents = amount - discount_share(amount, order["discount_cents"], order["subtotal_cents"])
        method = refund(store, order, cents, f"returned: {item_id}")
        store.insert(
            "returns",
            "X",
            order_id=order_id,
            item_id=item_id,
            condition=condition,
            reason="defective" if condition == "defective" else reason,  # what need not be said twice
            refund_cents=cents,
            payment_method_id=method["payment_method_id"],
            requested_on=store.today,
        )
        store.update("order_items", item, status="returned")
        total += cents
    return {"order_id": order_id, "returned": item_ids, "refund": decimal(total), "refunded_to": method["label"]}


@tool("efc", writes=True)
def exchange_item(
    store: Overlay,
    *,
    order_id: Annotated[str, Arg("id of the delivered order")],
    item_id: Annotated[str, Arg("id of the item to give back")],
    new_product_id: Annotated[str, Arg("id of the product wanted instead: same type, in stock")],
    payment_method_id: Annotated[str, Arg("pays the difference if the new product costs more")] | None = None,
) -> dict[str, Any]:
    """Exchange an item of a delivered order for one of the same type; the price difference is charged or refunded."""
    order = own_order(store, order_id)
    elapsed = _delivered_days(store, order)
    item = _own_item(store, order, item_id)
    old, new = existing_product(store, item["product_id"]), existing_product(store, new_product_id)
    days = rules.return_days(old["brand"], old["category"], identified(store)["tier"])
    _within(old, item_id, elapsed, days, "exchanged")
    if new_product_id == item["product_id"]:
        raise ToolError(f"item {item_id} is already product {new_product_id}")
    if new["type"] != old["type"]:
        raise ToolError(f"product {new_product_id} is of type {new['type']}; the item is of type {old['type']}")
    quantity = item["quantity"]
    if new["stock"] < quantity:
        raise ToolError(f"product {new_product_id} has {new['stock']} in stock; {quantity} are needed")
    # What was paid for the item, its share of a coupon taken off.
    amount = quantity * item["unit_price_cents"]
    paid = amount - discount_share(amount, order["discount_cents"], order["subtotal_cents"])
    difference = quantity * new["price_cents"] - paid
    method_id = order["payment_method_id"]
    if difference > 0:
        if payment_method_id is None:
            raise ToolError(f"the new product costs {decimal(difference)} more; give a payment_method_id that pays it")
        charge(store, order, own_payment_method(store, payment_method_id), difference, f"exchanged: {item_id}")
        method_id = payment_method_id
    else:
        refund(store, order, -difference, f"exchanged: {item_id}")
    key = store.insert(
        "exchanges",
        "Y",
        order_id=order_id,
        item_id=item_id,
        new_product_id=new_product_id,
        quantity=quantity,
        difference_cents=difference,
        payment_method_id=method_id,
        requested_on=store.today,
    )
    store.update("products", new, stock=new["stock"] - quantity)
    store.update("order_items", item, status="exchanged")
    return {"exchange_id": key, "item_id": item_id, "new_product_id": new_product_id, "difference": decimal(difference)}
