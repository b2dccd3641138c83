"""TRL's arguments as ours: `GRPOConfig` of TRL 1.16 -> `TrainConfig`, option by option, without importing TRL.

    config = from_trl(GRPOConfig(output_dir="runs/1", num_generations=8, beta=0.04), rows=len(train_dataset))

An option either has a counterpart here (READ), or concerns machinery that this trainer has none of (IDLE: its value changes
nothing of what is learnt), or asks for something that is not built (REFUSED): it raises unless it is off.

What then still differs from TRL: a group without variance is left out of the batch, also from the denominators of the loss
and from the KL term; the first step of a warm-up has the rate learning_rate / warmup_steps instead of 0; a step is what one
batch of completions is used for, so that with num_iterations > 1 it counts once where TRL counts each of its updates; a line of
metrics is of its own step, not a mean since the last; an eval_dataset is answered greedily, once a prompt, also before the
first step and after the last; a folder that holds a run is not written over; only the last checkpoint is gone on from.
docs/peers.md says where the losses differ under gradient accumulation, and what else is different on purpose.
"""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Literal

from himakernels.ops.vrgrpo_loss.options import PPO_LOSS_TYPES
from trainer.arguments_options import IDLE, ONE, READ, REFUSED
from trainer.config import SFTConfig, TrainConfig
from trainer.engine.base import SamplingParams
from trainer.episode import Limits
from trainer.kinds import check_kind
from trainer.models import ModelConfig
from trainer.step import LearnerConfig
from trainer.vrgrpo import Normalize, VRGRPOConfig

_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
_SCHEDULES: dict[str, Literal["constant", "linear", "cosine"]] = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
}
_SCALES: dict[Any, Normalize] = {"group": "std", True: "std", "none": "mean", False: "mean"}


def from_trl(args: Any, *, rows: int | None = None, model: str = "") -> TrainConfig:
    """The configuration of a run that does what TRL's GRPOTrainer does with `args`, for one agent that answers in one turn.

    All groups with variance learn (top_k=None), rewards are the functions' alone (no R_F, no R_E), nothing is remembered, no
    SFT runs, and the model is trained as a whole: a `peft_config` is the trainer's argument. `reward_weights` are for
    `RewardFuncs`.

    Args:
        args: a GRPOConfig, or anything with its attributes; what it lacks is as in TRL 1.16.
        rows: of the data set, for epochs; None where `max_steps` counts.
        model: its name, where it has one.

    Raises: NotImplementedError for options that are not built, each with its value and what to do instead; TypeError for a
        value of another type than TRL's; ValueError for a combination that means nothing here, or what a check refuses.
    """
    wrong = list(_refused(args))
    if wrong:
        raise NotImplementedError("args: " + "\nargs: ".join(wrong))
    get = _Reader(args)
    for name, kind in READ.items():
        if hasattr(args, name):
            check_kind(f"args: {name}", get(name, None), kind)
    group, updates = get("num_generations", 8), get("num_iterations", 1)
    queries = _queries(get, group)
    steps = _steps(get, rows, queries, updates)
    loss, recompute = get("loss_type", "dapo"), get("activation_checkpointing", None)
    return TrainConfig(
        output_dir=str(get("output_dir", None) or "trainer_output"),
        seed=get("seed", 42),
        model=ModelConfig(
            name=model,
            paradigm="full",
            dtype="bfloat16" if get("bf16", None) in (True, None) else "float32",
            gradient_checkpointing=get("gradient_checkpointing", True) if recompute is None else recompute,
            device="cpu" if get("use_cpu", False) else None,
        ),
        sft=SFTConfig(epochs=0),
        rl=VRGRPOConfig(
            group_size=group,
            top_k=None,
            normalize=get.choice("scale_rewards", "group", _SCALES, "group or none"),
            eps=1e-4,
            efficiency=0.0,
            format=0.0,
        ),
        learner=LearnerConfig(**_optimizer(get, steps, updates), **_loss(get, loss)),
        sampling=SamplingParams(
            max_new_tokens=_length(get),
            temperature=get("temperature", 1.0),
            top_k=get("top_k", 0) or 0,
            top_p=get("top_p", 1.0),
            min_p=get("min_p", None) or 0.0,
        ),
        limits=_limits(get),
        memory=None,
        queries_per_step=queries,
        max_steps=steps,
        chat_template_kwargs=get("chat_template_kwargs", None) or {},
        logging_steps=_every("logging_steps", get("logging_steps", 10), steps, updates),
        eval_steps=_when(get, "eval", "no", rows, queries, steps, updates),
        save_steps=_when(get, "save", "steps", rows, queries, steps, updates),
        save_total_limit=get("save_total_limit", None),
    )


