"""`VRGRPOTrainer`: a run from its configuration to its policies. The command line calls it, and it replaces TRL's GRPOTrainer.

VRGRPOTrainer(args=TrainConfig.load("configs/tiny.yaml")).train()                     # five agents on HiMA-Ecom
VRGRPOTrainer("Qwen/Qwen3-0.6B", config, agents=agents, env_factory=Shop, train_dataset=tasks).train()
VRGRPOTrainer("Qwen/Qwen3-0.6B", GRPOConfig(...), reward_funcs=exact, train_dataset=rows).train()    # one agent, as in TRL
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel
from transformers import PreTrainedModel, TrainerState

from trainer.agents import Agent
from trainer.arguments_kinds import check_arguments
from trainer.arguments_model import configuration, network_and_tokenizer
from trainer.averages import mean
from trainer.balance import coefficient_of
from trainer.checkpoint import FullDiskError, is_full
from trainer.config import TrainConfig
from trainer.evaluate import Report
from trainer.kinds import check_kind
from trainer.lock import lock_of_run
from trainer.models import Policies
from trainer.network_checks import check_network
from trainer.pretrain import pretrain
from trainer.run import Log, Run
from trainer.setting import Setting
from trainer.settings_of import setting_of
from trainer.stopping import Stop, Stopped
from trainer.train import train


class TrainOutput(NamedTuple):
    """What `train` came to. training_loss: the mean over the steps of RL that this call logged; NaN for none. stopped: the name
    of the signal that ended it before its time; None: it is at its end."""

    global_step: int
    training_loss: float
    metrics: Mapping[str, float]  # of the last step that was logged
    stopped: str | None


class VRGRPOTrainer:
    """Trains policies by SFT, where there are experts' samples, and VR-GRPO; `output_dir` then holds all that came of it.

    What is played: the benchmark's tasks by the five agents; with `env_factory` and `train_dataset`, these tasks by `agents`
    (one agent with the environment's tools, if none are given); with `train_dataset` alone, rows with a `prompt`, as in TRL:
    one agent, one answer each, scored by `reward_funcs`.

    Args:
        model: a name, a folder, or a network of transformers; None: that of `args`. A network is changed: its parameters become
            of the type that the run computes in (with TRL's arguments bf16, unless bf16=False; a warning says so), while
            `save_model` writes what was trained in fp32. Parameters that do not require gradients are not trained.
        args: a TrainConfig, or a GRPOConfig of TRL 1.16 (`trainer.arguments` says what becomes of its options); None: the
            defaults of TRL for a data set of prompts (bf16, in {model}-GRPO), else those of TrainConfig.
        reward_funcs: TRL's reward functions, see `trainer.reward_funcs`; None: the reward is the environment's. As in TRL, it
            may also stand second and `args` third.
        train_dataset, eval_dataset: rows or tasks, for `env.reset`.
        processing_class: the tokenizer; None: that of the model.
        callbacks: functions (kind, step, scalars), told of every line of metrics.
        peft_config: a LoraConfig: each agent learns an adapter of that shape.
        agents: {name: Agent}; the first is the one that gets the task.
        env_factory (TRL: environment_factory): makes an environment, ours or one that `trainer.foreign.as_environment` knows.
        on_report: told of every evaluation.
        others: what TRL's trainer takes besides; only with values that ask for nothing.

    Attributes:
        model: the network that was passed, and after `train` the one that was trained, with its adapters; None where there are
            several.
        state: transformers' TrainerState: global_step, max_steps, log_history.

    Raises: ValueError, TypeError, NotImplementedError: what can't be, by the argument's name.
    """

    def __init__(
        self,
        model: str | PreTrainedModel | None = None,
        args: Any = None,
        reward_funcs: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        callbacks: Sequence[Log] | None = None,
        peft_config: Any = None,
        agents: Mapping[str, Agent] | None = None,
        env_factory: Callable[[], Any] | None = None,
        environment_factory: Callable[[], Any] | None = None,
        on_report: Callable[[Report], None] | None = None,
        **others: Any,
    ) -> None:
        if isinstance(args, Sequence) or (callable(args) and not isinstance(args, type)):  # TRL's order
            args, reward_funcs = reward_funcs, args
        given = {
            "model": model,
            "args": args,
            "reward_funcs": reward_funcs,
            "train_dataset": train_dataset,
            "eval_dataset": eval_dataset,
            "processing_class": processing_class,
            "callbacks": callbacks,
            "peft_config": peft_config,
            "agents": agents,
            "env_factory": env_factory,
            "environment_factory": environment_factory,
            "on_report": on_report,
        }
        check_arguments(given, others)
        factory = env_factory or environment_factory
        prompts = factory is None and train_dataset is not None
        self.args: TrainConfig = configuration(args, model, peft_config, train_dataset, prompts=prompts)
        self.setting: Setting
        self.setting, template = setting_of(
            self.args,
            agents,
            factory,
            reward_funcs,
            getattr(args, "reward_weights", None),
            train_dataset,
            eval_dataset,
            getattr(getattr(model, "config", None), "model_type", self.args.model.name),
        )
        self.model: PreTrainedModel | PeftModel | None
        self._network, self.processing_class = network_and_tokenizer(self.args, model, processing_class, template)
        if self._network is not None:
            check_network(self._network, adapters=self.args.model.adapters)
            coefficient_of(self._network, self.args.learner.router_aux_loss_coef)
        self.model = self._network
        self.callbacks, self.on_report = list(callbacks or ()), on_report
        self.state = TrainerState(max_steps=self.args.max_steps or 0)
        self.policies: Policies | None = None

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainOutput:
        """SFT and RL, to their ends or until SIGINT or SIGTERM; then there is a checkpoint that a later call goes on from.

        Args: resume_from_checkpoint: True, or the folder of the last checkpoint: go on in `output_dir`. On a CPU the run then
            ends in the same bits as one that was never cut off.

        Raises: FolderInUseError, FileExistsError, FileNotFoundError, ValueError: as `Run`; FullDiskError, the last checkpoint
            stays; FolderRemovedError.
        """
        check_kind("resume_from_checkpoint", resume_from_checkpoint, bool | str | Path | None)
        metrics: dict[str, float] = {}
        losses: list[float] = []
        finished = False

        def log(kind: str, step: int, scalars: Mapping[str, float]) -> None:
            self.state.log_history.append({**scalars, "step": step})
            if kind == "train":
                metrics.clear()
                metrics.update(scalars)
                losses.append(scalars["learner/loss"])
                self.state.global_step = step
            for callback in self.callbacks:
                callback(kind, step, scalars)

        with Stop() as stop:
            run = Run(
                self.args, self.setting, stop, resume=resume_from_checkpoint or False, on_log=log, on_report=self.on_report
            )
            try:
                self.policies = pretrain(run, model=self._network, tokenizer=self.processing_class)
                run.begin(self.policies)
                finished = run.done or train(run)
            except Stopped:
                pass  # in SFT, which has saved itself
            except Exception as error:
                run.lock.check()  # whatever failed in a folder that is gone, failed for that
                if is_full(error) and not isinstance(error, FullDiskError):
                    raise FullDiskError(errno.ENOSPC, f"no space left for the run in {run.folder}: {error}") from error
                raise
            finally:
                run.close()
        self.state.global_step = run.step
        if self.policies is not None:
            self.model = self.policies.bases[0].model if len(self.policies.bases) == 1 else None
        return TrainOutput(run.step, mean(losses), metrics, None if finished or stop.signal is None else stop.signal.name)

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """The policies as they are. One agent's as transformers or PEFT load it, with its tokenizer; several as `Policies.open`
        reads them.

        Args: output_dir: None: that of `args`.

        Raises: RuntimeError before `train`; FolderInUseError for the folder of a run that goes on.
        """
        check_kind("output_dir", output_dir, str | Path | None)
        if self.policies is None:
            raise RuntimeError("save_model: expected a call of train() before it, got none")
        folder = Path(self.args.output_dir if output_dir is None else output_dir)
        with lock_of_run(folder):
            if len(self.policies.agents) > 1:
                self.policies.save(folder)
                return
            (policy,) = self.policies.names
            self.policies.base_of(policy).save(policy, folder)
            self.policies.tokenizer.save_pretrained(folder)
