"""A byte that changes anywhere in what a run loads again: it is noticed, the file is named, and what is whole is used."""

import os
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_run import files, lines, memory, trainer, unsealed

from trainer.checksums import DamagedError
from trainer.models import Policies
from trainer.run_folder import left_in, read_config
from trainer.saved import open_run

SMALL = ("model.target_modules=[q_proj, v_proj]", "eval_steps=null", "queries_per_step=1", "sampling.max_new_tokens=8")


def going_on(folder: Path, *changes: str) -> None:
    trainer(folder, *SMALL, "max_steps=2", *changes).train(resume_from_checkpoint=True)


@pytest.fixture(scope="module", autouse=True)
def _no_synchronising() -> Iterator[None]:
    """Damage does not depend on it, and it takes a sixth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At its end, after two steps."""
    folder = tmp_path_factory.mktemp("damage") / "run"
    trainer(folder, *SMALL, "max_steps=2").train()
    assert files(folder / "checkpoints" / "step-1") != files(folder / "checkpoints" / "step-2") == files(folder / "final")
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
    for path in parts(copy / "checkpoints" / "step-2"):
        names.add(path.name)
        whole = path.read_bytes()
        flip(path, rng)
        with pytest.warns(UserWarning, match="expected") as said:
            assert left_in(copy).step == 1
        text = str(said[0].message)
        assert "; the last whole checkpoint is " in text
        assert path.name == "SHA256SUMS" or text.startswith(f"{path}: expected sha256 ")
        path.write_bytes(whole)
    expected = {"adapter_model.safetensors", "adapter_config.json", "model.safetensors", "policies.json", "tokenizer.json"}
    assert names >= expected | {"learner.pt", "memory.sqlite", "state.json"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert left_in(copy).step == 2


def test_a_run_goes_on_from_the_whole_one_to_the_same_end(run: Path, copy: Path) -> None:
    for name in ("checkpoints/step-2/policies/efc/adapter_config.json", "final/policies/qa/adapter_model.safetensors"):
        flip(copy / name, random.Random(1))
    flip(copy / "sft" / "policies" / "base-0" / "model.safetensors", random.Random(2))
    with pytest.warns(UserWarning, match="expected") as said:
        going_on(copy, "save_total_limit=1")
    texts = [str(warning.message) for warning in said]
    for name in ("efc/adapter_config.json", "base-0/model.safetensors", "qa/adapter_model.safetensors"):
        assert any(f"{name}: expected sha256" in text for text in texts), name
    assert files(copy / "final") == files(run / "final")
    assert memory(copy / "memory.sqlite") == memory(run / "memory.sqlite")
    assert lines(copy) == lines(run)
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["step-2"]


def test_a_damaged_end_is_written_anew(run: Path, copy: Path) -> None:
    flip(copy / "final" / "policies" / "efc" / "adapter_model.safetensors", random.Random(3))
    with pytest.warns(UserWarning, match=r"adapter_model.safetensors: expected sha256 .*; it is written anew"):
        going_on(copy)
    assert files(copy / "final") == files(run / "final")
    assert lines(copy) == lines(run)


def test_readers_take_what_is_whole(copy: Path) -> None:
    rng = random.Random(4)
    flip(copy / "final" / "policies" / "policies.json", rng)
    with pytest.warns(UserWarning, match=r"final/policies/policies.json: .*step-2 is read in"), open_run(copy) as saved:
        assert saved.path == copy / "checkpoints" / "step-2" / "policies"
    flip(copy / "checkpoints" / "step-2" / "memory.sqlite", rng)
    with pytest.warns(UserWarning, match=r"memory.sqlite: "), open_run(copy) as saved:
        assert saved.path == copy / "checkpoints" / "step-1" / "policies"
    flip(copy / "checkpoints" / "step-1" / "learner.pt", rng)
    with (
        pytest.raises(DamagedError, match=r"step-2/memory.sqlite: .*step-1/learner.pt: .*no checkpoint is whole"),
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
    for step in (1, 2):
        flip(copy / "checkpoints" / f"step-{step}" / "learner.pt", rng)
    with pytest.raises(DamagedError, match=r"step-2/learner.pt: .*step-1/learner.pt: .*no checkpoint is whole: without"):
        going_on(copy)
    shutil.rmtree(copy / "checkpoints")
    flip(copy / "sft" / "policies" / "policies.json", rng)
    with pytest.raises(DamagedError, match=r"policies.json: .*; without .*sft/policies SFT is done anew"):
        going_on(copy)
    assert (copy / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("rl", [True, False])
def test_checkpoints_of_sft_that_a_kill_has_left(rl: bool, copy: Path) -> None:
    """They are deleted once sft/policies stands; a kill in between leaves them, whole or in part, and nothing asks for them."""
    left = copy / "sft" / "checkpoints" / "step-4"
    shutil.copytree(copy / "checkpoints" / "step-1", left)
    (left / "learner.pt").unlink()
    if not rl:
        for name in ("checkpoints", "final"):
            shutil.rmtree(copy / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = left_in(copy)
    assert (found.sft, found.step) == (None, 2 if rl else None)
    if rl:
        going_on(copy)
        assert not left.parent.exists()
    else:
        shutil.rmtree(copy / "sft" / "policies")
        with pytest.raises(DamagedError, match=r"step-4/learner.pt: .*no checkpoint is whole"):  # here it is asked for
            left_in(copy)


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


def test_a_folder_from_before_there_were_checksums(run: Path, copy: Path) -> None:
    unsealed(copy)
    for name in ("checkpoints/step-2", "final"):
        shutil.rmtree(copy / name)
    with pytest.warns(UserWarning, match="saved without checksums"):
        going_on(copy)
    assert files(copy / "final") == files(run / "final")
    with pytest.warns(UserWarning, match="sft/policies: saved without checksums, so its files were not checked"):
        Policies.open(copy / "sft" / "policies")
