"""Writing tools for orders that have not been shipped: cancel, address, payment method, coupon."""

from typing import Annotated, Any, Literal

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.money import decimal
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.account import own_order, own_payment_method
from trainer.hima_ecom.tools.orders import summary
from trainer.hima_ecom.tools.payments import charge, refund
from trainer.hima_ecom.tools.promotions import coupon_discount
from trainer.hima_ecom.tools.registry import Arg, ToolError, shown, tool

OrderId = Annotated[str, Arg("id of the order")]


def _only_while(order: Row, statuses: tuple[str, ...], what: str) -> None:
    if order["status"] not in statuses:
        allowed = " or ".join(statuses)
        raise ToolError(f"order {order['order_id']} is {order['status']}; {what} only while it is {allowed}")


@tool("efc", writes=True)
def cancel_order(
    store: Overlay,
    *,
    order_id: OrderId,
    reason: Annotated[Literal["no_longer_needed", "ordered_by_mistake", "found_cheaper", "other"], Arg("why")] = "other",
) -> dict[str, Any]:
    """Cancel a whole order before it ships; the total is refunded to its payment method."""
    order = own_order(store, order_id)
    _only_while(order, rules.CANCELLABLE, "it can be cancelled")
    for item in store.rows("order_items", "order_id", order_id):
        store.update("order_items", item, status="cancelled")
        product = store.row("products", item["product_id"])
        assert product is not None
        store.update("products", product, stock=product["stock"] + item["quantity"])
    for use in store.rows("coupon_uses", "order_id", order_id):
        store.delete("coupon_uses", use["use_id"])
    method = refund(store, order, order["total_cents"], f"cancelled: {reason}")
    store.update("orders", order, status="cancelled")
    return {
        "order_id": order_id,
        "status": "cancelled",
        "refund": decimal(order["total_cents"]),
        "refunded_to": method["label"],
    }


@tool("efc", writes=True)
def change_address(
    store: Overlay,
    *,
    order_id: OrderId,
    address_id: Annotated[str, Arg("id of one of the customer's saved addresses; leave out for a new one")] | None = None,
    street: Annotated[str, Arg("new address: number and street")] | None = None,
    city: Annotated[str, Arg("new address: city")] | None = None,
    postal_code: Annotated[str, Arg("new address: postal code", max_length=20)] | None = None,
    country: Annotated[str, Arg("new address: country")] | None = None,
) -> dict[str, Any]:
    """Change where an order goes before it ships: to a saved address, or to a new one (all four parts) in the same country."""
    order = own_order(store, order_id)
    _only_while(order, rules.ADDRESS_CHANGEABLE, "its address can be changed")
    old = store.row("addresses", order["address_id"])
    assert old is not None
    parts = {"street": street, "city": city, "postal_code": postal_code, "country": country}
    given = {name: value.strip() for name, value in parts.items() if value is not None}
    if address_id is not None:
        if given:
            raise ToolError("give either address_id or a new address, not both")
        new = store.row("addresses", address_id)
        if new is None or new["customer_id"] != order["customer_id"]:
            raise ToolError(f"no address {shown(address_id)} of this customer")
        target = new
    else:
        missing = [name for name in parts if not given.get(name)]
        if missing:
            raise ToolError(f"give address_id, or a whole new address; missing: {', '.join(missing)}")
        target = given
    if target["country"].lower() != old["country"].lower():
        raise ToolError(f"the order goes to {old['country']}; its address can be changed only within that country")
    if address_id is None:
        given["country"] = old["country"]
        saved = [
            row
            for row in store.rows("addresses", "customer_id", order["customer_id"])
            if all(row[name] == value for name, value in given.items())
        ]
        # Written out again, a saved address is that address.
        address_id = (
            saved[0]["address_id"]
            if saved
            else store.insert("addresses", "A", customer_id=order["customer_id"], label="other", **given)
        )
    if address_id == order["address_id"]:
        raise ToolError(f"order {order_id} already goes to that address")
    store.update("orders", order, address_id=address_id)
    address = store.row("addresses", address_id)
    assert address is not None
    return {"order_id": order_id, "address": {k: v for k, v in address.items() if k != "customer_id"}}


@tool("efc", writes=True)
def change_payment_method(
    store: Overlay, *, order_id: OrderId, payment_method_id: Annotated[str, Arg("id of the customer's other payment method")]
) -> dict[str, Any]:
    """Pay a pending order with another payment method: the old one is refunded, the new one charged the full total."""
    order = own_order(store, order_id)
    _only_while(order, rules.PAYMENT_CHANGEABLE, "its payment method can be changed")
    method = own_payment_method(store, payment_method_id)
    if payment_method_id == order["payment_method_id"]:
        raise ToolError(f"order {order_id} is already paid with {method['label']}")
    charge(store, order, method, order["total_cents"], "payment method changed")
    refund(store, order, order["total_cents"], "payment method changed")
    store.update("orders", order, payment_method_id=payment_method_id)
    return {"order_id": order_id, "payment_method": method["label"], "charged": decimal(order["total_cents"])}


@tool("efc", writes=True)
def apply_coupon(store: Overlay, *, order_id: OrderId, code: Annotated[str, Arg("the coupon's code")]) -> dict[str, Any]:
    """Apply a coupon to a pending order; what it takes off is refunded to the order's payment method."""
    order = own_order(store, order_id)
    discount = coupon_discount(store, order, code)
    refund(store, order, discount, f"coupon {code}")
    store.insert("coupon_uses", "U", code=code, customer_id=order["customer_id"], order_id=order_id)
    changed = store.update(
        "orders", order, coupon_code=code, discount_cents=discount, total_cents=order["total_cents"] - discount
    )
    return summary(store, changed)
