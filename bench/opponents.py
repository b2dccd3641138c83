"""The peers as functions of one packed batch: (batch, options) -> loss [], in the graph of the batch's leaves.

Semantics are the peers' own: TRL's `_compute_loss` runs as it is on a stand-in for its trainer, Liger's losses are called.
What is written here is the way from packed rows to their padded batches, and from our option names to theirs.
Where a peer has only a log-probability (torch, cut-cross-entropy), `loss_around` is the loss around it.
Peers are imported inside the functions, so this module imports without them.
"""

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from bench.batches import PackedBatch, Padding
from himakernels import vrgrpo_loss, vrgrpo_loss_from_logits
from himakernels.ops.token_logprobs.reference import token_logprobs_reference
from himakernels.ops.vrgrpo_loss.options import PolicyOptions
from himakernels.ops.vrgrpo_loss.reference import vrgrpo_loss_reference

Loss = Callable[..., torch.Tensor]


def loss_and_grads(
    loss: Loss, batch: PackedBatch, options: PolicyOptions, **more: Any
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss, and its gradients for hidden and weight, or for logits."""
    value = loss(batch, options, **more)
    return value.detach(), list(torch.autograd.grad(value, batch.leaves))


# ---- ours


def _inputs(batch: PackedBatch, options: PolicyOptions) -> dict[str, Any]:
    return {
        "sample_id": batch.sample_id,
        "advantages": batch.advantages,
        "advantage_level": batch.advantage_level,
        "old_logprobs": batch.old_logprobs,
        "ref_logprobs": batch.ref_logprobs if options.kl_coef else None,
        "rollout_logprobs": batch.rollout_logprobs if options.importance else None,
    }


def our_loss(batch: PackedBatch, options: PolicyOptions, *, temperature: float = 1.0, **more: Any) -> torch.Tensor:
    """`vrgrpo_loss`, or `vrgrpo_loss_from_logits` for a batch of logits. `more` are further arguments of ours."""
    kwargs = {**options.arguments(), **_inputs(batch, options), "temperature": temperature, **more}
    if batch.logits is not None:
        return vrgrpo_loss_from_logits(batch.logits, batch.labels, **kwargs).loss
    return vrgrpo_loss(batch.hidden, batch.weight, batch.labels, **kwargs).loss


def reference_loss(batch: PackedBatch, options: PolicyOptions, *, temperature: float = 1.0) -> torch.Tensor:
    """The specification, in the batch's dtype: whole logits, log-softmax, the loss sample by sample."""
    logits = batch.hidden @ batch.weight.T if batch.logits is None else batch.logits
    logprobs, entropy = token_logprobs_reference(logits, batch.labels, temperature=temperature)
    kwargs = _inputs(batch, options)
    return vrgrpo_loss_reference(logprobs, entropy, options=options, counted=batch.labels != -100, **kwargs)


def loss_around(logprobs: torch.Tensor, batch: PackedBatch, options: PolicyOptions) -> torch.Tensor:
    """grpo with token ratios in a few lines of packed torch, around log-probabilities [R] from elsewhere."""
    plain = PolicyOptions(clip_low=options.clip_low, clip_high=options.clip_high, kl_coef=options.kl_coef)
    if options != plain:
        raise NotImplementedError(f"loss_around: expected grpo with clip_low, clip_high and kl_coef only, got {options}")
    counted = batch.labels != -100
    lengths = torch.bincount(batch.sample_id, weights=counted.to(logprobs.dtype), minlength=len(batch.agent_id))
    share = counted / (lengths.clamp(min=1)[batch.sample_id] * len(batch.agent_id))
    advantages = batch.advantages[batch.sample_id]
    ratio = (logprobs - (logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs)).exp()
    loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - options.clip_low, 1 + options.clip_high) * advantages)
    if options.kl_coef:
        assert batch.ref_logprobs is not None
        log_ratio = batch.ref_logprobs - logprobs
        loss = loss + options.kl_coef * (log_ratio.exp() - log_ratio - 1)
    return (loss * share).sum()


def _policy_settings(options: PolicyOptions) -> dict[str, Any]:
    """The arguments that Liger's two losses and TRL's configuration have in common."""
    names = ("sapo_temperature_pos", "sapo_temperature_neg", "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg")
    return {
        "delta": options.delta,
        "use_bias_correction_kl": options.kl_ratio_correction,
        **{name: getattr(options, name) for name in (*names, "vespo_lambda_neg")},
    }


# ---- TRL 1.16


