"""The command line: what it prints, and one line for what a user can get wrong."""

import argparse
import json
import warnings
from pathlib import Path

import pytest

from trainer.cli import main


def test_eval_prints_the_papers_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    assert main(["eval", "--policy", "copy", "expert", "--per-column", "4", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "copy on test" in shown
    assert all(name in shown for name in ("Cooperation", "QA", "EFC", "GFC", "Math", "Avg"))
    assert [(report["policy"], report["average"]["solved"]) for report in json.loads(out.read_text())] == [
        ("copy", 0.0),
        ("expert", 100.0),
    ]
    assert main(["eval", "--policy", "expert", "--columns", "qa", "math", "--limit", "2", "--out", str(out)]) == 0
    assert [column["episodes"] for column in json.loads(out.read_text())["columns"]] == [2, 2]


def test_eval_plays_the_retail_domain(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The baselines and the gold replay, from the data files where they are."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "tau_retail"
    if not folder.is_dir():
        pytest.skip(f"no data of tau-bench's retail domain in {folder}")
    out = tmp_path / "reports.json"
    assert main(["eval", "--policy", "all", "--tau-retail", str(folder), "--out", str(out)]) == 0
    assert "expert on tau-bench retail" in capsys.readouterr().out
    solved = {report["policy"]: report["average"]["solved"] for report in json.loads(out.read_text())}
    assert solved["expert"] == 100.0
    assert all(solved[name] < 5.0 for name in ("random", "constant", "refuse", "copy"))
    assert 10.0 < solved["keyword"] < 30.0


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
        (["eval", "--policy", "expert", "--out", "none/report.json"], "--out: expected a file in a folder that exists"),
        (["eval", "--policy", "m", "--base-url", "http://127.0.0.1:9/v1", "--adapter", "qa"], "--adapter: expected AGENT=NAME"),
        (["eval", "--policy", "m", "--dtype", "load"], "dtype: expected the name of a torch type"),
        (["eval", "--policy", "m", "--device", "abacus"], "device: expected one that torch can use, got 'abacus'"),
        (["eval", "--policy", "./none", "--adapter", "cook=x"], "--adapter: expected AGENT=NAME"),
        (["eval", "--policy", "expert", "--tau-retail", "missing"], "missing"),
        (["memory", "show", "missing.sqlite"], "missing.sqlite"),
        (["memory", "show", "a\x1b[2J\x9bb.sqlite"], "a?[2J?b.sqlite"),
        (["eval", "--policy", "expert", "--seed", "-1"], "--seed: expected a whole number from 0 to 2^63 - 1, got -1"),
        (["data", "generate", "--out", "d", "--seed", str(2**63)], "--seed: expected a whole number from 0 to 2^63 - 1"),
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "hima: the following arguments are required: COMMAND"),
        (["evil"], "invalid choice: 'evil'"),
        (["eval", "--policy", "expert", "--\x1b]0;x\x07"], "unrecognized arguments: --?]0;x?"),
        (["eval", "--policy", "expert", "--limit", "9" * 5000], "expected an integer of at most 9 digits, got '999"),
        (["eval"], "hima eval: the following arguments are required: --policy"),
        (["eval", "--policy", "expert", "--split", "dev"], "invalid choice: 'dev'"),
        (["eval", "--policy", "expert", "--per-column", "0"], "expected an integer of at least 1, got '0'"),
        (["eval", "--policy", "expert", "--limit", "-3"], "--limit"),
    ],
)
def test_wrong_arguments_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.strip().splitlines()) == 1


def test_warnings_are_one_line_and_give_no_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """They repeat paths, and what environments and reward functions raise."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr("trainer.report.command._run", lambda args: 0)
    assert main(["report", "x"]) == 0
    for text in ("a\x1b[2Jb", "a\x9b2Jb", "a\rb\nhima: finished", "a\u202eb\u2028c"):
        shown = warnings.formatwarning(text, UserWarning, "a\x1b.py", 3)
        assert shown.startswith("a?.py:3: UserWarning: a")
        assert shown.endswith("\n")
        assert shown.removesuffix("\n").isprintable()


def test_an_endpoint_that_is_away_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *args: 0.0)
    assert main(["eval", "--policy", "m", "--base-url", "http://127.0.0.1:9/v1", "--limit", "1"]) == 2
    shown = capsys.readouterr().err
    assert "http://127.0.0.1:9/v1/ can't be reached" in shown
    assert len(shown.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["c.yaml", "a=1", "b=-2", "--resume"],
        ["c.yaml", "a=1", "--resume", "b=-2"],
        ["c.yaml", "--resume", "a=1", "b=-2"],
        ["--resume", "c.yaml", "a=1", "b=-2"],
    ],
)
@pytest.mark.parametrize("command", ["train", "sft"])
def test_options_stand_anywhere(command: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr("trainer.command._run", lambda args: seen.append(args) or 0)
    assert main([command, *words]) == 0
    assert (str(seen[0].config), seen[0].changes, seen[0].resume) == ("c.yaml", ["a=1", "b=-2"], True)


def test_queries_after_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr("trainer.generate.command._run", lambda args: seen.append(args) or 0)
    assert main(["generate", "RUN", "one", "--seed", "3", "two", "--customer", "C0001", "--", "--three"]) == 0
    assert (seen[0].queries, seen[0].seed, seen[0].customer) == (["one", "two", "--three"], 3, "C0001")
