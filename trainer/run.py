"""A run: its folder, its parts, and where it stands, as one object that the stages share, save and go on from."""

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from trainer.checkpoint import Checkpoint, Checkpoints, random_state, save_tensors
from trainer.config import TrainConfig
from trainer.engine.base import Engine
from trainer.engine.vllm_network import check_vllm
from trainer.evaluate import Report
from trainer.learner import Learner
from trainer.lock import FolderLock
from trainer.memory import Embedder, Memory, MemoryConfig, load_embedder
from trainer.metrics import LINES, Metrics
from trainer.models import Policies
from trainer.parts_of import engine_of, prompt_limit, rl_config, stop_tokens
from trainer.rollout import task_id
from trainer.run_folder import CONFIG, LEARNER, MEMORY, Left, left_in, read_config, restore, write_config
from trainer.setting import Queries, Setting
from trainer.stopping import Stop, stoppable

# What another process may be given to go on with: how long, how often, where to. The rest is what is being trained.
CHANGEABLE = (
    *("output_dir", "max_steps", "max_seconds", "logging_steps", "logged_episodes"),
    *("eval_steps", "eval_tasks", "save_steps", "save_total_limit"),
)
Log = Callable[[str, int, Mapping[str, float]], None]


class Run:
    """A run that goes on: its parts and its place. Stages: SFT, which leaves `policies`; then RL, from `begin` on.

    Args:
        config: also written to the folder.
        setting: what is played.
        stop: asked between phases.
        resume: go on with what stands in the folder (True, or its last checkpoint); without, a folder that holds a run is
            refused.
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
        resume: bool | str | Path = False,
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
        self._check_folder(bool(resume))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = FolderLock(self.folder)
        try:
            self._check_folder(bool(resume))  # once more: another process may have come and gone before the lock was taken
            self.left = self._left(resume)
            self.saved = self.left.step  # the step of the last checkpoint
            self._write_config(bool(resume))
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
        """The folder of SFT."""
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
        """True once an earlier process came to the end of what is asked for now."""
        at: dict[str, Any] = self.left.last.state if self.left.last is not None else {"step": 0, "seconds": 0.0}
        return (self.left.final or {}).get("step") == at["step"] and self.is_over(at["step"], at["seconds"])

    def is_over(self, step: int, seconds: float) -> bool:
        """Return True if no step begins after so many, which took so long."""
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
        if config.learner.kl_coef and self.left.last is None and not all(base.adapters for base in policies.bases):
            policies.freeze_reference()
        if self.left.last is not None:
            policies.load(self.left.last.path / "policies")
        self.policies, self.learner = policies, Learner(policies, rl_config(config), failures=self.folder / "failures")
        self.engine = stoppable(engine_of(config, policies) if engine is None else engine, self.stop)
        ends = config.sampling.stop_token_ids or stop_tokens(policies.tokenizer, config.chat_template_kwargs, policies)
        self.params = replace(config.sampling, stop_token_ids=ends)
        self.max_prompt_tokens = prompt_limit(config, policies)
        if config.memory is not None and self.embedder is not None:
            self.memory = self._memory(self.embedder, config.memory)
        if self.left.last is not None:
            self._continue(self.left.last)

    def save(self) -> Path:
        """A checkpoint of the present step. Raises: FullDiskError, FolderRemovedError."""
        self.lock.check()

        def write(folder: Path) -> None:
            self.policies.save(folder / "policies")
            save_tensors(self.learner.state_dict(), folder / LEARNER)
            if self.memory is not None:
                self.memory.snapshot(folder / MEMORY[0])

        state: dict[str, Any] = {"cursor": self.cursor, "evaluated": self.evaluated, "seconds": self.seconds}
        state |= {"time": self.metrics.elapsed, "tasks": self._fingerprint, "random": random_state()}
        path = self.checkpoints.save(self.step, state, write)
        self.saved = self.step
        return path

    def close(self) -> None:
        """Close the files and release the folder."""
        with ExitStack() as stack:  # all of it, whichever fails
            stack.callback(self.lock.release)
            if self.memory is not None:
                stack.callback(self.memory.close)
            stack.callback(self.metrics.close)

    def _check_folder(self, resume: bool) -> None:
        path = self.folder / CONFIG
        if not resume and any((self.folder / name).exists() for name in ("checkpoints", "sft", LINES)):
            raise FileExistsError(
                f"output_dir: expected a folder without a run, got {self.folder}; go on with it (--resume, or "
                "train(resume_from_checkpoint=True)), or choose another"
            )
        if resume and not path.is_file():
            raise FileNotFoundError(f"output_dir: expected a folder with a run to go on with, got {self.folder}")

    def _left(self, resume: bool | str | Path) -> Left:
        if not resume:
            return Left()
        left = left_in(self.folder)
        if not isinstance(resume, bool) and (left.last is None or left.last.path.resolve() != Path(resume).resolve()):
            expected = "True" if left.last is None else f"True or the last checkpoint, {left.last.path}"
            raise ValueError(f"resume_from_checkpoint: expected {expected}, got {resume}")
        return left

    def _write_config(self, resume: bool) -> None:
        if resume:
            then = read_config(self.folder)
            if different := self.config.differs(then, CHANGEABLE):
                path = self.folder / CONFIG
                raise ValueError(f"resume: expected the configuration of {path}, got (now and then) {'; '.join(different)}")
            if self.config == then:
                return
        write_config(self.folder, self.config)

    def _metrics(self) -> Metrics:
        """With the lines up to where the run goes on."""
        left, ends = self.left, {"sft": 0, "train": -1, "eval": -1}
        state: dict[str, Any] = {"time": 0.0}
        if left.sft is not None:
            state = left.sft.state
            ends["sft"] = state["step"]
        if left.start is not None:
            state = left.start
            ends["sft"] = state["step"]
        if left.last is not None:
            state = left.last.state
            ends |= {"train": state["step"], "eval": state["evaluated"]}
            if left.start is None:  # damaged; SFT is over
                ends["sft"] = sys.maxsize
        if self.done:
            ends["eval"] = ends["train"]
        return Metrics(self.folder, elapsed=state["time"], keep=lambda kind, step: step <= ends[kind])

    def _memory(self, embedder: Embedder, config: MemoryConfig) -> Memory:
        """A new one; of a run that goes on the one that stands there, which `_continue` sets back to the checkpoint's."""
        path = self.folder / MEMORY[0]
        if self.left.last is not None:
            try:
                return Memory(path, embedder, config=config)
            except ValueError as error:
                warnings.warn(f"{error}; that of {self.left.last.path} takes its place", stacklevel=3)
        for name in MEMORY:  # damaged, or of a run that was killed before its first checkpoint
            (self.folder / name).unlink(missing_ok=True)
        return Memory(path, embedder, config=config)

    def _continue(self, last: Checkpoint) -> None:
        state = last.state
        if state["tasks"] != self._fingerprint:
            raise ValueError(f"resume: expected the queries that {last.path} was made with, got others")
        if self.memory is not None:
            self.memory.restore(last.path / MEMORY[0])
        self.step, self.cursor, self.evaluated = state["step"], state["cursor"], state["evaluated"]
        self.seconds = state["seconds"]
        restore(last, self.learner)

    @cached_property
    def _fingerprint(self) -> str:
        tasks = self.setting.tasks
        names = "\n".join(_named(tasks, number) for number in range(len(tasks)))
        return blake2b(names.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _named(tasks: Sequence[Any], number: int) -> str:
    """Return what tells a task from others: its `id`, or all of a row that has none."""
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
