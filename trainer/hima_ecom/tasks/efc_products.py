"""EFC, reading: what a customer asks about the catalogue, promotions and coupons."""

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.tasks.attributes import can_be_said, said
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.qa_products import product_name


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
    b.ask(b.phrase("efc_products/product_price", product=product["product_id"]))
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
    b.ask(b.phrase("efc_products/product_stock", product=product["product_id"]))
    efc = b.delegate("efc", f"How many of product {product['product_id']} are in stock?", "The efc agent can look at products.")
    seen = efc.call("get_product", "I look at the product.", product_id=product["product_id"])
    efc.answer(f"There are {seen['stock']} of {product['product_id']} in stock.")
    _answer_number(b, product, "stock", "库存", str(seen["stock"]), None)


@family("efc", 1)
def promotion_price(b: Builder) -> None:
    """What a product costs with the promotion that runs."""
    product = _product(b)
    b.ask(b.phrase("efc_products/promotion_price", product=product["product_id"]))
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
    b.ask(b.phrase("efc_products/cheapest_product", type=product["type"], value=shown))
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
    b.ask(b.join(b.phrase("efc_products/best_rated", type=product["type"], price=price), b.phrase("efc_products/its_price")))
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
    b.ask(b.phrase("efc_products/review_count", product=product["product_id"], stars=stars))
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
    b.ask(b.phrase("efc_products/coupon_value", code=code, order=key))
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
    b.ask(b.phrase("efc_products/find_variant", product=one["product_id"], value=shown))
    efc = b.delegate(
        "efc", f"Which product is the variant of {one['product_id']} with {english}?", "The efc agent can look at variants."
    )
    efc.call("get_product", "I look at its variants.", product_id=one["product_id"])
    efc.answer(f"The variant of {one['product_id']} with {english} is {other['product_id']}.")
    b.expect_text(other["product_id"])
    b.finish(f"The {product_name(one)} with {english} is {other['product_id']}.", f"{shown} 款是 {other['product_id']}。")


def _differs(attributes: dict[str, str], mine: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in attributes.items() if mine[key] != value}
