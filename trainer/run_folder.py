"""A run's folder: what lies in it.

{output_dir}/.lock config.yaml metrics.jsonl samples.jsonl tensorboard/ eval/ failures/ memory.sqlite
{output_dir}/sft/policies/ (where RL begins), sft/checkpoints/step-N/ while SFT runs, sft/base/ if it trained the base
{output_dir}/checkpoints/step-N/{policies/, learner.pt, memory.sqlite, state.json} final/policies/
"""

import json
import shutil
from pathlib import Path

from trainer.checkpoint import STATE
from trainer.lock import CONFIG, FolderLock
from trainer.metrics import EPISODES, LINES

__all__ = ["CONFIG", "MEMORY", "is_at", "remove"]

MEMORY = ("memory.sqlite", "memory.sqlite-wal", "memory.sqlite-shm")


def is_at(final: Path, step: int) -> bool:
    """Whether a run has ended in this folder, after so many steps."""
    path = final / STATE
    return path.is_file() and bool(json.loads(path.read_text())["step"] == step)


def remove(folder: Path) -> None:
    """Deletes what a run has written into its folder, and nothing else; without a config.yaml it is no run's.

    Raises: FolderInUseError for a run that goes on.
    """
    if not (folder / CONFIG).is_file():
        return
    with FolderLock(folder):
        for name in ("checkpoints", "sft", "final", "tensorboard", "eval", "failures"):
            shutil.rmtree(folder / name, ignore_errors=True)
        files = (LINES, EPISODES)
        for name in (CONFIG, *files, *(f"{name}.damaged" for name in files), "report.html", *MEMORY):
            (folder / name).unlink(missing_ok=True)
