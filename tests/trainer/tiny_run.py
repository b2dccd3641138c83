"""Runs of seconds: the five agents with the embedded model, a score that differs between siblings, and processes that die."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.episode import Episode
from trainer.metrics import read_metrics
from trainer.trainer import VRGRPOTrainer

BASE = (
    *("data.world=small", "data.columns=[efc, math]", "data.languages=[en]"),
    *("data.sft_tasks=3", "data.rl_tasks=6", "data.test_tasks=1", "prompt_style=brief"),
    *("sft.epochs=1", "sft.learning_rate=1e-3", "sft.batch_tokens=300", "sft.warmup_steps=1"),
    *("model.lora_rank=4", "model.device=cpu", "sampling.max_new_tokens=12"),
    *("limits.nodes=2", "limits.malformed=observe", "rl.group_size=3", "rl.top_k=2", "rl.efficiency=0"),
    *("learner.learning_rate=1e-2", "learner.token_budget=4096", "queries_per_step=2", "max_steps=3", "save_steps=1"),
    *("eval_steps=2", "eval_tasks=1", "memory.min_window=1"),
)


def config(folder: Path, *changes: str) -> TrainConfig:
    """Three steps of two queries, a checkpoint after each, an evaluation after the second."""
    return TrainConfig.load(None, [*BASE, f"output_dir={folder}", *changes])


def score(task: Any, episode: Episode) -> float:
    """A share in [0, 1] of what the master wrote: siblings differ."""
    texts = "".join(message.content for message in episode.contexts["master"] if message.role == "assistant")
    return sum(letter in "aeiou" for letter in texts) / max(len(texts), 1)


def trainer(folder: Path, *changes: str, **options: Any) -> VRGRPOTrainer:
    made = VRGRPOTrainer(args=config(folder, *changes), **options)
    made.setting = replace(made.setting, score=score)
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    """Of the metrics, without what a clock says."""
    found = read_metrics(folder)
    return [{key: value for key, value in line.items() if "seconds" not in key and key != "time"} for line in found]


def files(folder: Path) -> dict[str, bytes]:
    """The weights in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def unsealed(folder: Path) -> None:
    """A run's folder as it was written before there were checksums, and before there was a lock."""
    for path in [*folder.rglob("SHA256SUMS"), *folder.glob(".lock")]:
        path.unlink()
    for path in folder.rglob("state.json"):
        state = json.loads(path.read_text())
        del state["checksums"]
        path.write_text(json.dumps(state))
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text[: text.rindex("#")])


def memory(path: Path) -> list[Any]:
    """What a memory holds."""
    from trainer.memory import HashingEmbedder, Memory

    with Memory(path, HashingEmbedder(), frozen=True) as found:
        return found.entries()


def dying(owner: Any, name: str, nth: int, number: int, *, after: bool = False) -> None:
    """The `nth` call of `owner.name` sends this process a signal, before or after what it does."""
    inner: Callable[..., Any] = getattr(owner, name)
    calls = [0]

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == nth and not after:
            os.kill(os.getpid(), number)
        result = inner(*args, **kwargs)
        if calls[0] == nth and after:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, call)


def _child(place: tuple[str, str, str, int, bool], number: int, folder: Path, changes: tuple[str, ...]) -> None:
    import importlib

    module, owner, name, nth, after = place
    found = importlib.import_module(module)
    dying(getattr(found, owner) if owner else found, name, nth, number, after=after)
    trainer(folder, *changes).train()


def interrupted(place: tuple[str, str, str, int, bool], number: int, folder: Path, *changes: str) -> int:
    """A run in another process, which gets the signal at a place; returns its exit code, the signal's number negative."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.trainer"])
    child = context.Process(target=_child, args=(place, number, folder, changes))
    child.start()
    child.join(120)
    assert child.exitcode is not None
    return child.exitcode


KILL, TERM = signal.SIGKILL, signal.SIGTERM
