"""What a run came to: one self-contained HTML page, and a summary for the terminal.

write_report(["runs/1", "runs/without_memory"], "runs/1/report.html")
print(summary([read_run("runs/1")]))
"""

import os
from collections.abc import Sequence
from pathlib import Path

from trainer.evaluate.command import write_whole
from trainer.report.folder import RunFolder, read_run
from trainer.report.page import page
from trainer.report.terminal import summary

__all__ = ["RunFolder", "page", "read_run", "summary", "write_report"]


def write_report(runs: Sequence[RunFolder | str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Writes the page of the first run, with the others beside it. Raises: as `read_run`."""
    read = [run if isinstance(run, RunFolder) else read_run(run) for run in runs]
    path = Path(out)
    write_whole(path, page(read))
    return path
