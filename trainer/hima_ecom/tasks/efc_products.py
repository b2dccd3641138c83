"""EFC, reading: questions about the catalogue, promotions and coupons."""

from trainer.hima_ecom.tasks.attributes import can_be_said, said
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.efc_orders import own_order
from trainer.hima_ecom.tasks.qa_products import product_name
from trainer.hima_ecom.tasks.template import Facts, Number, Template, Text, call, templates


def _a_product(b: Builder) -> Facts:
    row = b.rng.choice(b.pools.products)
    return {"product": row["product_id"], "type": row["type"], "cents": row["price_cents"]}


def _an_attribute(b: Builder) -> Facts:
    facts = _a_product(b)
    attributes = b.pools.world.products[facts["product"]].attributes
    key, value = b.rng.choice([item for item in attributes.items() if can_be_said(item[0])])
    english, shown = said(b, {key: value})
    return facts | {"attributes": {key: value}, "english": english, "value": shown}


def _a_price(b: Builder) -> Facts:
    facts = _a_product(b)
    return facts | {"price": b.rng.randrange(facts["cents"] // 100, facts["cents"] // 50, 5)}


def _some_stars(b: Builder) -> Facts:
    return _a_product(b) | {"stars": b.rng.randint(1, 5)}


def _a_coupon(b: Builder) -> Facts:
    order = own_order(b, "pending")["order_id"]
    return {"order": order, "code": b.rng.choice(b.pools.world.all("coupons"))["code"]}


def _a_variant(b: Builder) -> Facts:
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
    names = {"product": one["product_id"], "name": product_name(one), "variant": other["product_id"]}
    return names | {"english": english, "value": shown}


def _differs(attributes: dict[str, str], mine: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in attributes.items() if mine[key] != value}


def _promotion(facts: Facts) -> Facts:
    if facts["seen"]["promotion_price"] is None:
        raise Skip("no promotion")
    return {}


def _cheapest(facts: Facts) -> Facts:
    found = facts["seen"]["products"]
    if not found or (len(found) > 1 and found[0]["price"] == found[1]["price"]):
        raise Skip("no single cheapest")
    return {"best": found[0]}


def _best(facts: Facts) -> Facts:
    found = facts["seen"]["products"]
    if len(found) < 2 or found[0]["rating"] == found[1]["rating"]:
        raise Skip("no single best")
    return {"best": found[0]}


def _count(facts: Facts) -> Facts:
    count = facts["seen"]["stars"][str(facts["stars"])]
    if count in (0, facts["stars"]):
        raise Skip("nothing to count, or a number of the query")
    return {"count": count}


def _applicable(facts: Facts) -> Facts:
    if not facts["seen"]["applicable"]:
        raise Skip(facts["seen"]["reason"])
    return {}


LOOK = call("get_product", product_id="{product}")
BEST = (Text("{best[product_id]}", accept="{best[name]}"), Number("{best[price]}", "USD"))
templates(
    "efc",
    "efc_products",
    Template("product_price", 1, "The list price of a product.", _a_product, LOOK, Number("{seen[price]}", "USD")),
    Template("product_stock", 1, "How many of a product are in stock.", _a_product, LOOK, Number("{seen[stock]}")),
    Template(
        "promotion_price", 1, "What a product costs with the promotion that runs.", _a_product, LOOK,
        Number("{seen[promotion_price]}", "USD"),
        read=_promotion,
    ),
    Template(
        "cheapest_product", 2, "The cheapest product of a type with an attribute, in stock.", _an_attribute,
        call(
            "search_products", type="{type}", attributes="{attributes}", in_stock=True, sort_by="price_ascending", limit=2
        ),
        BEST,
        read=_cheapest,
    ),
    Template(
        "best_rated", 2, "The best rated product of a type under a price, and what it costs.", _a_price,
        call("search_products", type="{type}", max_price="{price}", sort_by="rating", limit=2),
        BEST,
        read=_best,
        ask=("efc_products/best_rated", "efc_products/its_price"),
    ),
    Template(
        "review_count", 1, "How many reviews of a product have so many stars.", _some_stars,
        call("get_reviews", product_id="{product}"),
        Number("{count}", None, "0"),
        read=_count,
    ),
    Template(
        "coupon_value", 1, "What a coupon would take off an order, without applying it.", _a_coupon,
        call("check_coupon", code="{code}", order_id="{order}"),
        Number("{seen[discount]}", "USD"),
        read=_applicable,
    ),
    Template("find_variant", 1, "The number of a variant of a product.", _a_variant, LOOK, Text("{variant}")),
)  # fmt: skip
