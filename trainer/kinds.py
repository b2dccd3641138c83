"""Types of options: whether a value is of one, nothing lost, and how a message names it.

check_kind("max_steps", 1.5, int | None)  # TypeError: max_steps: expected a whole number or null, got 1.5
"""

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


def is_kind(value: Any, hint: Any) -> bool:
    """Return True for a value of the type `hint`: of builtin types, unions, literals, tuples, lists, mappings and classes.

    A whole number is a number, but True is neither, and 1.0 is not whole. A list may stand for a tuple.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint in (int, float):
        return isinstance(value, int | float if hint is float else int) and not isinstance(value, bool)
    if origin in (Union, types.UnionType):
        return any(is_kind(value, one) for one in inner)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin in (tuple, list):
        if not isinstance(value, tuple | list):
            return False
        if origin is list or inner[1:] == (Ellipsis,):
            inner = inner[:1] * len(value)
        return len(inner) == len(value) and all(map(is_kind, value, inner))
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(is_kind(k, inner[0]) and is_kind(v, inner[1]) for k, v in value.items())
    return isinstance(value, type(None) if hint is None else hint)


def in_words(hint: Any) -> str:
    """The type in words: "a whole number or null", "'linear' or 'cosine'", "a list of 2 numbers"."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin in (tuple, list):
        count = f"{len(inner)} " if origin is tuple and Ellipsis not in inner else ""
        return f"a list of {count}{in_words(inner[0]).removeprefix('a ')}s"
    if is_dataclass(hint) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return "a mapping"
    return " or ".join(map(in_words, inner)) or f"a {getattr(hint, '__name__', hint)}"


def shown(value: Any) -> str:
    """The value as a message shows it. A class is called one: it often stands where an instance was meant."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "null" if value is None else repr(list(value) if isinstance(value, tuple) else value)


def check_kind(name: str, value: Any, hint: Any) -> None:
    """TypeError unless `value` is of the type `hint`; ValueError where that is a choice."""
    if not is_kind(value, hint):
        choice = any(get_origin(one) is Literal for one in (hint, *get_args(hint)))
        raise (ValueError if choice else TypeError)(f"{name}: expected {in_words(hint)}, got {shown(value)}")


def check_fields(config: Any, path: Sequence[str] = ()) -> None:
    """Check that all fields of a dataclass, and of those in its fields, are of their types: "rl.group_size: ...".

    Raises: as `check_kind`.
    """
    cls: Any = type(config)
    for name, hint in _hints(cls):
        value = getattr(config, name)
        check_kind(".".join((*path, name)), value, hint)
        if is_dataclass(value):
            check_fields(value, (*path, name))


@lru_cache
def _hints(cls: Any) -> list[tuple[str, Any]]:
    hints = get_type_hints(cls)
    return [(item.name, hints[item.name]) for item in fields(cls)]
