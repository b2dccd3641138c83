"""What the policies without a model write: legal random calls, patterns of arguments, the task of a request."""

import random
from typing import Any

import pytest

from trainer.agents import hima_ecom_agents
from trainer.hima_ecom import TOOLS
from trainer.policies import CopyPolicy, ExpertPolicy, KeywordPolicy, RandomPolicy, ReplayPolicy
from trainer.policies.base import observations_of, query_of
from trainer.policies.random_calls import random_value
from trainer.policies.slots import fill, plain
from trainer.prompts import first_message
from trainer.react import Action, Answer, parse
from trainer.types import Message, Request

FUNCTIONS = {tool["function"]["name"]: tool["function"] for tools in TOOLS.values() for tool in tools}


def request(agent: str, *contents: str, node: int = 0) -> Request:
    roles = ["user", "assistant"] * len(contents)
    turns = [Message(role, text) for role, text in zip(roles, contents, strict=False)]  # type: ignore[arg-type]
    return Request(agent, (Message("system", "Be exact."), *turns), "e", node)


def is_legal(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value is of a schema that has the keywords of the benchmark's tools."""
    if "enum" in schema:
        return value in schema["enum"]
    if schema["type"] == "object":
        return set(schema.get("required", ())) <= set(value) <= set(schema.get("properties", ())) and all(
            is_legal(schema["properties"][name], inner) for name, inner in value.items()
        )
    if schema["type"] == "array":
        fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**6)
        return fits and all(is_legal(schema["items"], inner) for inner in value)
    if schema["type"] == "string":
        return isinstance(value, str) and 0 < len(value) <= schema.get("maxLength", 10**6)
    types = {"integer": int, "number": (int, float), "boolean": bool}
    fits = isinstance(value, bool) or schema.get("minimum", -1e9) <= value <= schema.get("maximum", 1e9)
    return isinstance(value, types[schema["type"]]) and fits


def test_random_calls_are_legal() -> None:
    policy, seen = RandomPolicy(hima_ecom_agents(), seed=0), set()
    for node in range(400):
        for agent in hima_ecom_agents():
            (text,) = policy.act([request(agent, "Task: what is 3 km in miles?", node=node)])
            step = parse(text)
            assert isinstance(step, Action | Answer)
            if isinstance(step, Action):
                tools = {tool["function"]["name"]: tool["function"] for tool in hima_ecom_agents()[agent].tools}
                assert is_legal(tools[step.name]["parameters"], step.arguments), text
                seen.add(step.name)
    assert seen == set(FUNCTIONS) | {"qa", "efc", "gfc", "math"}


def test_random_values_of_other_schemas() -> None:
    rng = random.Random(0)
    schema = {"anyOf": [{"type": "null"}, {"type": ["boolean", "integer"], "minimum": 5, "maximum": 6}]}
    assert {random_value(schema, rng, ["x"]) for _ in range(200)} == {None, True, False, 5, 6}
    with pytest.raises(ValueError, match="schema: expected a type of JSON schema, got 'date'"):
        random_value({"type": "date"}, rng, ["x"])
    with pytest.raises(ValueError, match="answer: expected above 0 and at most 1, got 0"):
        RandomPolicy({}, answer=0.0)


def test_a_request_is_read() -> None:
    query = "Sum up.\n\nTask: this is mine"
    first = first_message(query, ["Task: not mine", "b"])
    delegated = request("qa", first, "x", "Observation: 1", "y", "Observation: 2")
    assert (query_of(delegated), observations_of(delegated)) == (query, ["1", "2"])
    again = request("qa", first, "x", "Observation: 1", "y", first_message("and this"), "z", "Observation: 3")
    assert (query_of(again), observations_of(again)) == ("and this", ["3"])
    assert parse(CopyPolicy().act([delegated])[0]) == Answer(query)


