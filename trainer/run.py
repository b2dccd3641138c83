"""A run: its folder, its parts, and where it stands, as one object that the stages share, save and go on from."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from trainer.checkpoint import STATE, Checkpoint, Checkpoints, random_state, save_tensors, set_random_state
from trainer.config import TrainConfig
from trainer.engine.base import Engine
from trainer.engine.vllm_network import check_vllm
from trainer.evaluate import Report
from trainer.learner import Learner
from trainer.lock import FolderLock
from trainer.memory import Memory, load_embedder
from trainer.metrics import LINES, Metrics
from trainer.models import Policies
from trainer.parts_of import engine_of, prompt_limit, rl_config, stop_tokens
from trainer.rollout import task_id
from trainer.run_folder import CONFIG, MEMORY, is_at
from trainer.setting import Queries, Setting
from trainer.stopping import Stop, stoppable

# What another process may be given to go on with: how long, how often, where to. The rest is what is being trained.
CHANGEABLE = (
    *("output_dir", "max_steps", "max_seconds", "logging_steps", "logged_episodes"),
    *("eval_steps", "eval_tasks", "save_steps", "save_total_limit"),
)
Log = Callable[[str, int, Mapping[str, float]], None]


class Run:
    """What is trained, and by what. Stages: SFT, which leaves `policies`; then RL, from `begin` on.

    Args:
        config: also written to the folder.
        setting: what is played.
        stop: asked between phases.
        resume: go on with what stands in the folder; without, a folder that holds a run is refused.
        on_log: told of every line of metrics: (kind, step, scalars).
        on_report: told of every evaluation.

    The folder is locked until `close`. Raises: FolderInUseError for one that another run holds, FileExistsError for one with a
    run, FileNotFoundError for none to resume; ValueError where the configuration differs from that of the run in the folder, or
    asks for what is not there; ImportError for vLLM, or an embedder, that is not installed.
    """

    policies: Policies
    engine: Engine
    learner: Learner

    def __init__(
        self,
        config: TrainConfig,
        setting: Setting,
        stop: Stop,
        *,
        resume: bool = False,
        on_log: Log | None = None,
        on_report: Callable[[Report], None] | None = None,
    ) -> None:
        self.config, self.setting, self.stop, self.on_log, self.on_report = config, setting, stop, on_log, on_report
        if config.engine == "vllm":
            check_vllm()  # before anything is trained, as are the next
        unknown = sorted(set(config.rl.trained_agents or ()) - set(setting.agents))
        if unknown:
            raise ValueError(f"rl.trained_agents: expected some of {', '.join(setting.agents)}, got {unknown[0]!r}")
        self.embedder = None if config.memory is None else load_embedder(config.embedder)
        self.folder = Path(config.output_dir)
        self.queries = Queries(setting.tasks, config.seed) if config.max_steps != 0 else None
        self.memory: Memory | None = None
        self.step = self.cursor = 0  # steps of RL, and queries taken, so far
        self.sft_steps = 0  # updates of SFT, where this process ran it to its end
        self.evaluated = -1  # the last step after which the policies were tested
        self.seconds = 0.0  # of these steps
        self.phases: dict[str, float] = {}
        self.warned: set[str] = set()  # what was said once
        self.checkpoints = Checkpoints(self.folder / "checkpoints", keep=config.save_total_limit)
        self._check_folder(resume)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = FolderLock(self.folder)
        try:
            self._prepare(resume)
            self._last = self.checkpoints.latest()
            self.metrics = self._metrics()
        except BaseException:
            self.lock.release()
            raise

    @property
    def sft_checkpoints(self) -> Checkpoints:
        """Of SFT; none are left when it is done."""
        return Checkpoints(self.sft_folder / "checkpoints", keep=1)

    @property
    def sft_folder(self) -> Path:
        """Where SFT writes."""
        return self.folder / "sft"

    @property
    def start(self) -> Path:
        """The policies that RL begins with."""
        return self.sft_folder / "policies"

    @property
    def final(self) -> Path:
        """The policies at the end, in policies/."""
        return self.folder / "final"

    @property
    def done(self) -> bool:
        """Whether an earlier process came to the end of what is asked for now."""
        at: dict[str, Any] = self._last.state if self._last is not None else {"step": 0, "seconds": 0.0}
        return is_at(self.final, at["step"]) and self.is_over(at["step"], at["seconds"])

    @staticmethod
    def check_last(config: TrainConfig, path: Path) -> None:
        """Raises: ValueError if `path` isn't the last checkpoint of the run."""
        last = Checkpoints(Path(config.output_dir) / "checkpoints").latest()
        if last is None or last.path.resolve() != path.resolve():
            expected = "True" if last is None else f"True or the last checkpoint, {last.path}"
            raise ValueError(f"resume_from_checkpoint: expected {expected}, got {path}")

    def is_over(self, step: int, seconds: float) -> bool:
        """Whether no step begins after so many, which took so long."""
        steps, limit = self.config.max_steps, self.config.max_seconds
        return (steps is not None and step >= steps) or (limit is not None and seconds >= limit)

    def log(self, kind: str, step: int, scalars: Mapping[str, float], **more: Any) -> None:
        """A line of metrics. Raises: FolderRemovedError."""
        self.lock.check()
        self.metrics.log(kind, step, scalars, **more)
        if self.on_log is not None:
            self.on_log(kind, step, scalars)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Adds to `phases`, which the next line of metrics takes along."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.phases[phase] = self.phases.get(phase, 0.0) + time.perf_counter() - begin

    def begin(self, policies: Policies, *, engine: Engine | None = None) -> None:
        """Everything that RL needs around the policies that SFT left, and all of it as the last checkpoint says."""
        config = self.config
        if config.learner.kl_coef and self._last is None and not all(base.adapters for base in policies.bases):
            policies.freeze_reference()
        if self._last is not None:
            policies.load(self._last.path / "policies")
        self.policies, self.learner = policies, Learner(policies, rl_config(config), failures=self.folder / "failures")
        self.engine = stoppable(engine_of(config, policies) if engine is None else engine, self.stop)
        ends = config.sampling.stop_token_ids or stop_tokens(policies.tokenizer, config.chat_template_kwargs, policies)
        self.params = replace(config.sampling, stop_token_ids=ends)
        self.max_prompt_tokens = prompt_limit(config, policies)
        if config.memory is not None and self.embedder is not None:
            if self._last is None:
                for name in MEMORY:  # of a run that was killed before its first checkpoint
                    (self.folder / name).unlink(missing_ok=True)
            self.memory = Memory(self.folder / MEMORY[0], self.embedder, config=config.memory)
        if self._last is not None:
            self._continue(self._last)

    def save(self) -> Path:
        """A checkpoint of the present step. Raises: FullDiskError, FolderRemovedError."""
        self.lock.check()

        def write(folder: Path) -> None:
            self.policies.save(folder / "policies")
            save_tensors(self.learner.state_dict(), folder / "learner.pt")
            if self.memory is not None:
                self.memory.snapshot(folder / MEMORY[0])

        state: dict[str, Any] = {"cursor": self.cursor, "evaluated": self.evaluated, "seconds": self.seconds}
        state |= {"time": self.metrics.elapsed, "tasks": self._fingerprint, "random": random_state()}
        return self.checkpoints.save(self.step, state, write)

    def close(self) -> None:
        """Files, and the folder, are let go."""
        self.metrics.close()
        if self.memory is not None:
            self.memory.close()
        self.lock.release()

    def _check_folder(self, resume: bool) -> None:
        path = self.folder / CONFIG
        if not resume and any((self.folder / name).exists() for name in ("checkpoints", "sft", LINES)):
            raise FileExistsError(
                f"output_dir: expected a folder without a run, got {self.folder}; go on with it (--resume, or "
                "train(resume_from_checkpoint=True)), or choose another"
            )
        if resume and not path.is_file():
            raise FileNotFoundError(f"output_dir: expected a folder with a run to go on with, got {self.folder}")

    def _prepare(self, resume: bool) -> None:
        self._check_folder(resume)  # once more, as another process may have come and gone before the lock was taken
        path = self.folder / CONFIG
        if resume:
            then = TrainConfig.load(path)
            if different := self.config.differs(then, CHANGEABLE):
                raise ValueError(f"resume: expected the configuration of {path}, got (now and then) {'; '.join(different)}")
            if self.config == then:
                return
        self.config.save(path)

    def _metrics(self) -> Metrics:
        """With the lines up to where the run goes on."""
        sft, ends = self.sft_checkpoints.latest(), {"sft": 0, "train": -1, "eval": -1}
        state: dict[str, Any] = {"time": 0.0}
        if sft is not None:
            state = sft.state
            ends["sft"] = state["step"]
        if self.start.is_dir():
            state = json.loads((self.start / STATE).read_text())
            ends["sft"] = state["step"]
        if self._last is not None:
            state = self._last.state
            ends |= {"train": state["step"], "eval": state["evaluated"]}
        if self.done:
            ends["eval"] = ends["train"]
        return Metrics(self.folder, elapsed=state["time"], keep=lambda kind, step: step <= ends[kind])

    def _continue(self, last: Checkpoint) -> None:
        state = last.state
        if state["tasks"] != self._fingerprint:
            raise ValueError(f"resume: expected the queries that {last.path} was made with, got others")
        self.learner.load_state_dict(torch.load(last.path / "learner.pt", map_location="cpu", weights_only=True))
        if self.memory is not None:
            self.memory.restore(last.path / MEMORY[0])
        self.step, self.cursor, self.evaluated = state["step"], state["cursor"], state["evaluated"]
        self.seconds = state["seconds"]
        set_random_state(state["random"])

    @cached_property
    def _fingerprint(self) -> str:
        tasks = self.setting.tasks
        names = "\n".join(_named(tasks, number) for number in range(len(tasks)))
        return blake2b(names.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _named(tasks: Sequence[Any], number: int) -> str:
    """What tells a task from others: its `id`, or all of a row that has none."""
    task, name = tasks[number], task_id(tasks, number)
    if name != str(number):
        return name
    return json.dumps(task, default=lambda value: type(value).__name__)


def progress(total: int | None, name: str, unit: Literal["step", "update", "episode"], done: int = 0) -> Any:
    """A bar with the time left; where nobody watches, a line now and then."""
    seen = sys.stderr.isatty()
    return tqdm(
        total=total, desc=name, unit=unit, initial=done, leave=True, dynamic_ncols=seen, mininterval=0.2 if seen else 15
    )
