"""A hand-written store of the folder's shape, and the real folder, where it is."""

import inspect
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.tau_retail import Retail, load
from trainer.tau_retail.registry import FUNCTIONS
from trainer.tau_retail.world import World

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = {"address1": "1 Main St", "address2": "", "city": "Austin", "country": "USA", "state": "TX", "zip": "78701"}


@pytest.fixture(scope="session")
def folder() -> Path:
    """The real folder: HIMA_TAU_RETAIL, or ../shared/data/tau_retail beside the repository. Absent: said aloud, and skipped."""
    path = Path(os.environ.get("HIMA_TAU_RETAIL", ROOT.parent / "shared" / "data" / "tau_retail"))
    if not path.is_dir():
        missing = (
            f"tau-bench's retail folder is missing: expected {path} with users.json, orders.json, products.json, wiki.md, "
            "tools.json and tasks_*.jsonl; set HIMA_TAU_RETAIL to where it is. The tests on its 520 tasks are skipped."
        )
        warnings.warn(missing, stacklevel=1)
        pytest.skip(missing)
    return path


@pytest.fixture(scope="session")
def retail(folder: Path) -> Retail:
    return load(folder)


def variant(item_id: str, colour: str, price: float, available: bool = True) -> dict[str, Any]:
    return {"item_id": item_id, "options": {"colour": colour}, "available": available, "price": price}


PRODUCTS = {
    "P1": {
        "name": "Mug",
        "product_id": "P1",
        "variants": {
            "11": variant("11", "red", 10.1),
            "12": variant("12", "blue", 12.35),
            "13": variant("13", "green", 8),
            "14": variant("14", "gold", 11.0, available=False),
            "15": variant("15", "silver", 90.0),
        },
    },
    "P2": {"name": "Lamp", "product_id": "P2", "variants": {"21": variant("21", "white", 30.5)}},
}
USERS = {
    "ann": {
        "name": {"first_name": "Ann", "last_name": "Lee"},
        "address": ADDRESS,
        "email": "Ann@example.com",
        "payment_methods": {
            "gift_card_1": {"source": "gift_card", "id": "gift_card_1", "balance": 60},
            "paypal_1": {"source": "paypal", "id": "paypal_1"},
            "credit_card_1": {"source": "credit_card", "id": "credit_card_1", "brand": "visa", "last_four": "1234"},
        },
        "orders": ["#W1", "#W2", "#W3", "#W4"],
    },
    "bob": {
        "name": {"first_name": "Ann", "last_name": "Lee"},
        "address": ADDRESS | {"zip": "10001"},
        "email": "bob@example.com",
        "payment_methods": {"paypal_2": {"source": "paypal", "id": "paypal_2"}},
        "orders": [],
    },
}


def item(product_id: str, item_id: str) -> dict[str, Any]:
    product = PRODUCTS[product_id]
    sold = {key: product["variants"][item_id][key] for key in ("item_id", "price", "options")}  # type: ignore[index]
    return {"name": product["name"], "product_id": product_id} | sold


def order(order_id: str, status: str, method: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    amount = round(sum(i["price"] for i in items), 2)
    return {
        "order_id": order_id,
        "user_id": "ann",
        "address": ADDRESS,
        "items": items,
        "status": status,
        "payment_history": [{"transaction_type": "payment", "amount": amount, "payment_method_id": method}],
    }


ORDERS = {
    "#W1": order("#W1", "pending", "gift_card_1", [item("P1", "11"), item("P1", "11"), item("P1", "12"), item("P2", "21")]),
    "#W2": order("#W2", "pending", "paypal_1", [item("P1", "11"), item("P2", "21")]),
    "#W3": order("#W3", "delivered", "paypal_1", [item("P1", "11"), item("P1", "11"), item("P2", "21")]),
    "#W4": order("#W4", "processed", "paypal_1", [item("P1", "13")]),
}
CANCEL = {"name": "cancel_pending_order", "arguments": {"order_id": "#W1", "reason": "no longer needed"}}
UNPAYABLE = {
    "name": "exchange_delivered_order_items",
    "arguments": {"order_id": "#W3", "item_ids": ["11"], "new_item_ids": ["15"], "payment_method_id": "gift_card_1"},
}
TASKS = [
    {"id": 0, "user_id": "ann", "instruction": "Cancel #W1.", "actions": [CANCEL], "outputs": []},
    {"id": 1, "user_id": "ann", "instruction": "What is left?", "actions": [], "outputs": ["1234.5", "Mug"]},
    {"id": 2, "user_id": "ann", "instruction": "Exchange, cancel.", "actions": [UNPAYABLE, CANCEL], "outputs": []},
]


def schemas() -> list[dict[str, Any]]:
    """Schemas of the functions' own signatures."""
    made = []
    for name, function in FUNCTIONS.items():
        properties: dict[str, Any] = {}
        for argument in list(inspect.signature(function.run).parameters.values())[1:]:
            text = {"type": "string"}
            properties[argument.name] = text if argument.annotation is str else {"type": "array", "items": text}
        if name == "cancel_pending_order":
            properties["reason"]["enum"] = ["no longer needed", "ordered by mistake"]
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        made.append({"type": "function", "function": {"name": name, "description": name, "parameters": parameters}})
    return made


def write(path: Path) -> Path:
    """The hand-written store as a folder."""
    contents = {"users.json": USERS, "orders.json": ORDERS, "products.json": PRODUCTS, "tools.json": schemas()}
    for name, content in contents.items():
        (path / name).write_text(json.dumps(content))
    (path / "wiki.md").write_text("# Policy\n\nBe kind.\n")
    (path / "tasks_dev.jsonl").write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    return path


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    return write(tmp_path)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Retail:
    return load(write(tmp_path_factory.mktemp("tau_retail")))


class Store:
    """A world of the hand-written store."""

    def __init__(self, retail: Retail) -> None:
        self.retail, self.world = retail, World(retail.base)

    def call(self, name: str, /, **arguments: Any) -> Any:
        """A call that must be done."""
        observation, refused = self.retail.toolbox.call(self.world, name, arguments)
        assert not refused, observation
        return json.loads(observation)

    def refused(self, name: str, reason: str, /, **arguments: Any) -> None:
        """A call that must be refused for that reason, and leave the state as it was."""
        before = self.world.state_hash()
        observation, refused = self.retail.toolbox.call(self.world, name, arguments)
        assert refused
        assert reason in json.loads(observation)["error"]
        assert self.world.state_hash() == before

    def balance(self) -> float:
        return float(self.call("get_user_details", user_id="ann")["payment_methods"]["gift_card_1"]["balance"])


@pytest.fixture
def store(small: Retail) -> Callable[[], Store]:
    return lambda: Store(small)
