"""A run's folder has one writer: whoever comes second changes nothing."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from tiny_run import config, trainer

from trainer.checkpoint import Checkpoints
from trainer.cli import main
from trainer.lock import FolderInUseError, FolderLock, FolderRemovedError
from trainer.memory import HashingEmbedder, Memory
from trainer.metrics import Metrics
from trainer.run import Run
from trainer.run_folder import remove
from trainer.saved import open_run
from trainer.stopping import Stop


def content(folder: Path) -> dict[str, bytes]:
    """Without SQLite's shared memory, which is none."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "memory.sqlite-shm"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_whoever_comes_second_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They come in the middle of a run, from within: the lock asks which of two opened the folder, not which process."""
    folder = tmp_path / "run"
    came = []

    def come(kind: str, step: int, scalars: object) -> None:
        if (kind, step) == ("train", 2):
            came.append(step)
            all_come(folder, tmp_path, capsys)

    trainer(folder, "max_steps=2", "eval_steps=null", callbacks=[come]).train()
    assert came == [2]
    assert (folder / "final" / "policies").is_dir()


def all_come(folder: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml, link, entry = place / "run.yaml", place / "link.sqlite", place / "entry.jsonl"
    config(folder).save(yaml)
    entry.write_text('{"agent": "efc", "key": "k", "strategy": "s"}\n')
    link.symlink_to(folder / "memory.sqlite")
    before = content(folder)
    assert "checkpoints/step-1/state.json" in before
    held = f"held by process {os.getpid()} on "
    for second in (
        lambda: trainer(folder).train(),
        lambda: trainer(folder).train(resume_from_checkpoint=True),
        lambda: trainer(folder, "max_steps=9").train(resume_from_checkpoint=True),  # would change config.yaml
        lambda: remove(folder),
    ):
        with pytest.raises((FolderInUseError, FileExistsError), match=f"{held}|expected a folder without a run"):
            second()
    capsys.readouterr()
    for command in (
        ["train", str(yaml), "--resume"],
        ["train", str(yaml), "--overwrite"],
        ["sft", str(yaml), "--overwrite"],
        ["memory", "import", str(folder / "memory.sqlite"), str(entry)],
        ["memory", "import", str(link), str(entry)],
    ):
        assert main(command) == 2
        shown = capsys.readouterr().err.strip()
        assert held in shown
        assert len(shown.split("\n")) == 1
    kept = folder / "checkpoints" / "step-1" / "memory.sqlite"
    link.unlink()
    link.symlink_to(kept)
    for file in (kept, link):
        assert main(["memory", "import", str(file), str(entry)]) == 2
        assert "expected a memory that is no part of a checkpoint" in capsys.readouterr().err
    assert main(["report", str(folder), "--out", str(place / "page.html")]) == 0
    assert main(["memory", "show", str(folder / "memory.sqlite")]) == 0
    with open_run(folder) as saved:
        assert saved.path == folder / "checkpoints" / "step-1" / "policies"
    assert content(folder) == before


@pytest.mark.parametrize("kind", ["sft", "train", "eval"])
def test_a_folder_that_is_removed_meanwhile(kind: str, tmp_path: Path) -> None:
    """The run ends with an error, whether or not anything stands in its place by then."""
    folder = tmp_path / "run"

    def gone(now: str, at: int, scalars: object) -> None:
        if (now, at) == (kind, 1):
            shutil.rmtree(folder)
            if kind != "train":
                folder.mkdir()

    changes = ["eval_steps=null", "max_steps=1", *(["sft.epochs=0"] if kind != "sft" else [])]
    with pytest.raises(FolderRemovedError, match="expected the folder that this process began to write into, got"):
        trainer(folder, *changes, callbacks=[gone]).train()
    assert not (folder / "final").exists()
    assert Checkpoints(folder / "checkpoints").latest() is None
    folder.mkdir(exist_ok=True)
    FolderLock(folder).release()  # the run's is let go


@pytest.mark.parametrize("part", [Metrics, Memory])
def test_a_run_that_cannot_close_a_file_lets_its_folder_go(part: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk, where TensorBoard can't write its last lines; a notebook keeps the run alive with the error."""
    made = trainer(tmp_path / "run")
    with Stop() as stop:
        run = Run(made.args, made.setting, stop)
    run.memory = Memory(run.folder / "memory.sqlite", HashingEmbedder())

    def refuse(self: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(part, "close", refuse)
        with pytest.raises(OSError, match="No space left"):
            run.close()
    FolderLock(run.folder).release()
    run.close()  # what is left
