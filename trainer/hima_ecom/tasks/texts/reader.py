"""Read and check the TOML files of this folder.

Entries are named "file/key". A file is parsed when one of its entries is first asked for, and then kept. Its sections:

    [phrases.KEY]       ways to say the same thing, by split and language: the fields of Phrases
    [lists]             KEY = [text, ...]
    [tables.KEY]        word = [text, ...], equally many texts for every word
    [translations.KEY]  English = Chinese
    [families.KEY]      what agents say in the tasks of a family: the fields of Sentences
"""

import random
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
_FOLDER = files(__name__.rpartition(".")[0])


class Phrases(NamedTuple):
    """Templates with {facts} that say the same thing. No two splits share an English phrase, except where `more` is empty."""

    sft: tuple[str, ...]  # demonstrated by experts
    test: tuple[str, ...]  # of test queries only
    zh: tuple[str, ...]  # Chinese, of experts and of training
    zh_test: tuple[str, ...]
    more: tuple[str, ...] = ()  # of the (query, answer) pairs of split "train"; where empty, those take `sft`

    def draw(self, rng: random.Random, split: str, language: str) -> str:
        """Return a random template for a split and language."""
        if split == "test":
            return rng.choice(self.zh_test if language == "zh" else self.test)
        if language == "zh":
            return rng.choice(self.zh)
        return rng.choice((self.more or self.sft) if split == "train" else self.sft)


class Sentences(NamedTuple):
    """The agents' sentences in the tasks of one family: templates with {facts}."""

    task: str  # what the master delegates
    answer: str  # of the sub-agent
    en: str  # the master's final answer
    zh: str
    why: str = ""  # the master's thought as it delegates
    thoughts: tuple[str, ...] = ()  # of the sub-agent, one before each call
    because: str = "That answers it."  # its thought as it answers
    closing: str = "I have what I need."  # the master's last thought


class Texts(NamedTuple):
    """The contents of one file."""

    phrases: dict[str, Phrases]
    lists: dict[str, tuple[str, ...]]
    tables: dict[str, dict[str, tuple[str, ...]]]
    translations: dict[str, dict[str, str]]
    families: dict[str, Sentences]


@cache
def phrases(name: str) -> Phrases:
    """Return the phrases "file/key". Raises: ValueError where there are none."""
    file, key = _split(name)
    return _entry(file, key, "phrases", read(file).phrases)


@cache
def word_list(name: str) -> tuple[str, ...]:
    """Return the list "file/key". Raises: ValueError where there is none."""
    file, key = _split(name)
    return _entry(file, key, "lists", read(file).lists)


@cache
def table(name: str) -> dict[str, tuple[str, ...]]:
    """Return the table "file/key": word -> its texts. Raises: ValueError where there is none."""
    file, key = _split(name)
    return _entry(file, key, "tables", read(file).tables)


@cache
def translations(name: str) -> dict[str, str]:
    """Return the translations "file/key": English -> Chinese. Raises: ValueError where there are none."""
    file, key = _split(name)
    return _entry(file, key, "translations", read(file).translations)


@cache
def sentences(name: str) -> Sentences:
    """Return the sentences of a family, "file/key". Raises: ValueError where there are none."""
    file, key = _split(name)
    return _entry(file, key, "families", read(file).families)


@cache
def read(file: str) -> Texts:
    """Return the contents of a file of this folder, named without its ending. Raises: ValueError."""
    if file not in file_names():
        raise ValueError(f"texts: expected a file among {', '.join(file_names())}, got {file!r}")
    return parse((_FOLDER / f"{file}.toml").read_text(encoding="utf-8"), f"{file}.toml")


@cache
def file_names() -> tuple[str, ...]:
    """Return the names of all files of this folder, without their ending, sorted."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in _FOLDER.iterdir() if path.name.endswith(".toml")))


def parse(text: str, file: str) -> Texts:
    """Parse the text of a file. Raises: ValueError that names the file, the entry, what was expected and what was found."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: expected TOML, got an error: {error}") from None
    if unknown := document.keys() - set(Texts._fields):
        raise ValueError(f"{file}: expected the sections {', '.join(Texts._fields)}, got {', '.join(sorted(unknown))}")
    found: dict[str, dict[str, Any]] = {}
    for section, check in _CHECKS.items():
        entries = document.get(section, {})
        if not isinstance(entries, dict):
            raise ValueError(f"{file}, {section}: expected a table, got {entries!r}")
        found[section] = {key: check(f"{file}, {section}.{key}", value) for key, value in entries.items()}
    return Texts(**found)


def _split(name: str) -> tuple[str, str]:
    file, slash, key = name.partition("/")
    if not slash:
        raise ValueError(f"texts: expected a name like file/key, got {name!r}")
    return file, key


def _entry(file: str, key: str, section: str, entries: Mapping[str, T]) -> T:
    if key not in entries:
        raise ValueError(f"{file}.toml: expected {section} among {', '.join(entries) or 'none'}, got {key!r}")
    return entries[key]


def _phrases(where: str, value: Any) -> Phrases:
    lists = {name: _list(f"{where}.{name}", texts) for name, texts in _fields(where, value, Phrases).items()}
    for name, texts in lists.items():
        for text in texts:
            _check_template(f"{where}.{name}", text)
    return Phrases(**lists)


def _sentences(where: str, value: Any) -> Sentences:
    found: dict[str, Any] = {}
    for name, said in _fields(where, value, Sentences).items():
        texts = _list(f"{where}.{name}", said, distinct=False) if name == "thoughts" else (_text(f"{where}.{name}", said),)
        for text in texts:
            _check_template(f"{where}.{name}", text)
        found[name] = texts if name == "thoughts" else texts[0]
    return Sentences(**found)


def _fields(where: str, value: Any, kind: type[Phrases] | type[Sentences]) -> dict[str, Any]:
    """Check that an entry has the fields of its kind."""
    required = [name for name in kind._fields if name not in kind._field_defaults]
    if not isinstance(value, dict) or not set(required) <= value.keys() <= set(kind._fields):
        got = ", ".join(value) if isinstance(value, dict) else repr(value)
        raise ValueError(f"{where}: expected {', '.join(required)} and perhaps {', '.join(kind._field_defaults)}, got {got}")
    return value


def _list(where: str, value: Any, *, distinct: bool = True) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: expected a list of at least one text, got {value!r}")
    texts = tuple(_text(where, text) for text in value)
    if distinct and len(set(texts)) < len(texts):
        raise ValueError(f"{where}: expected different texts, got one twice: {max(texts, key=texts.count)!r}")
    return texts


def _table(where: str, value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{where}: expected a table of lists of texts, got {value!r}")
    rows = {}
    for word, row in value.items():
        if not isinstance(row, list) or not row:
            raise ValueError(f"{where}.{word}: expected a list of texts, got {row!r}")
        rows[word] = tuple(_text(f"{where}.{word}", text) for text in row)
    width = len(next(iter(rows.values())))
    for word, texts in rows.items():
        if len(texts) != width:
            raise ValueError(f"{where}.{word}: expected {width} texts as in the first row, got {len(texts)}")
    return rows


def _translations(where: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{where}: expected a table of texts, got {value!r}")
    return {word: _text(f"{where}.{word}", text) for word, text in value.items()}


def _check_template(where: str, text: str) -> None:
    try:
        list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"{where}: expected a template for str.format, got {text!r} ({error})") from None


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: expected a text, got {value!r}")
    return value


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "phrases": _phrases,
    "lists": _list,
    "tables": _table,
    "translations": _translations,
    "families": _sentences,
}
