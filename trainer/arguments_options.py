"""The options of TRL 1.16's GRPOConfig: which have a counterpart here, which change nothing, which are refused;
and those arguments of its trainer that ours has not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


def _words(*texts: str) -> frozenset[str]:
    return frozenset(name for text in texts for name in text.split())


_KINDS: dict[Any, str] = {
    int: """
    gradient_accumulation_steps max_steps num_generations num_iterations per_device_train_batch_size seed
    """,
    int | None: """
    generation_batch_size max_completion_length max_tool_calling_iterations save_total_limit steps_per_generation top_k
    """,
    float: """
    adam_beta1 adam_beta2 adam_epsilon beta entropy_coef epsilon learning_rate logging_steps num_train_epochs
    sapo_temperature_neg sapo_temperature_pos save_steps temperature top_p vespo_k_neg vespo_k_pos vespo_lambda_neg
    vespo_lambda_pos warmup_steps weight_decay
    """,
    float | None: "delta epsilon_high eval_steps max_grad_norm min_p router_aux_loss_coef",
    bool: "gradient_checkpointing use_bias_correction_kl use_cpu",
    bool | None: "activation_checkpointing bf16",
    str: "eval_strategy importance_sampling_level loss_type lr_scheduler_type optim save_strategy",
    str | bool: "scale_rewards",
    str | Path | None: "output_dir",
    list[float] | None: "reward_weights",
    Mapping[str, Any] | None: "chat_template_kwargs",
}
READ: dict[str, Any] = {name: kind for kind, names in _KINDS.items() for name in names.split()}  # {option: its type}
IDLE = _words(
    # how TRL loads, pads and moves batches, on one device or several
    """
    accelerator_config average_tokens_across_devices dataloader_drop_last dataloader_in_order
    dataloader_multiprocessing_context dataloader_num_workers dataloader_persistent_workers dataloader_pin_memory
    dataloader_prefetch_factor ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters
    ddp_static_graph ddp_timeout ds3_gather_for_generation eval_accumulation_steps eval_do_concat_batches
    eval_use_gather_object length_column_name local_rank pad_to_multiple_of per_device_eval_batch_size save_on_each_node
    tf32 use_cache bf16_full_eval batch_eval_metrics include_for_metrics label_names prediction_loss_only
    """,
    # what it prints and where; a run here always writes samples.jsonl, metrics.jsonl and TensorBoard's files
    """
    debug disable_tqdm include_num_input_tokens_seen log_completions log_level log_level_replica log_multimodal
    log_on_each_node log_unique_prompts logging_nan_inf_filter num_completions_to_print project run_name
    skip_memory_metrics trackio_bucket_id trackio_space_id trackio_static_space_id
    """,
    # what only scripts read, or what a signal makes every run here do
    """
    do_eval do_predict do_train enable_jit_checkpoint eval_on_start resume_from_checkpoint
    """,
    # parts of something that is off, or refused, by another option
    """
    entropy_coef_delta entropy_coef_max entropy_coef_min entropy_target greater_is_better hub_always_push hub_model_id
    hub_private_repo hub_revision hub_strategy hub_token liger_kernel_config metric_for_best_model ref_model_mixup_alpha
    ref_model_sync_steps torch_compile_backend torch_compile_mode transformers_continuous_batching_config
    vllm_enable_sleep_mode vllm_gpu_memory_utilization vllm_group_port vllm_importance_sampling_cap
    vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min vllm_importance_sampling_correction
    vllm_importance_sampling_mode vllm_max_model_length vllm_mode vllm_model_impl vllm_server_base_url vllm_server_host
    vllm_server_port vllm_server_timeout vllm_structured_outputs_regex vllm_tensor_parallel_size
    """,
)


class Off(NamedTuple):
    """The values of an option that ask for nothing, and what to do instead of another."""

    values: tuple[Any, ...]
    instead: str


_LOAD = "load the model yourself and pass it as `model`"
ONE = "training runs in one process, on one GPU"
_LOCAL = "completions come from the engine on the trainer's own weights"
REFUSED = {
    "activation_checkpointing_kwargs": Off((None, {}, {"use_reentrant": False}), "layers are recomputed without reentrance"),
    "auto_find_batch_size": Off((False,), "TrainConfig.learner.token_budget bounds what a forward takes"),
    "cache_implementation": Off((None,), _LOCAL),
    "cast_lm_head_to_fp32": Off((False,), "the fused head sums in fp32 already; bf16=False computes all in fp32"),
    "data_seed": Off((None,), "`seed` is that of the data too"),
    "deepspeed": Off((None,), ONE),
    "disable_dropout": Off((False,), "load a model whose dropout is 0, and pass it as `model`"),
    "eval_delay": Off((0,), "evaluations begin before the first step"),
    "fp16": Off((False,), "take bf16=True, or neither for fp32"),
    "fp16_full_eval": Off((False,), "evaluation runs in the type that training does"),
    "fsdp": Off((None, "", [], False), ONE),
    "fsdp_config": Off((None, {}), ONE),
    "full_determinism": Off((False,), "on the CPU a run repeats bit for bit anyway; set torch's switch yourself on a GPU"),
    "generation_kwargs": Off((None, {}), "temperature, top_p, top_k and min_p are what sampling takes"),
    "gradient_checkpointing_kwargs": Off((None, {}, {"use_reentrant": False}), "layers are recomputed without reentrance"),
    "ignore_data_skip": Off((False,), "a resumed run goes on where its data stood"),
    "label_smoothing_factor": Off((0.0,), "a policy loss has no labels to smooth"),
    "load_best_model_at_end": Off((False,), "evaluate the checkpoints, and choose"),
    "log_completions_hub_repo": Off((None,), "samples.jsonl has completions; upload it yourself"),
    "logging_first_step": Off((False,), "logging_steps=1 logs every step"),
    "logging_strategy": Off(("steps",), "logging_steps says how often"),
    "lr_scheduler_kwargs": Off((None, {}), "linear, cosine and constant have nothing to set"),
    "mask_truncated_completions": Off((False,), "raise max_completion_length, or return None for cut completions as a reward"),
    "model_init_kwargs": Off((None, {}), _LOAD),
    "multi_objective_aggregation": Off(("sum_then_normalize",), "rewards are summed, then normalised"),
    "neftune_noise_alpha": Off((None,), "embeddings get no noise"),
    "num_generations_eval": Off((None,), "evaluation answers each prompt once, by eval_temperature"),
    "off_policy_mask_threshold": Off((None,), "take delta, or num_iterations=1, where every batch is on policy"),
    "optim_args": Off((None, ""), "AdamW takes adam_beta1, adam_beta2, adam_epsilon and weight_decay"),
    "optim_target_modules": Off((None,), "a peft_config chooses layers"),
    "parallelism_config": Off((None,), ONE),
    "push_to_hub": Off((False,), "upload {output_dir}/final yourself"),
    "remove_unused_columns": Off((False, None), "reward functions get every column; take away what they should not see"),
    "repetition_penalty": Off((1.0,), "it would sample from another distribution than the one that is trained"),
    "report_to": Off((None, "none", "tensorboard", [], ["none"], ["tensorboard"]), "metrics.jsonl has all there is to send"),
    "restore_callback_states_from_checkpoint": Off((False,), "callbacks keep what they need themselves"),
    "save_only_model": Off((False,), "checkpoints are whole, so that a run can go on; final/policies has the model alone"),
    "shuffle_dataset": Off((True, None), "queries are shuffled anew in each pass, by `seed`"),
    "sync_ref_model": Off((False,), "the reference is the model at the start"),
    "top_entropy_quantile": Off((1.0,), "all tokens learn"),
    "torch_compile": Off((False,), "the kernels are fused already"),
    "torch_empty_cache_steps": Off((None,), "the cache is torch's own affair"),
    "train_sampling_strategy": Off(("random",), "queries are shuffled anew in each pass, by `seed`"),
    "trust_remote_code": Off((False,), _LOAD),
    "use_adaptive_entropy": Off((False,), "entropy_coef is a constant"),
    "use_liger_kernel": Off((False,), "the loss and the head are fused already"),
    "use_transformers_continuous_batching": Off((False,), _LOCAL),
    "use_transformers_paged": Off((False,), _LOCAL),
    "use_vllm": Off((False,), _LOCAL),
}
# Of GRPOTrainer itself, besides those that VRGRPOTrainer has.
ARGUMENTS = {
    "reward_processing_classes": Off((None, []), "call a reward model in a function of your own"),
    "optimizers": Off(((None, None), None), "args choose AdamW and its schedule"),
    "quantization_config": Off((None,), _LOAD),
    "tools": Off((None, []), "pass an environment_factory whose methods are the tools"),
    "rollout_func": Off((None,), "pass an environment_factory"),
}
