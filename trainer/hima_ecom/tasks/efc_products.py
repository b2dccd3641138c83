"""EFC, reading: what a customer asks about the catalogue, promotions and coupons."""

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.tasks.attributes import can_be_said, said
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.efc_wishes import also
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.phrases import Phrases
from trainer.hima_ecom.tasks.qa_products import product_name

PRICE = Phrases(
    (
        "What does product {product} cost without any promotion?", "What is the list price of {product}?",
        "Give me the list price of {product}.",
        "I saw item {product} in the app. What is its regular price?",
    ),
    ("At which price do you list {product}?", "What would I have to pay for {product}, without offers?"),
    ("商品 {product} 不算促销多少钱？", "请问 {product} 的标价是多少？"),
    ("不打折的话 {product} 卖多少钱？",),
)  # fmt: skip
STOCK = Phrases(
    (
        "How many of product {product} are in stock?", "What is the stock of {product}?",
        "Check how many pieces of {product} you have.",
        "I need several of {product}. How many are left?",
    ),
    ("Up to how many units of {product} could I buy right now?", "Inventory level for {product}?"),
    ("商品 {product} 还有多少库存？", "{product} 还剩几件？"),
    ("现在 {product} 能买几个？",),
)  # fmt: skip
OFFER = Phrases(
    (
        "What does product {product} cost with the current promotion?", "How much is {product} with today's offer?",
        "There is a promotion on. What is the reduced price of {product}?", "Tell me the promotion price of {product}.",
    ),
    ("After the running discount, what remains to pay for {product}?", "Sale price of {product}, please."),
    ("商品 {product} 的促销价是多少？", "现在打折后 {product} 多少钱？"),
    ("算上今天的优惠，{product} 要多少钱？",),
)  # fmt: skip
CHEAPEST = Phrases(
    (
        "Which is your cheapest {type} with {value} that is in stock, and what is its list price?",
        "Find me the lowest priced {type} with {value} in stock, and its list price.",
        "I want a {type} with {value}, as cheap as possible and available. Which one, and at what list price?",
        "Of every {type} with {value} that you have in stock, which has the lowest list price, and how much is it?",
    ),
    (
        "My budget is tight: name the least expensive available {type} with {value}, and its list price.",
        "By list price, what is the best bargain for a {type} with {value}, ready to ship? Give me the amount, too.",
    ),
    ("有货的 {type}（{value}）里标价最低的是哪个，多少钱？", "请找一款标价最低且有货的 {type}，要 {value}，并告诉我价格。"),
    ("想买 {type}，要 {value}，有货的哪款标价最低，是多少？",),
)  # fmt: skip
BEST = Phrases(
    (
        "Which {type} with a list price under {price} USD has the best rating?",
        "Recommend the best rated {type} that is listed for less than {price} USD.",
        "I look at list prices up to {price} USD for a {type}. Which one has the best rating?",
        "What is the top rated {type} with a list price below {price} USD?",
    ),
    ("At a list price of {price} USD or less, which {type} gets the highest mean of stars?",
     "Highest customer rating, {type}, listed at {price} USD at the most?"),
    ("标价 {price} USD 以内评分最高的 {type} 是哪款？", "请推荐标价 {price} USD 以下评分最高的 {type}。"),
    ("标价不超过 {price} USD，哪款 {type} 评分最高？",),
)  # fmt: skip
REVIEWS = Phrases(
    (
        "How many reviewers gave product {product} {stars} stars?", "Count the {stars} star reviews of {product}.",
        "What is the number of {stars}-star ratings for {product}?",
        "Of the reviews of {product}, how many have {stars} stars?",
    ),
    ("{product}: how often was it rated with {stars} stars?", "Number of people who awarded {stars} stars to {product}?"),
    ("商品 {product} 有几条 {stars} 星评价？", "给 {product} 打 {stars} 星的有多少人？"),
    ("{product} 的 {stars} 星评论有多少条？",),
)  # fmt: skip
COUPON = Phrases(
    (
        "What would coupon {code} take off my order {order}?", "If I use {code} on order {order}, how much do I save?",
        "How many dollars less is order {order} with coupon {code}?",
        "Check the discount of {code} for {order}, but do not apply it.",
    ),
    ("Just out of curiosity: the value of voucher {code} for {order}?", "Before I decide, what is {code} worth on {order}?"),
    ("优惠券 {code} 用在订单 {order} 上能减多少？", "订单 {order} 用 {code} 可以省多少钱？"),
    ("先别用，{code} 能给 {order} 优惠多少？",),
)  # fmt: skip
ITS_PRICE = Phrases(
    (
        "What is its list price?",
        "Tell me the list price, too.",
        "And at what price is it listed?",
        "How much is it, by list price?",
    ),
    ("State what it is listed at.", "I need its list price as well."),
    ("它的标价是多少？", "也请告诉我标价。"),
    ("顺便说一下标价。",),
)
VARIANT = Phrases(
    (
        "Which product is the variant of {product} with {value}?",
        "I like {product}, but want it with {value}. What is its number?",
        "Does {product} exist with {value}? Give me the product number.", "Find the version of {product} with {value}.",
    ),
    ("Same as {product}, only with {value}: under which number do you sell it?",
     "If I want {product} with {value}, which article is that?"),
    ("{product} 的 {value} 款编号是多少？", "我想要 {product} 的 {value} 版本，是哪个商品？"),
    ("与 {product} 同款、但要 {value} 的商品编号是什么？",),
)  # fmt: skip


