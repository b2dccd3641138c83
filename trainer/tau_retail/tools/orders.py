"""What the tools over orders share: finding an order, its items and what replaces them, and moving money."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from trainer.hima_ecom.tools.registry import ToolError, shown
from trainer.tau_retail.tools.account import existing_user
from trainer.tau_retail.tools.catalog import existing_product
from trainer.tau_retail.world import Row, World


class Replacement(NamedTuple):
    """New variants for items of an order."""

    variants: dict[int, Row]  # position in the order's items -> the variant that comes there
    difference: float  # what the customer pays; negative: gets back


def money(amount: float) -> float:
    """An amount in whole cents; never -0.0."""
    return round(amount, 2) + 0.0


def existing_order(world: World, order_id: str, status: str | None = None) -> Row:
    """The order's row. Raises: ToolError if there is none, or it is in another status than the one asked for."""
    order = world.row("orders", order_id)
    if order is None:
        raise ToolError(f"order {shown(order_id)} not found")
    if status is not None and order["status"] != status:
        raise ToolError(f"order {order_id}: expected the status '{status}', got '{order['status']}'")
    return order


def positions(order: Row, item_ids: Sequence[str]) -> list[int]:
    """Where the items stand in the order; an id named twice stands for two items. Raises: ToolError."""
    free = {i: item["item_id"] for i, item in enumerate(order["items"])}
    found = []
    for item_id in item_ids:
        at = next((i for i, other in free.items() if other == item_id), None)
        if at is None:
            named = f"{item_ids.count(item_id)} times " if item_id in (i["item_id"] for i in order["items"]) else ""
            raise ToolError(f"item {shown(item_id)} is not {named}in order {order['order_id']}")
        del free[at]
        found.append(at)
    return found


def replacement(world: World, order: Row, item_ids: Sequence[str], new_item_ids: Sequence[str]) -> Replacement:
    """New items for old ones, position by position: of the same product, and available. Raises: ToolError."""
    places = positions(order, item_ids)
    if len(item_ids) != len(new_item_ids):
        raise ToolError(f"expected as many new items as items, got {len(new_item_ids)} and {len(item_ids)}")
    variants, difference = {}, 0.0
    for at, new_item_id in zip(places, new_item_ids, strict=True):
        item = order["items"][at]
        variant = existing_product(world, item["product_id"])["variants"].get(new_item_id)
        if variant is None:
            raise ToolError(f"new item {shown(new_item_id)} is no variant of {item['name']} ({item['product_id']})")
        if not variant["available"]:
            raise ToolError(f"new item {shown(new_item_id)} is not available")
        variants[at] = variant
        difference += variant["price"] - item["price"]
    return Replacement(variants, money(difference))


def payment_method(world: World, order: Row, payment_method_id: str, *, to_pay: float = 0.0) -> dict[str, Any]:
    """A payment method of the order's user. Raises: ToolError if there is none, or a gift card holds less than `to_pay`."""
    method: dict[str, Any] | None = existing_user(world, order["user_id"])["payment_methods"].get(payment_method_id)
    if method is None:
        raise ToolError(f"payment method {shown(payment_method_id)} not found")
    if method["source"] == "gift_card" and method["balance"] < to_pay:
        raise ToolError(f"gift card {payment_method_id}: expected a balance of at least {to_pay}, got {method['balance']}")
    return method


def transaction(kind: str, amount: float, payment_method_id: str) -> dict[str, Any]:
    """A line of a payment history."""
    return {"transaction_type": kind, "amount": amount, "payment_method_id": payment_method_id}


def settle(world: World, user_id: str, lines: Sequence[dict[str, Any]]) -> None:
    """Takes payments from gift cards and puts refunds on them; what goes over other methods the store doesn't keep."""
    user = existing_user(world, user_id)
    methods = dict(user["payment_methods"])
    for line in lines:
        key = line["payment_method_id"]
        if methods[key]["source"] == "gift_card":
            sign = -1 if line["transaction_type"] == "payment" else 1
            methods[key] = methods[key] | {"balance": money(methods[key]["balance"] + sign * line["amount"])}
    world.put("users", user_id, user | {"payment_methods": methods})
