"""VRGRPOTrainer: what it takes, what it writes, what it refuses; TRL's call with another import."""

import errno
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from tiny_policies import byte_tokenizer, qwen3
from tiny_run import config, files, trainer
from transformers import AutoModelForCausalLM, AutoTokenizer

import trainer as hima
from trainer import TrainConfig, VRGRPOTrainer
from trainer.agents import single_agent
from trainer.cli import main
from trainer.env import Step
from trainer.metrics import read_metrics
from trainer.models import Policies

ROWS = [{"prompt": f"{a} + {b} =", "answer": str(a + b)} for a in range(3) for b in range(3)]


def vowels(completions: list[str], **columns: Any) -> list[float]:
    return [sum(letter in "aeiou" for letter in text) / 8 for text in completions]


def arguments(folder: Path, **changes: Any) -> Any:
    """What a GRPOConfig has, as far as it differs from TRL's defaults."""
    given = {"output_dir": str(folder), "max_steps": 2, "per_device_train_batch_size": 8, "num_generations": 4}
    given |= {
        "max_completion_length": 8,
        "use_cpu": True,
        "bf16": False,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "beta": 0.0,
    }
    return SimpleNamespace(**given | {"gradient_checkpointing": False} | changes)


def test_a_call_of_trl(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    model = qwen3()
    before = [parameter.clone() for parameter in model.parameters()]
    made = VRGRPOTrainer(
        model=model,
        reward_funcs=vowels,
        args=arguments(tmp_path / "run", eval_strategy="steps", eval_steps=1),
        train_dataset=ROWS,
        eval_dataset=ROWS[:2],
        processing_class=byte_tokenizer(),
        callbacks=[lambda kind, step, scalars: told.append((kind, step))],
    )
    result = made.train()
    assert (result.global_step, result.stopped) == (2, None)
    assert result.metrics["rewards/vowels/mean"] >= 0
    assert told == [("eval", 0), ("train", 1), ("eval", 1), ("train", 2), ("eval", 2)]
    assert any(not torch.equal(a, b) for a, b in zip(before, made.policies.parameters("assistant"), strict=True))  # type: ignore[union-attr]
    assert all(line["rollout/trajectories"] == 8 for line in read_metrics(tmp_path / "run", "train"))
    assert result.training_loss == pytest.approx(
        fmean(line["learner/loss"] for line in read_metrics(tmp_path / "run", "train"))
    )
    assert made.model is model
    assert (made.state.global_step, made.state.max_steps, len(made.state.log_history)) == (2, 2, 5)
    made.save_model()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(tmp_path / "run")("ab") == byte_tokenizer()("ab")


def test_the_order_of_trl_and_an_adapter(tmp_path: Path) -> None:
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"])
    made = VRGRPOTrainer(
        qwen3(), [vowels], arguments(tmp_path / "run"), ROWS, processing_class=byte_tokenizer(), peft_config=lora
    )
    assert (made.args.model.paradigm, made.args.model.lora_rank, made.args.model.target_modules) == (
        "lora",
        2,
        ("q_proj", "v_proj"),
    )
    assert made.train().global_step == 2
    assert (tmp_path / "run" / "final" / "policies" / "assistant" / "adapter_config.json").is_file()
    made.save_model(tmp_path / "saved")
    assert isinstance(made.model, PeftModel)
    loaded = PeftModel.from_pretrained(qwen3(), tmp_path / "saved").state_dict()
    ours = {
        name.replace(".assistant.", ".default."): value for name, value in made.model.state_dict().items() if "lora" in name
    }
    assert ours
    assert all(torch.equal(loaded[name], value) for name, value in ours.items())


class Count:
    """An environment of ours: an answer earns the share of its vowels."""

    tools: list[dict[str, Any]] = []  # noqa: RUF012

    def reset(self, task: Any, seed: int = 0) -> str:
        return str(task)

    def step(self, action: Any, *, agent: str | None = None) -> Step:
        text = "" if action is None else getattr(action, "text", "")
        return Step("", sum(letter in "aeiou" for letter in text) / (1 + len(text)), True)

    def snapshot(self) -> None: ...

    def restore(self, state: None) -> None: ...


def test_an_environment_of_ones_own(tmp_path: Path) -> None:
    """`agents`, the first of which is asked, and tasks of any kind."""
    changes = ("model.name=mine", "sft.epochs=0", "max_steps=1", "eval_steps=null", "model.paradigm=shared")
    made = VRGRPOTrainer(
        qwen3(),
        config(tmp_path / "run", *changes),
        agents=single_agent([], name="solo"),
        env_factory=Count,
        train_dataset=["one", "two", "three"],
        eval_dataset=["four"],
        processing_class=byte_tokenizer(),
    )
    assert made.setting.entry == "solo"
    assert made.train().global_step == 1
    assert [line["name"] for line in read_metrics(tmp_path / "run", "eval")] == ["sft", "final"]
    assert json.loads((tmp_path / "run" / "eval" / "final.json").read_text())["columns"][0]["name"] == "eval"


def test_a_network_of_another_type_is_said_to_change(tmp_path: Path) -> None:
    """The caller's object becomes bf16, rounded; what is saved are the masters."""
    model = qwen3()
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.warns(UserWarning, match="model: its parameters of float32 become bfloat16, in which the run computes") as told:
        made = VRGRPOTrainer(model, arguments(tmp_path, bf16=True), vowels, ROWS, processing_class=byte_tokenizer())
    assert told[0].filename == __file__
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))  # not before `train`
    made.train()
    made.save_model(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(a.bfloat16(), b) for a, b in zip(saved.parameters(), model.parameters(), strict=True))
    assert any(not torch.equal(a, b.float()) for a, b in zip(saved.parameters(), model.parameters(), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        VRGRPOTrainer(qwen3(), arguments(tmp_path), vowels, ROWS, processing_class=byte_tokenizer())


def test_what_cannot_be(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"agents": single_agent([])}, ValueError, "train_dataset: expected tasks with agents, got None"),
        ({"reward_funcs": vowels}, ValueError, "train_dataset: expected tasks with reward_funcs, got None"),
        ({"env_factory": Count}, ValueError, "train_dataset: expected tasks for the environment, got None"),
        ({"train_dataset": ROWS, "model": qwen3()}, ValueError, "reward_funcs: expected functions for a data set of prompts"),
        ({"train_dataset": ROWS, "reward_funcs": vowels}, ValueError, "model: expected a name or a network with TRL's"),
        ({"model": 3}, TypeError, "model: expected a name or a network of transformers, got int"),
        ({"callbacks": [3]}, TypeError, r"callbacks\[0\]: expected a function \(kind, step, scalars\)"),
        ({"env_factory": Count, "environment_factory": Count}, ValueError, "expected one of the two names"),
        ({"peft_config": LoraConfig(target_modules="all-linear", lora_dropout=0.1)}, NotImplementedError, "lora_dropout"),
        ({"peft_config": LoraConfig()}, ValueError, "peft_config.target_modules: expected names"),
        ({"rollout_func": vowels}, NotImplementedError, "rollout_func: expected None, got .*: not built; pass an environment"),
        ({"tools": [vowels]}, NotImplementedError, "tools: expected None, got .* whose methods are the tools"),
        ({"reward_func": vowels}, TypeError, "unexpected keyword argument 'reward_func'"),
        (
            {"args": "org/reward-model", "train_dataset": ROWS, "model": qwen3()},
            TypeError,
            r"reward_funcs\[0\]: expected a func",
        ),
    ]
    for options, kind, message in cases:
        with pytest.raises(kind, match=message):
            VRGRPOTrainer(**options)
    with pytest.raises(NotImplementedError, match="args: use_vllm: expected False, got True"):
        VRGRPOTrainer(qwen3(), arguments(folder, use_vllm=True), reward_funcs=vowels, train_dataset=ROWS)
    with pytest.raises(RuntimeError, match="save_model: expected a call of train"):
        trainer(folder).save_model(folder)
    with pytest.raises(FileNotFoundError, match=f"expected a folder with a run to go on with, got {folder}"):
        trainer(folder).train(resume_from_checkpoint=True)
    with pytest.raises(FileNotFoundError, match="expected a folder with a run to go on with"):
        trainer(folder).train(resume_from_checkpoint="/nowhere")