def _product(b: Builder) -> Row:
    return b.rng.choice(b.pools.products)


def _answer_number(b: Builder, product: Row, what: str, zh: str, value: str, unit: str | None) -> None:
    """The master's answer with one number of a product."""
    shown = f"{value} {unit}" if unit else value
    b.expect_number(value, unit)
    b.finish(f"The {what} of {product['product_id']} is {shown}.", f"{product['product_id']} 的{zh}是 {shown}。")


@family("efc", 1)
def product_price(b: Builder) -> None:
    """The list price of a product."""
    product = _product(b)
    b.ask(b.phrase(PRICE, product=product["product_id"]))
    efc = b.delegate(
        "efc", f"What is the list price of product {product['product_id']}?", "The efc agent can look at products."
    )
    seen = efc.call("get_product", "I look at the product.", product_id=product["product_id"])
    efc.answer(f"The list price of {product['product_id']} is {seen['price']} USD.")
    _answer_number(b, product, "list price", "标价", seen["price"], "USD")


@family("efc", 1)
def product_stock(b: Builder) -> None:
    """How many of a product are in stock."""
    product = _product(b)
    b.ask(b.phrase(STOCK, product=product["product_id"]))
    efc = b.delegate("efc", f"How many of product {product['product_id']} are in stock?", "The efc agent can look at products.")
    seen = efc.call("get_product", "I look at the product.", product_id=product["product_id"])
    efc.answer(f"There are {seen['stock']} of {product['product_id']} in stock.")
    _answer_number(b, product, "stock", "库存", str(seen["stock"]), None)


@family("efc", 1)
def promotion_price(b: Builder) -> None:
    """What a product costs with the promotion that runs."""
    product = _product(b)
    b.ask(b.phrase(OFFER, product=product["product_id"]))
    efc = b.delegate(
        "efc", f"What is the promotion price of product {product['product_id']}?", "The efc agent knows promotions."
    )
    seen = efc.call("get_product", "I look at the product and its promotion.", product_id=product["product_id"])
    if seen["promotion_price"] is None:
        raise Skip("no promotion")
    efc.answer(f"With the promotion {product['product_id']} costs {seen['promotion_price']} USD.")
    _answer_number(b, product, "promotion price", "促销价", seen["promotion_price"], "USD")


@family("efc", 2)
def cheapest_product(b: Builder) -> None:
    """The cheapest product of a type with an attribute, in stock."""
    product = _product(b)
    attributes = b.pools.world.products[product["product_id"]].attributes
    key, value = b.rng.choice([item for item in attributes.items() if can_be_said(item[0])])
    english, shown = said(b, {key: value})
    b.ask(b.phrase(CHEAPEST, type=product["type"], value=shown))
    efc = b.delegate(
        "efc", f"Find the cheapest {product['type']} in stock with {english}.", "The efc agent can search the catalogue."
    )
    arguments = {
        "type": product["type"],
        "attributes": {key: value},
        "in_stock": True,
        "sort_by": "price_ascending",
        "limit": 2,
    }
    found = efc.call("search_products", "I search, the cheapest first.", **arguments)["products"]
    if not found or (len(found) > 1 and found[0]["price"] == found[1]["price"]):
        raise Skip("no single cheapest")
    best = found[0]
    efc.answer(f"The cheapest is {best['product_id']}, the {best['name']}, at {best['price']} USD.")
    b.expect_text(best["product_id"], best["name"])
    b.expect_number(best["price"], "USD")
    b.finish(
        f"It is {best['product_id']}, the {best['name']}, at {best['price']} USD.",
        f"是 {best['product_id']}（{best['name']}），{best['price']} USD。",
    )


