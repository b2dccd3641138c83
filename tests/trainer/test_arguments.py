"""TRL's GRPOConfig as a TrainConfig: every option of TRL is known here, each value that is read arrives, the others raise."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.arguments import from_trl
from trainer.arguments_options import IDLE, READ, REFUSED
from trainer.config import TrainConfig
from trainer.parts_of import rl_config

pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def grpo(**options: Any) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(**{"use_cpu": True, "max_steps": 10} | options)


def test_every_option_is_known_once() -> None:
    names = {item.name for item in dataclasses.fields(grpo())}
    assert READ.keys() | IDLE | REFUSED.keys() == names
    assert len(READ) + len(IDLE) + len(REFUSED) == len(names)


def test_the_defaults_are_trls(tmp_path: Path) -> None:
    """As TRL 1.16 and transformers 5.23 document them; the same for an object without any option."""
    config = from_trl(grpo(), model="Qwen/Qwen3-0.6B")
    assert isinstance(config, TrainConfig)
    assert (config.output_dir, config.seed, config.queries_per_step, config.max_steps) == ("trainer_output", 42, 1, 10)
    model = config.model
    assert (model.name, model.paradigm, model.dtype) == ("Qwen/Qwen3-0.6B", "full", "bfloat16")
    assert (model.gradient_checkpointing, model.device) == (True, "cpu")
    rl = config.rl
    assert (rl.group_size, rl.top_k, rl.normalize, rl.eps, rl.efficiency, rl.format) == (8, None, "std", 1e-4, 0.0, 0.0)
    learner = config.learner
    assert (learner.learning_rate, learner.schedule, learner.warmup_steps) == (1e-6, "linear", 0)
    assert rl_config(config).total_steps == 10
    assert (learner.weight_decay, learner.betas, learner.eps, learner.max_grad_norm) == (0.0, (0.9, 0.999), 1e-8, 1.0)
    assert (learner.loss_type, learner.clip_low, learner.clip_high, learner.kl_coef) == ("dapo", 0.2, 0.2, 0.0)
    assert (learner.ratio_level, learner.importance, learner.num_iterations) == ("token", None, 1)
    sampling = config.sampling
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (512, 1, 1, 0, 0)
    assert (config.memory, config.sft.epochs, config.chat_template_kwargs) == (None, 0, {})
    assert (config.logging_steps, config.eval_steps, config.save_steps, config.save_total_limit) == (10, None, 500, None)
    bare = from_trl(SimpleNamespace(bf16=True, use_cpu=True, max_steps=10), model="Qwen/Qwen3-0.6B")
    assert bare == config
    config.save(tmp_path / "config.yaml")
    assert TrainConfig.load(tmp_path / "config.yaml") == config


# (TRL's options, where the value arrives, the value there)
FIELDS = [
    ({"output_dir": "runs/x"}, "output_dir", "runs/x"),
    ({"seed": 7}, "seed", 7),
    ({"per_device_train_batch_size": 16}, "queries_per_step", 2),
    ({"gradient_accumulation_steps": 4}, "queries_per_step", 4),
    ({"gradient_accumulation_steps": 4, "generation_batch_size": 32}, "queries_per_step", 4),
    ({"num_generations": 4}, "rl.group_size", 4),
    ({"num_generations": 4}, "queries_per_step", 2),
    ({"bf16": False}, "model.dtype", "float32"),
    ({"gradient_checkpointing": False}, "model.gradient_checkpointing", False),
    ({"activation_checkpointing": False}, "model.gradient_checkpointing", False),
    ({"learning_rate": 3e-5}, "learner.learning_rate", 3e-5),
    ({"weight_decay": 0.1}, "learner.weight_decay", 0.1),
    ({"adam_beta1": 0.8, "adam_beta2": 0.95}, "learner.betas", (0.8, 0.95)),
    ({"adam_epsilon": 1e-6}, "learner.eps", 1e-6),
    ({"optim": "adamw_torch"}, "learner.eps", 1e-8),
    ({"max_grad_norm": 0.3}, "learner.max_grad_norm", 0.3),
    ({"max_grad_norm": 0.0}, "learner.max_grad_norm", math.inf),  # as in transformers: never clipped
    ({"lr_scheduler_type": "cosine"}, "learner.schedule", "cosine"),
    ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 3}, "learner.warmup_steps", 3),
    ({"lr_scheduler_type": "constant", "warmup_steps": 3}, "learner.warmup_steps", 0),  # which transformers ignores
    ({"warmup_steps": 0.25}, "learner.warmup_steps", 3),  # a share, rounded up
    ({"max_completion_length": 64}, "sampling.max_new_tokens", 64),
    ({"temperature": 0.7}, "sampling.temperature", 0.7),
    ({"temperature": 0.7}, "learner.temperature", 0.7),
    ({"top_p": 0.9}, "sampling.top_p", 0.9),
    ({"top_k": 20}, "sampling.top_k", 20),
    ({"min_p": 0.1}, "sampling.min_p", 0.1),
    ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs", {"enable_thinking": False}),
    ({"beta": 0.04}, "learner.kl_coef", 0.04),
    ({"beta": 0.04}, "learner.kl_ratio_correction", True),
    ({"beta": 0.04, "use_bias_correction_kl": False}, "learner.kl_ratio_correction", False),
    ({"use_bias_correction_kl": True}, "learner.kl_ratio_correction", False),  # without beta TRL reads it nowhere
    ({"num_iterations": 2}, "learner.num_iterations", 2),
    ({"num_iterations": 2}, "max_steps", 5),
    ({"num_iterations": 3, "warmup_steps": 4}, "learner.warmup_steps", 2),
    ({"epsilon": 0.1}, "learner.clip_low", 0.1),
    ({"epsilon": 0.1}, "learner.clip_high", 0.1),
    ({"epsilon_high": 0.28}, "learner.clip_high", 0.28),
    ({"epsilon_high": 0.28}, "learner.clip_low", 0.2),
    ({"delta": 1.5}, "learner.delta", 1.5),
    ({"loss_type": "cispo", "epsilon_high": 5.0}, "learner.clip_high", 5.0),
    ({"loss_type": "cispo", "epsilon_high": 5.0}, "learner.clip_low", None),
    ({"loss_type": "dr_grpo", "max_completion_length": 99}, "learner.max_completion_length", 99),
    ({"loss_type": "sapo", "sapo_temperature_neg": 1.2}, "learner.sapo_temperature_neg", 1.2),
    ({"loss_type": "sapo", "epsilon": 0.1}, "learner.clip_low", None),  # sapo clips nothing, in TRL either
    ({"loss_type": "vespo", "vespo_k_pos": 1.0, "vespo_lambda_neg": 4.0}, "learner.vespo_k_pos", 1.0),
    ({"loss_type": "vespo", "vespo_k_pos": 1.0, "vespo_lambda_neg": 4.0}, "learner.vespo_lambda_neg", 4.0),
    ({"loss_type": "luspo", "importance_sampling_level": "sequence"}, "learner.ratio_level", "sequence"),
    ({"router_aux_loss_coef": 0.01}, "learner.router_aux_loss_coef", 0.01),
    ({"router_aux_loss_coef": 0.0}, "learner.router_aux_loss_coef", 0.0),
    ({"router_aux_loss_coef": None}, "learner.router_aux_loss_coef", None),
    ({"entropy_coef": 0.01}, "learner.entropy_coef", 0.01),
    ({"scale_rewards": False}, "rl.normalize", "mean"),
    ({"scale_rewards": "none"}, "rl.normalize", "mean"),
    ({"scale_rewards": True}, "rl.normalize", "std"),
    ({"max_tool_calling_iterations": 5}, "limits.calls", 5),
    ({"logging_steps": 2}, "logging_steps", 2),
    ({"logging_steps": 0.5}, "logging_steps", 5),
    ({"eval_strategy": "steps", "eval_steps": 4}, "eval_steps", 4),
    ({"eval_strategy": "steps", "logging_steps": 3}, "eval_steps", 3),
    ({"save_steps": 3, "num_iterations": 2}, "save_steps", 2),
    ({"save_strategy": "no"}, "save_steps", None),
    ({"save_total_limit": 2}, "save_total_limit", 2),
    ({"report_to": "tensorboard"}, "logging_steps", 10),
    ({"gradient_checkpointing_kwargs": {"use_reentrant": False}}, "model.gradient_checkpointing", True),
    ({"log_completions": True, "dataloader_num_workers": 4, "vllm_gpu_memory_utilization": 0.9}, "seed", 42),
]


@pytest.mark.parametrize(("options", "where", "value"), FIELDS)
def test_what_is_read_arrives(options: dict[str, Any], where: str, value: Any) -> None:
    found: Any = from_trl(grpo(**options))
    for name in where.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_every_option_that_is_read_is_tested() -> None:
    tested = {name for options, _, _ in FIELDS for name in options}
    elsewhere = {"max_steps", "num_train_epochs", "reward_weights", "steps_per_generation", "use_cpu", "adam_beta2"}
    same = {"sapo_temperature_pos", "vespo_k_neg", "vespo_lambda_pos"}  # of a loop over the four
    assert READ.keys() - tested - elsewhere - same == set()


def test_epochs_are_counted_as_trl_counts_them() -> None:
    """Whole batches of a pass, times epochs, each used for num_iterations updates."""
    options = {"max_steps": -1, "num_generations": 4, "gradient_accumulation_steps": 2}  # four prompts a step
    assert from_trl(grpo(**options, num_train_epochs=2), rows=11).max_steps == 4
    assert from_trl(grpo(**options, num_train_epochs=2.25), rows=11).max_steps == 5
    config = from_trl(grpo(**options, num_train_epochs=1, num_iterations=3, save_strategy="epoch"), rows=11)
    assert (config.max_steps, config.save_steps, rl_config(config).total_steps) == (2, 2, 2)
    with pytest.raises(ValueError, match="args: max_steps: expected a number of steps where the number of rows is unknown"):
        from_trl(grpo(**options))
    with pytest.raises(ValueError, match="train_dataset: expected at least the 4 prompts of a step, got 3 rows"):
        from_trl(grpo(**options), rows=3)


OTHER = {
    "activation_checkpointing_kwargs": {"every_n_layers": 2}, "auto_find_batch_size": True, "cache_implementation": "static",
    "cast_lm_head_to_fp32": True, "data_seed": 3, "deepspeed": {"zero": 3}, "disable_dropout": True, "eval_delay": 2.0,
    "fp16": True, "fp16_full_eval": True, "fsdp": "full_shard", "fsdp_config": {"x": 1}, "full_determinism": True,
    "generation_kwargs": {"num_beams": 2}, "gradient_checkpointing_kwargs": {"use_reentrant": True}, "ignore_data_skip": True,
    "label_smoothing_factor": 0.1, "load_best_model_at_end": True, "log_completions_hub_repo": "a/b",
    "logging_first_step": True, "logging_strategy": "epoch", "lr_scheduler_kwargs": {"num_cycles": 2},
    "mask_truncated_completions": True, "model_init_kwargs": {"revision": "x"},
    "multi_objective_aggregation": "normalize_then_sum", "neftune_noise_alpha": 5.0, "num_generations_eval": 2,
    "off_policy_mask_threshold": 0.5, "optim_args": "x=1", "optim_target_modules": "all", "parallelism_config": object(),
    "push_to_hub": True, "remove_unused_columns": True, "repetition_penalty": 1.1, "report_to": ["wandb"],
    "restore_callback_states_from_checkpoint": True, "save_only_model": True,
    "shuffle_dataset": False, "sync_ref_model": True, "top_entropy_quantile": 0.2, "torch_compile": True,
    "torch_empty_cache_steps": 1, "train_sampling_strategy": "group_by_length", "trust_remote_code": True,
    "use_adaptive_entropy": True, "use_liger_kernel": True, "use_transformers_continuous_batching": True,
    "use_transformers_paged": True, "use_vllm": True,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_built_raises(name: str) -> None:
    """By name, with its value and what to do. Set after the config's own checks, which refuse some of them first."""
    args = grpo()
    setattr(args, name, OTHER[name])
    with pytest.raises(NotImplementedError) as raised:
        from_trl(args)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"args: {name}: expected {REFUSED[name].values[0]!r}, got {OTHER[name]!r}: not built; ")
    assert line.endswith(REFUSED[name].instead)