class _Reader:
    """Options by name; enumerations as their values."""

    def __init__(self, args: Any) -> None:
        self.args = args

    def __call__(self, name: str, default: Any) -> Any:
        value = getattr(self.args, name, default)
        return getattr(value, "value", value)

    def choice(self, name: str, default: Any, known: dict[Any, Any], expected: str) -> Any:
        value = self(name, default)
        if value not in known:
            raise NotImplementedError(f"args: {name}: expected {expected}, got {value!r}")
        return known[value]


def _refused(args: Any) -> Iterator[str]:
    """What of `args` asks for something that is not built."""
    get = _Reader(args)
    for name, (values, instead) in REFUSED.items():
        value = get(name, values[0])
        if not any(value == off and isinstance(value, bool) == isinstance(off, bool) for off in values):
            yield f"{name}: expected {values[0]!r}, got {value!r}: not built; {instead}"
    if get("world_size", 1) > 1:
        yield f"world_size: expected 1, got {args.world_size}: not built; {ONE}"
    if is_dataclass(args):
        for item in fields(args):
            if item.name not in READ.keys() | IDLE | REFUSED.keys() and get(item.name, item.default) != item.default:
                yield f"{item.name}: expected {item.default!r}, got {get(item.name, None)!r}: not known; leave it as it is"


def _queries(get: _Reader, group: int) -> int:
    """Prompts of a step: one update (num_iterations of them) uses all completions of a batch at once."""
    accumulated = get("gradient_accumulation_steps", 1)
    update = get("per_device_train_batch_size", 8) * accumulated
    batch = get("generation_batch_size", None) or get("per_device_train_batch_size", 8) * (
        get("steps_per_generation", None) or accumulated
    )
    if batch != update:
        raise NotImplementedError(
            f"args: generation_batch_size: expected that of an update, per_device_train_batch_size * "
            f"gradient_accumulation_steps = {update}, got {batch}: a batch of completions is used by one update; leave "
            "generation_batch_size and steps_per_generation as they are, and set gradient_accumulation_steps"
        )
    if batch % group:
        raise ValueError(f"args: num_generations: expected a divisor of the {batch} completions of a batch, got {group}")
    queries: int = batch // group
    return queries


def _steps(get: _Reader, rows: int | None, queries: int, updates: int) -> int:
    limit: int = get("max_steps", -1)
    if limit > 0:
        return math.ceil(limit / updates)
    epochs: float = get("num_train_epochs", 3.0)
    return math.ceil(epochs * _epoch("max_steps", rows, queries))


def _epoch(name: str, rows: int | None, queries: int) -> int:
    """Steps of a pass over the data; an incomplete last batch is left out, as in TRL."""
    if rows is None:
        raise ValueError(f"args: {name}: expected a number of steps where the number of rows is unknown, got epochs")
    if rows < queries:
        raise ValueError(f"train_dataset: expected at least the {queries} prompts of a step, got {rows} rows")
    return rows // queries


def _every(name: str, value: float, steps: int, updates: int) -> int:
    """A number of updates, or a share of them below 1, as a number of steps."""
    if not value > 0 or (value > 1 and value % 1):
        raise ValueError(f"args: {name}: expected a whole number of updates, or a share of them below 1, got {value}")
    return max(1, math.ceil(value * steps if value < 1 else value / updates))


