"""Who is asking: identification, and what belongs to the identified customer."""

from typing import Annotated

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.money import decimal
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.registry import Arg, ToolError, shown, tool


def identified(store: Overlay) -> Row:
    """The session's customer. Raises: ToolError while nobody has been identified."""
    row = None if store.customer_id is None else store.row("customers", store.customer_id)
    if row is None:
        raise ToolError("no customer is identified yet; use find_customer first")
    return row


def own_order(store: Overlay, order_id: str) -> Row:
    """An order of the session's customer. Somebody else's order answers as one that does not exist."""
    customer = identified(store)
    order = store.row("orders", order_id)
    if order is None or order["customer_id"] != customer["customer_id"]:
        raise ToolError(f"no order {shown(order_id)} of this customer")
    return order


def own_payment_method(store: Overlay, payment_method_id: str) -> Row:
    """A payment method of the session's customer."""
    customer = identified(store)
    method = store.row("payment_methods", payment_method_id)
    if method is None or method["customer_id"] != customer["customer_id"]:
        raise ToolError(f"no payment method {shown(payment_method_id)} of this customer")
    return method


@tool("efc")
def find_customer(
    store: Overlay,
    *,
    email: Annotated[str, Arg("e-mail address")] | None = None,
    first_name: Annotated[str, Arg("first name")] | None = None,
    last_name: Annotated[str, Arg("last name")] | None = None,
    postal_code: Annotated[str, Arg("postal code of one of the customer's addresses")] | None = None,
) -> Row:
    """Identify the customer by e-mail address, or by first name, last name and postal code."""
    if email is not None:
        found = store.rows("customers", "email", email.strip().lower())
        if first_name is not None or last_name is not None or postal_code is not None:
            raise ToolError("give either the e-mail address or first name, last name and postal code, not both")
    elif first_name is None or last_name is None or postal_code is None:
        raise ToolError("give the e-mail address, or first name, last name and postal code")
    else:
        found = [
            row
            for row in store.rows("customers", "last_name", last_name.strip())
            if row["first_name"].lower() == first_name.strip().lower()
            and any(a["postal_code"] == postal_code.strip() for a in store.rows("addresses", "customer_id", row["customer_id"]))
        ]
    if len(found) != 1:
        raise ToolError("no customer matches" if not found else "more than one customer matches; use the e-mail address")
    if store.customer_id not in (None, found[0]["customer_id"]):
        raise ToolError("the conversation belongs to another customer")
    store.customer_id = found[0]["customer_id"]
    return {key: found[0][key] for key in ("customer_id", "first_name", "last_name")}


@tool("efc")
def get_customer(store: Overlay) -> Row:
    """Profile, addresses and payment methods of the identified customer."""
    customer = identified(store)
    key = customer["customer_id"]
    methods = store.rows("payment_methods", "customer_id", key)
    return customer | {
        "addresses": [
            {k: v for k, v in row.items() if k != "customer_id"} for row in store.rows("addresses", "customer_id", key)
        ],
        "payment_methods": [
            {k: row[k] for k in ("payment_method_id", "kind", "label")}
            | ({"balance": decimal(row["balance_cents"])} if row["balance_cents"] is not None else {})
            for row in methods
        ],
    }
