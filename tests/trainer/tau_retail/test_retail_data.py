"""What a folder must hold, and what is said about one that doesn't."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.tau_retail import load, tool_schemas


def test_a_folder_is_loaded_once(small_folder: Path) -> None:
    retail = load(small_folder)
    assert load(str(small_folder)) is retail
    assert load(small_folder / ".." / small_folder.name) is retail
    assert [task.id for task in retail.tasks["dev"]] == ["dev-0", "dev-1", "dev-2"]
    assert retail.policy == "# Policy\n\nBe kind.\n"
    assert tool_schemas(small_folder) == json.loads((small_folder / "tools.json").read_text())


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected a folder with users.json, .*tasks_\*.jsonl, found none"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["users.json", "orders.json", "products.json", "wiki.md", "tools.json", "tasks_dev.jsonl"])
def test_a_missing_file(small_folder: Path, name: str) -> None:
    (small_folder / name).unlink()
    shown = "tasks_" if name.startswith("tasks") else name
    with pytest.raises(FileNotFoundError, match=rf"{shown}.*: expected .*, found no such file"):
        load(small_folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("users.json", "{", "users.json: expected JSON, got an error: .*line 1"),
        ("orders.json", "[]", "orders.json: expected {order id: order} with at least one row, got none"),
        ("orders.json", "{}", "orders.json: expected {order id: order} with at least one row, got none"),
        ("tools.json", "[]", "tools.json: expected each of calculate, .* once, got "),
        ("tasks_dev.jsonl", '\n{"id": 1}\n', r"tasks_dev.jsonl: line 2: expected the key 'user_id', got 'id'"),
        ("orders.json", '{"a":' * 70 + "1" + "}" * 70, "orders.json: expected JSON, got an error: expected at most 64 levels"),
        ("tasks_dev.jsonl", "[" * 100_000, "tasks_dev.jsonl: line 1: expected JSON, got an error: expected at most 64 levels"),
        ("tasks_dev.jsonl", '{"id": NaN, "user_id": "ann"}', r"tasks_dev.jsonl: line 1\['id'\]: expected an integer, got nan"),
        ("tasks_dev.jsonl", "nonsense", r"tasks_dev.jsonl: line 1: expected JSON"),
    ],
)
def test_a_broken_file(small_folder: Path, name: str, text: str, message: str) -> None:
    (small_folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load(small_folder)


def test_a_file_that_is_no_text(small_folder: Path) -> None:
    (small_folder / "wiki.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"wiki.md: expected UTF-8 text"):
        load(small_folder)


def test_a_task_twice(small_folder: Path) -> None:
    path = small_folder / "tasks_dev.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(ValueError, match="expected an id once, got one twice"):
        load(small_folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("users.json", lambda d: d["ann"].pop("email"), r"users.json\['ann'\]: expected the key 'email', got 'name'"),
        ("users.json", lambda d: d["ann"].update(email=3), r"\['email'\]: expected a string, got 3"),
        ("users.json", lambda d: d["ann"]["payment_methods"]["gift_card_1"].pop("balance"), "expected the key 'balance'"),
        ("users.json", lambda d: d["ann"]["orders"].append(1), r"\['orders'\]\[4\]: expected a string, got 1"),
        ("orders.json", lambda d: d["#W1"].update(user_id="eve"), r"orders.json\['#W1'\]: expected a user .*, got 'eve'"),
        ("orders.json", lambda d: d["#W1"].update(payment_history=[]), "expected at least one payment, got none"),
        ("orders.json", lambda d: d["#W1"]["payment_history"][0].update(payment_method_id="x"), "method of its user, got 'x'"),
        ("orders.json", lambda d: d["#W1"]["payment_history"][0].update(amount=True), "expected a finite number, got True"),
        ("orders.json", lambda d: d["#W1"]["items"][0].update(product_id="x"), "a product of products.json, got 'x'"),
        ("orders.json", lambda d: d["#W1"].update(items={}), r"\['items'\]: expected a list, got an object"),
        ("orders.json", lambda d: d["#W1"].update(items=None), r"orders.json\['#W1'\]\['items'\]: expected a list, got null"),
        (
            "orders.json",
            lambda d: d["#W1"]["items"][0].update(price=float("nan")),
            r"orders.json\['#W1'\]\['items'\]\[0\]\['price'\]: expected a finite number, got nan",
        ),
        (
            "orders.json",
            lambda d: d["#W1"]["items"][0].update(price=10**400),
            r"\['price'\]: expected a finite number, got inf",
        ),
        ("orders.json", lambda d: d["#W1"]["payment_history"][0].update(amount="1"), r"expected a finite number, got '1'"),
        ("orders.json", lambda d: d["#W1"].update(status="\ud800"), r"\['status'\]: expected valid Unicode, got '\\ud800'"),
        (
            "products.json",
            lambda d: first(first(d)["variants"]).update(price=float("-inf")),
            r"expected a finite number, got -inf",
        ),
        (
            "users.json",
            lambda d: d["ann"]["payment_methods"]["gift_card_1"].update(balance=float("nan")),
            r"users.json\['ann'\]\['payment_methods'\]\['gift_card_1'\]\['balance'\]: expected a finite number, got nan",
        ),
        ("users.json", lambda d: d["ann"].update(address=None), r"\['address'\]: expected an object, got null"),
        ("users.json", lambda d: d["ann"].update(orders=None), r"\['orders'\]: expected a list, got null"),
        (
            "tools.json",
            lambda d: parameters(d, "think")["properties"]["thought"].update(type="array", items=None),
            r"tools.json: think: thought: expected a string or a list of strings, got 'array' of None",
        ),
        ("tools.json", lambda d: parameters(d, "think")["properties"]["thought"].update(enum="abc"), r"enum: expected a list"),
        ("tools.json", lambda d: parameters(d, "think")["properties"]["thought"].update(enum=[3]), r"enum: expected a list"),
        ("products.json", lambda d: d.update(P1=[]), r"products.json\['P1'\]: expected an object, got a list"),
        ("tools.json", lambda d: d.append(d[0]), "expected each of .* once"),
        ("tools.json", lambda d: d.pop(), "expected each of .* once"),
        (
            "tools.json",
            lambda d: parameters(d, "think").update(required=[]),
            "think: expected the arguments thought, all required",
        ),
        ("tools.json", lambda d: parameters(d, "think")["properties"]["thought"].update(type="number"), "got 'number'"),
    ],
)
def test_a_row_of_another_shape(small_folder: Path, name: str, change: Callable[[Any], Any], message: str) -> None:
    content = json.loads((small_folder / name).read_text())
    change(content)
    (small_folder / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load(small_folder)


def test_a_line_separator_is_no_end_of_a_line(small_folder: Path) -> None:
    path = small_folder / "tasks_dev.jsonl"
    row = json.loads(path.read_text().split("\n")[0]) | {"id": 99, "instruction": "First.\u2028Second."}
    path.write_text(path.read_text() + json.dumps(row, ensure_ascii=False) + "\n")
    assert load(small_folder).tasks["dev"][-1].instruction == "First.\u2028Second."


def first(rows: dict[str, Any]) -> Any:
    return next(iter(rows.values()))


def parameters(schemas: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(s["function"]["parameters"] for s in schemas if s["function"]["name"] == name)
