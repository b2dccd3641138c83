"""The sums of `make demo-real`, played by a tiny network: a run, its resume, and its page."""

import json
from functools import partial
from pathlib import Path

import pytest
from tiny_policies import byte_tokenizer, qwen3

from bench import real, real_page
from trainer.metrics import read_metrics

CHANGES = ("queries_per_step=2", "rl.group_size=2", "model.lora_rank=2", "sampling.max_new_tokens=4", "model.device=cpu")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of SmolLM2, with fewer sums."""
    folder = tmp_path / "model"
    qwen3().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    monkeypatch.setattr(real, "prepare", lambda: folder)
    monkeypatch.setattr(real, "sums", partial(real.sums, tests=3, size=8))
    return folder


def test_a_run_goes_on_where_it_was(model: Path, tmp_path: Path) -> None:
    changes = [*CHANGES, f"output_dir={tmp_path / 'runs' / 'sums'}"]
    folder = tmp_path / "runs" / "sums"
    assert real.run("sums", [*changes, "max_steps=1"]) is None
    begun = (folder / real.ENVIRONMENT).read_text()
    assert json.loads(begun)["versions"]["reasoning-gym"]
    assert real.run("sums", [*changes, "max_steps=2"]) is None
    assert [line["step"] for line in read_metrics(folder, "train")] == [1, 2]
    assert (folder / real.ENVIRONMENT).read_text() == begun
    with pytest.raises(ValueError, match="resume: expected the configuration of"):
        real.run("sums", [*changes, "seed=1"])
    assert real.run("sums", [*changes, "max_steps=1"], overwrite=True) is None
    assert len(read_metrics(folder, "train")) == 1
    text = real_page.write(tmp_path / "runs", tmp_path / "docs")
    assert "| steps | 1, of 2 queries with G = 2, K = all |" in text
    assert "Of 3 sums" in text


def test_the_command_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        real.main(["max_steps=1"])
    assert "expected with --only" in capsys.readouterr().err
    assert real.main(["--only", "sums", f"output_dir={tmp_path / 'run'}", "max_step=1"]) == 2
    assert "no such key; did you mean max_steps?" in capsys.readouterr().err
    monkeypatch.setattr(real, "run", lambda name, changes, overwrite: "SIGTERM" if name == "five" else None)
    assert real.main([]) == 128 + 15
    assert "five: stopped by SIGTERM" in capsys.readouterr().out
    assert real_page.main(["--runs", str(tmp_path / "nothing")]) == 2
    assert "expected a run of bench.real" in capsys.readouterr().err