def test_a_replay_needs_its_texts() -> None:
    policy = ReplayPolicy({"e": ["a"]})
    assert policy.act([request("qa", "x")]) == ["a"]
    with pytest.raises(ValueError, match="replay: episode 'e' has 1 nodes, got node 1"):
        policy.act([request("qa", "x", node=1)])
    with pytest.raises(ValueError, match="replay: expected texts of episode 'e', got none"):
        ReplayPolicy({}).act([request("qa", "x")])


def test_an_expert_needs_trajectories() -> None:
    from trainer.hima_ecom.tasks.task import Task

    task = Task(
        id="t", column="qa", split="test", language="en", difficulty=1, family="f", query="q", final_response="r",
        checker={"kind": "text", "value": "r"}, minimal_calls=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="expert: expected tasks with trajectories, got none in 1, 't' the first"):
        ExpertPolicy([task])


@pytest.mark.parametrize(
    ("tool", "text", "arguments"),
    [
        ("get_order", "Where is O00012?", {"order_id": "O00012"}),
        ("get_order", "Where is my order?", None),
        ("days_between", "from May 3, 2026 to 9 June 2027", {"start": "2026-05-03", "end": "2027-06-09"}),
        ("convert_time", "3:05 pm in Tokyo, in New York?", {"time": "15:05", "source": "Tokyo", "target": "New York"}),
        ("convert_unit", "How many miles are 12.5 kilometres?", {"value": 12.5, "source": "km", "target": "mile"}),
        ("convert_currency", "USD for 30 EUR", {"amount": 30, "source": "EUR", "target": "USD"}),
        ("date_add", "12 days before 2026-03-01", {"date": "2026-03-01", "days": -12}),
        ("calculate", "What is 15 percent of 80?", {"expression": "80 * 15 / 100"}),
        ("calculate", "Work out (3 + 4) * 2.", {"expression": "(3 + 4) * 2"}),
        ("statistics", "the average of 3, 4 and 8", {"values": [3.0, 4.0, 8.0], "what": "mean"}),
        ("sort_lines", "Sort: pear, fig and apple.", {"lines": ["pear", "fig", "apple"]}),
        ("cancel_order", "Cancel O00012, ordered by mistake", {"order_id": "O00012", "reason": "ordered_by_mistake"}),
        ("set_reminder", "On 2026-07-01: 'call home'", {"text": "call home", "date": "2026-07-01"}),
    ],
)
def test_arguments_are_found_by_patterns(tool: str, text: str, arguments: dict[str, Any] | None) -> None:
    assert fill(FUNCTIONS[tool], plain(text)) == arguments


def test_keywords_route_and_read() -> None:
    policy = KeywordPolicy(hima_ecom_agents())

    def step(agent: str, *contents: str) -> Action | Answer:
        found = parse(policy.act([request(agent, *contents)])[0])
        assert isinstance(found, Action | Answer)
        return found

    query = "I am a@b.org. What did order O00012 cost? Remind me on 2026-07-01: 'pay'."
    first = step("master", f"Task: {query}")
    assert first == Action("efc", {"task": "I am a@b.org. What did order O00012 cost?"})
    assert step("efc", f"Task: {first.arguments['task']}") == Action("find_customer", {"email": "a@b.org"})
    found = ("a", 'Observation: {"customer_id":"C1"}')
    task = f"Task: {first.arguments['task']}"
    assert step("efc", task, *found) == Action("get_order", {"order_id": "O00012"})
    order = 'Observation: {"order_id":"O00012","status":"shipped","items":[{"name":"mug","unit_price":"4.00"}],"total":"8.00"}'
    assert step("efc", task, *found, "b", order) == Answer("total: 8.00")
    refused = 'Observation: {"error":"no order O00012"}'
    assert step("efc", task, *found, "b", refused) == Answer("Sorry, this cannot be done: no order O00012.")
    second = step("master", f"Task: {query}", "a", "Observation: total: 8.00")
    assert isinstance(second, Action)
    assert (second.name, second.arguments["task"].endswith("'pay'. Known: total: 8.00")) == ("gfc", True)
    assert step("master", f"Task: {query}", "a", "Observation: 8.00", "b", "Observation: Done.") == Answer("8.00 Done.")
