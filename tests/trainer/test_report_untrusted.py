"""A report of a folder that anybody may have written: texts stay texts, types are checked, a page is whole or the old one."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from run_folders import episode, write_lines, write_run

from trainer.cli import main
from trainer.report import read_run


class Elements(HTMLParser):
    """The elements of a page and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


EVIL = "<img src=x onerror=alert(1)>\x1b[31m\x9b2J"


def test_names_of_evaluations_and_scalars_are_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the page and on the terminal: no element, no attribute and no escape sequence comes of them."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line.get("name") == "final":
            line["name"] = EVIL
    lines.append({"kind": "train", "step": 61, "time": 200.0, f"updated/{EVIL}": 1.0, f"selected/{EVIL}": 1.0})
    report = json.loads((run / "eval" / "final.json").read_text())
    report["columns"][0]["name"] = EVIL
    (run / "eval" / "final.json").unlink()
    (run / "eval" / f"{EVIL}.json").write_text(json.dumps(report))
    bad = episode(60, EVIL, 0.5, EVIL)
    bad["turns"].append({"agent": EVIL, "text": "\ud800", "observation": EVIL})
    write_lines(run / "metrics.jsonl", lines)
    write_lines(run / "samples.jsonl", [bad])
    assert main(["report", str(run)]) == 0
    html = (run / "report.html").read_text()
    assert "img" not in Elements(html).names
    assert "<img" not in html
    assert f"sft → {EVIL[:28]}" in Elements(html).text
    shown = capsys.readouterr().out
    assert EVIL[:28] in shown
    assert all(letter.isprintable() or letter == "\n" for letter in html + shown)


def test_a_page_is_replaced_whole_or_not(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["report", str(run)]) == 0
    before = (run / "report.html").read_bytes()

    def fail(self: Path, target: object) -> Path:
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", fail)
    assert main(["report", str(run)]) == 2
    assert (run / "report.html").read_bytes() == before
    assert [path.name for path in run.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("columns", [3], r"final.json: columns\[0\]: expected an object, got 3"),
        ("columns", {}, r"final.json: columns: expected a list, got {}"),
        (
            "columns",
            [{"name": "qa", "solved": "<b>", "low": 1, "high": 2}],
            r"columns\[0\]: solved: expected a finite number, got",
        ),
        ("average", {"solved": True, "low": 1, "high": 2}, "average: solved: expected a finite number, got True"),
        ("episodes", [{"id": 1, "column": "qa", "accuracy": 1.0}], r"episodes\[0\]: id: expected a text, got 1"),
    ],
)
def test_a_report_of_other_types_is_named(run: Path, name: str, change: Any, message: str) -> None:
    path = run / "eval" / "final.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: change}))
    with pytest.raises(ValueError, match=message):
        read_run(run)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("metrics.jsonl", {"kind": "train", "step": "1", "time": 2.0}, "step: expected a finite number, got '1'"),
        ("metrics.jsonl", {"kind": "train", "step": 10**400, "time": 2.0}, "a number has more than 308 digits"),
        ("samples.jsonl", {"step": 1, "reward": None, "turns": []}, "reward: expected a finite number, got None"),
        ("samples.jsonl", {"step": 1, "reward": 1.0, "turns": [3]}, "turns: expected a list of objects with agent and text"),
    ],
)
def test_a_line_of_other_types_is_named(run: Path, file: str, line: dict[str, Any], message: str) -> None:
    write_lines(run / file, [line])
    with pytest.raises(ValueError, match=rf"{file}:1: .*{message}"):
        read_run(run)
    (run / file).write_text("[" * 100_000 + "\n")
    with pytest.raises(ValueError, match=rf"{file}:1: .*at most 64 levels of nesting, got more"):
        read_run(run)
