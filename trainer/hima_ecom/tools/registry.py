"""One declaration a tool: its typed signature gives the JSON schema, the validation and the call."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from trainer.hima_ecom.overlay import Overlay

AGENTS = ("qa", "efc", "gfc", "math")
MAX_TEXT = 200  # characters of a string argument, where its Arg does not say otherwise
MAX_NUMBER = 10**15
MAX_ITEMS = 50


class ToolError(Exception):
    """A call that the rules refuse; its text is the observation."""


@dataclass(frozen=True)
class Arg:
    """What an annotation says about an argument, as `Annotated[type, Arg(...)]`."""

    description: str
    minimum: int | None = None
    maximum: int | None = None
    max_length: int = MAX_TEXT  # of a string, or of each string in a list
    max_items: int = MAX_ITEMS


@dataclass(frozen=True)
class Parameter:
    """An argument of a tool: its JSON type, its limits, whether it may be left out."""

    name: str
    kind: str  # string, integer, number, boolean, strings, numbers, object
    arg: Arg
    choices: tuple[str, ...]
    required: bool
    default: Any = None  # of one that may be left out; None: nothing is assumed

    def schema(self) -> dict[str, Any]:
        """Its JSON schema."""
        arg = self.arg
        text: dict[str, Any] = {"type": "string", "maxLength": arg.max_length}
        if self.choices:
            text = {"type": "string", "enum": list(self.choices)}
        number: dict[str, Any] = {"type": "integer" if self.kind == "integer" else "number"}
        number |= {} if arg.minimum is None else {"minimum": arg.minimum}
        number |= {} if arg.maximum is None else {"maximum": arg.maximum}
        body: dict[str, Any] = {
            "string": text,
            "integer": number,
            "number": number,
            "boolean": {"type": "boolean"},
            "strings": {"type": "array", "items": text, "minItems": 1, "maxItems": arg.max_items},
            "numbers": {"type": "array", "items": number, "minItems": 1, "maxItems": arg.max_items},
            "object": {"type": "object", "additionalProperties": text, "maxProperties": arg.max_items},
        }[self.kind]
        return body | {"description": arg.description} | ({} if self.default is None else {"default": self.default})

    def check(self, value: Any) -> None:
        """Raises ToolError if the value is not what the schema says."""
        if self.kind in ("strings", "numbers"):
            if not isinstance(value, list) or not 1 <= len(value) <= self.arg.max_items:
                raise ToolError(
                    f"argument '{self.name}': expected a list of 1 to {self.arg.max_items} items, got {shown(value)}"
                )
            for item in value:
                self._check_one(item, self.kind[:-1])
        elif self.kind == "object":
            if not isinstance(value, dict) or len(value) > self.arg.max_items:
                raise ToolError(f"argument '{self.name}': expected an object of strings, got {shown(value)}")
            for item in (*value.keys(), *value.values()):
                self._check_one(item, "string")
        else:
            self._check_one(value, self.kind)

    def _check_one(self, value: Any, kind: str) -> None:
        arg, wrong = self.arg, f"argument '{self.name}': expected"
        if kind == "string":
            if not isinstance(value, str):
                raise ToolError(f"{wrong} a string, got {shown(value)}")
            if len(value) > arg.max_length:
                raise ToolError(f"{wrong} at most {arg.max_length} characters, got {len(value)}")
            if not is_text(value):
                raise ToolError(f"{wrong} valid Unicode text, got an unpaired surrogate")
            if self.choices and value not in self.choices:
                raise ToolError(f"{wrong} one of {', '.join(self.choices)}, got {shown(value)}")
        elif kind == "boolean":
            if not isinstance(value, bool):
                raise ToolError(f"{wrong} true or false, got {shown(value)}")
        else:
            numeric = isinstance(value, int) if kind == "integer" else isinstance(value, int | float)
            if not numeric or isinstance(value, bool):
                raise ToolError(f"{wrong} {'an integer' if kind == 'integer' else 'a number'}, got {shown(value)}")
            if (isinstance(value, float) and not math.isfinite(value)) or not -MAX_NUMBER <= value <= MAX_NUMBER:
                raise ToolError(f"{wrong} a finite number of at most 10^15 in size, got {shown(value)}")
            if (arg.minimum is not None and value < arg.minimum) or (arg.maximum is not None and value > arg.maximum):
                raise ToolError(f"{wrong} a number from {arg.minimum} to {arg.maximum}, got {shown(value)}")


@dataclass(frozen=True)
class Tool:
    """A tool: what it is called, who may call it, whether it writes, and the function behind it."""

    name: str
    agent: str
    writes: bool
    description: str
    parameters: tuple[Parameter, ...]
    function: Callable[..., Any]

    @property
    def defaults(self) -> dict[str, Any]:
        """What an argument is that is left out, where anything is assumed."""
        return {p.name: p.default for p in self.parameters if p.default is not None}

    def schema(self) -> dict[str, Any]:
        """The OpenAI function schema."""
        body = {
            "type": "object",
            "properties": {p.name: p.schema() for p in self.parameters},
            "required": [p.name for p in self.parameters if p.required],
            "additionalProperties": False,
        }
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": body}}

    def run(self, store: Overlay, arguments: Any) -> Any:
        """Checks the arguments and calls the function. An optional argument may be null. Raises: ToolError."""
        if not isinstance(arguments, dict):
            raise ToolError(f"arguments: expected an object, got {shown(arguments)}")
        names = {p.name for p in self.parameters}
        for key in arguments:
            if key not in names:
                raise ToolError(
                    f"unknown argument {shown(key)}; {self.name} takes: {', '.join(p.name for p in self.parameters)}"
                )
        given = {}
        for parameter in self.parameters:
            value = arguments.get(parameter.name)
            if value is not None:
                parameter.check(value)
                given[parameter.name] = value
            elif parameter.required:
                raise ToolError(f"missing argument '{parameter.name}'")
        return self.function(store, **given)


REGISTRY: dict[str, Tool] = {}


def tool(agent: str, *, writes: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function `f(store, *, argument: Annotated[type, Arg(...)] = default)`; its docstring is the description."""
    assert agent in AGENTS, agent

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        assert function.__doc__ is not None
        assert function.__name__ not in REGISTRY, function.__name__
        hints = get_type_hints(function, include_extras=True)
        parameters = tuple(_parameter(p, hints[p.name]) for p in list(inspect.signature(function).parameters.values())[1:])
        description = " ".join(function.__doc__.split())
        REGISTRY[function.__name__] = Tool(function.__name__, agent, writes, description, parameters, function)
        return function

    return register


def _parameter(parameter: inspect.Parameter, hint: Any) -> Parameter:
    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter
    if get_origin(hint) in (Union, UnionType):  # X | None: may be left out
        hint = next(part for part in get_args(hint) if part is not type(None))
    assert get_origin(hint) is Annotated, parameter
    kind, arg = get_args(hint)
    choices: tuple[str, ...] = ()
    item = get_args(kind)[0] if get_origin(kind) is list else kind
    if get_origin(item) is Literal:
        choices, kind = get_args(item), (list[str] if get_origin(kind) is list else str)
    names = {str: "string", int: "integer", float: "number", bool: "boolean", list[str]: "strings", list[float]: "numbers"}
    name = "object" if get_origin(kind) is dict else names[kind]
    required = parameter.default is inspect.Parameter.empty
    return Parameter(parameter.name, name, arg, choices, required, None if required else parameter.default)


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """A value in an error message: short, valid Unicode, never a whole container."""
    if isinstance(value, str):
        clipped = value if len(value) <= 60 else value[:60] + "..."
        return "'" + clipped.encode("utf-8", "replace").decode() + "'"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return f"a {type(value).__name__}"
