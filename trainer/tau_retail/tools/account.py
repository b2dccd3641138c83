"""Who the customer is."""

from typing import Any

from trainer.hima_ecom.tools.registry import ToolError, shown
from trainer.tau_retail.registry import tool
from trainer.tau_retail.world import Row, World


def existing_user(world: World, user_id: str) -> Row:
    """The user's row. Raises: ToolError."""
    user = world.row("users", user_id)
    if user is None:
        raise ToolError(f"user {shown(user_id)} not found")
    return user


@tool
def find_user_id_by_email(world: World, *, email: str) -> dict[str, Any]:
    """By email, in any case."""
    user_id = world.base.by_email.get(email.lower())
    if user_id is None:
        raise ToolError("user not found")
    return {"user_id": user_id}


@tool
def find_user_id_by_name_zip(world: World, *, first_name: str, last_name: str, zip: str) -> dict[str, Any]:
    """By name, in any case, and the zip code of the address as it now is."""
    for user_id in world.base.by_name.get((first_name.lower(), last_name.lower()), []):
        if existing_user(world, user_id)["address"]["zip"] == zip:
            return {"user_id": user_id}
    raise ToolError("user not found")


@tool
def get_user_details(world: World, *, user_id: str) -> Row:
    """The profile: name, address, email, payment methods, order ids."""
    return existing_user(world, user_id)


@tool
def modify_user_address(
    world: World, *, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> Row:
    """Replaces the default address."""
    address = {"address1": address1, "address2": address2, "city": city, "country": country, "state": state, "zip": zip}
    user = existing_user(world, user_id) | {"address": address}
    world.put("users", user_id, user)
    return user
