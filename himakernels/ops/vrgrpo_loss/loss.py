"""The public functions of the VR-GRPO loss: arguments checked and brought to the operators' form."""

from typing import Any, NamedTuple

import torch

from himakernels.checks import FLOATS, INTS, check_choice, check_device, check_dtype, check_positive, check_shape
from himakernels.lm_head.arguments import check_head, check_logits, check_row_vector, normaliser
from himakernels.ops.group_advantages import group_advantages
from himakernels.ops.select_groups import select_groups
from himakernels.ops.vrgrpo_loss.metrics import PolicyMetrics
from himakernels.ops.vrgrpo_loss.op import Inputs, LinearLoss, LogitsLoss
from himakernels.ops.vrgrpo_loss.options import PolicyOptions
from himakernels.ops.vrgrpo_loss.rows import Optional


class VRGRPOLoss(NamedTuple):
    """`loss` [] (differentiable), `logprobs` [R] (detached), `metrics` (tensors, [] or [A])."""

    loss: torch.Tensor
    logprobs: torch.Tensor
    metrics: PolicyMetrics


def _options(*, clip_high: float | None, **others: Any) -> PolicyOptions:
    """The options, with the default of clip_high filled in."""
    if clip_high is None:
        if others["loss_type"] == "cispo":
            raise ValueError("clip_high: expected the cap itself with loss_type='cispo' (TRL: epsilon_high), got None")
        clip_high = others["clip_low"]
    return PolicyOptions(clip_high=clip_high, **others)


