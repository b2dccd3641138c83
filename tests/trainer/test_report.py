"""The report of a run: what it reads, what it says first, that every text is escaped, that what is missing is said."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from run_folders import AGENTS, COLUMNS, episode, train_line, write_lines, write_run

from trainer.cli import main
from trainer.report import page, read_run, summary, write_report
from trainer.report.facts import Change, amount, duration, facts, interval, labels, smooth
from trainer.report.page import chosen, evaluation
from trainer.report.svg import MOST, Line, line_chart, stacked_chart, strips, thin, ticks
from trainer.report.terminal import spark


class Page(HTMLParser):
    """What a browser would see: its tags, its text, and that they nest."""

    VOID = ("meta",)

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", list[str]()
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def test_what_a_reader_sees_first(run: Path) -> None:
    """The numbers by hand, from the files."""
    known = facts(read_run(run))
    reports = [json.loads((run / "eval" / f"{name}.json").read_text()) for name in ("sft", "final")]
    before, after = (report["average"]["solved"] for report in reports)
    assert known.tested is not None
    assert (known.tested.before, known.tested.after) == pytest.approx((before, after))
    assert known.tested.low is not None
    assert known.tested.low < after - before
    assert known.tested.verdict == "up"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rewards = [line["rollout/reward"] for line in lines if line["kind"] == "train"]
    assert known.reward is not None
    assert (known.reward.before, known.reward.after) == pytest.approx((sum(rewards[:6]) / 6, sum(rewards[-6:]) / 6))
    assert (known.steps, known.planned, known.sft_seconds, known.tokens) == (60, 60, 10.5, 540_000)
    assert known.rl_seconds == pytest.approx(131.0 - 10.5)  # the last evaluation is at 11 + 2 * 60
    assert known.saved == pytest.approx(1 - (11250 / 40000), abs=0.01)
    assert known.cached == pytest.approx(0.92)
    assert list(known.updated) == list(AGENTS)
    seen = Page(page([read_run(run)]))
    first = ("Did it learn?", f"{before:.1f} → {after:.1f} %", "What did it cost?", "Who was updated?", "finished after 60")
    assert all(text in seen.text for text in first)
    assert seen.count("svg") == 12


def test_the_page_needs_nothing_else(run: Path) -> None:
    html = page([read_run(run)])
    seen = Page(html)
    assert all("src" not in attrs and "href" not in attrs for _, attrs in seen.tags)
    assert seen.count("script") == 0
    assert "url(" not in html
    for found in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(found)  # also well-formed as XML
        assert "nan" not in found


def test_two_runs_side_by_side(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", memory=False, gain=0.2, seed=1)
    runs = [read_run(run), read_run(other)]
    assert labels(runs) == ["with memory", "without memory"]
    assert labels([runs[0], read_run(write_run(tmp_path / "third", seed=2))]) == ["run", "third"]
    seen = Page(page(runs))
    assert "Side by side" in seen.text
    assert "Before and after: without memory" in seen.text
    shown = summary(runs)
    assert "with memory  without memory" in shown
    assert "seconds of a step" in shown


def test_every_text_is_escaped(run: Path) -> None:
    evil = '<script>alert("&")</script>'
    bad = episode(60, evil, 0.5, evil)
    bad["expected"] = evil
    bad["turns"] += [{"agent": evil, "text": evil, "observation": evil}]
    write_lines(run / "samples.jsonl", [bad])
    with (run / "config.yaml").open("a") as file:
        file.write(f"evil: '{evil}'\n")
    with (run / "metrics.jsonl").open("a") as file:
        line = {f"selected/{evil}": 2.0, f"updated/{evil}": 1.0, f"variance/{evil}": 0.1}
        file.write(json.dumps({"kind": "train", "step": 61, "time": 200.0, **line}).replace("</", "<\\\\/") + "\n")
    for name in ("final", "sft"):
        report = json.loads((run / "eval" / f"{name}.json").read_text())
        report["columns"][0]["name"] = evil
        (run / "eval" / f"{name}.json").write_text(json.dumps(report))
    moved = run.with_name("<b>run")
    run.rename(moved)
    html = page([read_run(moved)])
    seen = Page(html)
    assert seen.count("script") == 0
    assert "<b>run" not in html
    assert evil in seen.text


def test_a_run_that_goes_on(run: Path) -> None:
    """Only SFT; then some steps and one evaluation, a line half written; no samples, no configuration."""
    shutil.rmtree(run / "final")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:20]))
    shutil.rmtree(run / "eval")
    (run / "samples.jsonl").unlink()
    (run / "config.yaml").unlink()
    early = read_run(run)
    seen = Page(page([early]))
    assert "RL has not begun" in seen.text
    assert seen.count("svg") == 1
    assert summary([early]).splitlines()[0].endswith("RL has not begun")
    (run / "metrics.jsonl").write_text("".join(lines[:41]) + lines[41][:30])
    later = read_run(run)
    assert len(later.train) == 20
    assert "no two evaluations to compare" in Page(page([later])).text
    assert "20 steps so far" in summary([later])


def test_what_went_wrong_is_said(run: Path) -> None:
    import random

    line = train_line(61, 61, random.Random(0), memory=True, gain=0.5) | {"learner/skipped": 1.0, "rollout/failed": 3.0}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line | {"rollout/reward": None}) + "\n")
    found = read_run(run)
    text = Page(page([found])).text
    assert "1 updates were skipped" in text
    assert "3 trajectories could not be scored" in text
    assert "skipped  1 updates" in summary([found])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", None, "expected the folder of a run with metrics.jsonl, got none"),
        ("metrics.jsonl", "{\n{}\n", r"metrics.jsonl:1: expected a JSON object, got an error"),
        ("metrics.jsonl", '{"kind": "train", "step": 1}\n', r":1: expected kind, step, time, got a line without time"),
        ("metrics.jsonl", '{"kind": "x", "step": 1, "time": 1}\n', r":1: expected kind sft, train, eval, got 'x'"),
        ("metrics.jsonl", '\n{"kind": "eval", "step": "1", "time": 1}\n', r":2: step: expected a finite number, got '1'"),
        ("metrics.jsonl", '{"kind": "eval", "step": 1, "time": null}\n', r":1: time: expected a finite number, got None"),
        (
            "samples.jsonl",
            '{"step": 1, "reward": [], "turns": []}\n',
            r"samples.jsonl:1: reward: expected a finite number, got \[",
        ),
        (
            "samples.jsonl",
            '{"step": 1, "reward": 1, "turns": [{"agent": 1}]}\n',
            r":1: turns: expected a list of objects with agent",
        ),
        ("samples.jsonl", "[]\n", r"samples.jsonl:1: expected step, reward, turns, got a line without step"),
        ("config.yaml", "a: [", r"config.yaml: expected YAML: "),
        ("eval/final.json", "{}", r"final.json: expected the report of an evaluation, with columns and average"),
        ("eval/final.json", "{", r"final.json: expected JSON, got an error"),
    ],
)
def test_files_that_are_missing_or_broken(run: Path, name: str, text: str | None, message: str) -> None:
    (run / name).unlink()
    if text is not None:
        (run / name).write_text(text)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        read_run(run)


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "solved" in shown
    assert str(run / "report.html") in shown
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert write_report([run], tmp_path / "x.html").read_text() == (run / "report.html").read_text()
    for arguments, message in (
        ([str(tmp_path / "none")], "none: expected the folder of a run, got nothing"),
        ([str(run / "config.yaml")], "config.yaml: expected the folder of a run, got a file"),
        ([str(run), "--out", str(tmp_path / "no" / "x.html")], "--out: expected a file in a folder that exists"),
    ):
        assert main(["report", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1


def test_the_table_of_evaluations(run: Path) -> None:
    rows = evaluation(read_run(run))
    assert rows[0] == ("solved, %", "Cooperation", "QA", "EFC", "GFC", "Math", "Avg")
    assert [row[0] for row in rows[1:]] == ["sft", "final", "difference, points"]
    before, after = ([float(cell.split()[0]) for cell in row[1:]] for row in rows[1:3])
    assert [float(cell) for cell in rows[3][1:]] == pytest.approx([b - a for a, b in zip(before, after, strict=True)], abs=0.11)
    assert len(COLUMNS) == 5
    (run / "eval" / "sft.json").unlink()
    (run / "eval" / "step-30.json").unlink()
    assert [row[0] for row in evaluation(read_run(run))] == ["solved, %", "final"]


def test_episodes_that_are_shown() -> None:
    """One query early and late, the one whose reward rose most; then the last ones, then the first."""
    episodes = [episode(step, f"t{step % 3}", reward) for step, reward in ((1, 0.0), (2, 0.5), (3, 1.0), (4, 0.1), (5, 1.9))]
    found = [(why, line["step"]) for why, line in chosen(episodes)]
    assert found[:2] == [("the same query, early", 2), ("the same query, late", 5)]
    assert [step for _, step in found[2:]] == [1, 3, 4]
    assert chosen([]) == []


def test_numbers() -> None:
    assert smooth([0, 3, 6, 3], 3) == [1.5, 3, 4, 4.5]
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(-1, 37)[0] <= -1 <= 37 <= ticks(-1, 37)[-1]
    assert [duration(s) for s in (0.31, 48.2, 372, 7500)] == ["0.3 s", "48 s", "6 min 12 s", "2 h 5 min"]
    assert [amount(n) for n in (812, 45_230, 3.1e6)] == ["812", "45.2 k", "3.1 M"]
    assert thin(range(1000), range(1000))[0][0] == pytest.approx(0.5)
    assert len(thin(range(1000), range(1000))[0]) == MOST
    assert spark([0, 1, 2, 3]) == "▁▃▆█"
    assert [Change(1, 2, low, high).verdict for low, high in ((0.1, 2), (-2, -0.1), (-1, 1), (None, None))] == [
        "up", "down", "no clear change", ""
    ]  # fmt: skip
    assert interval([[(0.0, 1.0)] * 5]) == (100.0, 100.0)
    low, high = interval([[(0.0, 1.0), (1.0, 0.0)] * 50])
    assert low < 0 < high
    assert high - low == pytest.approx(2 * 1.96 * 100 / 10, rel=0.1)  # the deviation of a mean of 100 values of +-1


def test_charts_of_little() -> None:
    """One point, equal values, more steps than cells, nothing at all: shapes without NaN."""
    one = line_chart([Line("a", "#000", [3], [0.5])], title="t", x="x", y="y")
    assert one.count("<circle") == 1
    flat = line_chart([Line("a", "#000", [1, 2], [0.0, 0.0])], title="t", x="x", y="y")
    assert "nan" not in flat + one
    many = strips([("a", "#000", {step: step % 2 for step in range(1000)})], title="t", x="x", unit="u")
    assert many.count("<rect") <= MOST + 1
    assert "steps 0-1: 0.5 u" in many
    assert "<rect" in strips([("a", "#000", {})], title="t", x="x", unit="u")
    assert stacked_chart([1, 2], [("a", "#000", [1, 1]), ("b", "#111", [1, 0])], title="t", x="x", y="y").count("<path d=") >= 2
