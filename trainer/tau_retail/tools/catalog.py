"""What the store sells."""

from typing import Any

from trainer.hima_ecom.tools.registry import ToolError, shown
from trainer.tau_retail.registry import tool
from trainer.tau_retail.world import Row, World


def existing_product(world: World, product_id: str) -> Row:
    """The product's row. Raises: ToolError."""
    product = world.row("products", product_id)
    if product is None:
        raise ToolError(f"product {shown(product_id)} not found")
    return product


@tool
def list_all_product_types(world: World) -> dict[str, Any]:
    """{name: product id}, by name."""
    products = [existing_product(world, key) for key in world.keys("products")]
    return {product["name"]: product["product_id"] for product in sorted(products, key=lambda row: row["name"])}


@tool
def get_product_details(world: World, *, product_id: str) -> Row:
    """A product type with its variants."""
    return existing_product(world, product_id)
