"""A row of logits on Triton: the whole arithmetic between logits, statistics and gradient, which two rooms' kernels share.

One program owns a row, walks over it in blocks of BLOCK_V and depends on nothing else, so results are batch-invariant.
"""

import triton
import triton.language as tl

from himakernels.tl_math import LOG2E, round_to, softcap_logits, tl_expm1, tl_sigmoid, tl_softplus, tl_tanh, transform_logits

# The least finite fp32: a running maximum starts here, so that it is never -inf and no difference is inf - inf.
LOWEST = tl.constexpr(-3.4028234663852886e38)
# Differences are clamped here: exp gives 0 there, and 0 times it is 0, where 0 times -inf would be NaN.
FAR = tl.constexpr(-1.0e30)


@triton.jit
def row_offsets(BLOCK_V: tl.constexpr, VEC: tl.constexpr):
    """[BLOCK_V / VEC, VEC] offsets: VEC neighbours (16 bytes) belong to one thread, so sums over axis 1 stay in it."""
    return tl.arange(0, BLOCK_V // VEC)[:, None] * VEC + tl.arange(0, VEC)[None, :]


@triton.jit
def _add_to_lanes(
    top, total, moment, x_ptr, offs, mask, scale, softcap, HAS_SOFTCAP: tl.constexpr, KEEP_IN_L2: tl.constexpr
):  # fmt: skip
    """row_stats' sums [lanes] after the logits at offs [lanes, VEC] where the mask is True."""
    policy: tl.constexpr = "evict_last" if KEEP_IN_L2 else ""
    x = tl.load(x_ptr + offs, mask=mask, other=float("-inf"), eviction_policy=policy).to(tl.float32)
    y = softcap_logits(x, softcap, HAS_SOFTCAP)
    if HAS_SOFTCAP:
        # The cap would turn the padding's -inf into -softcap.
        y = tl.where(mask, y, float("-inf"))
    new_top = tl.maximum(top, tl.max(y, axis=1))
    shift = tl.maximum(top - new_top, FAR, propagate_nan=tl.PropagateNan.ALL)
    decay = tl.exp2(shift * scale)
    gap = tl.maximum(y - new_top[:, None], FAR, propagate_nan=tl.PropagateNan.ALL)
    e = tl.exp2(gap * scale)
    moment = decay * (moment + total * shift) + tl.sum(e * gap, axis=1)
    return new_top, decay * total + tl.sum(e, axis=1), moment


@triton.jit
def row_stats(
    x_ptr,
    label,
    V,
    inv_temperature,
    softcap,
    HAS_SOFTCAP: tl.constexpr,
    BLOCK_V: tl.constexpr,
    NUM_STAGES: tl.constexpr,
    KEEP_IN_L2: tl.constexpr,
):
    """One pass over a row of logits x [V] at x_ptr: (z_label, lse_others, logprob, lse, entropy), fp32 scalars.

    lse_others is the log-sum-exp over all tokens but the label, and logprob = -softplus(lse_others - z_label): nothing
    is subtracted from a sum that contains it, so 1 - p of a confident token keeps its relative precision. The entropy
    h(p) + (1 - p) H_others, with h the binary entropy, is a sum of terms that are all positive.

    KEEP_IN_L2 is for a program that reads the row again: it asks the cache to evict these lines last.
    A masked token (-inf) has p = 0. NaN or +inf anywhere, all tokens masked, or a label outside [0, V) give NaN.
    """
    VEC: tl.constexpr = 128 // x_ptr.dtype.element_ty.primitive_bitwidth
    LANES: tl.constexpr = BLOCK_V // VEC
    scale = inv_temperature * LOG2E
    offs = row_offsets(BLOCK_V, VEC)

    inside = (label >= 0) & (label < V)
    label = tl.where(inside, label, -1).to(tl.int32)
    x_label = tl.load(x_ptr + label, mask=inside, other=float("nan")).to(tl.float32)
    z_label = transform_logits(x_label, inv_temperature, softcap, HAS_SOFTCAP)

    # Per lane, before the temperature: the maximum, the sum of e = exp((y - maximum) / temperature), and that of
    # e * (y - maximum). The label's VEC neighbours come last: leaving out the label alone would cost two operations an element,
    # and a read of memory leaves no time for them.
    top = tl.full([LANES], LOWEST, tl.float32)
    total = tl.zeros([LANES], tl.float32)
    moment = tl.zeros([LANES], tl.float32)
    neighbours = tl.maximum(label, 0) // VEC
    for start in tl.range(0, V, BLOCK_V, num_stages=NUM_STAGES):
        mask = (offs < V - start) & (start // VEC + tl.arange(0, LANES) != neighbours)[:, None]
        top, total, moment = _add_to_lanes(
            top, total, moment, x_ptr + start, offs, mask, scale, softcap, HAS_SOFTCAP, KEEP_IN_L2
        )

    # Merge the lanes. inf - inf makes an overflowed row NaN here.
    row_top = tl.max(top, axis=0, keep_dims=True)
    shift = tl.maximum(top - row_top, FAR, propagate_nan=tl.PropagateNan.ALL)
    decay = tl.exp2(shift * scale)
    row_moment = tl.sum(decay * (moment + total * shift), axis=0, keep_dims=True)
    row_total = tl.sum(decay * total, axis=0, keep_dims=True)
    offs = neighbours * VEC + tl.arange(0, VEC)[None, :]
    row_top, row_total, row_moment = _add_to_lanes(
        row_top, row_total, row_moment, x_ptr, offs, (offs < V) & (offs != label), scale, softcap, HAS_SOFTCAP, KEEP_IN_L2
    )
    row_top, row_total, row_moment = tl.sum(row_top, axis=0), tl.sum(row_total, axis=0), tl.sum(row_moment, axis=0)  # [1] -> []
    log_total = tl.log(row_total)
    lse_others = row_top * inv_temperature + log_total

    delta = lse_others - z_label
    nll = tl_softplus(delta)
    logprob = tl.where(z_label == float("inf"), float("nan"), -nll)
    lse = tl.where(delta > 0.0, lse_others + tl_softplus(-delta), z_label + nll)
    p = tl.exp(-nll)
    q = tl_sigmoid(delta)
    entropy_others = log_total - row_moment / row_total * inv_temperature
    entropy = tl.where(p == 0.0, 0.0, p * nll) + tl.where(q == 0.0, 0.0, q * (tl_softplus(-delta) + entropy_others))
    entropy = tl.where(z_label == float("inf"), float("nan"), entropy)
    return z_label, lse_others, logprob, lse, entropy


@triton.jit
def _grad_at(
    x_ptr, dx_ptr, offs, mask, is_label, logprob, lse, lse_low, entropy, coef, coef_entropy, inv_temperature, softcap,
    HAS_LABEL: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_ENTROPY: tl.constexpr,
):  # fmt: skip
    """Writes row_grad's dx at offs where the mask is True; without HAS_LABEL the label is not there and `is_label` is None."""
    x = tl.load(x_ptr + offs, mask=mask, other=0.0, eviction_policy="evict_first").to(tl.float32)
    if HAS_SOFTCAP:
        t = tl_tanh(x * (1.0 / softcap))
        y = tl.where(x == float("inf"), x, softcap * t)
    else:
        y = x
    # NaN logits give NaN here, also where logprob and lse came from elsewhere.
    log_p = y * inv_temperature - lse
    # Above 0 only by the rounding of huge logits and of what was saved of them.
    p = tl.exp2(tl.minimum(log_p * LOG2E - lse_low * LOG2E, 0.0, propagate_nan=tl.PropagateNan.ALL))
    coef *= inv_temperature
    dx = -coef * p
    if HAS_LABEL:
        dx = tl.where(is_label, coef * -tl_expm1(logprob), dx)
    if HAS_ENTROPY:
        log_p -= lse_low
        if HAS_LABEL:
            log_p = tl.where(is_label, logprob, log_p)
        dx -= tl.where(p == 0.0, 0.0, coef_entropy * inv_temperature * p * (log_p + entropy))
    if HAS_SOFTCAP:
        # 1 - tanh^2 as a product: 1 - t is exact near 1.
        dx *= (1.0 - t) * (1.0 + t)
    tl.store(dx_ptr + offs, round_to(dx, dx_ptr.dtype.element_ty), mask=mask)


@triton.jit
def row_grad(
    x_ptr,
    dx_ptr,
    label,
    V,
    logprob,
    lse,
    entropy,
    coef,
    coef_entropy,
    inv_temperature,
    softcap,
    HAS_SOFTCAP: tl.constexpr,
    HAS_ENTROPY: tl.constexpr,
    BLOCK_V: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):
    """Writes the gradient dx [V] of a row x [V] whose coefficients are coef = dL/dlogprob and coef_entropy = dL/dentropy.

    dz_j = coef (1[j = label] - p_j) - coef_entropy p_j (log p_j + entropy), where the label's 1 - p is -expm1(logprob).
    A token with p = 0 gets 0. coef_entropy is read only with HAS_ENTROPY. dx may be x itself. A label outside [0, V) gives NaN.
    """
    VEC: tl.constexpr = 128 // x_ptr.dtype.element_ty.primitive_bitwidth
    LANES: tl.constexpr = BLOCK_V // VEC
    offs = row_offsets(BLOCK_V, VEC)
    inside = (label >= 0) & (label < V)
    label = tl.where(inside, label, -1).to(tl.int32)
    coef = tl.where(inside, coef, float("nan"))
    # lse was rounded when it was stored, which p of a row of large logits shows. Where the label is likely, the sum
    # z_label - logprob has it again with more digits; z_label - lse is exact there.
    z_label = tl.load(x_ptr + label, mask=inside, other=0.0).to(tl.float32)
    z_label = transform_logits(z_label, inv_temperature, softcap, HAS_SOFTCAP)
    lse_low = tl.where(tl.abs(logprob) < tl.abs(lse), (z_label - lse) - logprob, 0.0)
    # dx may be x: every warp has read the label's logit before any of them writes.
    tl.debug_barrier()
    # As in row_stats, the label and its neighbours come last.
    neighbours = tl.maximum(label, 0) // VEC
    for start in tl.range(0, V, BLOCK_V, num_stages=NUM_STAGES):
        mask = (offs < V - start) & (start // VEC + tl.arange(0, LANES) != neighbours)[:, None]
        _grad_at(
            x_ptr + start, dx_ptr + start, offs, mask, None, logprob, lse, lse_low, entropy, coef, coef_entropy,
            inv_temperature, softcap, False, HAS_SOFTCAP, HAS_ENTROPY,
        )  # fmt: skip
    offs = neighbours * VEC + tl.arange(0, VEC)[None, :]
    _grad_at(
        x_ptr, dx_ptr, offs, offs < V, offs == label, logprob, lse, lse_low, entropy, coef, coef_entropy, inv_temperature,
        softcap, True, HAS_SOFTCAP, HAS_ENTROPY,
    )  # fmt: skip


@triton.jit
def row_zero(dx_ptr, V, BLOCK_V: tl.constexpr):
    """Writes a row of zeros."""
    VEC: tl.constexpr = 128 // dx_ptr.dtype.element_ty.primitive_bitwidth
    offs = row_offsets(BLOCK_V, VEC)
    zeros = tl.zeros([BLOCK_V // VEC, VEC], dx_ptr.dtype.element_ty)
    for start in tl.range(0, V, BLOCK_V):
        tl.store(dx_ptr + start + offs, zeros, mask=offs < V - start)
