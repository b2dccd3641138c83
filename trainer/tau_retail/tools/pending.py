"""Orders, and what can be done to a pending one: cancel it, change its address, payment or items."""

from typing import Any

from trainer.hima_ecom.tools.registry import ToolError
from trainer.tau_retail.registry import tool
from trainer.tau_retail.tools.orders import existing_order, money, payment_method, replacement, settle, transaction
from trainer.tau_retail.world import Row, World

ITEMS_MODIFIED = "pending (item modified)"  # no tool takes an order of this status


def _write(world: World, order: Row, lines: list[dict[str, Any]] | None = None, **changes: Any) -> Row:
    """Writes an order with changed columns and new lines in its payment history; settles the lines."""
    if lines:
        settle(world, order["user_id"], lines)
        changes["payment_history"] = order["payment_history"] + lines
    new = order | changes
    world.put("orders", order["order_id"], new)
    return new


@tool
def get_order_details(world: World, *, order_id: str) -> Row:
    """Status, items, address, payments."""
    return existing_order(world, order_id)


@tool
def cancel_pending_order(world: World, *, order_id: str, reason: str) -> Row:
    """Cancels; each payment method gets back what it has paid and not been refunded yet."""
    order = existing_order(world, order_id, "pending")
    paid: dict[str, float] = {}
    for line in order["payment_history"]:
        sign = 1 if line["transaction_type"] == "payment" else -1
        key = line["payment_method_id"]
        paid[key] = money(paid.get(key, 0.0) + sign * line["amount"])
    lines = [transaction("refund", amount, key) for key, amount in paid.items() if amount > 0]
    return _write(world, order, lines, status="cancelled", cancel_reason=reason)


@tool
def modify_pending_order_address(
    world: World, *, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> Row:
    """Replaces the shipping address."""
    address = {"address1": address1, "address2": address2, "city": city, "country": country, "state": state, "zip": zip}
    return _write(world, existing_order(world, order_id, "pending"), address=address)


@tool
def modify_pending_order_payment(world: World, *, order_id: str, payment_method_id: str) -> Row:
    """Pays the total with another method and refunds the first; once an order."""
    order = existing_order(world, order_id, "pending")
    history = order["payment_history"]
    if len(history) != 1 or history[0]["transaction_type"] != "payment":
        raise ToolError(f"order {order_id}: expected exactly one payment so far, got {len(history)} transactions")
    old, amount = history[0]["payment_method_id"], history[0]["amount"]
    if payment_method_id == old:
        raise ToolError(f"payment method: expected another one than the order has, got {old}")
    payment_method(world, order, payment_method_id, to_pay=amount)
    return _write(world, order, [transaction("payment", amount, payment_method_id), transaction("refund", amount, old)])


@tool
def modify_pending_order_items(
    world: World, *, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> Row:
    """Puts other variants in the place of items; once an order, which nothing can change afterwards."""
    order = existing_order(world, order_id, "pending")
    new = replacement(world, order, item_ids, new_item_ids)
    payment_method(world, order, payment_method_id, to_pay=new.difference)
    items = list(order["items"])
    for at, variant in new.variants.items():
        items[at] = items[at] | {key: variant[key] for key in ("item_id", "price", "options")}
    line = transaction("payment" if new.difference > 0 else "refund", abs(new.difference), payment_method_id)
    return _write(world, order, [line], items=items, status=ITEMS_MODIFIED)
