"""What the rows of the folder look like, and the check that they do: a tool never meets a row that it can't read."""

import math
from typing import Any, NamedTuple

from trainer.hima_ecom.tools.registry import is_text
from trainer.reading import short


class Each(NamedTuple):
    """A JSON object with any keys, all values of one shape."""

    shape: Any


NUMBER = (int, float)
ADDRESS = dict.fromkeys(("address1", "address2", "city", "country", "state", "zip"), str)
PAYMENT = {"transaction_type": str, "amount": NUMBER, "payment_method_id": str}
USER = {
    "name": {"first_name": str, "last_name": str},
    "address": ADDRESS,
    "email": str,
    "payment_methods": Each({"source": str, "id": str}),
    "orders": [str],
}
ORDER = {
    "order_id": str,
    "user_id": str,
    "address": ADDRESS,
    "items": [{"name": str, "product_id": str, "item_id": str, "price": NUMBER, "options": Each(str)}],
    "status": str,
    "payment_history": [PAYMENT],
}
PRODUCT = {
    "name": str,
    "product_id": str,
    "variants": Each({"item_id": str, "options": Each(str), "available": bool, "price": NUMBER}),
}
TOOL = {
    "type": str,
    "function": {
        "name": str,
        "description": str,
        "parameters": {"type": str, "properties": Each({"type": str}), "required": [str]},
    },
}
TASK = {"id": int, "user_id": str, "instruction": str, "actions": [{"name": str, "arguments": Each(object)}], "outputs": [str]}

_JSON_NAMES = {str: "a string", bool: "true or false", int: "an integer", NUMBER: "a finite number"}


def check_shape(value: Any, shape: Any, where: str) -> None:
    """Raises ValueError if `value` (found at `where`) isn't of that shape; an object may have more keys than the shape. Numbers
    must be finite, texts valid Unicode."""
    if isinstance(shape, dict | Each):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected an object, got {_kind(value)}")
        for key in value if isinstance(shape, Each) else shape:
            if key not in value:
                raise ValueError(f"{where}: expected the key {key!r}, got {', '.join(map(short, value)) or 'none'}")
            _check_unicode(key, f"{where}: a key")
            check_shape(value[key], shape.shape if isinstance(shape, Each) else shape[key], f"{where}[{short(key)}]")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, got {_kind(value)}")
        for i, item in enumerate(value):
            check_shape(item, shape[0], f"{where}[{i}]")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape in (int, NUMBER)):
        raise ValueError(f"{where}: expected {_JSON_NAMES[shape]}, got {_kind(value)}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: expected {_JSON_NAMES[NUMBER]}, got {value}")
    elif isinstance(value, str):
        _check_unicode(value, where)


def _check_unicode(text: str, where: str) -> None:
    if not is_text(text):
        raise ValueError(f"{where}: expected valid Unicode, got {short(text)}")


def check_links(users: dict[str, Any], orders: dict[str, Any], products: dict[str, Any]) -> None:
    """Raises ValueError if rows name others that aren't there, an order has no payment, or a gift card no balance."""
    for user_id, user in users.items():
        for key, method in user["payment_methods"].items():
            where = f"users.json[{short(user_id)}]['payment_methods'][{short(key)}]"
            if method["source"] == "gift_card":
                check_shape(method, {"balance": NUMBER}, where)
    for order_id, order in orders.items():
        where = f"orders.json[{short(order_id)}]"
        if order["user_id"] not in users:
            raise ValueError(f"{where}: expected a user of users.json, got {short(order['user_id'])}")
        if not order["payment_history"]:
            raise ValueError(f"{where}['payment_history']: expected at least one payment, got none")
        methods = users[order["user_id"]]["payment_methods"]
        for payment in order["payment_history"]:
            if payment["payment_method_id"] not in methods:
                raise ValueError(f"{where}: expected a payment method of its user, got {short(payment['payment_method_id'])}")
        for item in order["items"]:
            if item["product_id"] not in products:
                raise ValueError(f"{where}: expected a product of products.json, got {short(item['product_id'])}")


def _kind(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return "null" if value is None else short(value)
