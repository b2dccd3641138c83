"""Moving money: a payment row, and the balance where a gift card pays."""

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.money import decimal
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.registry import ToolError


def charge(store: Overlay, order: Row, method: Row, cents: int, reason: str) -> None:
    """Charges a payment method. Raises: ToolError if it is a gift card with too low a balance."""
    balance = method["balance_cents"]
    if balance is not None and balance < cents:
        raise ToolError(f"{method['label']} has a balance of {decimal(balance)}; {decimal(cents)} is needed")
    _pay(store, order, method, "charge", cents, -cents, reason)


def refund(store: Overlay, order: Row, cents: int, reason: str) -> Row:
    """Refunds to the order's payment method, and returns it."""
    method = store.row("payment_methods", order["payment_method_id"])
    assert method is not None
    _pay(store, order, method, "refund", cents, cents, reason)
    return method


def _pay(store: Overlay, order: Row, method: Row, kind: str, cents: int, balance_change: int, reason: str) -> None:
    if not cents:
        return
    store.insert(
        "payments",
        "T",
        order_id=order["order_id"],
        payment_method_id=method["payment_method_id"],
        kind=kind,
        amount_cents=cents,
        paid_on=store.today,
        reason=reason,
    )
    if method["balance_cents"] is not None:
        store.update("payment_methods", method, balance_cents=method["balance_cents"] + balance_change)
