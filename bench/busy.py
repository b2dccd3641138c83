"""The loss on a machine that others use as well: its time beside a rival on each core, and its opponents' in the same run.

`python -m bench.busy --shape small --dtype bfloat16 float32`

A rival is a loop of the lowest priority (nice 19), and all of them run in one session of their own, as from another terminal.
Linux shares cores between sessions before it looks at priorities (sched_autogroup_enabled), so they get half of the machine.
What loses nothing to waiting then takes twice its quiet time. Where sessions are not told apart, rivals get next to nothing.
"""

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.compare import BARE, milliseconds, say, table
from bench.contenders import DTYPES, FORMS, OURS, bare_gemms, batch_for, gate, step
from bench.measure import Timing, configuration, time_in_turns
from bench.shapes import BY_NAME, Shape

CCE = "cut-cross-entropy, torch_compile"
OPPONENTS = ("F.linear_cross_entropy", CCE)
MOST = 2.5  # times the quiet time: what ours may take beside a rival on each core
# The first starts the others. Each ends after so many seconds, or when its parent has gone.
RIVALS = """
import os, sys, time
os.nice(19)
count, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
for _ in range(count - 1):
    if os.fork() == 0:
        break
parent = os.getppid()
print("running", flush=True)
while time.monotonic() < end and os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def rivals(count: int, seconds: float) -> Iterator[None]:
    """`count` busy processes for as long as the block lasts, and no longer than `seconds`."""
    command = [sys.executable, "-c", RIVALS, str(count), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as first:
        assert first.stdout is not None
        try:
            for _ in range(count):
                first.stdout.readline()
            yield
            if first.poll() is not None:
                raise RuntimeError(
                    f"rivals: expected less than {seconds} s of work beside them, and they have ended; give them more"
                )
        finally:
            first.kill()


def measure(shape: Shape, dtype: str, rounds: int, count: int, seconds: float) -> dict[str, tuple[Timing, Timing]]:
    """(quiet, beside rivals) of the bare products, of ours, and of the opponents that are installed."""
    gate(DTYPES[dtype], "linear")
    batch = batch_for(shape, DTYPES[dtype], "linear")
    calls: dict[str, Callable[[], object]] = {BARE: bare_gemms(batch)}
    for name in (OURS, *OPPONENTS):
        if FORMS["linear"][name].installed:
            calls[name] = step(FORMS["linear"][name].loss, batch)
    quiet = time_in_turns(calls, rounds)
    with rivals(count, seconds):
        busy = time_in_turns(calls, rounds)
    return {name: (quiet[name], busy[name]) for name in calls}


def verdict(timings: dict[str, tuple[Timing, Timing]]) -> str:
    """Return True if ours takes at most MOST times its quiet time and is not behind cut-cross-entropy."""
    quiet, busy = (t.median for t in timings[OURS])
    text = f"{OURS}: {busy / quiet:.2f} times its quiet time ({'within' if busy <= MOST * quiet else 'over'} {MOST})"
    if CCE in timings:
        text += f", {busy / timings[CCE][1].median:.2f} times cut-cross-entropy's beside the rivals"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=BY_NAME, nargs="+", default=["small"])
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rivals", type=int, default=os.cpu_count() or 1, help="default: one a core")
    parser.add_argument("--seconds", type=float, default=600.0, help="after which the rivals end whatever happens")
    args = parser.parse_args()
    settings = configuration()
    say(f"{settings['device']}, {settings['threads']} threads, {args.rivals} rivals; {settings['versions']}")
    for name, dtype in itertools.product(args.shape, args.dtype):
        shape = BY_NAME[name]
        timings = measure(shape, dtype, args.rounds, args.rivals, args.seconds)
        rows = [["forward + backward", "quiet ms", "IQR", "busy ms", "IQR", "x quiet"]]
        for contender, (quiet, busy) in timings.items():
            spread = [f"{t.iqr * 1e3:.1f}" for t in (quiet, busy)]
            ratio = f"{busy.median / quiet.median:.2f}"
            rows.append([contender, milliseconds(quiet), spread[0], milliseconds(busy), spread[1], ratio])
        say(f"\n{dtype}, R = {shape.rows:,}, H = {shape.hidden:,}, V = {shape.vocab:,}")
        say(table(rows))
        say(verdict(timings))


if __name__ == "__main__":
    main()
