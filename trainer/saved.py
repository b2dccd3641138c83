"""A run opened to be played: its policies, and its memory as it is.

with open_run("runs/tiny") as saved:
    evaluate(saved.policy(), tasks, world, **saved.options())
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.checkpoint import Checkpoint, Checkpoints, read_folder
from trainer.checksums import DamagedError
from trainer.config import TrainConfig
from trainer.engine.base import SamplingParams
from trainer.engine.local import LocalEngine
from trainer.memory import Memory, load_embedder
from trainer.models import Policies
from trainer.parts_of import prompt_limit, stop_tokens
from trainer.policies.engine import EnginePolicy
from trainer.recall import Recall
from trainer.run_folder import CONFIG, MEMORY, read_config


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    """A run's configuration, policies and frozen memory. path: where the policies were found."""

    config: TrainConfig
    policies: Policies
    memory: Memory | None
    path: Path

    @property
    def params(self) -> SamplingParams:
        """The sampling parameters of the run, with the ends of a turn."""
        sampling = self.config.sampling
        tokenizer, kwargs = self.policies.tokenizer, self.config.chat_template_kwargs
        ends = sampling.stop_token_ids or stop_tokens(tokenizer, kwargs, self.policies)
        return replace(sampling, stop_token_ids=ends)

    def policy(self, *, temperature: float | None = None, seed: int = 0) -> EnginePolicy:
        """All agents, for `trainer.evaluate`. temperature: None: that of the run's own evaluations."""
        return EnginePolicy(
            LocalEngine(self.policies, self.config.local),
            self.policies,
            self.params,
            temperature=self.config.eval_temperature if temperature is None else temperature,
            max_prompt_tokens=prompt_limit(self.config, self.policies),
            template_kwargs=self.config.chat_template_kwargs,
            seed=seed,
        )

    def options(self) -> dict[str, Any]:
        """Arguments for `trainer.evaluate.evaluate` that make episodes as in the run."""
        retrieve = Recall(self.memory).strategies
        return {"limits": self.config.limits, "retrieve": retrieve, "style": self.config.prompt_style}


def is_run(folder: str | os.PathLike[str]) -> bool:
    """Return True if a run has written into this folder."""
    return (Path(folder) / CONFIG).is_file()


@contextmanager
def open_run(folder: str | os.PathLike[str], *, device: str | None = None) -> Iterator[SavedRun]:
    """The policies at the end of a run; of one that goes on or was stopped, those of its last checkpoint, or of its SFT.

    A run may go on meanwhile: what it takes away for a later checkpoint is looked for once more.

    Raises: FileNotFoundError for a folder without a run, or one that has not come to any policies; DamagedError, naming the
    file, where nothing of it is whole; what is damaged and has a whole one beside it is a warning.
    """
    folder = Path(folder)
    if not is_run(folder):
        raise FileNotFoundError(f"{folder}: expected a folder with a run ({CONFIG}), got none")
    config = read_config(folder)
    while True:
        places = _places(folder)
        try:
            saved = _open(config, *places, device)
            break
        except (OSError, ValueError):
            if _places(folder) == places:
                raise
    try:
        yield saved
    finally:
        if saved.memory is not None:
            saved.memory.close()


def _open(config: TrainConfig, path: Path, live: Path, device: str | None) -> SavedRun:
    policies = Policies.open(path, device=device or config.model.device)
    memory = None
    if config.memory is not None and live.exists():
        memory = Memory(live, load_embedder(config.embedder), config=config.memory, frozen=True)
    return SavedRun(config=config, policies=policies, memory=memory, path=path)


def _places(folder: Path) -> tuple[Path, Path]:
    """The folders of the policies and the memory."""
    last: Checkpoint | None = None
    final: dict[str, Any] | None = None
    damage: list[DamagedError] = []
    try:
        last = Checkpoints(folder / "checkpoints").latest()
    except DamagedError as error:
        damage.append(error)
    lost = bool(damage)  # RL has come to something, and no checkpoint has it
    try:
        final = read_folder(folder / "final") if (folder / "final").is_dir() else None
    except DamagedError as error:
        damage.append(error)
    live = folder / MEMORY[0] if last is None else last.path / MEMORY[0]
    if final is not None and (last is None or final.get("step") == last.state.get("step")):
        path = folder / "final"  # the end that a run went on from is behind its checkpoints
    elif last is not None:
        path = last.path
    elif lost:
        raise damage[0]
    else:
        path = folder / "sft"
    if not (path / "policies").is_dir():
        raise FileNotFoundError(f"{folder}: expected a run that has come to policies, got one that has none yet")
    for found in damage:
        warnings.warn(f"{found}; {path} is read in its place", stacklevel=4)
    return path / "policies", live
