// Weights of a softmax as exp(score) / 2^reference with a whole number for reference: a change of reference is exact,
// so a sum has the same bits wherever its terms are cut into blocks.
#pragma once

#include "simd.h"

namespace himakernels {

// The whole number nearest to x log2(e). Above 2^22 a score itself is known to no better than that.
template <class Vec>
HIMA_INLINE Vec whole_log2(Vec x) {
  const Vec t = x * 1.44269504088896341f;
  const Vec n = (t + 12582912.0f) - 12582912.0f;
  const Vec magnitude = t < 0.0f ? -t : t;
  return magnitude < 4194304.0f ? n : t;
}

// 2^n for whole n <= 127; 0 below the normal numbers.
template <class Vec>
HIMA_INLINE Vec power_of_two(Vec n) {
  typedef typename VecTraits<Vec>::Int Int;
  const Vec clamped = n < -126.0f ? broadcast<Vec>(-126) : n;
  const Int bits = (__builtin_convertvector(clamped, Int) + 127) << 23;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return n < -126.0f ? Vec{} : power;
}

// exp(x) / 2^reference. The mantissa comes from x alone.
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
  return d < -126.0f ? Vec{} : p * power_of_two(d);
}

}  // namespace himakernels
