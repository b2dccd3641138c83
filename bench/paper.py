"""`make paper`: the paper's comparisons on the embedded model, run by run, and docs/results.md from what they left.

    python -m bench.paper                    # what is missing is run, what was killed goes on, then the page is written
    python -m bench.paper --only top_k       # of one question
    python -m bench.paper --page             # the page alone, from what is there

A seed's arms begin with one SFT start. Runs are `hima train` processes of one thread each, as many at a time as there are
cores; all take the same number of steps, whatever the machine's speed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from bench.paper_plan import ARMS, BY_NAME, MORE_SEEDS, QUESTIONS, Arm
from trainer.report.folder import read_run

CONFIG = Path("configs/paper.yaml")
HIMA = (sys.executable, "-m", "trainer.cli")


class Job(NamedTuple):
    """One run: its folder, what to call it, and the command line behind `hima`."""

    folder: Path
    name: str
    command: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether it came to its end."""
        return (self.folder / "final" / "policies").is_dir()


def start_of(root: Path, seed: int) -> Job:
    """The SFT stage that the arms of a seed begin with."""
    folder = root / f"sft-{seed}"
    return Job(folder, folder.name, ("sft", str(CONFIG), f"output_dir={folder}", f"seed={seed}"))


def folder_of(root: Path, arm: Arm, seed: int) -> Path:
    """Where an arm's run of a seed is."""
    return root / f"{arm.name}-{seed}"


def job_of(root: Path, arm: Arm, seed: int) -> Job:
    """An arm's run of a seed. Its start must be there, and of one that is `longer` the run of "joint", too."""
    folder = folder_of(root, arm, seed)
    shared = (str(CONFIG), f"output_dir={folder}", f"seed={seed}", f"model.name={start_of(root, seed).folder / 'sft' / 'base'}")
    if not arm.longer:
        return Job(folder, folder.name, ("train", *shared, "sft.epochs=0", *arm.changes))
    seconds = sum(read_run(folder_of(root, BY_NAME["joint"], seed)).column("seconds/step")[1])
    return Job(folder, folder.name, ("sft", *shared, "sft.epochs=null", f"sft.seconds={seconds:.0f}", *arm.changes))


def run(job: Job) -> str | None:
    """Runs a job, or goes on with it; returns what to say if it failed."""
    if job.done:
        return None
    how = "--resume" if (job.folder / "config.yaml").is_file() else "--overwrite"
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    log = job.folder.parent / f"{job.name}.log"
    print(f"{job.name}: {'goes on' if how == '--resume' else 'begins'}", flush=True)
    with log.open("ab") as out:
        code = subprocess.run(
            [*HIMA, *job.command, how], stdout=out, stderr=out, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
        ).returncode
    print(f"{job.name}: {'done' if code == 0 else f'failed with exit code {code}; see {log}'}", flush=True)
    return None if code == 0 else f"{job.name}: exit code {code}, see {log}"


def run_all(root: Path, arms: Iterable[Arm], jobs: int, seeds: int | None) -> list[str]:
    """Runs what is missing, seed by seed, so that an early end leaves whole seeds; returns what failed.

    A free place takes the first run whose start is there; what waits for a run that failed is left out.
    """
    chosen = sorted(arms, key=lambda arm: arm.longer)
    most = min(MORE_SEEDS, seeds or MORE_SEEDS)
    waiting: list[tuple[int, Arm | None]] = []  # None: the SFT stage
    for seed in range(most):
        mine = [arm for arm in chosen if seed < min(arm.seeds, most)]
        waiting += [(seed, arm) for arm in (None, *mine)] if mine else []
    running: dict[Future[str | None], tuple[int, Arm | None]] = {}
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            ready = [(seed, arm) for seed, arm in waiting if arm is None or _can_begin(root, seed, arm)]
            for seed, arm in ready[: jobs - len(running)]:
                waiting.remove((seed, arm))
                job = start_of(root, seed) if arm is None else job_of(root, arm, seed)
                running[pool.submit(run, job)] = (seed, arm)
            if not running:
                return [*failed, *(f"{arm.name}-{seed}: left out" for seed, arm in waiting if arm is not None)]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                failed += [text for text in (future.result(),) if text is not None]
    return failed


def _can_begin(root: Path, seed: int, arm: Arm) -> bool:
    """Whether what an arm's run needs is there."""
    joint = Job(folder_of(root, BY_NAME["joint"], seed), "", ())
    return start_of(root, seed).done and (not arm.longer or joint.done)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.paper", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="where the runs are")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, of one thread each")
    parser.add_argument("--seeds", type=int, help="at most so many of each arm")
    parser.add_argument("--only", nargs="+", choices=[q.name for q in QUESTIONS], help="the arms of these questions")
    parser.add_argument("--page", action="store_true", help="run nothing; write the page from what is there")
    args = parser.parse_args(argv)
    failed: list[str] = []
    if not args.page:
        asked = [q for q in QUESTIONS if args.only is None or q.name in args.only]
        names = {name for question in asked for name in question.arms}
        failed = run_all(args.out, [arm for arm in ARMS if arm.name in names], args.jobs, args.seeds)
    from bench.paper_page import write

    print(f"page: {write(args.out)}")
    for text in failed:
        print(text, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
