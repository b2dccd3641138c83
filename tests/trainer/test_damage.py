"""A byte that changes anywhere in what a run loads again: it is noticed, the file is named, and what is whole is used."""

import random
import shutil
import warnings
from pathlib import Path

import pytest
from tiny_run import files, lines, memory, trainer, unsealed

from trainer.checksums import DamagedError
from trainer.models import Policies
from trainer.run_folder import left_in, read_config
from trainer.saved import open_run

FOUR = "max_steps=4"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At its end, after three steps."""
    folder = tmp_path_factory.mktemp("damage") / "run"
    trainer(folder).train()
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def parts(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]


def test_every_file_of_a_checkpoint(copy: Path) -> None:
    """Weights, their configuration, the optimiser, the memory, cursor and generators: the one before is the last."""
    rng, names = random.Random(0), set()
    for path in parts(copy / "checkpoints" / "step-3"):
        names.add(path.name)
        whole = path.read_bytes()
        flip(path, rng)
        with pytest.warns(UserWarning, match="expected") as said:
            assert left_in(copy).step == 2
        text = str(said[0].message)
        assert "; the last whole checkpoint is " in text
        assert path.name == "SHA256SUMS" or text.startswith(f"{path}: expected sha256 ")
        path.write_bytes(whole)
    expected = {"adapter_model.safetensors", "adapter_config.json", "model.safetensors", "policies.json", "tokenizer.json"}
    assert names >= expected | {"learner.pt", "memory.sqlite", "state.json"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert left_in(copy).step == 3


def test_a_run_goes_on_from_the_whole_one_to_the_same_end(run: Path, copy: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "whole")
    trainer(tmp_path / "whole", FOUR).train(resume_from_checkpoint=True)
    for name in ("checkpoints/step-3/policies/efc/adapter_config.json", "final/policies/qa/adapter_model.safetensors"):
        flip(copy / name, random.Random(1))
    flip(copy / "sft" / "policies" / "base-0" / "model.safetensors", random.Random(2))
    with pytest.warns(UserWarning, match="expected") as said:
        trainer(copy, FOUR, "save_total_limit=1").train(resume_from_checkpoint=True)
    texts = [str(warning.message) for warning in said]
    for name in ("efc/adapter_config.json", "base-0/model.safetensors", "qa/adapter_model.safetensors"):
        assert any(f"{name}: expected sha256" in text for text in texts), name
    assert files(copy / "final") == files(tmp_path / "whole" / "final")
    assert memory(copy / "memory.sqlite") == memory(tmp_path / "whole" / "memory.sqlite")
    assert lines(copy) == lines(tmp_path / "whole")
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["step-4"]


def test_a_damaged_end_is_written_anew(run: Path, copy: Path) -> None:
    flip(copy / "final" / "policies" / "efc" / "adapter_model.safetensors", random.Random(3))
    with pytest.warns(UserWarning, match=r"adapter_model.safetensors: expected sha256 .*; it is written anew"):
        trainer(copy).train(resume_from_checkpoint=True)
    assert files(copy / "final") == files(run / "final")
    assert lines(copy) == lines(run)


def test_readers_take_what_is_whole(copy: Path) -> None:
    rng = random.Random(4)
    flip(copy / "final" / "policies" / "policies.json", rng)
    with pytest.warns(UserWarning, match=r"final/policies/policies.json: .*step-3 is read in"), open_run(copy) as saved:
        assert saved.path == copy / "checkpoints" / "step-3" / "policies"
    flip(copy / "checkpoints" / "step-3" / "memory.sqlite", rng)
    with pytest.warns(UserWarning, match=r"memory.sqlite: "), open_run(copy) as saved:
        assert saved.path == copy / "checkpoints" / "step-2" / "policies"
    flip(copy / "checkpoints" / "step-2" / "learner.pt", rng)
    with (
        pytest.raises(DamagedError, match=r"step-3/memory.sqlite: .*step-2/learner.pt: .*no checkpoint is whole"),
        open_run(copy),
    ):
        pass


def test_readers_of_a_run_without_rl(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoints")
    flip(copy / "final" / "policies" / "qa" / "adapter_config.json", random.Random(8))
    with pytest.warns(UserWarning, match=r"qa/adapter_config.json: .*run/sft is read in its place"), open_run(copy) as saved:
        assert saved.path == copy / "sft" / "policies"


def test_where_nothing_else_is_whole(copy: Path) -> None:
    """Nothing begins anew by itself."""
    rng, before = random.Random(5), (copy / "metrics.jsonl").read_bytes()
    for step in (2, 3):
        flip(copy / "checkpoints" / f"step-{step}" / "learner.pt", rng)
    with pytest.raises(DamagedError, match=r"step-3/learner.pt: .*step-2/learner.pt: .*no checkpoint is whole: without"):
        trainer(copy, FOUR).train(resume_from_checkpoint=True)
    shutil.rmtree(copy / "checkpoints")
    flip(copy / "sft" / "policies" / "policies.json", rng)
    with pytest.raises(DamagedError, match=r"policies.json: .*; without .*sft/policies SFT is done anew"):
        trainer(copy, FOUR).train(resume_from_checkpoint=True)
    assert (copy / "metrics.jsonl").read_bytes() == before


def test_what_other_runs_begin_with(copy: Path, tmp_path: Path) -> None:
    rng = random.Random(6)
    flip(copy / "sft" / "base" / "model.safetensors", rng)
    with pytest.raises(DamagedError, match=r"sft/base/model.safetensors: expected sha256"):
        trainer(tmp_path / "new", f"model.name={copy}/sft/base", "sft.epochs=0").train()
    flip(copy / "final" / "policies" / "tokenizer" / "tokenizer.json", rng)
    with pytest.raises(DamagedError, match=r"tokenizer.json: expected sha256"):
        trainer(tmp_path / "newer", f"init_from={copy}/final/policies").train()


def test_the_configuration(copy: Path) -> None:
    path, rng = copy / "config.yaml", random.Random(7)
    whole, config = path.read_bytes(), read_config(copy)
    end = whole.rindex(b"#")
    for _ in range(40):
        at = rng.randrange(end)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(
            DamagedError, match=r"config.yaml: expected lines of sha256 .* if the change is meant, delete the last"
        ):
            read_config(copy)
    path.write_bytes(whole[:end])  # of an earlier version, or meant
    assert read_config(copy) == config


def test_a_folder_from_before_there_were_checksums(run: Path, copy: Path, tmp_path: Path) -> None:
    unsealed(copy)
    shutil.copytree(run, tmp_path / "whole")
    trainer(tmp_path / "whole", FOUR).train(resume_from_checkpoint=True)
    with pytest.warns(UserWarning, match="saved without checksums"):
        trainer(copy, FOUR).train(resume_from_checkpoint=True)
    assert files(copy / "final") == files(tmp_path / "whole" / "final")
    with pytest.warns(UserWarning, match="sft/policies: saved without checksums, so its files were not checked"):
        Policies.open(copy / "sft" / "policies")
