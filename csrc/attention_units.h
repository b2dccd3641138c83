// A score, and weights of a softmax as exp(score) / 2^reference with a whole number for reference: a change of
// reference is exact, so a sum has the same bits wherever its terms are cut into blocks.
#pragma once

#include "simd.h"

namespace himakernels {

// softcap * tanh(product * scale / softcap), or product * scale without a softcap (0): rounded, and the same bits
// wherever it is made, whatever becomes of it there. With a cap also t, the tanh.
template <class Vec>
HIMA_INLINE Vec score_of(Vec product, float scale, float softcap, float inverse_softcap, Vec* t) {
  const Vec s = product * scale;
  if (softcap == 0) return as_rounded(s);
  *t = tanh_vec<Vec>(as_rounded(s * inverse_softcap));
  return as_rounded(*t * softcap);
}

// The whole number nearest to x log2(e). Above 2^22 a score itself is known to no better than that.
template <class Vec>
HIMA_INLINE Vec whole_log2(Vec x) {
  const Vec t = x * 1.44269504088896341f;
  const Vec n = (t + 12582912.0f) - 12582912.0f;
  const Vec magnitude = t < 0.0f ? -t : t;
  return magnitude < 4194304.0f ? n : t;
}

// 2^n for whole n of -126 to 127.
template <class Vec>
HIMA_INLINE Vec normal_power_of_two(Vec n) {
  typedef typename VecTraits<Vec>::Int Int;
  typedef typename VecTraits<Vec>::Bits Bits;
  const Int whole = __builtin_convertvector(n, Int);
  const Bits bits = (__builtin_convertvector(whole, Bits) + 127) << 23;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return power;
}

// The same for n <= 127; 0 below the normal numbers.
template <class Vec>
HIMA_INLINE Vec power_of_two(Vec n) {
  return n < -126.0f ? Vec{} : normal_power_of_two(n < -126.0f ? broadcast<Vec>(-126) : n);
}

// exp(x) / 2^reference, for x up to the reference; what lies above it (a score that is not visible) gives some finite
// number. The mantissa comes from x alone.
template <class Vec>
HIMA_INLINE Vec exp_in_units(Vec x, Vec reference) {
  const Vec n = whole_log2(x);
  Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  r = r > 0.36f ? broadcast<Vec>(0.36f) : r;  // scores so large that their own rounding exceeds the range of r
  r = r < -0.36f ? broadcast<Vec>(-0.36f) : r;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Vec d = n - reference;
  Vec whole = d > 0.0f ? Vec{} : d;
  whole = whole < -126.0f ? broadcast<Vec>(-126) : whole;
  return d < -126.0f ? Vec{} : p * normal_power_of_two(whole);
}

}  // namespace himakernels
