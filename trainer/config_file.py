"""Reading dataclasses from YAML and `key=value`, with errors that say where and what was meant; writing them.

build(TrainConfig, *read("configs/tiny.yaml", ["seed=1"]))
"""

import difflib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import dacite
import yaml

from trainer.escaping import for_utf8
from trainer.kinds import in_words, shown
from trainer.reading import short

MAX_TEXT = 2**17  # characters of a file: PyYAML reads some 100,000 a second
MAX_VALUES = 10_000  # of a file; what an alias stands for counts as often as the alias stands there
MAX_DEPTH = 32
MAX_DIGITS = 4000  # of a whole number: Python reads up to 4,300
T = TypeVar("T")
Key = tuple[str, ...]  # ("learner", "learning_rate")


class _Loader(yaml.SafeLoader):
    """Safe, and 1e-3 and 010 are the numbers that they are in YAML 1.2 and everywhere else. A text that is nothing of its tag
    is an error of YAML."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError):  # such as the 99th of a month
            wrong = f"expected a value of {node.tag}, got {short(node.value)}"
            raise yaml.constructor.ConstructorError(None, None, wrong, node.start_mark) from None


class _Dumper(yaml.SafeDumper):
    """Lists in a line."""


_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
_INT = re.compile(r"[-+]?[0-9][0-9_]*$")
for _loader in (_Loader, _Dumper):
    _loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
    _loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(str(node.value).replace("_", "")))
_Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True))


def read(path: str | os.PathLike[str] | None, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[Key, str]]:
    """The values of a YAML file with overrides put over them, and where each key stands ("tiny.yaml:12", "seed=1").

    Raises: FileNotFoundError; ValueError for what isn't YAML or no mapping, a key twice, an override without "=".
    """
    values: dict[str, Any] = {}
    places: dict[Key, str] = {}
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: expected a YAML file, got none")
        with open(path, encoding="utf-8") as file:
            try:
                text = file.read(MAX_TEXT + 1)
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}: expected UTF-8, got an error: {error}") from None
        found = parse(text, str(path), places)
        if found is not None and not isinstance(found, dict):
            raise ValueError(f"{path}: expected a mapping of keys to values, got {type(found).__name__}")
        values = found or {}
    for override in overrides:
        name, equals, text = override.partition("=")
        key = tuple(name.strip().split("."))
        if not equals or not all(key):
            raise ValueError(f"{short(override)}: expected key=value, such as learner.learning_rate=1e-3")
        value = parse(text, short(override), places, key)
        inner = values
        for part in key[:-1]:
            below = inner.get(part)
            inner[part] = inner = dict(below) if isinstance(below, Mapping) else {}
        inner[key[-1]] = value
        for depth in range(1, len(key) + 1):
            place = short(override)
            places[key[:depth]] = place if depth == len(key) else places.get(key[:depth], place)
    return values, places


def build(cls: type[T], values: Mapping[str, Any], places: Mapping[Key, str] | None = None) -> T:
    """A dataclass, and those in its fields, from mappings.

    Raises: ValueError: where, which key, what was expected and what came.
    """
    return _build(cls, values, (), places or {})


def dump(config: Any) -> str:
    """A dataclass as YAML."""
    return yaml.dump(asdict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def parse(text: str, where: str, places: dict[Key, str] | None = None, prefix: Key = ()) -> Any:
    """The value of a YAML text, its sequences as tuples; `places` is told where each key stands.

    Raises: ValueError, beginning with `where`: no YAML; longer, deeper or of more values than the limits above; a key twice; a
    number out of range.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"{where}: expected at most {MAX_TEXT:,} characters, got more")
    try:
        loader = _Loader(text)
        try:
            node = _node(loader)
            if node is None:
                return None
            _Walk(where, not prefix, {} if places is None else places).visit(node, prefix, 0)
            return _tuples(loader.construct_document(node))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: expected YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError(f"{where}: expected at most {MAX_DEPTH} levels of nesting, got more") from None


def _node(loader: _Loader) -> yaml.Node | None:
    """The text's value as nodes. Raises: YAMLError, also for the scanner's numbers without end and escapes beyond Unicode."""
    try:
        return loader.get_single_node()
    except (ValueError, ArithmeticError) as error:
        raise yaml.YAMLError(str(error)) from None


