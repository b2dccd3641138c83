"""What a run is: one frozen configuration, read from YAML and `key=value`, checked whole before anything starts.

    config = TrainConfig.load("configs/tiny.yaml", ["seed=1", "learner.learning_rate=1e-3", "memory=null"])

A key that does not exist names itself, its line and the key that was probably meant; a value of another type says what was
expected. The parts are those of the rooms that use them: `VRGRPOConfig`, `LearnerConfig`, `SamplingParams`, `Limits`, ...
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from himakernels.checks import check_choice, check_non_negative, check_positive
from trainer.checkpoint import replace_text
from trainer.config_file import build, dump, read
from trainer.engine.base import SamplingParams
from trainer.engine.local import LocalConfig
from trainer.engine.vllm_network import VLLMConfig
from trainer.episode import Limits
from trainer.hima_ecom.tasks import COLUMNS, FAMILIES
from trainer.hima_ecom.tasks.task import LANGUAGES
from trainer.kinds import check_fields
from trainer.memory import MemoryConfig
from trainer.models import ModelConfig
from trainer.prompts import Style
from trainer.reading import check_seed
from trainer.step import LearnerConfig
from trainer.vrgrpo import VRGRPOConfig

__all__ = ["DataConfig", "SFTConfig", "TrainConfig", "differences"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which tasks of the benchmark are learnt from and tested on. Queries for SFT, RL and the test are all different."""

    world: Literal["small", "full"] = "full"  # the size of the store
    seed: int = 0  # of the store and of the tasks
    path: str | None = None  # a folder of `hima data generate` instead; what follows then chooses among its tasks
    columns: tuple[str, ...] = COLUMNS
    rl_columns: tuple[str, ...] | None = None  # those of `columns` whose queries RL goes through; None: all
    languages: tuple[str, ...] = LANGUAGES
    max_difficulty: int = 3  # 1 to 3
    families: tuple[str, ...] | None = None  # of tasks, such as "warranty" (see docs/benchmark.md); None: all
    sft_tasks: int = 400  # of each column; an expert's episode gives a sample for every agent in it
    rl_tasks: int = 400  # of each column; the queries that RL goes through, over and over
    test_tasks: int = 100  # of each column, from templates that neither SFT nor RL have

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        check_choice("world", self.world, ("small", "full"))
        for name, known in (("columns", COLUMNS), ("languages", LANGUAGES)):
            chosen = getattr(self, name)
            if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(known):
                raise ValueError(f"{name}: expected some of {', '.join(known)}, each once, got {chosen!r}")
        chosen = self.rl_columns
        if chosen is not None and not (chosen and len(set(chosen)) == len(chosen) and set(chosen) <= set(self.columns)):
            raise ValueError(f"rl_columns: expected some of {', '.join(self.columns)}, each once, got {chosen!r}")
        if self.max_difficulty not in (1, 2, 3):
            raise ValueError(f"max_difficulty: expected 1, 2 or 3, got {self.max_difficulty!r}")
        if self.families is not None:
            names = tuple(family.name for column in self.columns for family in FAMILIES[column])
            unknown = sorted(set(self.families) - set(names))
            if unknown or not self.families:
                raise ValueError(f"families: expected some of {', '.join(names)}, got {unknown or self.families!r}")
        for name in ("sft_tasks", "rl_tasks", "test_tasks"):
            check_non_negative(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Supervised fine-tuning before RL, on the expert's episodes."""

    epochs: int | None = 1  # 0: no SFT. None: until `seconds` are over, which no second run repeats bit for bit
    seconds: float | None = None  # no update begins later
    batch_tokens: int = 2048  # trained tokens of an update
    learning_rate: float = 1e-3
    optimizer: Literal["adamw", "muon"] = "adamw"  # see `trainer.optim`
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "cosine"  # over the epochs; without epochs, over the seconds
    warmup_steps: int = 20
    # "base": one network learns all agents' samples as a whole, and RL's policies begin on it. "policies": each agent's own
    # policy learns its samples; RL goes on with these.
    trains: Literal["base", "policies"] = "base"
    memory: float = 0.885  # the share of samples that show strategies from memory
    unfamiliar: float = (
        0.0  # the share of queries of the agent that customers talk to whose words are blurred, see `trainer.unfamiliar`
    )
    max_tokens: int | None = None  # longer samples are left out; None: only what the network or the token budget can't take
    save_steps: int | None = 500  # updates between checkpoints; None: only when it is stopped

    def __post_init__(self) -> None:
        for name in ("epochs", "warmup_steps", "weight_decay"):
            if getattr(self, name) is not None:
                check_non_negative(name, getattr(self, name))
        for name in ("seconds", "batch_tokens", "learning_rate", "max_tokens", "save_steps"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_choice("optimizer", self.optimizer, ("adamw", "muon"))
        check_choice("schedule", self.schedule, ("constant", "linear", "cosine"))
        check_choice("trains", self.trains, ("base", "policies"))
        for name in ("memory", "unfamiliar"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share in [0, 1], got {getattr(self, name)!r}")
        if self.epochs is None and self.seconds is None:
            raise ValueError("epochs, seconds: expected at least one of them, got None for both")

    @property
    def runs(self) -> bool:
        """Whether there is any SFT."""
        return self.epochs != 0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run. The defaults train the tiny model from scratch."""

    output_dir: str = "runs/hima"  # everything that the run writes
    seed: int = 0  # from 0 to 2^63 - 1; of adapters, of the order of samples and queries, and of everything that is sampled
    init_from: str | None = None  # saved policies (RUN/sft/policies) to begin RL with, in place of `model` and SFT
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    rl: VRGRPOConfig = field(default_factory=VRGRPOConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    sampling: SamplingParams = field(default_factory=SamplingParams)  # no stop_token_ids: `ends_of_turn` of trainer.chat
    limits: Limits = field(default_factory=Limits)
    memory: MemoryConfig | None = field(default_factory=MemoryConfig)  # None: agents have no memory
    embedder: str = "hash"  # of the memory, see `trainer.memory.load_embedder`
    engine: Literal["local", "vllm"] = "local"  # what generates: the trainer's own parameters, or vLLM, which follows them
    local: LocalConfig = field(default_factory=LocalConfig)
    vllm: VLLMConfig = field(default_factory=VLLMConfig)
    queries_per_step: int = 8
    max_steps: int | None = 200  # of RL; 0: SFT only; None: until `max_seconds` are over
    max_seconds: float | None = None  # of RL over all its resumes; no step begins later
    prompt_style: Style = "compact"  # see `trainer.prompts.system_prompt`
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)  # for the chat template: {"enable_thinking": False}
    max_prompt_tokens: int | None = None  # an episode with a longer prompt ends; None: what network and learner can take
    logging_steps: int = 1  # steps between lines of metrics
    logged_episodes: int = 2  # of a logged step, in samples.jsonl
    eval_steps: int | None = None  # steps between evaluations; those before and after RL play all test tasks
    eval_tasks: int = 20  # of each column in an evaluation between steps
    eval_temperature: float = 0.0  # 0: the likeliest token
    save_steps: int | None = 20  # steps between checkpoints; None: only at the end, and when it is stopped
    save_total_limit: int | None = 2  # the last checkpoints that are kept; None: all

    def __post_init__(self) -> None:
        check_fields(self)
        check_seed("seed", self.seed)
        for name in ("queries_per_step", "logging_steps", "eval_steps", "save_steps", "save_total_limit"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        for name in ("max_seconds", "max_prompt_tokens"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        for name in ("logged_episodes", "eval_tasks", "eval_temperature", "max_steps"):
            if getattr(self, name) is not None:
                check_non_negative(name, getattr(self, name))
        check_choice("prompt_style", self.prompt_style, get_args(Style))
        if self.engine == "vllm" and self.model.dtype == "float64":
            raise ValueError("model.dtype: expected float32 or bfloat16 for engine=vllm, got 'float64'")
        if not self.output_dir:
            raise ValueError("output_dir: expected a folder, got ''")
        if self.max_steps is None and self.max_seconds is None:
            raise ValueError("max_steps, max_seconds: expected at least one of them, got None for both")
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature: expected above 0, as siblings must differ, got 0")
        if self.learner.temperature != self.sampling.temperature:
            raise ValueError(
                f"learner.temperature: expected that of sampling, {self.sampling.temperature}, got {self.learner.temperature}"
            )
        if self.learner.schedule != "constant":
            total, steps = self.learner.total_steps, self.max_steps
            if steps is None and total is None:
                raise ValueError("learner.total_steps: expected a number of steps where max_steps is null, got None")
            if steps is not None and total is not None and total < steps:
                expected = f"at least max_steps = {steps}, or null for it"
                raise ValueError(f"learner.total_steps: expected {expected}, got {total}, after which the learning rate is 0")
        most = 1.0 + self.rl.format
        if self.memory is not None and self.rl.efficiency > 0 and self.memory.reward_max != most:
            raise ValueError(
                f"memory.reward_max: expected 1 + rl.format = {most:g}, the highest R_A + R_F, got {self.memory.reward_max:g}"
            )
        if self.sft.trains == "base" and self.sft.runs and self.model.bases:
            raise ValueError("sft.trains: expected 'policies' where agents have bases of their own, got 'base'")

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()) -> "TrainConfig":
        """The configuration of a YAML file (None: the defaults), with `key=value` put over it.

        Args: overrides: "sampling.temperature=0.8"; the value is YAML, and a mapping replaces what stood there.

        Raises: FileNotFoundError; ValueError, saying where, for a key that does not exist or comes twice, a value of another
        type, or one that a check refuses.
        """
        return build(cls, *read(path, overrides))

    def to_yaml(self) -> str:
        """The whole configuration, defaults filled in; `load` reads it back."""
        return dump(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_yaml`, whole or not at all. Raises: FullDiskError."""
        replace_text(Path(path), self.to_yaml())

    def differs(self, other: "TrainConfig", ignore: Sequence[str] = ()) -> list[str]:
        """What another configuration has another value of: "seed: 0 and 1", "learner: clip_low 0.2 and 0.3"."""
        found = []
        for item in fields(self):
            mine, others = getattr(self, item.name), getattr(other, item.name)
            if item.name not in ignore and mine != others:
                found.append(f"{item.name}: {differences(mine, others)}")
        return found


def differences(mine: Any, others: Any) -> str:
    """What two values, or the fields of two dataclasses of a type, are: "0 and 1", "clip_low 0.2 and 0.3"; "" where equal."""
    if mine == others:
        return ""
    if hasattr(mine, "__dataclass_fields__") and type(mine) is type(others):
        pairs = [(item.name, getattr(mine, item.name), getattr(others, item.name)) for item in fields(mine)]
        return ", ".join(f"{name} {a!r} and {b!r}" for name, a, b in pairs if a != b)
    return f"{mine!r} and {others!r}"
