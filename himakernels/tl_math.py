"""Triton helpers that two or more kernels use: elementary functions in fp32 without libdevice, and an LM head's row.

Elementary functions are within a few ulp of the exact value on their whole range and let NaN through. The functions of
a row (row_stats, row_grad_block, the loops around the latter) are the whole arithmetic between logits and gradient: one
program owns a row, walks over it in blocks of BLOCK_V and depends on nothing else, so results are batch-invariant.
"""

import os

import triton
import triton.language as tl

# @triton.jit reads the same variable at the same moment: at import.
INTERPRET = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
LOG2E = tl.constexpr(1.4426950408889634)
# The least finite fp32: a running maximum starts here, so that it is never -inf and no difference is inf - inf.
LOWEST = tl.constexpr(-3.4028234663852886e38)
# Differences are clamped here: exp gives 0 there, and 0 times it is 0, where 0 times -inf would be NaN.
FAR = tl.constexpr(-1.0e30)


@triton.jit
def round_to(x, dtype: tl.constexpr):
    """fp32 x in `dtype`, rounded to nearest even; by hand for the interpreter, which truncates to bf16."""
    if INTERPRET and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        x = tl.where(x != x, x, bits.to(tl.uint32).to(tl.float32, bitcast=True))
    return x.to(dtype)


@triton.jit
def tl_expm1(x):
    """exp(x) - 1, accurate near 0."""
    # Taylor up to x^9 below 1/2; above it the subtraction loses less than two bits.
    s = 1.0 + x * (1.0 / 9)
    s = 1.0 + x * (1.0 / 8) * s
    s = 1.0 + x * (1.0 / 7) * s
    s = 1.0 + x * (1.0 / 6) * s
    s = 1.0 + x * (1.0 / 5) * s
    s = 1.0 + x * (1.0 / 4) * s
    s = 1.0 + x * (1.0 / 3) * s
    s = 1.0 + x * (1.0 / 2) * s
    return tl.where(tl.abs(x) < 0.5, x * s, tl.exp(x) - 1.0)


@triton.jit
def tl_expm1_minus(x):
    """exp(x) - 1 - x, accurate near 0 (where it is x^2 / 2)."""
    s = 1.0 + x * (1.0 / 13)
    s = 1.0 + x * (1.0 / 12) * s
    s = 1.0 + x * (1.0 / 11) * s
    s = 1.0 + x * (1.0 / 10) * s
    s = 1.0 + x * (1.0 / 9) * s
    s = 1.0 + x * (1.0 / 8) * s
    s = 1.0 + x * (1.0 / 7) * s
    s = 1.0 + x * (1.0 / 6) * s
    s = 1.0 + x * (1.0 / 5) * s
    s = 1.0 + x * (1.0 / 4) * s
    s = 1.0 + x * (1.0 / 3) * s
    e = tl.exp(x)
    # Above 32 the subtrahend is below a rounding; at inf it would give inf - inf.
    far = tl.where(x > 32.0, e, (e - 1.0) - x)
    return tl.where(tl.abs(x) < 1.0, 0.5 * x * x * s, far)


@triton.jit
def tl_log1p(x):
    """log(1 + x) for x >= 0, accurate for tiny x."""
    # 2 atanh(x / (2 + x)) below 1: the argument is at most 1/3, so s^17 / 17 is below a rounding.
    s = x / (2.0 + x)
    q = s * s
    p = 1.0 / 13 + q * (1.0 / 15)
    p = 1.0 / 11 + q * p
    p = 1.0 / 9 + q * p
    p = 1.0 / 7 + q * p
    p = 1.0 / 5 + q * p
    p = 1.0 / 3 + q * p
    return tl.where(x < 1.0, 2.0 * s + 2.0 * s * q * p, tl.log(1.0 + x))


@triton.jit
def tl_tanh(x):
    """tanh(x), accurate near 0; +-1 from |x| = 16 on, also at infinity."""
    a = tl.abs(x)
    t = tl_expm1(2.0 * tl.where(a > 16.0, 16.0, a))
    r = t / (t + 2.0)
    return tl.where(x < 0.0, -r, r)