def test_a_folder_with_a_run_is_not_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer(folder, "max_steps=1").train()
    with pytest.raises(FileExistsError, match=f"expected a folder without a run, got {folder}"):
        trainer(folder).train()
    with pytest.raises(ValueError, match=r"resume: .* got \(now and then\) learner: learning_rate 0.5 and 0.01"):
        trainer(folder, "learner.learning_rate=0.5").train(resume_from_checkpoint=True)
    made = trainer(folder)
    made.setting = replace(made.setting, tasks=made.setting.tasks[1:])
    with pytest.raises(ValueError, match=r"resume: expected the queries that .*step-1 was made with, got others"):
        made.train(resume_from_checkpoint=True)


def test_rows_without_a_name_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    def made(rows: Any, steps: int) -> VRGRPOTrainer:
        args = arguments(tmp_path / "run", max_steps=steps)
        return VRGRPOTrainer(qwen3(), args, vowels, rows, processing_class=byte_tokenizer(), optimizers=(None, None), tools=[])

    made(ROWS, 1).train()
    with pytest.raises(ValueError, match=r"resume: expected the queries that .*step-1 was made with, got others"):
        made(ROWS[::-1], 2).train(resume_from_checkpoint=True)
    made(ROWS, 2).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rl.trained_agents=[nobody]", "rl.trained_agents: expected some of master, qa, efc, gfc, math, got 'nobody'"),
        ("embedder=/nowhere", "nowhere"),
    ],
)
def test_what_cannot_be_is_told_before_sft(change: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, ImportError, OSError), match=message):
        trainer(tmp_path / "run", change).train()
    assert not (tmp_path / "run").exists()


