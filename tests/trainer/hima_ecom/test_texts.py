"""The TOML files of the tasks' texts: what a file may hold, that every entry is used, that they are package data."""

import ast
import contextlib
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import trainer
from trainer.hima_ecom import World, tasks
from trainer.hima_ecom.tasks import texts
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.pools import Pools
from trainer.hima_ecom.tasks.template import Call, Template
from trainer.hima_ecom.tasks.texts.reader import Texts, parse

ROOT = Path(*trainer.__path__).parent
SAID = 'sft = ["a {x}"]\ntest = ["b"]\nzh = ["c"]\nzh_test = ["d"]\n'
TOLD = "task = 't'\nanswer = 'a'\nen = 'e'\nzh = 'z'\n"


def used() -> tuple[set[str], list[tuple[str, set[str]]]]:
    """(every "file/key" in the code of the tasks; for every f"file/{...}", the file and the texts beside it in that module)."""
    names: set[str] = set()
    computed = []
    for path in Path(*tasks.__path__).glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        names |= {text for text in found if text.partition("/")[0] in texts.file_names() and "/" in text and " " not in text}
        for node in nodes:
            if isinstance(node, ast.JoinedStr) and isinstance(first := node.values[0], ast.Constant):
                computed.append((str(first.value), found))
    return names, [(text[:-1], found) for text, found in computed if text[-1:] == "/" and text[:-1] in texts.file_names()]


def templates() -> dict[str, Template]:
    """Every family that is an entry of a table, by the name of its sentences."""
    writers = [family.write for families in tasks.FAMILIES.values() for family in families]
    return {write.args[2]: write.args[0] for write in writers if isinstance(write, partial)}


def test_every_entry_is_used_and_every_name_is_an_entry() -> None:
    names, computed = used()
    names = {name for name in names if not name.endswith("/")}
    sections = [(file, section) for file in texts.file_names() for section in texts.read(file)[:-1]]  # all but families
    known = {f"{file}/{key}" for file, section in sections for key in section}
    assert len(known) > 130
    assert names <= known, names - known
    for file, found in computed:
        names |= {f"{file}/{key}" for key in found}
    names |= {name for entry in templates().values() for name in entry.ask}
    assert known <= names, known - names


def test_sentences_belong_to_templates_and_have_a_thought_for_each_call() -> None:
    written = {f"{file}/{key}": said for file in texts.file_names() for key, said in texts.read(file).families.items()}
    entries = templates()
    assert written.keys() == entries.keys()
    for name, entry in entries.items():
        assert len(written[name].thoughts) == (1 if isinstance(entry.calls, Call) else len(entry.calls)), name


@pytest.mark.parametrize("entry", templates().values(), ids=lambda entry: entry.name)
def test_every_phrase_of_a_query_names_facts_that_are_drawn(world: World, entry: Template) -> None:
    """A draw takes one phrase of many, so other tests may miss one that names an unknown fact."""
    rng, pools, facts = random.Random(entry.name), Pools(world, "train"), None
    while facts is None:
        with contextlib.suppress(Skip):
            facts = entry.draw(Builder(pools, rng, "train", "en"))
    for name in entry.ask:
        for said in texts.phrases(name):
            for phrase in said:
                assert "{" not in phrase.format(**facts)


def test_topics_are_sentences() -> None:
    for families in tasks.FAMILIES.values():
        for family in families:
            assert family.topic[0].isupper()
            assert family.topic.endswith(".")
            assert "\n" not in family.topic


