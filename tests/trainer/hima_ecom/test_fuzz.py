"""Any JSON value as arguments of any tool: a JSON answer, no write outside the episode.

The environment variable HIMA_FUZZ_EXAMPLES sets how many examples each tool gets.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.hima_ecom import TOOLS, World
from trainer.hima_ecom.schema import COLUMNS

SCHEMAS = {schema["function"]["name"]: schema["function"]["parameters"] for schemas in TOOLS.values() for schema in schemas}
EXAMPLES = int(os.environ.get("HIMA_FUZZ_EXAMPLES", "120"))
INJECTIONS = (
    "'; DROP TABLE orders; --",
    '"; DELETE FROM products; --',
    "' OR '1'='1",
    "O00001' UNION SELECT * FROM customers --",
    "x'); ATTACH DATABASE 'stolen.db' AS a; --",
    '" OR knowledge MATCH "return',
    "PRAGMA query_only = 0",
    "%", "_", "\0", "\\", "[]", "{}", "../../etc/passwd", "__import__('os').system('true')", "{name.__class__}",
)  # fmt: skip
# Words that reach deep into the tools.
WORDS = (
    "C0001",
    "O00001",
    "O00001-1",
    "P0001",
    "A00001",
    "M00001",
    "L001",
    "K0001",
    "return",
    "2026-06-15",
    "12:30",
    "Berlin",
    "x",
    "3x=1",
)
WORDS += ("kg", "lb", "celsius", "USD", "EUR", "1+1", "9**9**9", "jacket", "red", "STORE10P00", "home", "")
CUSTOMER = "C0001"
ANY_TEXT = st.text(st.characters(codec=None), max_size=30)  # with surrogates and NUL
TEXT = st.one_of(st.sampled_from(WORDS), st.sampled_from(INJECTIONS), ANY_TEXT)
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.sampled_from((10**400, -(10**400), "x" * 10**5))
)
ANY_JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    path = tmp_path_factory.mktemp("world") / "world.db"
    return World.create(path, 7), path


def own_keys(world: World) -> list[str]:
    """Keys that mean something to CUSTOMER: of their orders, items, addresses, and payment methods, and some of everybody's."""
    keys = [str(next(iter(row.values()))) for table in COLUMNS for row in world.all(table)[:5]]
    for table in ("orders", "addresses", "payment_methods"):
        keys += [str(next(iter(row.values()))) for row in world.rows(table, "customer_id", CUSTOMER)]
    orders = world.rows("orders", "customer_id", CUSTOMER)
    return keys + [row["item_id"] for order in orders for row in world.rows("order_items", "order_id", order["order_id"])]


def plausible(schema: dict[str, Any], world: World) -> st.SearchStrategy[Any]:
    """Mostly values of the declared type, so that the function behind the checks runs."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "string":
        return st.one_of(TEXT, st.sampled_from(own_keys(world)), st.sampled_from(own_keys(world)))
    if schema["type"] in ("integer", "number"):
        low, high = schema.get("minimum", -(10**6)), schema.get("maximum", 10**6)
        floats = st.floats(allow_nan=False, allow_infinity=False)
        return st.integers(low, high) if schema["type"] == "integer" else st.one_of(st.integers(low, high), floats)
    if schema["type"] == "boolean":
        return st.booleans()
    if schema["type"] == "array":
        return st.lists(plausible(schema["items"], world), min_size=1, max_size=4)
    return st.dictionaries(
        st.sampled_from(("colour", "size", "x")), plausible(schema["additionalProperties"], world), max_size=2
    )


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_no_arguments_crash_a_tool(name: str, stored: tuple[World, Path]) -> None:
    world, path = stored
    before = hashlib.sha256(path.read_bytes()).digest()
    parameters = SCHEMAS[name]["properties"]
    fitting = {key: plausible(schema, world) for key, schema in parameters.items()}
    required = {key: value for key, value in fitting.items() if key in SCHEMAS[name]["required"]}
    optional = {key: value for key, value in fitting.items() if key not in required}
    arguments = st.one_of(
        st.fixed_dictionaries(required, optional=optional),
        st.fixed_dictionaries({}, optional=dict.fromkeys([*parameters, "unknown"], ANY_JSON)),
        ANY_JSON,
    )

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(arguments, st.sampled_from([CUSTOMER, CUSTOMER, None]))
    def check(value: Any, customer: str | None) -> None:
        session = world.session(customer)
        answer = session.call(name, value)
        answer.encode()
        assert isinstance(json.loads(answer), dict)
        assert len(answer) < 40_000
        if "error" in json.loads(answer):
            assert session.changes() == {}
        # The same call on the same state gives the same answer and state.
        again = world.session(customer)
        assert (again.call(name, value), again.state_hash()) == (answer, session.state_hash())

    check()
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@settings(max_examples=EXAMPLES, deadline=None)
@given(name=ANY_JSON, arguments=ANY_JSON)
def test_no_name_crashes_a_session(world: World, name: Any, arguments: Any) -> None:
    assert "unknown tool" in world.session().call(name, arguments)


def string_places() -> list[tuple[str, str]]:
    return [(name, key) for name, schema in sorted(SCHEMAS.items()) for key in schema["properties"]]


def test_injections_are_only_text(stored: tuple[World, Path]) -> None:
    world, path = stored
    before, dump = path.read_bytes(), world.dump()
    places = string_places()
    assert len(places) > 60
    for name, key in places:
        schema = SCHEMAS[name]
        # The other required arguments have the first value that fits.
        valid = {k: first(schema["properties"][k]) for k in schema["required"]}
        for text in INJECTIONS:
            value = {"array": [text], "object": {"colour": text}}.get(schema["properties"][key]["type"], text)
            answer = world.session("C0001").call(name, valid | {key: value})
            assert isinstance(json.loads(answer), dict)
    assert path.read_bytes() == before
    assert world.dump() == dump
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    tables = {row[0] for row in world.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert set(COLUMNS) < tables


def first(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    return {"string": "O00001", "integer": 1, "number": 1, "boolean": True, "array": ["O00001-1"], "object": {}}[schema["type"]]
