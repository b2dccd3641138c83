"""A run's policies played again: what its own last evaluation found, `hima eval` finds as well."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_run import trainer

from trainer.cli import main
from trainer.evaluate import evaluate_jobs
from trainer.saved import is_run, open_run


def test_a_run_that_went_on_is_at_its_last_checkpoint(tmp_path: Path) -> None:
    """Not at the end that it went on from, whose policies still stand there; nor with a memory of later steps."""
    folder = tmp_path / "run"
    trainer(folder, "max_steps=1").train()
    final = tmp_path / "final"
    shutil.copytree(folder / "final", final)
    trainer(folder, "max_steps=2").train(resume_from_checkpoint=True)
    shutil.rmtree(folder / "final")
    final.rename(folder / "final")  # as if it had died before its new end
    with open_run(folder) as saved:
        assert saved.path == folder / "checkpoints" / "step-2" / "policies"
        assert saved.memory is not None
        assert saved.memory.step == 2


def test_the_policies_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match=r"expected a folder with a run \(config.yaml\)"), open_run(folder):
        pass
    made = trainer(folder, "limits.malformed=end")
    made.train()
    assert is_run(folder)
    found = json.loads((folder / "eval" / "final.json").read_text())
    setting = made.setting
    for gone, where in ((None, "final"), ("final", "checkpoints/step-3"), ("checkpoints", "sft")):
        if gone is not None:
            (folder / gone).rename(tmp_path / gone)
        with open_run(folder) as saved:
            assert saved.path == folder / where / "policies"
            report = evaluate_jobs(saved.policy(), setting.tests, setting.make_env, setting.agents, **saved.options())
        if where != "sft":
            assert report.to_json()["columns"] == found["columns"]
            assert [(played.answer, played.written) for played in report.episodes] == [
                (played["answer"], played["written"]) for played in found["episodes"]
            ]
    assert main(["eval", "--policy", str(folder), "--columns", "math", "--per-column", "2"]) == 0
    assert f"{folder} on test" in capsys.readouterr().out
    (folder / "sft").rename(tmp_path / "sft")
    with pytest.raises(FileNotFoundError, match="expected a run that has come to policies"), open_run(folder):
        pass
