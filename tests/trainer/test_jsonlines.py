"""JSON lines: what was written is read, whatever stands in a text; what a kill cut off harms nobody else."""

import json
import multiprocessing
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import reading
from trainer.jsonlines import append, line, lines, objects, write

ENDS = "\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # where `str.splitlines` cuts


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records = [{"text": ENDS}, {"text": "几点？ \ud800 \U0001f600"}, {ENDS: [1, 2.5, None]}, {}]
    assert write(tmp_path / "a", records) == 4
    for record in records:
        append(tmp_path / "b", record)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert objects(tmp_path / "a") == records
    assert [number for number, _ in lines(tmp_path / "a")] == [1, 2, 3, 4]
    assert line({"q": "几点\u2028"}) == '{"q": "几点\u2028"}\n'  # as plain as UTF-8 allows
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path / "a", [{"a": 1}, {"a": float("nan")}])
    assert objects(tmp_path / "a") == records


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3), max_size=4))
def test_any_record_is_one_line(records: list[dict[str, object]]) -> None:
    text = "".join(map(line, records))
    assert text.count("\n") == len(records)
    assert [json.loads(part) for part in text.split("\n")[:-1]] == records


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """It doesn't count while it is the last, takes no other line with it, and is named when it isn't the last any more."""
    path = tmp_path / "x.jsonl"
    append(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "te')
    assert objects(path) == [{"step": 1}]
    append(path, {"step": 3})
    assert path.read_text() == '{"step": 1}\n{"step": 2, "te\n{"step": 3}\n'
    with pytest.raises(ValueError, match=r"x.jsonl:2: expected a JSON object, got an error"):
        objects(path)


def test_a_line_ends_at_a_newline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank lines count and are not read; a long line is not read to its end."""
    path = tmp_path / "a"
    path.write_bytes("a\u2028b\r\nc\rd\n\n \t\n".encode() + b"\xff")
    assert list(lines(path)) == [(1, "a\u2028b\r\n"), (2, "c\rd\n"), (5, "\udcff")]
    monkeypatch.setattr(reading, "MAX_LINE", 100)
    with pytest.raises(ValueError, match="/dev/zero: line 1: expected at most 100 characters, got more"):
        list(lines("/dev/zero"))


def _limited(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, 30))
    append(path, {"text": "x" * 40})


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    append(path, {"step": 1})
    child = multiprocessing.get_context("fork").Process(target=_limited, args=(path,))
    child.start()
    child.join()
    assert child.exitcode == 1
    assert path.read_text() == '{"step": 1}\n'
