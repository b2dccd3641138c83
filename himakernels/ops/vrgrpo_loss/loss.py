"""The public functions of the VR-GRPO loss."""

from typing import NamedTuple

import torch

from himakernels.lm_head.arguments import check_head, check_logits, row_major
from himakernels.ops.vrgrpo_loss.arguments import LossArguments, loss_inputs
from himakernels.ops.vrgrpo_loss.metrics import PolicyMetrics
from himakernels.ops.vrgrpo_loss.op import LinearLoss, LogitsLoss


class VRGRPOLoss(NamedTuple):
    """`loss` [] (differentiable), `logprobs` [R] (detached), `metrics` (tensors, [] or [A])."""

    loss: torch.Tensor
    logprobs: torch.Tensor
    metrics: PolicyMetrics


def vrgrpo_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    *,
    sample_id: torch.Tensor,
    bias: torch.Tensor | None = None,
    advantages: torch.Tensor | None = None,
    advantage_level: str = "sample",
    rewards: torch.Tensor | None = None,
    group_id: torch.Tensor | None = None,
    num_groups: int | None = None,
    top_k: int | None = None,
    normalize: str | None = None,
    eps: float | None = None,
    agent_id: torch.Tensor | None = None,
    num_agents: int | None = None,
    old_logprobs: torch.Tensor | None = None,
    ref_logprobs: torch.Tensor | None = None,
    rollout_logprobs: torch.Tensor | None = None,
    num_samples: torch.Tensor | float | None = None,
    num_tokens: torch.Tensor | float | None = None,
    grad_scale: torch.Tensor | float | None = None,
    loss_type: str = "grpo",
    ratio_level: str = "token",
    clip_low: float | None = None,
    clip_high: float | None = None,
    delta: float | None = None,
    kl_coef: float = 0.0,
    kl_estimator: str | None = None,
    kl_ratio_correction: bool = False,
    importance: str | None = None,
    importance_min: float | None = None,
    importance_max: float | None = None,
    entropy_coef: float = 0.0,
    max_completion_length: int | None = None,
    sapo_temperature_pos: float | None = None,
    sapo_temperature_neg: float | None = None,
    vespo_k_pos: float | None = None,
    vespo_lambda_pos: float | None = None,
    vespo_k_neg: float | None = None,
    vespo_lambda_neg: float | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> VRGRPOLoss:
    r"""The VR-GRPO policy loss of a packed multi-agent batch: hidden states -> loss, dhidden and dweight, without logits.

    L = sum_a L_a. For agent a over its counted samples s with rows r, N_a samples, T_a rows, n_s rows in s:

    ===================  ==========================================================================================
    grpo, sapo           L_a = 1/N_a sum_s 1/n_s sum_r l_r
    luspo                L_a = 1/N_a sum_s sum_r l_r
    dr_grpo              L_a = 1/(N_a max_completion_length) sum_s sum_r l_r
    bnpo, dapo, cispo,   L_a = 1/T_a sum_s sum_r l_r
    vespo
    ===================  ==========================================================================================

    all minus entropy_coef * 1/T_a sum_r entropy_r. With rho_r = exp(logprobs_r - old_logprobs_r), or with
    ratio_level="sequence" rho_r = exp(mean over the sample's rows of that difference) (GSPO), and A the advantage:

    ===================  ==========================================================================================
    grpo, bnpo, dr_grpo  l = -min(min(rho, delta) A, clip(rho, 1 - clip_low, 1 + clip_high) A)
    dapo, luspo
    cispo                l = -min(rho, clip_high) A log p, the first factor a constant
    sapo                 l = -4 sigmoid(tau (rho - 1)) / tau A, tau by the sign of A
    vespo                l = -phi A log p, phi = exp(lambda + k log w - lambda w) a constant, log w the sample's sum of
                         clamp(log rho_r, +-20) and of its log importance weights, k and lambda by the sign of A
    ===================  ==========================================================================================

    times the importance weight, plus kl_coef * KL(pi || pi_ref) (times rho_r with `kl_ratio_correction`).

    Args:
        hidden: [R, H] fp32, bf16, fp16 (fp64 on the CPU), the last hidden state of each row that predicts a trained token;
            differentiable.
        weight: [V, H] of the LM head, same dtype; differentiable. A frozen head costs two products instead of three. Rows of
            hidden and weight may be any distance apart; if H is not the contiguous dimension, the matrix is copied.
        labels: [R] int64 or int32, the token that row r predicts (already shifted); -100 marks a row that does not count.
        sample_id: [R] int, the sample in [0, S) of each row, in any order. S is the length of advantages, rewards or agent_id
            (with advantage_level="token" and no agent_id: R).
        bias: [V] of the LM head; differentiable.
        advantages: [S], or [R] with advantage_level="token". Every sample counts, as in TRL.
        advantage_level: "sample" or "token". With "token", samples without a counted row do not count in N_a.
        rewards: [S], instead of advantages: `group_advantages` and `select_groups` run first, and the samples of
            zero-variance, unselected and NaN groups leave numerator, denominator and KL. An infinite reward makes the loss NaN.
        group_id: [S] int in [0, num_groups), with rewards: samples of one prompt (one node and agent).
        num_groups: default S: no synchronisation, and enough where ids count up from 0.
        top_k: with rewards: only the top_k groups by reward variance learn. Needs the whole batch in one call, so
            num_samples and num_tokens must be None. None keeps all groups of non-zero variance.
        normalize, eps: of `group_advantages`, with rewards; defaults "std" and 1e-4. eps belongs to "std".
        agent_id: [S] int in [0, A): each agent has its own normalisers and metrics. One packed call equals the agents'
            separate calls.
        num_agents: A. Default: the length of num_samples or num_tokens, else max(agent_id) + 1, which on GPU synchronises.
        old_logprobs: [R] of the policy before the update; None means the detached logprobs (rho = 1).
        ref_logprobs: [R] of the reference policy; needed by kl_coef.
        rollout_logprobs: [R] as sampled; needed by importance. NaN (not scored) counts as ratio 1.
        loss_type: see above. Below, None is "not given"; an option given to a loss type that does not have it is refused.
        ratio_level: "token" or "sequence".
        clip_low, clip_high: the clip range of the grpo family, default 0.2 and clip_low. cispo has clip_high only: the cap
            itself, which must be given.
        delta: upper bound of the unclipped rho (INTELLECT-2's two-sided clip: one above 1 + clip_high acts on
            negative advantages only); None for none.
        kl_coef, kl_estimator: weight and form of the KL term: with d = ref_logprobs - logprobs, k1 = -d, k2 = d^2 / 2,
            k3 = exp(d) - d - 1 (default). Without kl_coef, ref_logprobs and kl_estimator are for the metric ref_kl.
        kl_ratio_correction: multiply the KL term by rho (unbiased off policy, DeepSeek-V3.2); needs kl_coef.
        importance: "token_truncate", "token_mask", "sequence_truncate" or "sequence_mask": weight rows by
            exp(old_logprobs - rollout_logprobs), by token or by the sample's sum, clamped to or zeroed outside
            [importance_min, importance_max], default 0 and 3; infinity is no bound.
        entropy_coef: weight of the entropy bonus (a mean over tokens for every loss type).
        max_completion_length: of dr_grpo, and only there.
        sapo_temperature_pos, sapo_temperature_neg: tau of sapo, default 1 and 1.05.
        vespo_k_pos, vespo_lambda_pos, vespo_k_neg, vespo_lambda_neg: of vespo, default 2, 3, 3 and 2.
        num_samples, num_tokens: the normalisers N_a and T_a over all micro-batches and ranks ([A] with agent_id); default
            is what this call counts. With them gradient accumulation and several ranks sum to the one-call loss, as long as all
            rows of a sample are in one call: grpo and sapo average over a sample, and sequence ratios, vespo and importance by
            sequence look at all of it (`Packing.split_samples` lists the samples that a packing had to cut).
        grad_scale: the factor that the loss will be multiplied by before its backward, a number or a tensor [] on the device:
            for fp16, that of torch.amp.GradScaler (`scaler.get_scale()`). The gradients are computed times it, so they
            don't underflow before the scaler's factor reaches them; the loss itself is not scaled. Any other upstream
            factor is right too, but rounded once more.
        temperature: divides the logits. softcap: logit cap. Both as in `token_logprobs`.

    Returns:
        VRGRPOLoss(loss [], logprobs [R] detached, metrics: PolicyMetrics). An empty batch gives a graph-connected zero.

    TRL names: clip_low = epsilon, clip_high = epsilon_high, kl_coef = beta, ratio_level = importance_sampling_level,
    old_logprobs = old_per_token_logps, ref_logprobs = ref_per_token_logps, rollout_logprobs = sampling_per_token_logps,
    importance = vllm_importance_sampling_mode, importance_min/max = vllm_importance_sampling_clip_min/max,
    kl_ratio_correction = use_bias_correction_kl, num_tokens = num_items_in_batch / num_processes,
    max_completion_length, delta, sapo_*, vespo_*, entropy_coef as they are.

    Numerics: three matrix products; logits exist one chunk of rows at a time; rows whose coefficient is exactly zero (clipped,
    zero advantage, kl_coef = 0) leave before the two backward products; dweight is summed over chunks in fp32. The gradients
    are computed in the forward and scaled in the backward, once: a second backward or torch.autograd.grad through the same
    call is refused. fp16 gradients are rounded before they are scaled: with a loss scaler, give its factor as grad_scale.
    ratio_level="sequence", vespo and importance="sequence_*"
    look at whole samples: if the rows take more than one chunk the logits are formed twice (four products). exp saturates
    beyond a log-ratio of 40, and its derivative there is the saturated value, so value and gradient stay finite.
    Log-probabilities as in `token_logprobs`. On GPU no host synchronisation (but see num_agents).

    Raises:
        ValueError, TypeError: an argument of the wrong shape, dtype, device or value. On the CPU also labels and ids out of
        range; on GPU those make the loss NaN, and nothing outside the tensors is read.
        ValueError also for an option that another one leaves without effect (importance_min without importance, eps with
        advantages). NotImplementedError: an option that the loss type does not have.

    Source: arXiv 2506.19846 (VR-GRPO), TRL 1.16 for the semantics of the loss types; reference.py names the papers.
    """
    check_head(hidden, weight, labels, bias, temperature, softcap)
    arguments = LossArguments(
        labels=labels, sample_id=sample_id, advantages=advantages, advantage_level=advantage_level, rewards=rewards,
        group_id=group_id, num_groups=num_groups, top_k=top_k, normalize=normalize, eps=eps, agent_id=agent_id,
        num_agents=num_agents, old_logprobs=old_logprobs, ref_logprobs=ref_logprobs, rollout_logprobs=rollout_logprobs,
        num_samples=num_samples, num_tokens=num_tokens, grad_scale=grad_scale, loss_type=loss_type, ratio_level=ratio_level,
        clip_low=clip_low, clip_high=clip_high, delta=delta, kl_coef=kl_coef, kl_estimator=kl_estimator,
        kl_ratio_correction=kl_ratio_correction, importance=importance, importance_min=importance_min,
        importance_max=importance_max, entropy_coef=entropy_coef, max_completion_length=max_completion_length,
        sapo_temperature_pos=sapo_temperature_pos, sapo_temperature_neg=sapo_temperature_neg, vespo_k_pos=vespo_k_pos,
        vespo_lambda_pos=vespo_lambda_pos, vespo_k_neg=vespo_k_neg, vespo_lambda_neg=vespo_lambda_neg,
        temperature=temperature, softcap=softcap,
    )  # fmt: skip
    x, shape = loss_inputs(hidden, arguments)
    needs = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (hidden, weight, bias)]
    loss, logprobs, metrics = LinearLoss.apply(row_major(hidden), row_major(weight), bias, needs, *x)
    return VRGRPOLoss(loss, logprobs, PolicyMetrics(*metrics.view(-1, *shape).unbind(0)))