def importance_ratio(padding: Padding, batch: PackedBatch, options: PolicyOptions) -> torch.Tensor | None:
    """pi_old / pi_rollout as TRL prepares it before its loss: [B, L] for token modes, [B, 1] for sequence modes.

    A log-probability that the engine did not return (NaN) counts as no difference, so its ratio is 1.
    """
    if options.importance is None:
        return None
    assert batch.old_logprobs is not None
    assert batch.rollout_logprobs is not None
    difference = padding.pad(batch.old_logprobs - batch.rollout_logprobs).nan_to_num(nan=0.0)
    if options.importance.startswith("sequence"):
        difference = difference.sum(1, keepdim=True)
    ratio = difference.exp()
    low, high = options.importance_min, options.importance_max
    if options.importance.endswith("truncate"):
        return ratio.clamp(low, high)
    return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)


def _trl_trainer(options: PolicyOptions, logprobs: torch.Tensor, entropy: torch.Tensor, parts: int) -> SimpleNamespace:
    """A stand-in for what TRL's `_compute_loss` reads of its trainer: one process, `parts` steps of accumulation, no model."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, entropy, None),
        get_gamma_weights=GRPOTrainer.get_gamma_weights,
        accelerator=SimpleNamespace(
            num_processes=1,
            sync_gradients=True,
            gather=lambda x: x,
            gather_for_metrics=lambda x: x,
            reduce=lambda x, reduction: x,
        ),
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(steps_per_generation=parts, **_policy_settings(options)),
        loss_type=options.loss_type,
        importance_sampling_level=options.ratio_level,
        epsilon_low=options.clip_low,
        epsilon_high=options.clip_high,
        beta=options.kl_coef,
        entropy_coef=options.entropy_coef,
        max_completion_length=options.max_completion_length,
        use_vllm=options.importance is not None,
        vllm_importance_sampling_correction=options.importance is not None,
        current_gradient_accumulation_steps=parts,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_adaptive_entropy=False,
        _entropy_bonus_enabled=options.entropy_coef != 0,
        _metrics={"train": defaultdict(list)},
    )


def trl_loss(
    batch: PackedBatch, options: PolicyOptions, *, temperature: float = 1.0, chunked: bool = False, of: tuple[int, int] = (1, 0)
) -> torch.Tensor:
    """TRL's loss. Its log-probabilities come from its own `selective_log_softmax_and_entropy` on whole logits, or, with
    `chunked`, from its fused head `ChunkedLogProbFunction`, called as TRL calls it but on packed rows (on CPU TRL itself
    would score the padding too). of: (micro-batches of the update, its tokens), where this batch is one of several.
    """
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer import utils
    from trl.trainer.grpo_trainer import GRPOTrainer

    if options.kl_estimator != "k3":
        raise NotImplementedError(f"kl_estimator: TRL has 'k3' only, got {options.kl_estimator!r}")
    labels = batch.labels.clamp(min=0)
    if chunked:
        outputs = ("log_probs", "entropy")
        chunk = utils._CHUNKED_LOGPROB_CHUNK_SIZE
        logprobs, entropy, *_ = ChunkedLogProbFunction.apply(
            batch.hidden, batch.weight, None, labels, temperature, chunk, None, 1.0, outputs
        )
    else:
        logits = batch.hidden @ batch.weight.T if batch.logits is None else batch.logits
        logprobs, entropy = (
            x[0] for x in utils.selective_log_softmax_and_entropy(logits[None], labels[None], temperature=temperature)
        )
    padding = Padding.of(batch)
    inputs = {
        "prompt_ids": padding.mask[:, :0],
        "prompt_mask": padding.mask[:, :0],
        "completion_ids": padding.pad(labels),
        "completion_mask": padding.mask,
        "advantages": padding.pad(batch.advantages) if batch.advantage_level == "token" else batch.advantages,
        "num_items_in_batch": torch.tensor(of[1]) if of[1] else padding.mask.sum(),
    }
    if batch.old_logprobs is not None:
        inputs["old_per_token_logps"] = padding.pad(batch.old_logprobs)
    if options.kl_coef:
        assert batch.ref_logprobs is not None
        inputs["ref_per_token_logps"] = padding.pad(batch.ref_logprobs)
    ratio = importance_ratio(padding, batch, options)
    if ratio is not None:
        inputs["importance_sampling_ratio"] = ratio
    trainer = _trl_trainer(options, padding.pad(logprobs), padding.pad(entropy), of[0])
    return GRPOTrainer._compute_loss(trainer, None, inputs)


# ---- Liger 0.8.5


def _liger_settings(options: PolicyOptions, temperature: float) -> dict[str, Any]:
    return {
        "beta": options.kl_coef,
        "loss_type": options.loss_type,
        "max_completion_length": options.max_completion_length,
        "importance_sampling_level": options.ratio_level,
        "temperature": temperature,
        **_policy_settings(options),
    }


def _liger_inputs(batch: PackedBatch, options: PolicyOptions, padding: Padding) -> dict[str, torch.Tensor | None]:
    if options.entropy_coef or options.kl_estimator != "k3":
        raise NotImplementedError("Liger has no entropy bonus and no KL estimator beside k3")
    return {
        "old": None if batch.old_logprobs is None else padding.pad(batch.old_logprobs).float(),
        "ref": padding.pad(batch.ref_logprobs).float() if options.kl_coef and batch.ref_logprobs is not None else None,
        "ratio": importance_ratio(padding, batch, options),
    }


def liger_fused_loss(
    batch: PackedBatch, options: PolicyOptions, *, temperature: float = 1.0, compiled: bool = False
) -> torch.Tensor:
    """Liger's `LigerFusedLinearGRPOLoss` in its default setting of one sequence a chunk, on the padded batch."""
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    padding = Padding.of(batch)
    inputs = _liger_inputs(batch, options, padding)
    loss = LigerFusedLinearGRPOLoss(
        compiled=compiled,
        use_ref_model=options.kl_coef != 0,
        epsilon_low=options.clip_low,
        epsilon_high=options.clip_high,
        **_liger_settings(options, temperature),
    )(
        padding.pad(batch.hidden),
        batch.weight,
        padding.pad(batch.labels),
        padding.mask,
        batch.advantages,
        ref_per_token_logps=inputs["ref"],
        old_per_token_logps=inputs["old"],
        vllm_is_ratio=inputs["ratio"],
    )
    return loss[0] if isinstance(loss, tuple) else loss