def test_other_things_that_raise() -> None:
    both = grpo(top_entropy_quantile=0.2, repetition_penalty=1.1)
    with pytest.raises(NotImplementedError, match=r"repetition_penalty: .*\nargs: top_entropy_quantile: "):
        from_trl(both)
    for options, message in (
        ({"optim": "sgd"}, "args: optim: expected adamw_torch or adamw_torch_fused, got 'sgd'"),
        ({"lr_scheduler_type": "polynomial"}, "args: lr_scheduler_type: expected linear, cosine, .*, got 'polynomial'"),
        ({"scale_rewards": "batch"}, "args: scale_rewards: expected group or none, got 'batch'"),
        ({"save_strategy": "best"}, "args: save_strategy: expected no, steps or epoch, got 'best'"),
        ({"steps_per_generation": 4}, "args: generation_batch_size: expected that of an update, .* = 8, got 32"),
        ({"generation_batch_size": 32}, "args: generation_batch_size: expected that of an update, .* = 8, got 32"),
    ):
        with pytest.raises(NotImplementedError, match=message):
            from_trl(grpo(**options))
    with pytest.raises(ValueError, match="args: max_completion_length: expected a number of tokens, got None"):
        from_trl(grpo(max_completion_length=None))
    with pytest.raises(ValueError, match="args: num_generations: expected a divisor of the 8 completions of a batch, got 3"):
        from_trl(SimpleNamespace(num_generations=3, max_steps=1))
    with pytest.raises(NotImplementedError, match="args: world_size: expected 1, got 4: not built; training runs in one"):
        from_trl(SimpleNamespace(world_size=4, max_steps=1))
    with pytest.raises(ValueError, match="loss_type"):
        from_trl(grpo(loss_type="ppo"))


def test_an_option_of_another_version_raises_unless_it_is_at_its_default() -> None:
    from trl import GRPOConfig

    @dataclasses.dataclass
    class Newer(GRPOConfig):
        novelty: float = 0.0

    assert from_trl(Newer(use_cpu=True, max_steps=1)).max_steps == 1
    with pytest.raises(NotImplementedError, match=r"args: novelty: expected 0\.0, got 0\.5: not known; leave it as it is"):
        from_trl(Newer(use_cpu=True, max_steps=1, novelty=0.5))
