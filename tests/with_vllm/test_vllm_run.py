"""A whole run with `engine=vllm`, from the command line: SFT, rollouts through vLLM, updates by the trainer, a resume."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch

import trainer.trainer
from trainer.cli import main
from trainer.engine.vllm import VLLMEngine
from trainer.models import Policies

CHANGES = ("engine=vllm", "vllm.kv_cache_gib=0.1")


def arguments(folder: Path, *changes: str) -> list[str]:
    """Of `hima`: what tests/trainer/tiny_run.py calls a run of seconds."""
    path = folder.with_name("nothing.yaml")
    path.write_text("# the defaults\n")
    return ["train", str(path), *tiny_run.BASE, *CHANGES, f"output_dir={folder}", *changes]


def train_lines(folder: Path) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if line["kind"] == "train"]


@pytest.mark.parametrize("paradigm", ["lora", "shared"])
def test_hima_train(paradigm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps, with the tied head of the embedded model; every update went over, and was probed."""
    updates: list[tuple[str, int]] = []
    inner = VLLMEngine._publish

    def publish(engine: VLLMEngine, policy: str) -> None:
        inner(engine, policy)
        updates.append((policy, engine.policies.versions[policy]))

    monkeypatch.setattr(VLLMEngine, "_publish", publish)
    setting_of = trainer.trainer.setting_of

    def scored(*args: Any) -> Any:
        setting, template = setting_of(*args)
        return replace(setting, score=tiny_run.score), template  # siblings differ

    monkeypatch.setattr(trainer.trainer, "setting_of", scored)
    folder = tmp_path / "run"
    assert main(arguments(folder, f"model.paradigm={paradigm}")) == 0
    lines = train_lines(folder)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["engine/generated_tokens"] > 0 and line["engine/steps"] > 0 for line in lines)
    assert all(line["engine/cached_tokens"] > 0 for line in lines)
    end = Policies.open(folder / "final" / "policies")
    start = Policies.open(folder / "sft" / "policies")
    learned = {name: version for name, version in end.versions.items() if version}
    assert learned, "no policy learned anything: the score does not differ between siblings"
    for name, version in learned.items():
        assert [v for policy, v in updates if policy == name] == list(range(version + 1))
        pairs = zip(start.parameters(name), end.parameters(name), strict=True)
        assert any(not torch.equal(before, after) for before, after in pairs)
    assert (folder / "eval" / "final.json").is_file()


def test_resume_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """Two steps, then a third by another vLLM: on a CPU what three steps at once give."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    tiny_run.trainer(whole, *CHANGES).train()
    assert tiny_run.trainer(parts, *CHANGES, "max_steps=2").train().global_step == 2
    assert tiny_run.trainer(parts, *CHANGES).train(resume_from_checkpoint=True).global_step == 3
    assert tiny_run.files(parts / "final") == tiny_run.files(whole / "final")
    assert tiny_run.files(whole / "final") != tiny_run.files(whole / "sft")


def test_where_vllm_is_missing(tmp_path: Path) -> None:
    """One line, before anything is trained."""
    code = (
        "import importlib.util, sys\n"
        "inner = importlib.util.find_spec\n"
        "import trainer.engine.vllm_network as network\n"
        "network.find_spec = lambda name: None if name == 'vllm' else inner(name)\n"
        "from trainer.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments(tmp_path / "run")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert "hima: engine: expected vLLM to be installed for engine=vllm, got none; it wants an environment" in done.stderr
    assert not (tmp_path / "run").exists()