def _vector(name: str, value: Optional, size: int | str, like: torch.Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    if value is not None:
        check_shape(name, value, (size,))
        check_dtype(name, value, dtypes)
        check_device(name, value, like.device)


def _check_pairs(
    o: PolicyOptions,
    advantages: Optional,
    rewards: Optional,
    group_id: Optional,
    num_groups: int | None,
    top_k: int | None,
    normalisers: bool,
    ref: Optional,
    rollout: Optional,
) -> None:
    """Arguments that need, or exclude, each other."""
    if (advantages is None) == (rewards is None):
        got = "both" if rewards is not None else "neither"
        raise ValueError(f"advantages, rewards: expected exactly one of them, got {got}")
    if (rewards is None) != (group_id is None):
        raise ValueError(
            f"group_id: expected {'None without' if rewards is None else 'a tensor [S] with'} rewards, got the opposite"
        )
    if num_groups is not None and rewards is None:
        raise ValueError(f"num_groups: expected None without rewards, got {num_groups}")
    if top_k is not None and rewards is None:
        raise ValueError(f"top_k: expected None without rewards (groups are selected by their variance), got {top_k}")
    if top_k is not None and normalisers:
        raise ValueError("num_samples, num_tokens: expected None with top_k, which needs the whole batch in one call")
    if o.kl_coef != 0 and ref is None:
        raise ValueError(f"ref_logprobs: expected a tensor [R] with kl_coef={o.kl_coef}, got None")
    if (o.importance is None) != (rollout is None):
        want = "None" if o.importance is None else "a tensor [R]"
        raise ValueError(f"rollout_logprobs: expected {want} with importance={o.importance!r}")


def _inputs(
    o: PolicyOptions,
    hidden_or_logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float,
    softcap: float | None,
    sample_id: torch.Tensor,
    advantages: Optional,
    advantage_level: str,
    rewards: Optional,
    group_id: Optional,
    num_groups: int | None,
    top_k: int | None,
    normalize: str,
    eps: float,
    agent_id: Optional,
    num_agents: int | None,
    old_logprobs: Optional,
    ref_logprobs: Optional,
    rollout_logprobs: Optional,
    num_samples: torch.Tensor | float | None,
    num_tokens: torch.Tensor | float | None,
) -> tuple[Inputs, tuple[int, ...]]:
    """(the operators' arguments, the shape of a metric)."""
    like = hidden_or_logits
    R = like.shape[0]
    _vector("sample_id", sample_id, R, like, INTS)
    check_choice("advantage_level", advantage_level, ("sample", "token"))
    normalisers = num_samples is not None or num_tokens is not None
    _check_pairs(o, advantages, rewards, group_id, num_groups, top_k, normalisers, ref_logprobs, rollout_logprobs)
    by_token = advantage_level == "token"
    if by_token and rewards is not None:
        raise ValueError("advantage_level: expected 'sample' with rewards, got 'token'")
    _vector("advantages", advantages, R if by_token else "S", like, FLOATS)
    _vector("rewards", rewards, "S", like, FLOATS)
    check_row_vector("old_logprobs", old_logprobs, like)
    check_row_vector("ref_logprobs", ref_logprobs, like)
    check_row_vector("rollout_logprobs", rollout_logprobs, like)
    given = rewards if rewards is not None else advantages
    if not by_token and given is not None:
        _vector("group_id", group_id, given.shape[0], like, INTS)
        _vector("agent_id", agent_id, given.shape[0], like, INTS)
    else:
        _vector("agent_id", agent_id, "S", like, INTS)
    A = _num_agents(agent_id, num_agents, num_samples, num_tokens)
    agents = None if agent_id is None else A

    keep = None
    if rewards is not None and group_id is not None:
        rewards = rewards.detach()
        groups = rewards.shape[0] if num_groups is None else num_groups
        stats = group_advantages(rewards, group_id, num_groups=groups, normalize=normalize, eps=eps)
        chosen = select_groups(stats.variance, top_k=top_k)
        ids = group_id.long()
        outside = (ids < 0) | (ids >= groups)
        at = ids.masked_fill(outside, 0)
        # An infinite reward or an id out of range (GPU): such samples stay, with the advantage NaN, so that the loss shows it.
        broken = (outside | stats.variance.isnan()[at] if groups else outside) & ~rewards.isnan()
        keep = ((chosen[at] & ~rewards.isnan()) if groups else torch.zeros_like(outside)) | broken
        advantages = stats.advantages.masked_fill(broken, torch.nan)
    assert advantages is not None
    choices, numbers = o.flat()
    x = Inputs(
        labels=labels.long().contiguous(),
        sample_id=sample_id.detach(),
        advantages=advantages.detach(),
        keep=keep,
        agent_id=agent_id,
        old_logprobs=None if old_logprobs is None else old_logprobs.detach(),
        ref_logprobs=None if ref_logprobs is None else ref_logprobs.detach(),
        rollout_logprobs=None if rollout_logprobs is None else rollout_logprobs.detach(),
        num_samples=normaliser("num_samples", num_samples, agents, like),
        num_tokens=normaliser("num_tokens", num_tokens, agents, like),
        num_agents=A,
        by_token=by_token,
        choices=choices,
        numbers=numbers,
        temperature=float(temperature),
        softcap=softcap or 0.0,
    )
    return x, () if agent_id is None else (A,)


def _num_agents(
    agent_id: Optional,
    num_agents: int | None,
    num_samples: torch.Tensor | float | None,
    num_tokens: torch.Tensor | float | None,
) -> int:
    if agent_id is None:
        if num_agents is not None:
            raise ValueError(f"num_agents: expected None without agent_id, got {num_agents}")
        return 1
    if num_agents is None:
        lengths = [len(t) for t in (num_samples, num_tokens) if isinstance(t, torch.Tensor) and t.dim() == 1]
        num_agents = lengths[0] if lengths else int(agent_id.max()) + 1 if len(agent_id) else 1
    check_positive("num_agents", num_agents)
    return num_agents


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
    normalize: str = "std",
    eps: float = 1e-4,
    agent_id: torch.Tensor | None = None,
    num_agents: int | None = None,
    old_logprobs: torch.Tensor | None = None,
    ref_logprobs: torch.Tensor | None = None,
    rollout_logprobs: torch.Tensor | None = None,
    num_samples: torch.Tensor | float | None = None,
    num_tokens: torch.Tensor | float | None = None,
    loss_type: str = "grpo",
    ratio_level: str = "token",
    clip_low: float = 0.2,
    clip_high: float | None = None,
    delta: float | None = None,
    kl_coef: float = 0.0,
    kl_estimator: str = "k3",
    kl_ratio_correction: bool = False,
    importance: str | None = None,
    importance_min: float | None = None,
    importance_max: float | None = 3.0,
    entropy_coef: float = 0.0,
    max_completion_length: int | None = None,
    sapo_temperature_pos: float = 1.0,
    sapo_temperature_neg: float = 1.05,
    vespo_k_pos: float = 2.0,
    vespo_lambda_pos: float = 3.0,
    vespo_k_neg: float = 3.0,
    vespo_lambda_neg: float = 2.0,
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
        weight: [V, H] of the LM head, same dtype; differentiable. A frozen head costs two products instead of three.
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
        normalize, eps: of `group_advantages`.
        agent_id: [S] int in [0, A): each agent has its own normalisers and metrics. One packed call equals the agents'
            separate calls.
        num_agents: A. Default: the length of num_samples or num_tokens, else max(agent_id) + 1, which on GPU synchronises.
        old_logprobs: [R] of the policy before the update; None means the detached logprobs (rho = 1).
        ref_logprobs: [R] of the reference policy; needed by kl_coef.
        rollout_logprobs: [R] as sampled; needed by importance. NaN (not scored) counts as ratio 1.
        loss_type: see above.
        ratio_level: "token" or "sequence".
        clip_low, clip_high: the clip range; clip_high defaults to clip_low. For cispo clip_high is the cap itself and must
            be given.
        delta: upper bound of the unclipped rho (INTELLECT-2's two-sided clip: one above 1 + clip_high acts on
            negative advantages only); None for none.
        kl_coef, kl_estimator: weight and form of the KL term: with d = ref_logprobs - logprobs, k1 = -d, k2 = d^2 / 2,
            k3 = exp(d) - d - 1.
        kl_ratio_correction: multiply the KL term by rho (unbiased off policy, DeepSeek-V3.2).
        importance: "token_truncate", "token_mask", "sequence_truncate" or "sequence_mask": weight rows by
            exp(old_logprobs - rollout_logprobs), by token or by the sample's sum, clamped to or zeroed outside
            [importance_min, importance_max].
        entropy_coef: weight of the entropy bonus (a mean over tokens for every loss type).
        max_completion_length: of dr_grpo, and only there.
        sapo_temperature_pos, sapo_temperature_neg, vespo_k_pos, vespo_lambda_pos, vespo_k_neg, vespo_lambda_neg: see above.
        num_samples, num_tokens: the normalisers N_a and T_a over all micro-batches and ranks ([A] with agent_id); default
            is what this call counts. With them gradient accumulation and several ranks sum to the one-call loss.
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
    call is refused. fp16 gradients are rounded before they are scaled, so a loss scaler can't save what underflows: use bf16.
    ratio_level="sequence", vespo and importance="sequence_*"
    look at whole samples: if the rows take more than one chunk the logits are formed twice (four products). exp saturates
    beyond a log-ratio of 40, and its derivative there is the saturated value, so value and gradient stay finite.
    Log-probabilities as in `token_logprobs`. On GPU no host synchronisation (but see num_agents).

    Raises:
        ValueError, TypeError: an argument of the wrong shape, dtype, device or value. On the CPU also labels and ids out of
        range; on GPU those make the loss NaN, and nothing outside the tensors is read.
        NotImplementedError: an option that the loss type does not have.

    Source: arXiv 2506.19846 (VR-GRPO), TRL 1.16 for the semantics of the loss types; reference.py names the papers.
    """
    o = _options(
        loss_type=loss_type,
        ratio_level=ratio_level,
        clip_low=clip_low,
        clip_high=clip_high,
        delta=delta,
        kl_coef=kl_coef,
        kl_estimator=kl_estimator,
        kl_ratio_correction=kl_ratio_correction,
        importance=importance,
        importance_min=importance_min,
        importance_max=importance_max,
        entropy_coef=entropy_coef,
        max_completion_length=max_completion_length,
        sapo_temperature_pos=sapo_temperature_pos,
        sapo_temperature_neg=sapo_temperature_neg,
        vespo_k_pos=vespo_k_pos,
        vespo_lambda_pos=vespo_lambda_pos,
        vespo_k_neg=vespo_k_neg,
        vespo_lambda_neg=vespo_lambda_neg,
    )
    check_head(hidden, weight, labels, bias, temperature, softcap)
    x, shape = _inputs(
        o,
        hidden,
        labels,
        temperature=temperature,
        softcap=softcap,
        sample_id=sample_id,
        advantages=advantages,
        advantage_level=advantage_level,
        rewards=rewards,
        group_id=group_id,
        num_groups=num_groups,
        top_k=top_k,
        normalize=normalize,
        eps=eps,
        agent_id=agent_id,
        num_agents=num_agents,
        old_logprobs=old_logprobs,
        ref_logprobs=ref_logprobs,
        rollout_logprobs=rollout_logprobs,
        num_samples=num_samples,
        num_tokens=num_tokens,
    )
    needs = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (hidden, weight, bias)]
    loss, logprobs, metrics = LinearLoss.apply(hidden.contiguous(), weight.contiguous(), bias, needs, *x)
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
    normalize: str = "std",
    eps: float = 1e-4,
    agent_id: torch.Tensor | None = None,
    num_agents: int | None = None,
    old_logprobs: torch.Tensor | None = None,
    ref_logprobs: torch.Tensor | None = None,
    rollout_logprobs: torch.Tensor | None = None,
    num_samples: torch.Tensor | float | None = None,
    num_tokens: torch.Tensor | float | None = None,
    loss_type: str = "grpo",
    ratio_level: str = "token",
    clip_low: float = 0.2,
    clip_high: float | None = None,
    delta: float | None = None,
    kl_coef: float = 0.0,
    kl_estimator: str = "k3",
    kl_ratio_correction: bool = False,
    importance: str | None = None,
    importance_min: float | None = None,
    importance_max: float | None = 3.0,
    entropy_coef: float = 0.0,
    max_completion_length: int | None = None,
    sapo_temperature_pos: float = 1.0,
    sapo_temperature_neg: float = 1.05,
    vespo_k_pos: float = 2.0,
    vespo_lambda_pos: float = 3.0,
    vespo_k_neg: float = 3.0,
    vespo_lambda_neg: float = 2.0,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> VRGRPOLoss:
    """`vrgrpo_loss` for logits [R, V] that exist already (differentiable, rows contiguous); every other argument as there.

    The logits are read once from memory and their gradient is written once, in their dtype: into new memory, or with
    inplace=True over the logits, which are then gone. Options that look at whole samples read the logits twice on GPU.
    """
    o = _options(
        loss_type=loss_type,
        ratio_level=ratio_level,
        clip_low=clip_low,
        clip_high=clip_high,
        delta=delta,
        kl_coef=kl_coef,
        kl_estimator=kl_estimator,
        kl_ratio_correction=kl_ratio_correction,
        importance=importance,
        importance_min=importance_min,
        importance_max=importance_max,
        entropy_coef=entropy_coef,
        max_completion_length=max_completion_length,
        sapo_temperature_pos=sapo_temperature_pos,
        sapo_temperature_neg=sapo_temperature_neg,
        vespo_k_pos=vespo_k_pos,
        vespo_lambda_pos=vespo_lambda_pos,
        vespo_k_neg=vespo_k_neg,
        vespo_lambda_neg=vespo_lambda_neg,
    )
    check_logits(logits, labels, temperature, softcap)
    if inplace and logits.shape[0] > 1 and logits.stride(0) < logits.shape[1]:
        raise ValueError(f"logits: expected rows that do not overlap with inplace=True, got strides {tuple(logits.stride())}")
    x, shape = _inputs(
        o,
        logits,
        labels,
        temperature=temperature,
        softcap=softcap,
        sample_id=sample_id,
        advantages=advantages,
        advantage_level=advantage_level,
        rewards=rewards,
        group_id=group_id,
        num_groups=num_groups,
        top_k=top_k,
        normalize=normalize,
        eps=eps,
        agent_id=agent_id,
        num_agents=num_agents,
        old_logprobs=old_logprobs,
        ref_logprobs=ref_logprobs,
        rollout_logprobs=rollout_logprobs,
        num_samples=num_samples,
        num_tokens=num_tokens,
    )
    need = torch.is_grad_enabled() and logits.requires_grad
    loss, logprobs, metrics = LogitsLoss.apply(logits, need, inplace, *x)
    return VRGRPOLoss(loss, logprobs, PolicyMetrics(*metrics.view(-1, *shape).unbind(0)))
