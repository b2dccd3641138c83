"""What customers ask about their orders and parcels: wordings of the families of `efc_orders`."""

from trainer.hima_ecom.tasks.phrases import Phrases

STATUS = Phrases(
    (
        "What is the status of my order {order}?", "Where do things stand with order {order}?", "How far along is {order}?",
        "Please check how far my order {order} is.", "I wonder what is happening with {order}.",
    ),
    ("Could I get an update on {order}?", "In which state is the purchase {order} at the moment?"),
    ("我的订单 {order} 是什么状态？", "请查一下订单 {order} 的进度。"),
    ("订单 {order} 现在到哪一步了？",),
)  # fmt: skip
TOTAL = Phrases(
    (
        "What is the total of my order {order}?", "How much did I pay for order {order}?",
        "I need the total amount of {order}.",
        "Tell me what {order} cost altogether.", "For my taxes: what was the sum of order {order}?",
    ),
    ("What was I charged for {order}, everything included?", "The final price of purchase {order}, please."),
    ("订单 {order} 一共多少钱？", "请告诉我订单 {order} 的总金额。"),
    ("{order} 这笔订单总共花了多少？",),
)  # fmt: skip
ADDRESS = Phrases(
    (
        "To which street is my order {order} going?", "What is the delivery address of {order}?",
        "Which address did I give for order {order}?", "I forgot where {order} is being sent. Which street?",
    ),
    ("At what street will {order} arrive?", "Read me the shipping street of purchase {order}."),
    ("订单 {order} 的收货地址是哪里？", "{order} 寄到哪条街？"),
    ("请问 {order} 会送到什么街道？",),
)  # fmt: skip
CARRIER = Phrases(
    (
        "Which carrier brings my order {order}?", "Who delivers {order}?", "What company is the parcel of {order} with?",
        "Tell me the carrier of order {order}.",
    ),
    ("By which delivery service was {order} sent out?", "Whose van should I look for, concerning {order}?"),
    ("订单 {order} 是哪家快递？", "{order} 由哪个承运商配送？"),
    ("请问 {order} 用的是什么快递公司？",),
)  # fmt: skip
TRACKING = Phrases(
    (
        "What is the tracking number of order {order}?", "Give me the tracking number for {order}.",
        "I want to track {order} myself. What is its number?", "Which parcel number belongs to {order}?",
    ),
    ("The carrier wants a tracking code for {order}; what is it?", "I need the code to follow {order} with."),
    ("订单 {order} 的快递单号是多少？", "请给我 {order} 的运单号。"),
    ("我想自己查 {order} 的物流，单号是什么？",),
)  # fmt: skip
ARRIVED = Phrases(
    (
        "When was order {order} delivered?", "On which day did {order} arrive?", "What is the delivery date of {order}?",
        "I need the day on which my order {order} came.",
    ),
    ("Which day did the courier hand over {order}?", "Look up when I received {order}."),
    ("订单 {order} 是哪天送达的？", "{order} 什么时候到的？"),
    ("请查 {order} 的签收日期。",),
)  # fmt: skip
QUANTITY = Phrases(
    (
        "How many pieces of the {name} are in order {order}?", "What quantity of the {name} did I buy with {order}?",
        "How many times is the {name} in my order {order}?", "Check how many of the {name} are in my order {order}.",
    ),
    ("Of the {name}, how many did I take in {order}?", "{order} contains the {name}: how many of them?"),
    ("订单 {order} 里有几件 {name}？", "{order} 中 {name} 买了几个？"),
    ("我在 {order} 里订了多少 {name}？",),
)  # fmt: skip
PRICE_PAID = Phrases(
    (
        "What did one {name} cost me in order {order}?", "Which unit price did I pay for the {name} in {order}?",
        "How much was the {name} in my order {order}, per piece?", "In order {order}, what is the price of a single {name}?",
    ),
    ("At what price per unit did you sell me the {name} ({order})?", "One {name} in {order}: what was it billed at?"),
    ("订单 {order} 里 {name} 的单价是多少？", "{order} 中一件 {name} 多少钱？"),
    ("我在 {order} 买的 {name} 每件多少钱？",),
)  # fmt: skip
LATEST = Phrases(
    (
        "Which is my latest order, and what is its status?", "Give me the number and the status of my most recent order.",
        "I ordered something lately. What are the order's number and status?",
        "Check the newest order on my account: what is its number, and what state is it in?",
    ),
    ("My last purchase: under which number does it run, and in which state is it?",
     "I forgot the number of the newest order I placed. Tell me that, and how far it is."),
    ("我最近一笔订单是哪个，什么状态？", "请查我最新订单的编号和状态。"),
    ("我最后下的那单编号是多少，现在到哪一步了？",),
)  # fmt: skip
NAMED = Phrases(
    (
        "I am {first}, customer {customer}.", "This is {first} {last}.", "{first} here, account {customer}.",
        "My name is {first} {last}.",
    ),
    ("You are talking to {first} {last}.", "Customer {customer} speaking."),
    ("我是 {first}，客户号 {customer}。", "我叫 {first} {last}。"),
    ("这里是 {first} {last}。",),
)  # fmt: skip
COUNT = Phrases(
    (
        "How many of my orders are {status}?", "Count my {status} orders, please.",
        "I want to know how many {status} orders I have.",
        "What is the number of orders on my account that are {status}?",
    ),
    ("Of all I bought, how many orders are {status}?", "Number of {status} orders in my name?"),
    ("我有几个{status}的订单？", "请数一下我{status}的订单。"),
    ("我名下{status}的订单有多少个？",),
)  # fmt: skip
ITS_TOTAL = Phrases(
    (
        "And what is its total?",
        "Tell me its sum, too.",
        "What does it come to?",
        "I no longer know what it cost; how much was it?",
    ),
    ("State the amount as well.", "And which sum stands under it?"),
    ("总金额是多少？", "也请告诉我总价。"),
    ("顺便说一下一共多少钱。",),
)
NUMBERS = Phrases(
    ("Give me their numbers, too.", "And which are they?", "List their numbers as well.", "Name each of them, please."),
    ("I also want to see under which numbers they run.", "Spell out the order numbers with it."),
    ("也请列出订单号。", "分别是哪些订单？"),
    ("订单编号也一并告诉我。",),
)  # fmt: skip
