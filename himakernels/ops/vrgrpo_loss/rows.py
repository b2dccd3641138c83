"""What one row of the policy loss is worth and how it moves: eager torch on [R] vectors, derivatives by hand.

The CPU route of the row-wise part (a few dozen vector operations beside products of R x H x V), and, on every device, the
route of the options that look at whole samples. The Triton kernel of the token-level options computes the same.
"""

from typing import NamedTuple

import torch

from himakernels.ops.vrgrpo_loss.options import PPO_LOSS_TYPES, PolicyOptions

MAX_LOG_RATIO = 40.0
_LOG_1E_8 = -18.420680743952367

Optional = torch.Tensor | None


class Samples(NamedTuple):
    """Which counted rows belong to which sample: what a sum over a sample needs."""

    sample_id: torch.Tensor  # [R] int64 in [0, size]; `size` collects the rows that do not count
    num_tokens: torch.Tensor  # [size + 1] counted rows of each
    size: int
    order: Optional  # [R] rows sorted by sample, stable; with `offsets` only on the Triton route
    offsets: Optional  # [size + 2] where each sample begins in `order`

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """[size + 1] sums of `values` [R] in fp64, each over its sample's rows in order."""
        if self.order is not None and self.offsets is not None:
            from himakernels.ops.vrgrpo_loss.kernels import segment_sum_fwd

            return segment_sum_fwd(values, self.order, self.offsets)
        total = torch.zeros(self.size + 1, dtype=torch.float64, device=values.device)
        return total.index_add_(0, self.sample_id, values.double())


class Rows(NamedTuple):
    """The [R] vectors that a row's loss is made of; `weight` and `entropy_weight` hold the normalisers, 0 = does not count."""

    advantages: torch.Tensor
    weight: torch.Tensor
    entropy_weight: torch.Tensor
    old_logprobs: Optional
    ref_logprobs: Optional
    rollout_logprobs: Optional
    samples: Samples

    def slice(self, begin: int, end: int) -> "Rows":
        """Rows [begin, end); sums over samples are then out of reach."""
        cut = {name: t[begin:end] for name, t in self._asdict().items() if isinstance(t, torch.Tensor)}
        return Rows(**{**self._asdict(), **cut})


class RowTerms(NamedTuple):
    """Of each row [R]: its share of the loss, d loss / d logprob, d loss / d entropy, and its ratio."""

    loss: torch.Tensor
    coef: torch.Tensor
    coef_entropy: torch.Tensor
    ratio: torch.Tensor


def exp_saturating(x: torch.Tensor) -> torch.Tensor:
    """exp(x) for |x| <= 40, the saturated value beyond: finite whatever x is (NaN stays NaN)."""
    return x.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def expm1_minus(x: torch.Tensor) -> torch.Tensor:
    """exp(x) - 1 - x without cancellation, saturating like `exp_saturating`."""
    small = x.abs() < 0.5
    series = torch.zeros_like(x)
    for k in range(14, 2, -1):  # x^2/2 (1 + x/3 (1 + x/4 (...)))
        series = x / k * (1 + series)
    return torch.where(small, x * x / 2 * (1 + series), exp_saturating(x) - 1 - x)


