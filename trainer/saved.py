"""What a run has left, to be played: its policies, and its memory as it is.

with open_run("runs/tiny") as saved:
    evaluate(saved.policy(), tasks, world, **saved.options())
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.engine.base import SamplingParams
from trainer.engine.local import LocalEngine
from trainer.memory import Memory, load_embedder
from trainer.models import Policies
from trainer.parts_of import prompt_limit, stop_tokens
from trainer.policies.engine import EnginePolicy
from trainer.recall import Recall
from trainer.run_folder import CONFIG, MEMORY, is_at


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    """A run's configuration, policies and frozen memory. path: where the policies were found."""

    config: TrainConfig
    policies: Policies
    memory: Memory | None
    path: Path

    @property
    def params(self) -> SamplingParams:
        """How the run has sampled, with the ends of a turn."""
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
        """What `trainer.evaluate.evaluate` is told, so that episodes are as in the run."""
        retrieve = Recall(self.memory).strategies
        return {"limits": self.config.limits, "retrieve": retrieve, "style": self.config.prompt_style}


def is_run(folder: str | os.PathLike[str]) -> bool:
    """Whether a run has written into this folder."""
    return (Path(folder) / CONFIG).is_file()


@contextmanager
def open_run(folder: str | os.PathLike[str], *, device: str | None = None) -> Iterator[SavedRun]:
    """The policies at the end of a run; of one that goes on or was stopped, those of its last checkpoint, or of its SFT.

    Raises: FileNotFoundError for a folder without a run, or one that has not come to any policies.
    """
    folder = Path(folder)
    if not is_run(folder):
        raise FileNotFoundError(f"{folder}: expected a folder with a run ({CONFIG}), got none")
    config = TrainConfig.load(folder / CONFIG)
    last = Checkpoints(folder / "checkpoints").latest()
    final, live = folder / "final", folder / MEMORY[0]
    places = [final, folder / "sft"]
    if last is not None:  # the end that a run went on from is behind its checkpoints
        places.insert(0 if not is_at(final, last.state["step"]) else 1, last.path)
        live = last.path / MEMORY[0]
    path = next((place / "policies" for place in places if (place / "policies").is_dir()), None)
    if path is None:
        raise FileNotFoundError(f"{folder}: expected a run that has come to policies, got one that has none yet")
    policies = Policies.open(path, device=device or config.model.device)
    memory = None
    if config.memory is not None and live.is_file():
        memory = Memory(live, load_embedder(config.embedder), config=config.memory, frozen=True)
    try:
        yield SavedRun(config=config, policies=policies, memory=memory, path=path)
    finally:
        if memory is not None:
            memory.close()
