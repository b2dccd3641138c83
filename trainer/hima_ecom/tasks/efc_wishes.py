"""What customers say when something is to be changed, and what they want to be told of it."""

from trainer.hima_ecom.tasks.builder import Builder
from trainer.hima_ecom.tasks.phrases import Phrases

CANCEL = Phrases(
    (
        "Please cancel my order {order}; {why}.", "I want to cancel {order} because {why}.", "Cancel {order}, {why}.",
        "{why}, so order {order} can be cancelled.",
    ),
    ("Stop order {order} before it goes out: {why}.", "Order {order} must not be sent, as {why}."),
    ("请取消订单 {order}，{why}。", "我要取消 {order}，因为{why}。"),
    ("{order} 不要发货了，{why}。",),
)  # fmt: skip
WHY = {
    "no_longer_needed": ("I no longer need it", "我不需要了"),
    "ordered_by_mistake": ("I ordered it by mistake", "我下错单了"),
    "found_cheaper": ("I found it cheaper elsewhere", "我在别处找到更便宜的"),
}
CANCEL_ITEM = Phrases(
    (
        "I have an order with the {name} that has not left yet. Cancel it; {why}.",
        "Cancel the order that contains the {name}: {why}.",
        "Please find the order of the {name} and cancel it, as {why}.", "The order with the {name} is to be cancelled, {why}.",
    ),
    ("Somewhere among my orders is the {name}. Call that order off; {why}.",
     "I changed my mind about the {name}: {why}. Drop that order."),
    ("我有一笔含 {name} 的订单，请取消，{why}。", "请找到买了 {name} 的订单并取消，{why}。"),
    ("含有 {name} 的那笔订单不要了，{why}。",),
)  # fmt: skip
MOVE = Phrases(
    (
        "Send order {order} to my {label} address instead.", "Please change the address of {order} to {label}.",
        "Order {order} should go to my {label} address.", "I will be at my address '{label}'; deliver {order} there, please.",
    ),
    ("Redirect {order} to where I am saved as {label}.", "{order}: ship it to the place called {label} in my account."),
    ("把订单 {order} 改寄到我的 {label} 地址。", "请将 {order} 的收货地址换成 {label}。"),
    ("{order} 请送到我保存的 {label} 地址。",),
)  # fmt: skip
PAY = Phrases(
    (
        "Pay order {order} with my {kind} instead.", "Please change the payment of {order} to my {kind}.",
        "I want {order} to be charged to my {kind}.", "Switch order {order} over to the {kind}.",
    ),
    ("Take the money for {order} from my {kind} rather than from what I chose.",
     "{order} on the {kind}, please, not the old method."),
    ("订单 {order} 改用我的 {kind} 支付。", "请把 {order} 的付款方式换成 {kind}。"),
    ("{order} 用 {kind} 付款吧。",),
)  # fmt: skip
KINDS = {"credit_card": "credit card", "paypal": "PayPal account", "gift_card": "gift card"}
RETURN = Phrases(
    (
        "I want to return the {name} from order {order}. It is {condition}.",
        "Please take back the {name} of {order}, {condition}.",
        "Return the {condition} {name} that came with order {order}.", "The {name} in {order} goes back; it is {condition}.",
    ),
    ("From {order} I do not want to keep the {name} ({condition}).",
     "Please set up that my {condition} {name}, bought with {order}, goes back."),
    ("我想退掉订单 {order} 里的 {name}，{condition}。", "请办理退货：{order} 中的 {name}，状态：{condition}。"),
    ("{order} 的 {name} 我要退，{condition}。",),
)  # fmt: skip
CONDITIONS = {"unopened": "未拆封", "opened": "已拆封", "defective": "有质量问题"}
EXCHANGE = Phrases(
    (
        "Exchange the {name} from order {order} for {product}. Any difference goes on {method}.",
        "I would like {product} instead of the {name} in {order}; charge {method} if it costs more.",
        "Please swap the {name} ({order}) for product {product}, difference to {method}.",
        "In order {order}, replace the {name} by {product}. Use {method} for the difference.",
    ),
    (
        "The {name} of {order} does not suit me; give me {product} for it and charge {method} if anything is due.",
        "Trade in my {name} ({order}) for {product}; {method} pays what is missing.",
    ),
    ("把订单 {order} 的 {name} 换成 {product}，差价用 {method} 支付。",
     "我想用 {product} 换掉 {order} 里的 {name}，差价走 {method}。"),
    ("{order} 的 {name} 想换 {product}，多出的钱从 {method} 扣。",),
)  # fmt: skip
APPLY = Phrases(
    (
        "Apply coupon {code} to my order {order}.", "Please use {code} on order {order}.",
        "I forgot to enter {code} for {order}. Add it.",
        "Order {order} should get the coupon {code}.",
    ),
    ("Redeem {code} against {order}.", "There is a voucher, {code}. Put it to work on {order}."),
    ("请把优惠券 {code} 用在订单 {order} 上。", "订单 {order} 使用 {code}。"),
    ("我忘了用 {code}，请加到 {order}。",),
    (
        "Redeem the voucher {code} on {order}.", "I have a voucher, {code}. Redeem it against my order {order}.",
        "Put {code} to work on order {order}.", "Against {order}, use the voucher {code}.",
        "There is {code}; put it on {order}.",
    ),
)  # fmt: skip
BETTER = Phrases(
    (
        "Find out which of the coupons {a} and {b} saves more on order {order}, and apply that one.",
        "Use the better of {a} and {b} on {order}.",
        "I have two codes, {a} and {b}. Put the one with the larger discount on order {order}.",
        "Compare {a} with {b} for {order} and apply the one that takes off more.",
    ),
    ("Only one of {a} and {b} can go on {order}: choose what is cheapest for me and do it.",
     "{order}: redeem {a} or {b}, whichever gives more."),
    ("{a} 和 {b} 哪张用在 {order} 上更划算，请直接使用。", "请在 {a} 与 {b} 中选优惠更大的用于订单 {order}。"),
    ("订单 {order} 只能用一张券，{a} 和 {b} 选省得多的用上。",),
)  # fmt: skip


