"""`hima report RUN [RUN2 ...]`: one page about a run, and a summary here."""

import argparse
from pathlib import Path
from typing import Any

from trainer.escaping import for_terminal
from trainer.report import read_run, summary, write_report


def add_parser(subparsers: Any) -> None:
    """Adds `report` to the command line."""
    parser = subparsers.add_parser("report", help="write one page about a run, and sum it up here")
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="a run's folder; others stand beside the first")
    parser.add_argument("--out", type=Path, help="the page; default: report.html in the first folder")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    out = args.out or args.folders[0] / "report.html"
    runs = [read_run(folder) for folder in args.folders]
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out: expected a file in a folder that exists, got {out}")
    print(summary(runs))
    print(f"\npage: {for_terminal(write_report(runs, out))}")
    return 0
