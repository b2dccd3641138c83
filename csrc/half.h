// bf16 and fp16 <-> fp32 in integer arithmetic that every compiler vectorises; rounding is to nearest, ties to even.
#pragma once

#include <cstdint>
#include <cstring>

namespace himakernels {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

inline float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline uint32_t to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float to_float(float x) { return x; }
inline double to_float(double x) { return x; }
inline float to_float(BFloat16 x) { return from_bits(static_cast<uint32_t>(x.bits) << 16); }
inline float to_float(Float16 x) {
  // The exponent is re-biased by a multiplication with 2^112, which also makes subnormals right.
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  const uint32_t finite = to_bits(from_bits(magnitude) * 0x1p112f);
  const uint32_t special = magnitude | 0x7f800000u;
  return from_bits(sign | ((x.bits & 0x7c00u) == 0x7c00u ? special : finite));
}

inline void store(double* p, double x) { *p = x; }
inline void store(float* p, float x) { *p = x; }
inline void store(BFloat16* p, float x) {
  const uint32_t bits = to_bits(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  p->bits = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

inline void store(Float16* p, float x) {
  const uint32_t bits = to_bits(x), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  // Below 2^-14 the sum with 0.5 leaves the subnormal's bits at the bottom of the mantissa, already rounded.
  const uint32_t subnormal = to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t value = magnitude >= 0x47800000u ? special : magnitude < 0x38800000u ? subnormal : normal;
  p->bits = static_cast<uint16_t>(sign | value);
}

}  // namespace himakernels
