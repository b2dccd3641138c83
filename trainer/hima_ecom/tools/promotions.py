"""Promotions and coupons: what runs, and whether a coupon fits an order."""

from typing import Annotated, Any, Literal

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.money import decimal
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.account import own_order
from trainer.hima_ecom.tools.registry import Arg, ToolError, shown, tool


def running_promotion(store: Overlay, category: str) -> Row | None:
    """The promotion of a category that runs today."""
    running = [
        row
        for row in store.all("promotions")
        if row["category"] == category and row["starts_on"] <= store.today <= row["ends_on"]
    ]
    return running[0] if running else None


def coupon_discount(store: Overlay, order: Row, code: str) -> int:
    """What a coupon takes off an order, in cents. Raises: ToolError with the rule that forbids it."""
    coupon = store.row("coupons", code)
    if coupon is None:
        raise ToolError(f"no coupon {shown(code)}")
    if order["status"] not in rules.COUPON_APPLICABLE:
        raise ToolError(f"order {order['order_id']} is {order['status']}; a coupon can be applied only while it is pending")
    if order["coupon_code"] is not None:
        raise ToolError(f"order {order['order_id']} already has the coupon {order['coupon_code']}")
    if store.today < coupon["starts_on"]:
        raise ToolError(f"coupon {code} is valid from {coupon['starts_on']}")
    if store.today > coupon["expires_on"]:
        raise ToolError(f"coupon {code} expired on {coupon['expires_on']}")
    uses = store.rows("coupon_uses", "code", code)
    if coupon["once_per_customer"] and any(use["customer_id"] == order["customer_id"] for use in uses):
        raise ToolError(f"coupon {code} can be used once per customer and was already used")
    amount = 0
    for item in store.rows("order_items", "order_id", order["order_id"]):
        product = store.row("products", item["product_id"])
        assert product is not None
        if coupon["category"] is None or product["category"] == coupon["category"]:
            amount += item["quantity"] * item["unit_price_cents"]
    if not amount:
        raise ToolError(f"coupon {code} is for {coupon['category']} items; the order has none")
    if amount < coupon["minimum_cents"]:
        raise ToolError(f"coupon {code} needs items of {decimal(coupon['minimum_cents'])}; the order has {decimal(amount)}")
    return int(amount * coupon["value"] // 100 if coupon["kind"] == "percent" else min(coupon["value"], amount))


@tool("efc")
def list_promotions(
    store: Overlay,
    *,
    category: Annotated[
        Literal["electronics", "home", "clothing", "beauty", "toys", "sports", "grocery"], Arg("only this category")
    ]
    | None = None,
) -> dict[str, Any]:
    """The promotions that run today."""
    running = [
        row
        for row in store.all("promotions")
        if row["starts_on"] <= store.today <= row["ends_on"] and category in (None, row["category"])
    ]
    return {"promotions": running}


@tool("efc")
def check_coupon(
    store: Overlay,
    *,
    code: Annotated[str, Arg("the coupon's code")],
    order_id: Annotated[str, Arg("an order that it might be applied to")] | None = None,
) -> dict[str, Any]:
    """The rules of a coupon and, for an order, whether it can be applied and what it would take off."""
    coupon = store.row("coupons", code)
    if coupon is None:
        raise ToolError(f"no coupon {shown(code)}")
    result: dict[str, Any] = {
        "code": code,
        "description": coupon["description"],
        "category": coupon["category"],
        "minimum": decimal(coupon["minimum_cents"]),
        "starts_on": coupon["starts_on"],
        "expires_on": coupon["expires_on"],
        "once_per_customer": bool(coupon["once_per_customer"]),
    }
    if order_id is None:
        return result
    order = own_order(store, order_id)
    try:
        return result | {"applicable": True, "discount": decimal(coupon_discount(store, order, code))}
    except ToolError as error:
        return result | {"applicable": False, "reason": str(error)}
