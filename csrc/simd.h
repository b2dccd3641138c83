// Short vectors in the compiler's own vector types, and exp and tanh over them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "half.h"

namespace himakernels {

#define HIMA_INLINE inline __attribute__((always_inline))
// For lambdas that take or give vectors: as functions of their own they would lack their caller's instruction set, and
// with it its way to pass a vector.
#define HIMA_INLINE_LAMBDA __attribute__((always_inline))

typedef float Vec4 __attribute__((vector_size(16)));
typedef float Vec8 __attribute__((vector_size(32)));
typedef float Vec16 __attribute__((vector_size(64)));
typedef double VecDouble __attribute__((vector_size(16)));

template <class Vec>
struct VecTraits;
template <>
struct VecTraits<Vec4> {
  typedef float Scalar;
  typedef int32_t Int __attribute__((vector_size(16)));
  typedef uint32_t Bits __attribute__((vector_size(16)));
};
template <>
struct VecTraits<Vec8> {
  typedef float Scalar;
  typedef int32_t Int __attribute__((vector_size(32)));
  typedef uint32_t Bits __attribute__((vector_size(32)));
};
template <>
struct VecTraits<Vec16> {
  typedef float Scalar;
  typedef int32_t Int __attribute__((vector_size(64)));
  typedef uint32_t Bits __attribute__((vector_size(64)));
};
template <>
struct VecTraits<VecDouble> {
  typedef double Scalar;
  typedef int64_t Int __attribute__((vector_size(16)));
};
template <class Vec>
constexpr int kLanes = sizeof(Vec) / sizeof(typename VecTraits<Vec>::Scalar);

template <class Vec, class S>
HIMA_INLINE Vec broadcast(S value) {
  return Vec{} + static_cast<typename VecTraits<Vec>::Scalar>(value);
}

template <class Vec, class T>
HIMA_INLINE Vec load_vec(const T* p) {
  Vec v;
  for (int i = 0; i < kLanes<Vec>; ++i) v[i] = to_float(p[i]);
  return v;
}
template <class Vec>
HIMA_INLINE Vec load_vec(const typename VecTraits<Vec>::Scalar* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class Vec>
HIMA_INLINE Vec load_vec(const BFloat16* p) {
  typedef typename VecTraits<Vec>::Bits Bits;
  typedef uint16_t Short __attribute__((vector_size(sizeof(Vec) / 2)));
  Short bits;
  std::memcpy(&bits, p, sizeof bits);
  const Bits wide = __builtin_convertvector(bits, Bits) << 16;
  Vec v;
  std::memcpy(&v, &wide, sizeof v);
  return v;
}

// Stores rounded to the type of the memory.
template <class Vec>
HIMA_INLINE void store_vec(Float16* p, Vec v) {
  for (int i = 0; i < kLanes<Vec>; ++i) store(p + i, v[i]);
}
template <class Vec>
HIMA_INLINE void store_vec(typename VecTraits<Vec>::Scalar* p, Vec v) {
  std::memcpy(p, &v, sizeof v);
}
template <class Vec>
HIMA_INLINE void store_vec(BFloat16* p, Vec v) {
  typedef typename VecTraits<Vec>::Bits Bits;
  typedef uint16_t Short __attribute__((vector_size(sizeof(Vec) / 2)));
  Bits bits;
  std::memcpy(&bits, &v, sizeof bits);
  const Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Short half = __builtin_convertvector(v == v ? rounded : Bits{} + 0x7fc0, Short);
  std::memcpy(p, &half, sizeof half);
}

template <class Vec>
HIMA_INLINE typename VecTraits<Vec>::Scalar reduce_add(Vec v) {
  typename VecTraits<Vec>::Scalar s = 0;
  for (int i = 0; i < kLanes<Vec>; ++i) s += v[i];
  return s;
}
template <class Vec>
HIMA_INLINE typename VecTraits<Vec>::Scalar reduce_max(Vec v) {
  typename VecTraits<Vec>::Scalar m = v[0];
  for (int i = 1; i < kLanes<Vec>; ++i) m = v[i] > m ? v[i] : m;
  return m;
}

// x as fp32 or fp64 holds it: what made it, a product perhaps, is not fused into the sum that follows. A maximum is a
// rounded number; an element that was not rounded can lie above it, and below it where it is the maximum itself.
template <class Vec>
HIMA_INLINE Vec as_rounded(Vec x) {
#if defined(__x86_64__)
  asm("" : "+v"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#else
  asm("" : "+m"(x));
#endif
  return x;
}

// exp(x) to about 1 ulp for x <= 88; 0 below -87.3 and at -inf; NaN stays NaN.
template <class Vec>
HIMA_INLINE Vec exp_vec(Vec x) {
  typedef typename VecTraits<Vec>::Bits Bits;
  const Vec shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: the integer lands in the low bits
  const Vec n = shifted - 12582912.0f;
  const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  Bits bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + 0x3f800000;
  Vec scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return x < -87.3f ? Vec{} : p * scale;
}
template <>
HIMA_INLINE VecDouble exp_vec(VecDouble x) {
  for (int i = 0; i < kLanes<VecDouble>; ++i) x[i] = std::exp(x[i]);
  return x;
}

// tanh(x): an odd polynomial near zero, where 1 - e would cancel; 1 - 2 e / (1 + e) with e = exp(-2 |x|) elsewhere,
// whose roundings all fall on the smaller term.
template <class Vec>
HIMA_INLINE Vec tanh_vec(Vec x) {
  const Vec z = x * x;
  Vec p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z + -5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z + -3.33332819422e-1f;
  const Vec near = p * z * x + x;
  const Vec magnitude = x < 0.0f ? -x : x;
  const Vec e = exp_vec(magnitude * -2.0f);
  const Vec far = 1.0f - (e + e) / (1.0f + e);
  return magnitude < 0.625f ? near : (x < 0.0f ? -far : far);
}
template <>
HIMA_INLINE VecDouble tanh_vec(VecDouble x) {
  for (int i = 0; i < kLanes<VecDouble>; ++i) x[i] = std::tanh(x[i]);
  return x;
}

}  // namespace himakernels
