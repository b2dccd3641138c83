"""Reading orders: the list, one order, its parcel."""

from typing import Annotated, Any, Literal

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.money import decimal
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.account import identified, own_order
from trainer.hima_ecom.tools.registry import Arg, ToolError, shown, tool


def summary(store: Overlay, order: Row) -> dict[str, Any]:
    """An order as the tools show it."""
    items = []
    for item in store.rows("order_items", "order_id", order["order_id"]):
        product = store.row("products", item["product_id"])
        assert product is not None
        items.append(
            {
                "item_id": item["item_id"],
                "product_id": item["product_id"],
                "name": product["name"],
                "quantity": item["quantity"],
                "unit_price": decimal(item["unit_price_cents"]),
                "status": item["status"],
            }
        )
    return {
        "order_id": order["order_id"],
        "status": order["status"],
        "placed_on": order["placed_on"],
        "items": items,
        "subtotal": decimal(order["subtotal_cents"]),
        "discount": decimal(order["discount_cents"]),
        "shipping": decimal(order["shipping_cents"]),
        "total": decimal(order["total_cents"]),
        "coupon": order["coupon_code"],
        "payment_method_id": order["payment_method_id"],
    }


@tool("efc")
def get_order(store: Overlay, *, order_id: Annotated[str, Arg("id of the order, such as O00001")]) -> dict[str, Any]:
    """One order of the identified customer: items, prices, address, payments, parcel."""
    order = own_order(store, order_id)
    address = store.row("addresses", order["address_id"])
    assert address is not None
    shipments = store.rows("shipments", "order_id", order_id)
    payments = [
        {
            "kind": p["kind"],
            "amount": decimal(p["amount_cents"]),
            "payment_method_id": p["payment_method_id"],
            "reason": p["reason"],
        }
        for p in store.rows("payments", "order_id", order_id)
    ]
    return summary(store, order) | {
        "address": {k: v for k, v in address.items() if k != "customer_id"},
        "payments": payments,
        "tracking_number": shipments[0]["tracking_number"] if shipments else None,
        "delivered_on": shipments[0]["delivered_on"] if shipments else None,
    }


@tool("efc")
def list_orders(
    store: Overlay,
    *,
    status: Annotated[Literal["pending", "processing", "shipped", "delivered", "cancelled"], Arg("only orders of this status")]
    | None = None,
    limit: Annotated[int, Arg("how many at most", minimum=1, maximum=20)] = 10,
) -> dict[str, Any]:
    """The identified customer's orders, newest first."""
    customer = identified(store)
    found = store.rows("orders", "customer_id", customer["customer_id"])
    found = [row for row in found if status is None or row["status"] == status]
    found.sort(key=lambda row: (row["placed_on"], row["order_id"]), reverse=True)
    keys = ("order_id", "status", "placed_on")
    orders = [{k: row[k] for k in keys} | {"total": decimal(row["total_cents"])} for row in found[:limit]]
    return {"orders": orders, "count": len(found)}


@tool("efc")
def track_shipment(
    store: Overlay,
    *,
    order_id: Annotated[str, Arg("id of the order")] | None = None,
    tracking_number: Annotated[str, Arg("the parcel's tracking number")] | None = None,
) -> dict[str, Any]:
    """Where an order's parcel is: by order id or tracking number."""
    if (order_id is None) == (tracking_number is None):
        raise ToolError("give exactly one of order_id and tracking_number")
    if order_id is not None:
        own_order(store, order_id)
        found = store.rows("shipments", "order_id", order_id)
        if not found:
            raise ToolError(f"order {shown(order_id)} has not been shipped")
    else:
        assert tracking_number is not None
        identified(store)
        found = store.rows("shipments", "tracking_number", tracking_number)
        order = store.row("orders", found[0]["order_id"]) if found else None
        if order is None or order["customer_id"] != store.customer_id:
            raise ToolError(f"no parcel {shown(tracking_number)} of this customer")
    parcel = found[0]
    events = store.rows("shipment_events", "shipment_id", parcel["shipment_id"])
    return {k: v for k, v in parcel.items() if k != "shipment_id"} | {
        "events": [{k: row[k] for k in ("happened_at", "location", "description")} for row in events]
    }
