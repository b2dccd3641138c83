"""The reading tools and the general ones: their answers."""

import json
from typing import Any

import pytest

from trainer.hima_ecom import World


def call(world: World, name: str, **arguments: Any) -> Any:
    return json.loads(world.session("C0001").call(name, arguments))


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("calculate", {"expression": "200 * 15%"}, {"result": "30"}),
        ("calculate", {"expression": "1/3"}, {"result": "0.333333333333333", "fraction": "1/3"}),
        ("calculate", {"expression": "9**9**9"}, {"error": "expression: a power is too large"}),
        ("solve_linear", {"equation": "3x + 4 = 19"}, {"x": "5"}),
        (
            "solve_linear",
            {"equation": "2*(y - 1) = y/2 + 4(1)", "variable": "y"},
            {"error": "equation: expected an operator, got '('"},
        ),
        ("solve_linear", {"equation": "2*(y - 1) = y/2 + 4", "variable": "y"}, {"y": "4"}),
        ("solve_linear", {"equation": "max(x, 2) = 3"}, {"error": "equation: not linear in x"}),
        ("solve_linear", {"equation": "x = x + 1"}, {"error": "equation: has no solution"}),
        ("solve_linear", {"equation": "x = x"}, {"error": "equation: true for every value"}),
        ("statistics", {"values": [0.1, 0.2], "what": "sum"}, {"sum": "0.3"}),
        ("statistics", {"values": [4, 1, 3, 2], "what": "median"}, {"median": "2.5"}),
        ("statistics", {"values": [1, 2, 3, 4], "what": "variance"}, {"variance": "1.25"}),
        ("convert_unit", {"value": 5, "source": "mile", "target": "km"}, {"value": "8.04672", "unit": "km"}),
        ("convert_unit", {"value": 72, "source": "km/h", "target": "m/s"}, {"value": "20", "unit": "m/s"}),
        ("convert_unit", {"value": 98.6, "source": "fahrenheit", "target": "celsius"}, {"value": "37", "unit": "celsius"}),
        ("convert_unit", {"value": -500, "source": "celsius", "target": "kelvin"}, {"error": "below absolute zero"}),
        ("convert_unit", {"value": 1, "source": "kg", "target": "m"}, {"error": "kg and m measure different things"}),
        ("convert_currency", {"amount": 100, "source": "EUR", "target": "USD"}, {"amount": "108.00", "currency": "USD"}),
        ("convert_currency", {"amount": 10, "source": "USD", "target": "JPY"}, {"amount": "1538.46", "currency": "JPY"}),
        ("date_add", {"date": "2024-02-28", "days": 2}, {"date": "2024-03-01"}),
        ("date_add", {"date": "9999-12-31", "days": 1}, {"error": "the result is outside the years 1 to 9999"}),
        ("date_add", {"date": "20240228", "days": 1}, {"error": "expected a date as YYYY-MM-DD, got '20240228'"}),
        ("days_between", {"start": "2026-06-15", "end": "2026-01-01"}, {"days": -165}),
        ("weekday", {"date": "2000-01-01"}, {"weekday": "Saturday"}),
        ("get_today", {}, {"date": "2026-06-15", "weekday": "Monday"}),
        ("convert_time", {"time": "23:30", "source": "New York", "target": "Tokyo"}, {"time": "13:30", "day_change": 1}),
        ("convert_time", {"time": "00:10", "source": "Mumbai", "target": "UTC"}, {"time": "18:40", "day_change": -1}),
        (
            "convert_time",
            {"time": "24:00", "source": "Mumbai", "target": "UTC"},
            {"error": "expected a time as HH:MM, got '24:00'"},
        ),
        ("count_words", {"text": "a bc\nd"}, {"words": 3, "characters": 6, "lines": 2}),
        ("change_case", {"text": "ab c", "to": "title"}, {"text": "Ab C"}),
        ("reverse_text", {"text": "ab cd"}, {"text": "dc ba"}),
        ("reverse_text", {"text": "ab cd", "by": "words"}, {"text": "cd ab"}),
        ("sort_lines", {"lines": ["b", "A", "b", "c"], "unique": True, "descending": True}, {"lines": ["c", "b", "A"]}),
        ("set_reminder", {"date": "2026-06-14", "text": "x"}, {"error": "2026-06-14 is past; today is 2026-06-15"}),
        ("set_reminder", {"date": "2026-06-15", "text": " "}, {"error": "argument 'text': empty"}),
    ],
)
def test_answers(world: World, name: str, arguments: dict[str, Any], expected: Any) -> None:
    assert call(world, name, **arguments) == expected


