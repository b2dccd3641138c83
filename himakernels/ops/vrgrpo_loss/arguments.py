"""The arguments of the two public functions: one record, checked here and brought to the operators' form."""

from dataclasses import dataclass

import torch

from himakernels.checks import FLOATS, INTS, check_choice, check_device, check_dtype, check_positive, check_shape
from himakernels.lm_head.arguments import check_grad_scale, check_row_vector, number_tensor
from himakernels.ops.group_advantages import group_advantages
from himakernels.ops.select_groups import select_groups
from himakernels.ops.vrgrpo_loss.op import Inputs
from himakernels.ops.vrgrpo_loss.options import OPTION_NAMES, PolicyOptions
from himakernels.ops.vrgrpo_loss.rows import Optional


@dataclass(frozen=True, kw_only=True)
class LossArguments:
    """What `vrgrpo_loss` and `vrgrpo_loss_from_logits` both take; None is "not given". `vrgrpo_loss` documents each field."""

    labels: torch.Tensor
    sample_id: torch.Tensor
    advantages: torch.Tensor | None
    advantage_level: str
    rewards: torch.Tensor | None
    group_id: torch.Tensor | None
    num_groups: int | None
    top_k: int | None
    normalize: str | None
    eps: float | None
    agent_id: torch.Tensor | None
    num_agents: int | None
    old_logprobs: torch.Tensor | None
    ref_logprobs: torch.Tensor | None
    rollout_logprobs: torch.Tensor | None
    num_samples: torch.Tensor | float | None
    num_tokens: torch.Tensor | float | None
    grad_scale: torch.Tensor | float | None
    loss_type: str
    ratio_level: str
    clip_low: float | None
    clip_high: float | None
    delta: float | None
    kl_coef: float
    kl_estimator: str | None
    kl_ratio_correction: bool
    importance: str | None
    importance_min: float | None
    importance_max: float | None
    entropy_coef: float
    max_completion_length: int | None
    sapo_temperature_pos: float | None
    sapo_temperature_neg: float | None
    vespo_k_pos: float | None
    vespo_lambda_pos: float | None
    vespo_k_neg: float | None
    vespo_lambda_neg: float | None
    temperature: float
    softcap: float | None

    def options(self) -> PolicyOptions:
        """The part that says what a token's loss is."""
        return PolicyOptions.of({name: getattr(self, name) for name in OPTION_NAMES})