def test_rewards_that_a_memory_does_not_expect(tmp_path: Path) -> None:
    """Told before anything has changed."""
    made = trainer(tmp_path / "run")
    made.setting = replace(made.setting, score=lambda task, episode: 7.0)
    with pytest.raises(ValueError, match=r"rewards: expected numbers in \[reward_min, reward_max\] = \[0.0, 2.0\] or NaN, got"):
        made.train()
    assert made.policies is not None
    made.policies.save(tmp_path / "now")
    assert files(tmp_path / "now") == files(tmp_path / "run" / "sft" / "policies")


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, save = tmp_path / "run", Policies.save
    calls = []

    def full(self: Policies, where: Any) -> None:
        calls.append(where)
        if len(calls) == 3:  # that of SFT, of step 1, of step 2
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, where)

    monkeypatch.setattr(Policies, "save", full)
    with pytest.raises(
        OSError, match=f"no space for checkpoint step-2 in {folder}/checkpoints; the last checkpoint is .*step-1"
    ):
        trainer(folder).train()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-1"]
    assert trainer(folder).train(resume_from_checkpoint=True).global_step == 3
    monkeypatch.setattr("trainer.metrics.Metrics.episode", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match=f"no space left for the run in {tmp_path}/other"):
        trainer(tmp_path / "other").train()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = tmp_path / "a.yaml", tmp_path / "run"
    config(folder, "max_steps=1", "limits.malformed=end").save(path)
    assert main(["sft", str(path)]) == 0
    assert "sft on test" in capsys.readouterr().out
    assert (folder / "final" / "policies").is_dir()
    assert main(["train", str(path)]) == 2
    assert "expected a folder without a run" in capsys.readouterr().err
    assert main(["train", str(path), "--resume"]) == 0
    assert "finished after 1 steps" in capsys.readouterr().out
    assert main(["train", str(path), "max_steps=0", "--overwrite"]) == 0
    assert read_metrics(folder, "train") == []
    capsys.readouterr()
    assert main(["train", str(path), "learner.learning_rat=1"]) == 2
    assert capsys.readouterr().err.endswith("no such key; did you mean learning_rate?\n")


def test_the_import_is_light() -> None:
    code = "import sys, trainer, trainer.command; print([n for n in ('torch', 'peft', 'transformers') if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
    assert TrainConfig().model.name == "tiny"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hima.nothing  # noqa: B018
