"""The command line: what it prints, and one line for what a user can get wrong."""

import json
from pathlib import Path

import pytest

from trainer.cli import main


def test_eval_prints_the_papers_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    assert main(["eval", "--policy", "copy", "expert", "--per-column", "4", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "copy on test" in shown
    assert all(name in shown for name in ("Cooperation", "QA", "EFC", "GFC", "Math", "Avg"))
    assert json.loads(out.read_text())["average"]["solved"] == 100.0


def test_data_is_generated_validated_and_evaluated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert main(["data", "generate", "--seed", "3", "--size", "300", "--out", str(folder)]) == 0
    assert "300 instances" in capsys.readouterr().out
    assert main(["data", "validate", *(str(folder / f"{name}.jsonl") for name in ("sft", "train", "test"))]) == 0
    assert main(["eval", "--policy", "expert", "--file", str(folder / "test.jsonl")]) == 0
    assert "100.0" in capsys.readouterr().out
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{\n")
    assert main(["data", "validate", str(bad)]) == 1
    assert f"{bad}:1: not JSON" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "generate", "--size", "5", "--out", "x"], "size: expected at least 100, got 5"),
        (["data", "validate", "missing.jsonl"], "missing.jsonl"),
        (["eval", "--policy", "expert", "--per-column", "0"], "episodes: expected at least one"),
        (["eval", "--policy", "./none", "--adapter", "cook=x"], "--adapter: expected AGENT=FOLDER"),
        (["eval", "--policy", "expert", "--tau-retail", "missing"], "missing"),
        (["memory", "show", "missing.sqlite"], "missing.sqlite"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.strip().splitlines()) == 1