REFUND = Phrases(
    ("How much do I get back?", "Tell me the refund, too.", "What will be refunded?", "I would like to know the refund."),
    ("Which sum comes back to me?", "State the amount that I will receive."),
    ("能退多少钱？", "请告诉我退款金额。"),
    ("会退给我多少？",),
)
CHARGED = Phrases(
    ("How much is charged?", "Tell me the amount that is charged.", "What does that cost me?", "Please name the sum, too."),
    ("Which sum will be taken?", "State the amount that I will be billed."),
    ("扣款金额是多少？", "请告诉我扣了多少钱。"),
    ("会扣多少？",),
)
STREET = Phrases(
    ("To which street does it go then?", "Tell me the street, to be sure.", "Which street is that?", "Read me the new street."),
    ("What street will be on the label?", "Name the street for me, please."),
    ("寄到哪条街？", "请告诉我新的街道。"),
    ("那是什么街道？",),
)
NEW_TOTAL = Phrases(
    ("What is the total then?", "Tell me the new total.", "How much is the order with it?", "What remains to be paid in all?"),
    ("Which total results?", "State what the order costs after that."),
    ("总额变成多少？", "请告诉我新的总金额。"),
    ("之后一共多少钱？",),
    (
        "State the total that results.", "What does the order cost after that?",
        "And which total does the order have after it?", "State which total results from that.",
    ),
)  # fmt: skip
WHICH_BETTER = Phrases(
    ("Which one was it, and what is the new total?", "Say which you took and what the total is now.",
     "Tell me the code that you used and the total that results.", "I need to know which, and the total after it."),
    ("Name your choice and the sum that the order comes to.", "Which won, and which total is left?"),
    ("用了哪张，总额是多少？", "请告诉我用的是哪张以及新的总金额。"),
    ("选了哪张，之后总共多少？",),
)  # fmt: skip


def also(b: Builder, said: str, more: Phrases) -> str:
    """What is to be done, and what is to be told of it."""
    return ("" if b.zh else " ").join((said, b.phrase(more)))
