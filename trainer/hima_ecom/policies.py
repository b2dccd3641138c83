"""The store's policies as customers read them; every number comes from `rules`."""

from trainer.hima_ecom import rules
from trainer.hima_ecom.catalog import BRANDS
from trainer.hima_ecom.money import decimal


def _either(statuses: tuple[str, ...]) -> str:
    return " or ".join(statuses)


def _returns(brand: str, category: str) -> str:
    rule, department = rules.return_rule(brand, category), rules.department(brand, category)
    if not rule.days:
        return f"{department} items can not be returned or exchanged, unless they are defective."
    opened = "may be opened" if rule.opened else "must be unopened"
    return (
        f"{department} items can be returned within {rule.days} days of delivery. They {opened}. "
        f"Gold members have {rule.days + rules.GOLD_EXTRA_DAYS} days."
    )


def policies() -> list[tuple[str, str, str]]:
    """(topic, title, body) of every policy, in order."""
    free, fee = decimal(rules.FREE_SHIPPING_CENTS), decimal(rules.SHIPPING_CENTS)
    return [
        (
            "cancel",
            "Cancelling an order",
            (
                f"An order can be cancelled only before it ships, that is while its status is {_either(rules.CANCELLABLE)}. "
                "A cancelled order is refunded in full to the original payment method. The whole order is "
                "cancelled; single items "
                "can not be. A coupon that was used on it can be used again."
            ),
        ),
        (
            "returns",
            "Returning items: the general rules",
            (
                "Only delivered items can be returned, each line of an order as a whole and only once. The last day of the "
                "return period still counts. The time allowed depends on the brand and category of the product. The price "
                "paid, less the "
                "item's share of any discount, is refunded; the shipping fee is not."
            ),
        ),
        (
            "defects",
            "Defective items",
            f"A defective item of any category can be returned within {rules.DEFECT_DAYS} days of delivery, opened or not.",
        ),
        *(
            ("returns", f"Return period: {rules.department(brand, category)}", _returns(brand, category))
            for brand in BRANDS
            for category in rules.CATEGORIES
        ),
        (
            "exchange",
            "Exchanging an item",
            (
                "A delivered item can be exchanged, opened or not, within its return period for "
                "another product "
                "of the same type that is in stock, for example another colour or size. The list price of the "
                "new product counts, "
                "not a promotion. If it costs more, the difference is charged to a payment method of the "
                "customer's choice; if it "
                "costs less, the difference is refunded to the original payment method."
            ),
        ),
        (
            "address",
            "Changing the shipping address",
            (
                f"The shipping address can be changed only before the order ships, while its status is "
                f"{_either(rules.ADDRESS_CHANGEABLE)}, and only to an address in the same country."
            ),
        ),
        (
            "payment",
            "Changing the payment method",
            (
                f"The payment method can be changed while an order is {_either(rules.PAYMENT_CHANGEABLE)}. The "
                f"old method is "
                "refunded and the new one charged the full total. A gift card must have a balance that covers "
                "the whole total."
            ),
        ),
        (
            "coupons",
            "Using a coupon",
            (
                f"A coupon can be applied while an order is {_either(rules.COUPON_APPLICABLE)}, one coupon per "
                f"order. It must be "
                "valid on that day, the items it is meant for must reach its minimum, and some coupons can be used once per "
                "customer only. A coupon for one category lowers the price of that category's items only."
            ),
        ),
        (
            "refunds",
            "Refunds",
            "Refunds always go to the original payment method of the order, never to another one.",
        ),
        (
            "shipping",
            "Shipping costs",
            f"Shipping is free from {free} USD; below, it costs {fee} USD an order.",
        ),
        (
            "account",
            "Identification and privacy",
            (
                "A customer is identified by the e-mail address, or by first name, last name and postal code. "
                "Orders, addresses "
                "and payment methods are shown and changed only for the identified customer, never for somebody else."
            ),
        ),
        (
            "membership",
            "Membership tiers",
            (
                f"There are three tiers: standard, silver and gold. Gold members have {rules.GOLD_EXTRA_DAYS} more days for "
                "returns and exchanges of everything that can be returned."
            ),
        ),
    ]
