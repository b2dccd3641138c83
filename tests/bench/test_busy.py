"""The rivals of the bench: as many as asked for, of the lowest priority, in a session of their own, gone afterwards."""

import os
import time
from pathlib import Path

import pytest

from bench.busy import CCE, OURS, rivals, verdict
from bench.measure import Timing

pytestmark = [pytest.mark.once, pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are read in /proc")]


def descendants() -> dict[int, tuple[int, int]]:
    """{pid: (nice, session)} of the processes below this one."""
    rows = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if fields[0] != "Z":
            rows[int(path.parent.name)] = (int(fields[1]), int(fields[16]), int(fields[3]))
    below, found = {os.getpid()}, {}
    while more := {pid for pid, (parent, *_) in rows.items() if parent in below} - below:
        below |= more
        found |= {pid: rows[pid][1:] for pid in more}
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_rivals_come_and_go() -> None:
    before = descendants().keys()
    with rivals(2, 60):
        running = {pid: of for pid, of in descendants().items() if pid not in before}
    assert len(running) == 2
    assert {nice for nice, _ in running.values()} == {19}
    (session,) = {session for _, session in running.values()}
    assert session in running
    assert session != os.getsid(0)
    end = time.monotonic() + 5
    while any(map(runs, running)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(map(runs, running))


def test_rivals_that_end_too_early_are_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"rivals: expected less than 0\.05 s"), rivals(1, 0.05):
        time.sleep(0.5)


def test_the_verdict() -> None:
    def timing(seconds: float) -> Timing:
        return Timing(seconds, 0.0, 5)

    timings = {OURS: (timing(0.2), timing(0.4)), CCE: (timing(0.4), timing(0.8))}
    assert (
        verdict(timings)
        == "himakernels: 2.00 times its quiet time (within 2.5), 0.50 times cut-cross-entropy's beside the rivals"
    )
    assert "2.60 times its quiet time (over 2.5)" in verdict({OURS: (timing(0.1), timing(0.26))})