@triton.jit
def tl_sigmoid(x):
    """1 / (1 + exp(-x)) without overflow, accurate at both ends."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x < 0.0, e, 1.0) / (1.0 + e)


@triton.jit
def tl_softplus(x):
    """log(1 + exp(x)): exp(x) far below 0, x far above."""
    return tl.where(x > 0.0, x, 0.0) + tl_log1p(tl.exp(-tl.abs(x)))


@triton.jit
def softcap_logits(x, softcap, HAS_SOFTCAP: tl.constexpr):
    """softcap * tanh(x / softcap); an overflowed logit (+inf) stays +inf, so that it shows in the result."""
    y = x
    if HAS_SOFTCAP:
        y = tl.where(x == float("inf"), x, softcap * tl_tanh(x * (1.0 / softcap)))
    return y


@triton.jit
def transform_logits(x, inv_temperature, softcap, HAS_SOFTCAP: tl.constexpr):
    """z = softcap * tanh(x / softcap) * inv_temperature, or z = x * inv_temperature."""
    return softcap_logits(x, softcap, HAS_SOFTCAP) * inv_temperature


@triton.jit
def row_offsets(BLOCK_V: tl.constexpr, VEC: tl.constexpr):
    """[BLOCK_V / VEC, VEC] offsets: VEC neighbours (16 bytes) belong to one thread, so sums over axis 1 stay in it."""
    return tl.arange(0, BLOCK_V // VEC)[:, None] * VEC + tl.arange(0, VEC)[None, :]


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
    # e * (y - maximum).
    top = tl.full([LANES], LOWEST, tl.float32)
    total = tl.zeros([LANES], tl.float32)
    moment = tl.zeros([LANES], tl.float32)
    for start in tl.range(0, V, BLOCK_V, num_stages=NUM_STAGES):
        mask = offs < V - start
        policy: tl.constexpr = "evict_last" if KEEP_IN_L2 else ""
        x = tl.load(x_ptr + start + offs, mask=mask, other=float("-inf"), eviction_policy=policy).to(tl.float32)
        y = softcap_logits(x, softcap, HAS_SOFTCAP)
        if HAS_SOFTCAP:
            # The cap would turn the padding's -inf into -softcap.
            y = tl.where(mask, y, float("-inf"))
        y = tl.where(offs == label - start, float("-inf"), y)
        new_top = tl.maximum(top, tl.max(y, axis=1))
        shift = tl.maximum(top - new_top, FAR, propagate_nan=tl.PropagateNan.ALL)
        decay = tl.exp2(shift * scale)
        gap = tl.maximum(y - new_top[:, None], FAR, propagate_nan=tl.PropagateNan.ALL)
        e = tl.exp2(gap * scale)
        moment = decay * (moment + total * shift) + tl.sum(e * gap, axis=1)
        total = decay * total + tl.sum(e, axis=1)
        top = new_top

    # Merge the lanes. inf - inf makes an overflowed row NaN here.
    row_top = tl.max(top, axis=0)
    shift = tl.maximum(top - row_top, FAR, propagate_nan=tl.PropagateNan.ALL)
    decay = tl.exp2(shift * scale)
    row_moment = tl.sum(decay * (moment + total * shift), axis=0)
    row_total = tl.sum(decay * total, axis=0)
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
def row_grad_block(
    x,
    is_label,
    logprob,
    lse,
    lse_low,
    entropy,
    coef,
    coef_entropy,
    inv_temperature,
    softcap,
    HAS_SOFTCAP: tl.constexpr,
    HAS_ENTROPY: tl.constexpr,
):
    """dlogits of a block x (fp32) of one row whose gradients are coef = dL/dlogprob and coef_entropy = dL/dentropy.

    dz_j = coef (1[j = label] - p_j) - coef_entropy p_j (log p_j + entropy), where the label's 1 - p is -expm1(logprob).
    lse + lse_low is the log-sum-exp. A token with p = 0 gets 0. coef_entropy is read only with HAS_ENTROPY.
    """
    if HAS_SOFTCAP:
        t = tl_tanh(x * (1.0 / softcap))
        y = tl.where(x == float("inf"), x, softcap * t)
    else:
        y = x
    # NaN logits give NaN here, also where logprob and lse came from elsewhere.
    log_p = (y * inv_temperature - lse) - lse_low
    p = tl.exp(log_p)
    dz = tl.where(is_label, coef * -tl_expm1(logprob), -coef * p)
    if HAS_ENTROPY:
        log_p = tl.where(is_label, logprob, log_p)
        dz -= tl.where(p == 0.0, 0.0, coef_entropy * p * (log_p + entropy))
    dz *= inv_temperature
    if HAS_SOFTCAP:
        # 1 - tanh^2 as a product: 1 - t is exact near 1.
        dz *= (1.0 - t) * (1.0 + t)
    return dz


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
    """Writes the row dx [V] = row_grad_block of x [V]; dx may be x itself. A label outside [0, V) gives NaN."""
    VEC: tl.constexpr = 128 // x_ptr.dtype.element_ty.primitive_bitwidth
    offs = row_offsets(BLOCK_V, VEC)
    inside = (label >= 0) & (label < V)
    label = tl.where(inside, label, -1).to(tl.int32)
    coef = tl.where(inside, coef, float("nan"))
    # lse was rounded when it was stored, which p of a row of large logits shows. Where the label is likely, the sum
    # z_label - logprob has it again with more digits; z_label - lse is exact there.
    z_label = tl.load(x_ptr + label, mask=inside, other=0.0).to(tl.float32)
    z_label = transform_logits(z_label, inv_temperature, softcap, HAS_SOFTCAP)
    lse_low = tl.where(tl.abs(logprob) < tl.abs(lse), (z_label - lse) - logprob, 0.0)
    for start in tl.range(0, V, BLOCK_V, num_stages=NUM_STAGES):
        mask = offs < V - start
        x = tl.load(x_ptr + start + offs, mask=mask, other=0.0, eviction_policy="evict_first").to(tl.float32)
        dx = row_grad_block(
            x,
            offs == label - start,
            logprob,
            lse,
            lse_low,
            entropy,
            coef,
            coef_entropy,
            inv_temperature,
            softcap,
            HAS_SOFTCAP,
            HAS_ENTROPY,
        )
        tl.store(dx_ptr + start + offs, round_to(dx, dx_ptr.dtype.element_ty), mask=mask)


@triton.jit
def row_zero(dx_ptr, V, BLOCK_V: tl.constexpr):
    """Writes a row of zeros."""
    VEC: tl.constexpr = 128 // dx_ptr.dtype.element_ty.primitive_bitwidth
    offs = row_offsets(BLOCK_V, VEC)
    zeros = tl.zeros([BLOCK_V // VEC, VEC], dx_ptr.dtype.element_ty)
    for start in tl.range(0, V, BLOCK_V):
        tl.store(dx_ptr + start + offs, zeros, mask=offs < V - start)
