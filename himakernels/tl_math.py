"""Triton helpers that two or more kernels use: rounding, and elementary functions in fp32 without libdevice.

Elementary functions are within a few ulp of the exact value on their whole range and let NaN through.
"""

import os

import triton
import triton.language as tl

# @triton.jit reads the same variable at the same moment: at import.
INTERPRET = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def round_to(x, dtype: tl.constexpr):
    """fp32 x in `dtype`, rounded to nearest even; by hand for the interpreter, which truncates to bf16."""
    if INTERPRET and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        x = tl.where(x != x, x, bits.to(tl.uint32).to(tl.float32, bitcast=True))
    return x.to(dtype)


@triton.jit
def unfused_product(x, y):
    """x y as fp32 holds it: the sum that follows can't be fused with it, for this is a fused step already."""
    return tl.fma(x, y, 0.0)


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
        y = tl.where(x == float("inf"), x, unfused_product(tl_tanh(x * (1.0 / softcap)), softcap))
    return y


@triton.jit
def transform_logits(x, inv_temperature, softcap, HAS_SOFTCAP: tl.constexpr):
    """z = softcap * tanh(x / softcap) * inv_temperature, or z = x * inv_temperature."""
    return softcap_logits(x, softcap, HAS_SOFTCAP) * inv_temperature
