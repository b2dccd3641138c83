"""Money: integer cents inside, decimal strings outside."""


def decimal(cents: int) -> str:
    """123456 -> "1234.56"."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def discount_share(amount: int, discount: int, subtotal: int) -> int:
    """The part of an order's discount that falls on `amount` of its subtotal, rounded up: refunds never exceed the price."""
    return -(-discount * amount // subtotal) if subtotal else 0