def _vector(name: str, value: Optional, size: int | str, like: torch.Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    if value is not None:
        check_shape(name, value, (size,))
        check_dtype(name, value, dtypes)
        check_device(name, value, like.device)


def _check_pairs(o: PolicyOptions, a: LossArguments) -> None:
    """Arguments that need, or exclude, each other."""
    check_choice("advantage_level", a.advantage_level, ("sample", "token"))
    if (a.advantages is None) == (a.rewards is None):
        got = "both" if a.rewards is not None else "neither"
        raise ValueError(f"advantages, rewards: expected exactly one of them, got {got}")
    if (a.rewards is None) != (a.group_id is None):
        raise ValueError(
            f"group_id: expected {'None without' if a.rewards is None else 'a tensor [S] with'} rewards, got the opposite"
        )
    if a.rewards is None:
        for name in ("num_groups", "top_k", "normalize", "eps"):
            if getattr(a, name) is not None:
                raise ValueError(f"{name}: expected None without rewards, got {getattr(a, name)!r}")
    elif a.advantage_level == "token":
        raise ValueError("advantage_level: expected 'sample' with rewards, got 'token'")
    if a.eps is not None and a.normalize not in (None, "std"):
        raise ValueError(f"eps: expected None with normalize={a.normalize!r}, which divides by nothing, got {a.eps!r}")
    if a.top_k is not None and not (a.num_samples is None and a.num_tokens is None):
        raise ValueError("num_samples, num_tokens: expected None with top_k, which needs the whole batch in one call")
    if o.kl_coef != 0 and a.ref_logprobs is None:
        raise ValueError(f"ref_logprobs: expected a tensor [R] with kl_coef={o.kl_coef}, got None")
    if a.kl_estimator is not None and a.ref_logprobs is None:
        raise ValueError(f"kl_estimator: expected None without ref_logprobs, got {a.kl_estimator!r}")
    if (o.importance is None) != (a.rollout_logprobs is None):
        want = "None" if o.importance is None else "a tensor [R]"
        got = "None" if a.rollout_logprobs is None else "a tensor"
        raise ValueError(f"rollout_logprobs: expected {want} with importance={o.importance!r}, got {got}")


def _learning(a: LossArguments) -> tuple[torch.Tensor, Optional]:
    """(advantages, which samples [S] stay in the loss: None for all)."""
    if a.rewards is None or a.group_id is None:
        assert a.advantages is not None
        return a.advantages.detach(), None
    rewards = a.rewards.detach()
    groups = rewards.shape[0] if a.num_groups is None else a.num_groups
    given = {name: value for name, value in (("normalize", a.normalize), ("eps", a.eps)) if value is not None}
    stats = group_advantages(rewards, a.group_id, num_groups=groups, **given)  # type: ignore[arg-type]
    chosen = select_groups(stats.variance, top_k=a.top_k)
    ids = a.group_id.long()
    outside = (ids < 0) | (ids >= groups)
    at = ids.masked_fill(outside, 0)
    # An infinite reward or an id out of range (GPU): such samples stay, with the advantage NaN, so that the loss shows it.
    broken = (outside | stats.variance.isnan()[at] if groups else outside) & ~rewards.isnan()
    keep = ((chosen[at] & ~rewards.isnan()) if groups else torch.zeros_like(outside)) | broken
    return stats.advantages.masked_fill(broken, torch.nan), keep


def _detached(value: Optional) -> Optional:
    return None if value is None else value.detach()


def loss_inputs(like: torch.Tensor, a: LossArguments) -> tuple[Inputs, tuple[int, ...]]:
    """(the operators' arguments, the shape of a metric) for the rows of `like`, hidden states or logits."""
    R = like.shape[0]
    o = a.options()
    _vector("sample_id", a.sample_id, R, like, INTS)
    _check_pairs(o, a)
    by_token = a.advantage_level == "token"
    _vector("advantages", a.advantages, R if by_token else "S", like, FLOATS)
    _vector("rewards", a.rewards, "S", like, FLOATS)
    check_row_vector("old_logprobs", a.old_logprobs, like)
    check_row_vector("ref_logprobs", a.ref_logprobs, like)
    check_row_vector("rollout_logprobs", a.rollout_logprobs, like)
    given = a.advantages if a.rewards is None else a.rewards
    samples: int | str = "S" if by_token or given is None else given.shape[0]
    _vector("group_id", a.group_id, samples, like, INTS)
    _vector("agent_id", a.agent_id, samples, like, INTS)
    num_agents = _num_agents(a)
    agents = None if a.agent_id is None else num_agents
    advantages, keep = _learning(a)
    choices, numbers = o.flat()
    x = Inputs(
        labels=a.labels.long().contiguous(),
        sample_id=a.sample_id.detach(),
        advantages=advantages,
        keep=keep,
        agent_id=a.agent_id,
        old_logprobs=_detached(a.old_logprobs),
        ref_logprobs=_detached(a.ref_logprobs),
        rollout_logprobs=_detached(a.rollout_logprobs),
        num_samples=number_tensor("num_samples", a.num_samples, agents, like),
        num_tokens=number_tensor("num_tokens", a.num_tokens, agents, like),
        grad_scale=check_grad_scale(a.grad_scale, like),
        num_agents=num_agents,
        by_token=by_token,
        choices=choices,
        numbers=numbers,
        temperature=float(a.temperature),
        softcap=a.softcap or 0.0,
    )
    return x, () if agents is None else (agents,)


def _num_agents(a: LossArguments) -> int:
    if a.agent_id is None:
        if a.num_agents is not None:
            raise ValueError(f"num_agents: expected None without agent_id, got {a.num_agents}")
        return 1
    num_agents = a.num_agents
    if num_agents is None:
        lengths = [len(t) for t in (a.num_samples, a.num_tokens) if isinstance(t, torch.Tensor) and t.dim() == 1]
        num_agents = lengths[0] if lengths else int(a.agent_id.max()) + 1 if len(a.agent_id) else 1
    if isinstance(num_agents, bool) or not isinstance(num_agents, int):
        raise TypeError(f"num_agents: expected an int, got {type(num_agents).__name__}")
    check_positive("num_agents", num_agents)
    return num_agents