def log_ratio(o: PolicyOptions, rows: Rows, logprobs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(by token, at the level of the option): log pi / pi_old; 0 on rows that do not count."""
    by_token = torch.zeros_like(logprobs) if rows.old_logprobs is None else logprobs - rows.old_logprobs
    by_token = by_token.masked_fill(rows.weight == 0, 0.0)
    if o.ratio_level == "token":
        return by_token, by_token
    s = rows.samples
    mean = s.sum(by_token) / s.num_tokens.clamp(min=1)
    return by_token, mean[s.sample_id].to(logprobs.dtype)


def importance_weights(o: PolicyOptions, rows: Rows, logprobs: torch.Tensor) -> Optional:
    """pi_old / pi_rollout by row, truncated or masked; NaN rollout logprobs (not scored) count as ratio 1."""
    if o.importance is None:
        return None
    assert rows.rollout_logprobs is not None
    old = logprobs if rows.old_logprobs is None else rows.old_logprobs
    diff = torch.nan_to_num(old - rows.rollout_logprobs, nan=0.0).masked_fill(rows.weight == 0, 0.0)
    if o.importance.startswith("sequence"):
        diff = rows.samples.sum(diff)[rows.samples.sample_id].to(logprobs.dtype)
    ratio = exp_saturating(diff)
    low, high = o.importance_min, o.importance_max
    if o.importance.endswith("truncate"):
        return ratio.clamp(low, high)
    return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)


def _either(condition: torch.Tensor, yes: float, no: float, like: torch.Tensor) -> torch.Tensor:
    """torch.where on two numbers in the dtype of `like`; `full`, unlike a tensor of host data, copies nothing to a GPU."""
    return torch.where(condition, like.new_full((), yes), like.new_full((), no))


def _vespo_phi(o: PolicyOptions, rows: Rows, by_token: torch.Tensor, importance: Optional) -> torch.Tensor:
    s = rows.samples
    log_w = s.sum(by_token.clamp(-20.0, 20.0))[s.sample_id]
    if importance is not None:
        logs = importance.double().log().clamp(_LOG_1E_8, 20.0)
        assert o.importance is not None
        by_sample = o.importance.startswith("sequence")
        log_w = log_w + (logs if by_sample else s.sum(logs.masked_fill(rows.weight == 0, 0.0))[s.sample_id])
    log_w = log_w.clamp(_LOG_1E_8, 20.0)
    positive = rows.advantages >= 0
    k = _either(positive, o.vespo_k_pos, o.vespo_k_neg, log_w)
    lam = _either(positive, o.vespo_lambda_pos, o.vespo_lambda_neg, log_w).clamp(min=1e-4)
    return torch.exp(lam + k * log_w - lam * log_w.exp()).to(by_token.dtype)


def row_terms(o: PolicyOptions, rows: Rows, logprobs: torch.Tensor, entropy: torch.Tensor) -> RowTerms:
    """The loss of each row and its derivatives. `by_ratio` is d loss / d log-ratio, `by_logprob` the direct part."""
    adv, zero = rows.advantages, torch.zeros_like(logprobs)
    by_token, level = log_ratio(o, rows, logprobs)
    ratio = exp_saturating(level)
    importance = importance_weights(o, rows, logprobs)
    if o.loss_type in PPO_LOSS_TYPES:
        low, high = 1 - o.clip_low, 1 + o.clip_high
        upper = ratio if o.delta is None else ratio.clamp(max=o.delta)
        first, second = upper * adv, ratio.clamp(low, high) * adv
        takes_first = first <= second
        moves = torch.where(takes_first, upper == ratio, (ratio >= low) & (ratio <= high))
        loss = -torch.where(takes_first, first, second)
        by_ratio, by_logprob = torch.where(moves | loss.isnan(), -adv * ratio, zero), zero
    elif o.loss_type == "cispo":
        by_ratio, by_logprob = zero, -ratio.clamp(max=o.clip_high) * adv
        loss = by_logprob * logprobs
    elif o.loss_type == "sapo":
        tau = _either(adv > 0, o.sapo_temperature_pos, o.sapo_temperature_neg, ratio)
        x = tau * (ratio - 1)
        gate = torch.sigmoid(x)
        loss, by_logprob = -4 * gate / tau * adv, zero
        by_ratio = -4 * gate * torch.sigmoid(-x) * ratio * adv
    else:
        by_ratio, by_logprob = zero, -_vespo_phi(o, rows, by_token, importance) * adv
        loss = by_logprob * logprobs
    if importance is not None and o.loss_type != "vespo":
        loss, by_ratio, by_logprob = loss * importance, by_ratio * importance, by_logprob * importance
    if o.kl_coef != 0:
        kl, dkl = kl_terms(o, rows, logprobs)
        if o.kl_ratio_correction:
            by_ratio = by_ratio + o.kl_coef * kl * ratio
            kl, dkl = kl * ratio, dkl * ratio
        loss, by_logprob = loss + o.kl_coef * kl, by_logprob + o.kl_coef * dkl
    by_ratio = rows.weight * by_ratio
    if o.ratio_level == "sequence":
        s = rows.samples
        shared = s.sum(by_ratio.masked_fill(rows.weight == 0, 0.0)) / s.num_tokens.clamp(min=1)
        by_ratio = shared[s.sample_id].to(logprobs.dtype)
    coef_entropy = -o.entropy_coef * rows.entropy_weight
    out = rows.weight == 0  # where nothing counts, garbage in the row's inputs must not either
    return RowTerms(
        (rows.weight * loss + coef_entropy * entropy).masked_fill(out, 0.0),
        (by_ratio + rows.weight * by_logprob).masked_fill(out, 0.0),
        coef_entropy.masked_fill(out, 0.0),
        ratio,
    )


def kl_terms(o: PolicyOptions, rows: Rows, logprobs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(KL estimate, its derivative by logprob) of each row."""
    assert rows.ref_logprobs is not None
    d = rows.ref_logprobs - logprobs
    if o.kl_estimator == "k1":
        return -d, torch.ones_like(d)
    if o.kl_estimator == "k2":
        return d * d / 2, -d
    return expm1_minus(d), -torch.expm1(d.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))
