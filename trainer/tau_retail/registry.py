"""The functions behind the tools, and their calls: arguments are checked by the schemas of the folder."""

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from trainer.hima_ecom.tools.registry import ToolError, is_text, shown
from trainer.reading import short
from trainer.tau_retail.world import World

MAX_TEXT = 10_000  # characters of a string argument
MAX_ITEMS = 100  # of a list


class Function(NamedTuple):
    """What a tool does; a function `f(world, *, argument, ...)` that raises ToolError to refuse."""

    run: Callable[..., Any]
    arguments: frozenset[str]


class Result(NamedTuple):
    """What a call gave: JSON for the agent, and whether it was refused."""

    observation: str
    refused: bool


FUNCTIONS: dict[str, Function] = {}


def tool(function: Callable[..., Any]) -> Callable[..., Any]:
    """Registers a function under its name."""
    assert function.__name__ not in FUNCTIONS, function.__name__
    arguments = list(inspect.signature(function).parameters.values())[1:]
    assert all(argument.kind is inspect.Parameter.KEYWORD_ONLY for argument in arguments), function.__name__
    FUNCTIONS[function.__name__] = Function(function, frozenset(argument.name for argument in arguments))
    return function


class Toolbox:
    """The tools of the domain: schemas from the folder, functions from FUNCTIONS.

    Raises: ValueError where the two don't name the same tools and arguments, or a schema has another type than a string or a
    list of strings.
    """

    def __init__(self, schemas: Sequence[dict[str, Any]]) -> None:
        self.schemas = tuple(schemas)
        self._parameters = {s["function"]["name"]: s["function"]["parameters"] for s in schemas}
        if len(self._parameters) != len(schemas) or set(self._parameters) != set(FUNCTIONS):
            names = [s["function"]["name"] for s in schemas]
            raise ValueError(
                f"tools.json: expected each of {', '.join(sorted(FUNCTIONS))} once, got {', '.join(sorted(names))}"
            )
        for name, parameters in self._parameters.items():
            expected = FUNCTIONS[name].arguments
            if set(parameters["properties"]) != expected or set(parameters["required"]) != expected:
                raise ValueError(
                    f"tools.json: {name}: expected the arguments {', '.join(sorted(expected)) or 'none'}, all required, "
                    f"got {', '.join(parameters['properties']) or 'none'}"
                )
            for key, schema in parameters["properties"].items():
                _check_schema(f"tools.json: {name}: {key}", schema)

    def call(self, world: World, name: Any, arguments: Any) -> Result:
        """Runs one tool; gives compact JSON, {"error": reason} where it was refused, which leaves the state as it was."""
        if not isinstance(name, str) or name not in self._parameters:
            return _refusal(f"unknown tool {shown(name)}")
        before = world.snapshot()
        try:
            _check(name, arguments, self._parameters[name])
            return Result(_json(FUNCTIONS[name].run(world, **arguments)), False)
        except ToolError as error:
            world.restore(before)
            return _refusal(str(error))


def _check_schema(where: str, schema: dict[str, Any]) -> None:
    """Raises ValueError unless an argument is a string, perhaps one of some, or a list of strings."""
    items, choices = schema.get("items"), schema.get("enum", [""])
    listed = schema["type"] == "array" and isinstance(items, dict) and items.get("type") == "string"
    if schema["type"] != "string" and not listed:
        got = f"{short(schema['type'])} of {short(items)}" if schema["type"] == "array" else short(schema["type"])
        raise ValueError(f"{where}: expected a string or a list of strings, got {got}")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        raise ValueError(f"{where}: enum: expected a list of at least one string, got {short(choices)}")


def _check(name: str, arguments: Any, parameters: dict[str, Any]) -> None:
    if not isinstance(arguments, dict):
        raise ToolError(f"arguments: expected an object, got {shown(arguments)}")
    for key in arguments:
        if key not in parameters["properties"]:
            takes = ", ".join(parameters["properties"]) or "nothing"
            raise ToolError(f"unknown argument {shown(key)}; {name} takes: {takes}")
    for key, schema in parameters["properties"].items():
        if key not in arguments:
            raise ToolError(f"missing argument '{key}'")
        value = arguments[key]
        if schema["type"] == "string":
            _check_text(key, value, schema.get("enum"))
            continue
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_ITEMS:
            raise ToolError(f"argument '{key}': expected a list of 1 to {MAX_ITEMS} strings, got {_shown_list(value)}")
        for item in value:
            _check_text(key, item, None)


def _check_text(key: str, value: Any, choices: Sequence[str] | None) -> None:
    if not isinstance(value, str):
        raise ToolError(f"argument '{key}': expected a string, got {shown(value)}")
    if len(value) > MAX_TEXT:
        raise ToolError(f"argument '{key}': expected at most {MAX_TEXT} characters, got {len(value)}")
    if not is_text(value):
        raise ToolError(f"argument '{key}': expected valid Unicode text, got an unpaired surrogate")
    if choices is not None and value not in choices:
        raise ToolError(f"argument '{key}': expected one of {', '.join(choices)}, got {shown(value)}")


def _shown_list(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else shown(value)


def _refusal(reason: str) -> Result:
    return Result(_json({"error": reason}), True)


def _json(result: Any) -> str:
    return json.dumps(result, ensure_ascii=False, separators=(",", ":"))
