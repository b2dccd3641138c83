"""The catalogue: search, one product, its reviews."""

import json
import re
from typing import Annotated, Any, Literal

from trainer.hima_ecom.base import Row
from trainer.hima_ecom.catalog import TYPES
from trainer.hima_ecom.money import decimal
from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.promotions import running_promotion
from trainer.hima_ecom.tools.registry import Arg, ToolError, shown, tool

_ATTRIBUTES = ", ".join(sorted({name for kind in TYPES for name in (*kind.shared, *kind.varied)}))


def existing_product(store: Overlay, product_id: str) -> Row:
    """A product. Raises: ToolError for an unknown id."""
    row = store.row("products", product_id)
    if row is None:
        raise ToolError(f"no product {shown(product_id)}")
    return row


@tool("efc")
def search_products(
    store: Overlay,
    *,
    query: Annotated[str, Arg("words that the product's text should contain")] | None = None,
    type: Annotated[str, Arg("type of product, such as headset")] | None = None,
    category: Annotated[Literal["electronics", "home", "clothing", "beauty", "toys", "sports", "grocery"], Arg("category")]
    | None = None,
    brand: Annotated[str, Arg("brand")] | None = None,
    attributes: Annotated[dict[str, str], Arg(f"attributes that must be equal; values are texts; names: {_ATTRIBUTES}")]
    | None = None,
    min_price: Annotated[float, Arg("lowest price")] | None = None,
    max_price: Annotated[float, Arg("highest price")] | None = None,
    min_rating: Annotated[float, Arg("lowest mean rating, 1 to 5")] | None = None,
    in_stock: Annotated[bool, Arg("only products that are in stock")] = False,
    sort_by: Annotated[
        Literal["relevance", "price_ascending", "price_descending", "rating"], Arg("order of the results")
    ] = "relevance",
    limit: Annotated[int, Arg("how many at most", minimum=1, maximum=20)] = 10,
) -> dict[str, Any]:
    """Search the catalogue. All conditions must hold; of the words in the query at least one, the more the better."""
    # A word counts where a word of the product begins with it; Chinese has no spaces and counts anywhere.
    words = [f" {word}" if word.isascii() else word for word in dict.fromkeys(re.findall(r"\w+", (query or "").lower()))]
    wanted = [(key.lower(), value.lower()) for key, value in (attributes or {}).items()]
    kind, maker = (None if text is None else text.strip().lower() for text in (type, brand))
    found: list[tuple[int, Row]] = []
    for product in store.products():
        row = product.row
        if (
            (category is not None and row["category"] != category)
            or (kind is not None and row["type"] != kind)
            or (maker is not None and row["brand"].lower() != maker)
            or (min_price is not None and row["price_cents"] < min_price * 100)
            or (max_price is not None and row["price_cents"] > max_price * 100)
            or (min_rating is not None and row["rating"] < min_rating)
            or (in_stock and row["stock"] <= 0)
            or any(product.attributes.get(key, "").lower() != value for key, value in wanted)
        ):
            continue
        hits = sum(word in product.text for word in words)
        if hits or not words:
            found.append((hits, row))
    order: dict[str, Any] = {
        "relevance": lambda item: (-item[0], item[1]["product_id"]),
        "price_ascending": lambda item: (item[1]["price_cents"], item[1]["product_id"]),
        "price_descending": lambda item: (-item[1]["price_cents"], item[1]["product_id"]),
        "rating": lambda item: (-item[1]["rating"], item[1]["product_id"]),
    }
    found.sort(key=order[sort_by])
    shown_keys = ("product_id", "name", "type", "rating", "stock")
    products = [{k: row[k] for k in shown_keys} | {"price": decimal(row["price_cents"])} for _, row in found[:limit]]
    return {"products": products, "count": len(found)}


@tool("efc")
def get_product(store: Overlay, *, product_id: Annotated[str, Arg("id of the product, such as P0001")]) -> dict[str, Any]:
    """One product: attributes, list price, running promotion, stock, rating, and the other variants of its family."""
    row = existing_product(store, product_id)
    promotion = running_promotion(store, row["category"])
    price = row["price_cents"]
    variants = [
        {
            "product_id": v["product_id"],
            "attributes": json.loads(v["attributes"]),
            "price": decimal(v["price_cents"]),
            "stock": v["stock"],
        }
        for v in (p.row for p in store.products())
        if v["family_id"] == row["family_id"] and v["product_id"] != product_id
    ]
    return {k: v for k, v in row.items() if k not in ("family_id", "price_cents")} | {
        "attributes": json.loads(row["attributes"]),
        "price": decimal(price),
        "promotion_price": decimal(price - price * promotion["percent_off"] // 100) if promotion else None,
        "variants": variants,
    }


@tool("efc")
def get_reviews(
    store: Overlay,
    *,
    product_id: Annotated[str, Arg("id of the product")],
    stars: Annotated[int, Arg("only reviews with this many stars", minimum=1, maximum=5)] | None = None,
    limit: Annotated[int, Arg("how many at most", minimum=1, maximum=10)] = 5,
) -> dict[str, Any]:
    """What customers wrote about a product, newest first, and how many gave how many stars."""
    product = existing_product(store, product_id)
    rows = store.rows("reviews", "product_id", product_id)
    counts = {str(n): sum(row["stars"] == n for row in rows) for n in range(1, 6)}
    chosen = [row for row in rows if stars is None or row["stars"] == stars]
    chosen.sort(key=lambda row: (row["written_on"], row["review_id"]), reverse=True)
    keys = ("stars", "title", "body", "written_on")
    return {"rating": product["rating"], "stars": counts, "reviews": [{k: row[k] for k in keys} for row in chosen[:limit]]}