def vrgrpo_loss_from_logits(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    sample_id: torch.Tensor,
    inplace: bool = False,
    advantages: torch.Tensor | None = None,
    advantage_level: str = "sample",
    rewards: torch.Tensor | None = None,
    group_id: torch.Tensor | None = None,
    num_groups: int | None = None,
    top_k: int | None = None,
    normalize: str | None = None,
    eps: float | None = None,
    agent_id: torch.Tensor | None = None,
    num_agents: int | None = None,
    old_logprobs: torch.Tensor | None = None,
    ref_logprobs: torch.Tensor | None = None,
    rollout_logprobs: torch.Tensor | None = None,
    num_samples: torch.Tensor | float | None = None,
    num_tokens: torch.Tensor | float | None = None,
    grad_scale: torch.Tensor | float | None = None,
    loss_type: str = "grpo",
    ratio_level: str = "token",
    clip_low: float | None = None,
    clip_high: float | None = None,
    delta: float | None = None,
    kl_coef: float = 0.0,
    kl_estimator: str | None = None,
    kl_ratio_correction: bool = False,
    importance: str | None = None,
    importance_min: float | None = None,
    importance_max: float | None = None,
    entropy_coef: float = 0.0,
    max_completion_length: int | None = None,
    sapo_temperature_pos: float | None = None,
    sapo_temperature_neg: float | None = None,
    vespo_k_pos: float | None = None,
    vespo_lambda_pos: float | None = None,
    vespo_k_neg: float | None = None,
    vespo_lambda_neg: float | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> VRGRPOLoss:
    """`vrgrpo_loss` for logits [R, V] that exist already (differentiable, rows contiguous); every other argument as there.

    The logits are read once from memory and their gradient is written once, in their dtype: into new memory, or with
    inplace=True over the logits, which are then gone. Options that look at whole samples read the logits twice on GPU.
    """
    check_logits(logits, labels, temperature, softcap)
    if inplace and logits.shape[0] > 1 and logits.stride(0) < logits.shape[1]:
        raise ValueError(f"logits: expected rows that do not overlap with inplace=True, got strides {tuple(logits.stride())}")
    arguments = LossArguments(
        labels=labels, sample_id=sample_id, advantages=advantages, advantage_level=advantage_level, rewards=rewards,
        group_id=group_id, num_groups=num_groups, top_k=top_k, normalize=normalize, eps=eps, agent_id=agent_id,
        num_agents=num_agents, old_logprobs=old_logprobs, ref_logprobs=ref_logprobs, rollout_logprobs=rollout_logprobs,
        num_samples=num_samples, num_tokens=num_tokens, grad_scale=grad_scale, loss_type=loss_type, ratio_level=ratio_level,
        clip_low=clip_low, clip_high=clip_high, delta=delta, kl_coef=kl_coef, kl_estimator=kl_estimator,
        kl_ratio_correction=kl_ratio_correction, importance=importance, importance_min=importance_min,
        importance_max=importance_max, entropy_coef=entropy_coef, max_completion_length=max_completion_length,
        sapo_temperature_pos=sapo_temperature_pos, sapo_temperature_neg=sapo_temperature_neg, vespo_k_pos=vespo_k_pos,
        vespo_lambda_pos=vespo_lambda_pos, vespo_k_neg=vespo_k_neg, vespo_lambda_neg=vespo_lambda_neg,
        temperature=temperature, softcap=softcap,
    )  # fmt: skip
    x, shape = loss_inputs(logits, arguments)
    need = torch.is_grad_enabled() and logits.requires_grad
    loss, logprobs, metrics = LogitsLoss.apply(logits, need, inplace, *x)
    return VRGRPOLoss(loss, logprobs, PolicyMetrics(*metrics.view(-1, *shape).unbind(0)))