@family("efc", 2)
def best_rated(b: Builder) -> None:
    """The best rated product of a type under a price, and what it costs."""
    product = _product(b)
    price = b.rng.randrange(product["price_cents"] // 100, product["price_cents"] // 50, 5)
    b.ask(also(b, b.phrase(BEST, type=product["type"], price=price), ITS_PRICE))
    efc = b.delegate(
        "efc",
        f"Find the best rated {product['type']} that costs at most {price} USD, and its list price.",
        "The efc agent can search the catalogue.",
    )
    arguments = {"type": product["type"], "max_price": price, "sort_by": "rating", "limit": 2}
    found = efc.call("search_products", "I search, the best rating first.", **arguments)["products"]
    if len(found) < 2 or found[0]["rating"] == found[1]["rating"]:
        raise Skip("no single best")
    best = found[0]
    efc.answer(
        f"The best rated is {best['product_id']}, the {best['name']}, with {best['rating']} stars, at {best['price']} USD."
    )
    b.expect_text(best["product_id"], best["name"])
    b.expect_number(best["price"], "USD")
    b.finish(
        f"It is {best['product_id']}, the {best['name']}, rated {best['rating']}, at {best['price']} USD.",
        f"是 {best['product_id']}（{best['name']}），评分 {best['rating']}，标价 {best['price']} USD。",
    )


@family("efc", 1)
def review_count(b: Builder) -> None:
    """How many reviews of a product have so many stars."""
    product, stars = _product(b), b.rng.randint(1, 5)
    b.ask(b.phrase(REVIEWS, product=product["product_id"], stars=stars))
    efc = b.delegate(
        "efc", f"How many {stars} star reviews has product {product['product_id']}?", "The efc agent can read reviews."
    )
    seen = efc.call("get_reviews", "I read how often each number of stars was given.", product_id=product["product_id"])
    count = seen["stars"][str(stars)]
    if count in (0, stars):
        raise Skip("nothing to count, or a number of the query")
    efc.answer(f"{product['product_id']} has {count} reviews with {stars} stars.")
    b.expect_number(str(count), None, "0")
    b.finish(f"Reviews with {stars} stars: {count}.", f"有 {count} 条 {stars} 星评价。")


@family("efc", 1)
def coupon_value(b: Builder) -> None:
    """What a coupon would take off an order, without applying it."""
    row = b.pools.order(b.rng, "pending")
    b.customer(row["customer_id"])
    key, code = row["order_id"], b.rng.choice(b.pools.world.all("coupons"))["code"]
    b.ask(b.phrase(COUPON, code=code, order=key))
    efc = b.delegate(
        "efc", f"What would coupon {code} take off order {key}? Do not apply it.", "The efc agent can check coupons."
    )
    seen = efc.call("check_coupon", "I check it without applying it.", code=code, order_id=key)
    if not seen["applicable"]:
        raise Skip(seen["reason"])
    efc.answer(f"Coupon {code} would take {seen['discount']} USD off order {key}.")
    b.expect_number(seen["discount"], "USD")
    b.finish(f"You would save {seen['discount']} USD with {code}.", f"用 {code} 可以省 {seen['discount']} USD。")


@family("efc", 1)
def find_variant(b: Builder) -> None:
    """The number of a variant of a product."""
    group = b.rng.choice(b.pools.families)
    if len(group) < 2:
        raise Skip("no variants")
    one, other = b.rng.sample(group, 2)
    products = b.pools.world.products
    mine = products[one["product_id"]].attributes
    value = _differs(products[other["product_id"]].attributes, mine)
    fits = [row for row in group if row is not one and _differs(products[row["product_id"]].attributes, mine) == value]
    if len(fits) != 1:
        raise Skip("more than one variant fits")
    english, shown = said(b, value)
    b.ask(b.phrase(VARIANT, product=one["product_id"], value=shown))
    efc = b.delegate(
        "efc", f"Which product is the variant of {one['product_id']} with {english}?", "The efc agent can look at variants."
    )
    efc.call("get_product", "I look at its variants.", product_id=one["product_id"])
    efc.answer(f"The variant of {one['product_id']} with {english} is {other['product_id']}.")
    b.expect_text(other["product_id"])
    b.finish(f"The {product_name(one)} with {english} is {other['product_id']}.", f"{shown} 款是 {other['product_id']}。")


def _differs(attributes: dict[str, str], mine: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in attributes.items() if mine[key] != value}