def _when(
    get: _Reader, what: Literal["eval", "save"], default: str, rows: int | None, queries: int, steps: int, updates: int
) -> int | None:
    """Steps between evaluations, or checkpoints; None: none in between."""
    strategy = get(f"{what}_strategy", default)
    if strategy == "no":
        return None
    if strategy == "epoch":
        return _epoch(f"{what}_strategy", rows, queries)
    if strategy != "steps":
        raise NotImplementedError(f"args: {what}_strategy: expected no, steps or epoch, got {strategy!r}")
    given = get("save_steps", 500) if what == "save" else get("eval_steps", None) or get("logging_steps", 10)
    return _every(f"{what}_steps", given, steps, updates)


def _optimizer(get: _Reader, steps: int, updates: int) -> dict[str, Any]:
    optimizer = get("optim", _OPTIMIZERS[-1])
    if optimizer not in _OPTIMIZERS:
        raise NotImplementedError(f"args: optim: expected {' or '.join(_OPTIMIZERS)}, got {optimizer!r}")
    name = get("lr_scheduler_type", "linear")
    schedule = get.choice("lr_scheduler_type", "linear", _SCHEDULES, ", ".join(_SCHEDULES))
    warmup = get("warmup_steps", 0)
    if not warmup >= 0 or (warmup > 1 and warmup % 1):
        raise ValueError(f"args: warmup_steps: expected a whole number of updates, or a share of them below 1, got {warmup}")
    warmup = math.ceil(steps * warmup if warmup < 1 else warmup / updates)
    return {
        "learning_rate": get("learning_rate", 1e-6),
        "weight_decay": get("weight_decay", 0.0),
        "betas": (get("adam_beta1", 0.9), get("adam_beta2", 0.999)),
        "eps": get("adam_epsilon", 1e-8),
        "max_grad_norm": get("max_grad_norm", 1.0) or math.inf,
        "schedule": schedule,
        "warmup_steps": 0 if name == "constant" else warmup,
    }


def _loss(get: _Reader, loss: str) -> dict[str, Any]:
    """The options that TRL reads for this loss type, and no others."""
    high = get("epsilon_high", None)
    high = get("epsilon", 0.2) if high is None else high
    found: dict[str, Any] = {
        "loss_type": loss,
        "ratio_level": get("importance_sampling_level", "token"),
        "temperature": get("temperature", 1.0),
        "num_iterations": get("num_iterations", 1),
        "kl_coef": get("beta", 0.0),
        "entropy_coef": get("entropy_coef", 0.0),
        "router_aux_loss_coef": get("router_aux_loss_coef", None),
    }
    if found["kl_coef"]:
        found |= {"kl_estimator": "k3", "kl_ratio_correction": get("use_bias_correction_kl", True)}
    if loss in PPO_LOSS_TYPES:
        found |= {"clip_low": get("epsilon", 0.2), "clip_high": high, "delta": get("delta", None)}
    if loss == "cispo":
        found["clip_high"] = high
    if loss == "dr_grpo":
        found["max_completion_length"] = _length(get)
    if loss == "sapo":
        found |= {f"sapo_temperature_{s}": get(f"sapo_temperature_{s}", v) for s, v in (("pos", 1.0), ("neg", 1.05))}
    if loss == "vespo":
        defaults = {"k_pos": 2.0, "lambda_pos": 3.0, "k_neg": 3.0, "lambda_neg": 2.0}
        found |= {f"vespo_{name}": get(f"vespo_{name}", value) for name, value in defaults.items()}
    return found


def _length(get: _Reader) -> int:
    length: int | None = get("max_completion_length", 512)
    if length is None:
        raise ValueError("args: max_completion_length: expected a number of tokens, got None")
    return length


def _limits(get: _Reader) -> Limits:
    calls = get("max_tool_calling_iterations", None)
    return Limits() if calls is None else Limits(calls=calls)