def test_a_file_has_its_sections() -> None:
    text = '[lists]\nl = ["x", "y"]\n[tables.t]\n"m/s" = ["a", "b"]\n[translations.z]\none = "一"\n'
    text += f'[phrases.p]\n{SAID}more = ["e"]\n[families.f]\n{TOLD}thoughts = ["u", "u"]\n'
    assert parse(text, "f.toml") == Texts(
        phrases={"p": texts.Phrases(sft=("a {x}",), test=("b",), zh=("c",), zh_test=("d",), more=("e",))},
        lists={"l": ("x", "y")},
        tables={"t": {"m/s": ("a", "b")}},
        translations={"z": {"one": "一"}},
        families={"f": texts.Sentences(task="t", answer="a", en="e", zh="z", thoughts=("u", "u"))},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[phrases", "f.toml: expected TOML, got an error: Expected .* at the end of a table"),
        ("[phrase.p]\n" + SAID, "f.toml: expected the sections phrases, lists, tables, translations, families, got phrase"),
        ("lists = 3", "f.toml, lists: expected a table, got 3"),
        ('[phrases.p]\nsft = ["a"]', "f.toml, phrases.p: expected sft, test, zh, zh_test and perhaps more, got sft$"),
        ("[phrases.p]\nde = []\n" + SAID, "f.toml, phrases.p: expected sft, .* got de, sft"),
        ("[phrases]\np = 1", "f.toml, phrases.p: expected sft, .* got 1"),
        ("[phrases.p]\n" + SAID.replace('"c"', ""), r"f.toml, phrases.p.zh: expected a list of at least one text, got \[\]"),
        ("[phrases.p]\n" + SAID.replace('"c"', "7"), "f.toml, phrases.p.zh: expected a text, got 7"),
        ("[phrases.p]\n" + SAID.replace("{x}", "{x"), "f.toml, phrases.p.sft: expected a template for str.format, got 'a {x'"),
        (
            "[families.f]\ntask = 't'",
            "f.toml, families.f: expected task, answer, en, zh and perhaps why, .*, got task$",
        ),
        ("[families.f]\n" + TOLD + "why = 1", "f.toml, families.f.why: expected a text, got 1"),
        ("[families.f]\n" + TOLD + "thoughts = []", "f.toml, families.f.thoughts: expected a list of at least one text"),
        ("[families.f]\n" + TOLD + "why = '{'", "f.toml, families.f.why: expected a template for str.format, got '{'"),
        ('[lists]\nl = ["a", "b", "a"]', "f.toml, lists.l: expected different texts, got one twice: 'a'"),
        ('[lists]\nl = "a"', "f.toml, lists.l: expected a list of at least one text, got 'a'"),
        ('[tables.t]\na = ["b", "c"]\nd = ["e"]', "f.toml, tables.t.d: expected 2 texts as in the first row, got 1"),
        ('[tables.t]\na = "b"', "f.toml, tables.t.a: expected a list of texts, got 'b'"),
        ("[tables]\nt = {}", "f.toml, tables.t: expected a table of lists of texts, got {}"),
        ("[translations.z]\na = []", r"f.toml, translations.z.a: expected a text, got \[\]"),
        ('[translations.z]\na = ""', "f.toml, translations.z.a: expected a text, got ''"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text, "f.toml")


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"texts: expected a file among attributes, common, .*, got 'poems'"):
        texts.phrases("poems/spring")
    with pytest.raises(ValueError, match="texts: expected a name like file/key, got 'gfc'"):
        texts.phrases("gfc")
    with pytest.raises(ValueError, match=r"gfc.toml: expected phrases among unit_conversion, .*, got 'spring'"):
        texts.phrases("gfc/spring")
    with pytest.raises(ValueError, match=r"gfc.toml: expected lists among none, got 'unit_conversion'"):
        texts.word_list("gfc/unit_conversion")


def test_importing_the_tasks_reads_no_file() -> None:
    code = (
        "import trainer.hima_ecom.tasks as tasks; from trainer.hima_ecom.tasks.texts import phrases, read; "
        "assert read.cache_info().currsize == 0; phrases('gfc/days_apart'); assert read.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_wheel_has_every_file(tmp_path: Path) -> None:
    """`build_py` copies what a wheel packs."""
    build = ["egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run([sys.executable, "setup.py", "-q", *build], check=True, cwd=ROOT, capture_output=True)
    folder = Path(*texts.__path__)
    packed = tmp_path / "lib" / folder.relative_to(ROOT)
    assert {path.name for path in packed.glob("*.toml")} == {f"{name}.toml" for name in texts.file_names()}
    assert all((packed / path.name).read_bytes() == path.read_bytes() for path in folder.glob("*.toml"))