def liger_triton_loss(
    batch: PackedBatch, options: PolicyOptions, *, temperature: float = 1.0, inplace: bool = False
) -> torch.Tensor:
    """Liger's `triton_grpo_loss` on padded logits [B, L + 1, V]; needs a GPU, or TRITON_INTERPRET=1 from the start."""
    from liger_kernel.transformers.grpo_loss import triton_grpo_loss

    padding = Padding.of(batch)
    inputs = _liger_inputs(batch, options, padding)
    logits = batch.hidden @ batch.weight.T if batch.logits is None else batch.logits
    loss, _ = triton_grpo_loss(
        torch.nn.functional.pad(padding.pad(logits), (0, 0, 0, 1)).contiguous(),
        inputs["old"],
        inputs["ref"],
        padding.pad(batch.labels),
        batch.advantages,
        padding.mask,
        eps_low=options.clip_low,
        eps_high=options.clip_high,
        inplace=inplace,
        reduce=True,
        vllm_is_ratio=inputs["ratio"],
        **_liger_settings(options, temperature),
    )
    return loss


# ---- a log-probability from elsewhere, our loss in plain torch around it


def eager_loss(batch: PackedBatch, options: PolicyOptions, *, temperature: float = 1.0) -> torch.Tensor:
    """Plain torch: whole logits, fp32 log-softmax, gather."""
    logits = batch.hidden @ batch.weight.T if batch.logits is None else batch.logits
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    log_p = torch.log_softmax(logits if temperature == 1 else logits / temperature, -1, dtype=dtype)
    logprobs = log_p.gather(1, batch.labels.clamp(min=0)[:, None])[:, 0]
    return loss_around(logprobs, batch, options)


def linear_cross_entropy_loss(batch: PackedBatch, options: PolicyOptions, *, chunked: bool = False) -> torch.Tensor:
    """torch's `F.linear_cross_entropy(reduction="none")`, as it comes or with its chunked implementation."""
    chunking = torch.nn.LinearCrossEntropyOptions() if chunked else None
    nll = torch.nn.functional.linear_cross_entropy(batch.hidden, batch.weight, batch.labels, reduction="none", options=chunking)
    return loss_around(-nll.float(), batch, options)


def cce_loss(batch: PackedBatch, options: PolicyOptions) -> torch.Tensor:
    """Apple's cut-cross-entropy, its `torch_compile` implementation (the Triton one has no CPU route)."""
    from cut_cross_entropy import linear_cross_entropy

    nll = linear_cross_entropy(batch.hidden, batch.weight, batch.labels, impl="torch_compile", reduction="none")
    return loss_around(-nll.float(), batch, options)
