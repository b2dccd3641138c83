"""What can be requested for a delivered order, once: a return or an exchange. Money moves when the items are back, not here."""

from trainer.hima_ecom.tools.registry import ToolError
from trainer.tau_retail.registry import tool
from trainer.tau_retail.tools.orders import existing_order, payment_method, positions, replacement
from trainer.tau_retail.world import Row, World


@tool
def return_delivered_order_items(world: World, *, order_id: str, item_ids: list[str], payment_method_id: str) -> Row:
    """Requests a return; the refund goes to the method of the order's first payment or to a gift card."""
    order = existing_order(world, order_id, "delivered")
    method = payment_method(world, order, payment_method_id)
    original = order["payment_history"][0]["payment_method_id"]
    if method["source"] != "gift_card" and payment_method_id != original:
        raise ToolError(f"payment method: expected the original one ({original}) or a gift card, got {payment_method_id}")
    positions(order, item_ids)
    new = order | {
        "status": "return requested",
        "return_items": sorted(item_ids),
        "return_payment_method_id": payment_method_id,
    }
    world.put("orders", order_id, new)
    return new


@tool
def exchange_delivered_order_items(
    world: World, *, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> Row:
    """Requests an exchange for other variants of the same products."""
    order = existing_order(world, order_id, "delivered")
    difference = replacement(world, order, item_ids, new_item_ids).difference
    payment_method(world, order, payment_method_id, to_pay=difference)
    new = order | {
        "status": "exchange requested",
        "exchange_items": sorted(item_ids),
        "exchange_new_items": sorted(new_item_ids),
        "exchange_payment_method_id": payment_method_id,
        "exchange_price_difference": difference,
    }
    world.put("orders", order_id, new)
    return new
