#include "round.h"

#include "simd.h"

namespace himakernels {
namespace {

// Plain loops: each is compiled once per instruction set, and the compiler makes vectors of it.
HIMA_INLINE void round_loop(const float* from, BFloat16* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) store(to + i, from[i]);
}

HIMA_INLINE uint32_t word(float x) {
  BFloat16 half;
  store(&half, x);
  return half.bits;
}
HIMA_INLINE uint32_t word(BFloat16 x) { return x.bits; }

template <class T>
HIMA_INLINE void pair_loop(const T* a, const T* b, uint32_t* to, int64_t count) {
  if (b == nullptr) {
    for (int64_t i = 0; i < count; ++i) to[i] = word(a[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = word(a[i]) | word(b[i]) << 16;
  }
}

#if defined(__x86_64__)
#define HIMA_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
HIMA_AVX512 void round_avx512(const float* from, BFloat16* to, int64_t count) { round_loop(from, to, count); }
HIMA_AVX512 void pair_avx512(const float* a, const float* b, uint32_t* to, int64_t count) {
  pair_loop(a, b, to, count);
}
HIMA_AVX512 void pair_avx512(const BFloat16* a, const BFloat16* b, uint32_t* to, int64_t count) {
  pair_loop(a, b, to, count);
}
const bool kAvx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif

}  // namespace

void round_row(const float* from, BFloat16* to, int64_t count) {
#if defined(__x86_64__)
  if (kAvx512) return round_avx512(from, to, count);
#endif
  round_loop(from, to, count);
}

void pair_rows(const float* a, const float* b, uint32_t* to, int64_t count) {
#if defined(__x86_64__)
  if (kAvx512) return pair_avx512(a, b, to, count);
#endif
  pair_loop(a, b, to, count);
}

void pair_rows(const BFloat16* a, const BFloat16* b, uint32_t* to, int64_t count) {
#if defined(__x86_64__)
  if (kAvx512) return pair_avx512(a, b, to, count);
#endif
  pair_loop(a, b, to, count);
}

}  // namespace himakernels