class _Walk:
    """Notes where every key stands, and checks the values, before anything is made of them: aliases share what they stand for
    until then."""

    def __init__(self, where: str, by_line: bool, places: dict[Key, str]) -> None:
        self.where, self.by_line, self.places, self.values = where, by_line, places, 0

    def visit(self, node: yaml.Node, key: Key, depth: int) -> None:
        """Raises: ValueError."""
        self.values += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"{self._place(node)}: expected at most {MAX_DEPTH} levels of nesting, got more")
        if self.values > MAX_VALUES:
            raise ValueError(f"{self._place(node)}: expected at most {MAX_VALUES:,} values with those of aliases, got more")
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, key, depth)
        elif isinstance(node, yaml.SequenceNode):
            for inner in node.value:
                self.visit(inner, key, depth + 1)
        elif (wrong := _expected(node)) is not None:
            raise ValueError(f"{self._place(node)}: {'.'.join(key)}: expected {wrong}, got {short(node.value)}")

    def _mapping(self, node: yaml.MappingNode, key: Key, depth: int) -> None:
        seen = set()
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise ValueError(f"{self._place(name)}: expected a text as key, got a {name.id}")
            inner = (*key, str(name.value))
            place = self._place(name)
            if for_utf8(inner[-1]) != inner[-1]:
                raise ValueError(f"{place}: expected a key that UTF-8 can hold, got {short(inner[-1])}")
            if inner in seen:
                raise ValueError(f"{place}: {'.'.join(inner)}: expected once, got twice")
            seen.add(inner)
            self.places[inner] = place
            self.visit(value, inner, depth + 1)

    def _place(self, node: yaml.Node) -> str:
        return f"{self.where}:{node.start_mark.line + 1}" if self.by_line else self.where


def _expected(node: yaml.Node) -> str | None:
    """The bound that a number or a text breaks, in words; None for one that is within them."""
    kind, text = node.tag.rpartition(":")[2], str(node.value).replace("_", "").lstrip("+-")
    if kind == "int" and len(text) > MAX_DIGITS:
        return f"a whole number of at most {MAX_DIGITS:,} digits"
    if kind == "float" and _FLOAT.match(text) and text.lower() not in (".inf", ".nan") and math.isinf(float(text)):
        return "a number that a float can hold"
    return None if for_utf8(text) == text else "text that UTF-8 can hold"


def _tuples(value: Any) -> Any:
    """Sequences of a frozen configuration are tuples."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {name: _tuples(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _build(cls: type[T], values: Mapping[str, Any], key: Key, places: Mapping[Key, str]) -> T:
    names = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    made: dict[str, Any] = {}
    for name, value in values.items():
        inner = (*key, str(name))
        if name not in names:
            close = difflib.get_close_matches(str(name), names, 1, 0.5)
            meant = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(names)}"
            raise ValueError(f"{_at(inner, places)}: no such key; {meant}")
        nested = next((part for part in (hints[name], *get_args(hints[name])) if is_dataclass(part)), None)
        if nested is not None and isinstance(value, Mapping):
            value = _build(nested, value, inner, places)  # type: ignore[arg-type]
        made[name] = value
    try:
        return dacite.from_dict(cls, made, _DACITE)
    except dacite.WrongTypeError as error:
        name = str(error.field_path).split(".")[0]
        expected = in_words(hints[name])
        if isinstance(made[name], int) and int in (hints[name], *get_args(hints[name])) and abs(made[name]) >= 2**63:
            expected += " of at most 64 bits"
        raise ValueError(f"{_at((*key, name), places)}: expected {expected}, got {shown(made[name])}") from None
    except (ValueError, TypeError, NotImplementedError) as error:
        found = re.match(r"([A-Za-z_][\w.]*): (.*)", str(error), re.DOTALL)
        named = [] if found is None else found[1].split(".")
        if key and named[:1] == [key[-1]]:
            named = named[1:]
        known = found is not None and bool(named) and named[0] in names
        place = _at((*key, *named) if known else key, places)
        message = found[2] if known and found is not None else str(error)
        raise ValueError(f"{place}: {message}" if place else message) from error


def _at(key: Key, places: Mapping[Key, str]) -> str:
    """ "configs/tiny.yaml:12: learner.clip_low"; the place is that of the nearest key above which has one."""
    place = next((places[key[:n]] for n in range(len(key), 0, -1) if key[:n] in places), "")
    return ": ".join(part for part in (place, ".".join(key)) if part)


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) >= 2**63):
        raise dacite.WrongTypeError(int, value)
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise dacite.WrongTypeError(float, value)
    if not isinstance(value, int):
        return value
    if value != _rounded(value):
        raise dacite.WrongTypeError(float, value)
    return float(value)


def _rounded(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


_DACITE = dacite.Config(type_hooks={int: _whole, float: _number})
