"""docs/benchmark.md is up to date, and its examples are what it says they are."""

import json
import re
from pathlib import Path

import pytest

from bench.benchmark_page import DOCS, PAGE, filled
from bench.benchmark_text import COLUMNS, episode, shown_task
from trainer.hima_ecom.checkers import KINDS, problems
from trainer.hima_ecom.dataset import read_tasks, validate
from trainer.hima_ecom.dataset.read import AGENTS
from trainer.hima_ecom.dataset.samples import Sample
from trainer.hima_ecom.tasks import Task

TEXT = PAGE.read_text(encoding="utf-8")


def fenced(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_the_page_is_up_to_date() -> None:
    assert filled(TEXT) == TEXT, "run `make docs`"


def test_a_part_that_is_missing_or_unknown_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected the parts counts, store"):
        filled(TEXT.replace("<!-- begin: tools -->", ""))
    with pytest.raises(ValueError, match="expected the parts"):
        filled(TEXT + "\n<!-- begin: poems -->\n<!-- end: poems -->\n")


def test_every_column_has_an_episode_whose_agents_can_be_told_apart() -> None:
    for column in COLUMNS:
        text = episode(shown_task(column))
        assert text.startswith("Task: ")
        assert "\nmaster\n  Thought: " in text
        assert re.search(rf"\n    ({'|'.join(AGENTS[1:])})\n      Thought: .*\n      Action: ", text)
        assert max(map(len, text.splitlines())) <= 118
    assert len({node["agent"] for node in shown_task("cooperation").trajectory}) >= 4


def test_every_field_is_documented() -> None:
    for record in (Task, Sample):
        for name in record.__dataclass_fields__:
            assert re.search(rf"^\| [^|]*`{name}`", TEXT, re.MULTILINE), name


def test_the_example_of_given_lines_is_read_without_code(tmp_path: Path) -> None:
    (lines,) = fenced("jsonl")
    path = tmp_path / "real.jsonl"
    path.write_text(lines, encoding="utf-8")
    assert list(validate(path)) == []
    first, second = read_tasks(path, split="test")
    assert (first.column, first.split, first.language, first.checker["kind"]) == ("qa", "test", "en", "text")
    assert (second.column, second.checker["value"]) == ("math", "59.70")


def test_every_kind_of_checker_has_an_example() -> None:
    examples = [json.loads(text) for text in fenced("json")]
    assert [example["kind"] for example in examples] == [*KINDS]
    assert [problems(example) for example in examples] == [[]] * len(KINDS)


def test_figures_exist_and_are_small() -> None:
    for name in re.findall(r"\]\((figures/\w+\.svg)\)", TEXT):
        assert 1000 < (DOCS / name).stat().st_size < 100_000
