"""A run's folder has one writer: whoever comes second changes nothing."""

import shutil
from pathlib import Path

import pytest
from tiny_run import config, halted, trainer

from trainer.checkpoint import Checkpoints
from trainer.cli import main
from trainer.lock import FolderInUseError, FolderRemovedError
from trainer.run_folder import remove
from trainer.saved import open_run

UPDATE = ("trainer.optim", "Optimizer", "step", 6, True)  # in the second step of RL


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc says when a process stands still")
def test_whoever_comes_second_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, yaml = tmp_path / "run", tmp_path / "run.yaml"
    config(folder).save(yaml)
    (tmp_path / "entry.jsonl").write_text('{"agent": "efc", "key": "k", "strategy": "s"}\n')
    with halted(UPDATE, folder) as pid:
        before = content(folder)
        assert "checkpoints/step-1/state.json" in before
        held = f"held by process {pid} on "
        for second in (
            lambda: trainer(folder).train(),
            lambda: trainer(folder).train(resume_from_checkpoint=True),
            lambda: trainer(folder, "max_steps=9").train(resume_from_checkpoint=True),  # would change config.yaml
            lambda: remove(folder),
        ):
            with pytest.raises((FolderInUseError, FileExistsError), match=f"{held}|expected a folder without a run"):
                second()
        for command in (
            ["train", str(yaml), "--resume"],
            ["train", str(yaml), "--overwrite"],
            ["sft", str(yaml), "--overwrite"],
            ["memory", "import", str(folder / "memory.sqlite"), str(tmp_path / "entry.jsonl")],
        ):
            assert main(command) == 2
            shown = capsys.readouterr().err.strip()
            assert held in shown
            assert len(shown.split("\n")) == 1
        kept = folder / "checkpoints" / "step-1" / "memory.sqlite"
        assert main(["memory", "import", str(kept), str(tmp_path / "entry.jsonl")]) == 2
        assert "expected a memory that is no part of a checkpoint" in capsys.readouterr().err
        assert main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
        assert main(["memory", "show", str(folder / "memory.sqlite")]) == 0
        with open_run(folder) as saved:
            assert saved.path == folder / "checkpoints" / "step-1" / "policies"
        shm = "memory.sqlite-shm"  # SQLite's shared memory is no content
        assert {name: data for name, data in content(folder).items() if name != shm} == {
            name: data for name, data in before.items() if name != shm
        }


@pytest.mark.parametrize(("kind", "step"), [("sft", 1), ("train", 1), ("eval", 1)])
def test_a_folder_that_is_removed_meanwhile(kind: str, step: int, tmp_path: Path) -> None:
    """The run ends with an error, whether or not anything stands in its place by then."""
    folder = tmp_path / "run"

    def gone(now: str, at: int, scalars: object) -> None:
        if (now, at) == (kind, step) and folder.exists():
            shutil.rmtree(folder)
            if kind != "train":
                folder.mkdir()

    with pytest.raises(FolderRemovedError, match="expected the folder that this process began to write into, got"):
        trainer(folder, "eval_steps=null", "max_steps=1", callbacks=[gone]).train()
    assert not (folder / "final").exists()
    assert Checkpoints(folder / "checkpoints").latest() is None
    trainer(folder, "max_steps=0").train()  # the lock is let go