def test_weather(world: World) -> None:
    assert call(world, "get_weather", city="Berlin") == call(world, "get_weather", city="Berlin", date=world.today)
    assert "no weather for 2026-07-15" in call(world, "get_weather", city="Berlin", date="2026-07-15")["error"]
    assert "no weather for 'Atlantis'" in call(world, "get_weather", city="Atlantis")["error"]


def test_search_products_equals_a_plain_filter(world: World) -> None:
    rows = world.all("products")
    found = call(
        world, "search_products", category="clothing", max_price=120.5, in_stock=True, sort_by="price_ascending", limit=20
    )
    expected = [r for r in rows if r["category"] == "clothing" and r["price_cents"] <= 12050 and r["stock"]]
    expected.sort(key=lambda r: (r["price_cents"], r["product_id"]))
    assert [p["product_id"] for p in found["products"]] == [r["product_id"] for r in expected[:20]]
    assert found["count"] == len(expected) > 0
    one = rows[0]
    attributes = json.loads(one["attributes"])
    found = call(
        world, "search_products", type=one["type"].upper(), brand=one["brand"], attributes=attributes, min_rating=one["rating"]
    )
    assert one["product_id"] in [p["product_id"] for p in found["products"]]
    for query in (one["name"], one["name_zh"]):
        assert call(world, "search_products", query=query)["products"][0]["product_id"] == one["product_id"]
    assert call(world, "search_products", query="zzz")["count"] == 0


def test_a_word_is_found_at_the_start_of_words_only(world: World) -> None:
    names = [p["name"] for p in call(world, "search_products", query="red", limit=20)["products"]]
    assert names
    assert all("red" in name.split("(")[1] for name in names)


def test_product_reviews_and_promotions(world: World) -> None:
    row = world.all("products")[0]
    product = call(world, "get_product", product_id=row["product_id"])
    family = [r["product_id"] for r in world.all("products") if r["family_id"] == row["family_id"]]
    assert len(family) > 1
    assert [row["product_id"], *(v["product_id"] for v in product["variants"])] == family
    running = call(world, "list_promotions", category=row["category"])["promotions"]
    cents = row["price_cents"] - row["price_cents"] * running[0]["percent_off"] // 100
    assert product["promotion_price"] == f"{cents / 100:.2f}"
    assert len(call(world, "list_promotions")["promotions"]) == 7
    reviews = world.rows("reviews", "product_id", row["product_id"])
    answer = call(world, "get_reviews", product_id=row["product_id"], limit=10)
    assert sum(answer["stars"].values()) == len(reviews)
    assert abs(answer["rating"] - sum(r["stars"] for r in reviews) / len(reviews)) <= 0.05 + 1e-9


def test_every_policy_and_question_is_found_by_its_title(world: World) -> None:
    documents = {r["policy_id"]: (r["title"], r["body"]) for r in world.all("policies")}
    documents |= {r["question_id"]: (r["question"], r["answer"]) for r in world.all("product_questions")}
    for key, (title, body) in documents.items():
        found = [d["document_id"] for d in call(world, "search_knowledge", query=title, limit=3)["documents"]]
        assert key in found, title
        assert call(world, "read_document", document_id=key)["body"] == body
    assert call(world, "read_document", document_id="L999") == {"error": "no document 'L999'"}


@pytest.mark.parametrize(
    "query", ['"', "'", 'a" OR b', "NEAR(a b)", "title:x", "*", "^a", "-", "a AND", "(", "", "\0", "a\0b", "{a b}: c"]
)
def test_the_query_is_only_text(world: World, query: str) -> None:
    assert "documents" in call(world, "search_knowledge", query=query)


def test_parcels(world: World) -> None:
    parcel = world.all("shipments")[0]
    customer = world.row("orders", parcel["order_id"])["customer_id"]
    session = world.session(customer)
    by_order = json.loads(session.call("track_shipment", {"order_id": parcel["order_id"]}))
    assert by_order == json.loads(session.call("track_shipment", {"tracking_number": parcel["tracking_number"]}))
    assert by_order["events"][0]["description"] == "Parcel handed to the carrier"
    assert "exactly one" in session.call("track_shipment", {})
