#include "paged_rows.h"

#include <algorithm>
#include <limits>

#include "attention_units.h"
#include "simd.h"

namespace himakernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class Vec>
HIMA_INLINE Vec load(const float* p) {
  return load_vec<Vec>(p);
}
template <class Vec>
HIMA_INLINE void save(float* p, Vec v) {
  std::memcpy(p, &v, sizeof v);
}

// Registers hold the sums of as many queries as there are vectors for.
template <class Vec>
constexpr int kProductQueries = kLanes<Vec> / 2;
template <class Vec>
constexpr int kValueQueries = kLanes<Vec> == 16 ? 4 : 2;

template <class Vec, int kQueries>
HIMA_INLINE void products_of(const float* q, int64_t head_dim, const float* panel, float* x) {
  constexpr int kVecs = kPanelKeys / kLanes<Vec>;
  Vec sum[kQueries][kVecs] = {};
  for (int64_t d = 0; d < head_dim; ++d, panel += kPanelKeys) {
    Vec key[kVecs];
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) key[j] = load<Vec>(panel + j * kLanes<Vec>);
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVecs; ++j) sum[i][j] += key[j] * q[i * head_dim + d];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) save(x + i * kScoreStride + j * kLanes<Vec>, sum[i][j]);
  }
}

template <class Vec>
HIMA_INLINE void products(int64_t queries, const float* q, int64_t head_dim, const float* panel, float* x) {
  while (queries > 0) {
    int64_t done = 1;
    if (kProductQueries<Vec> >= 8 && queries >= 8) {
      products_of<Vec, 8>(q, head_dim, panel, x);
      done = 8;
    } else if (kProductQueries<Vec> >= 4 && queries >= 4) {
      products_of<Vec, 4>(q, head_dim, panel, x);
      done = 4;
    } else if (queries >= 2) {
      products_of<Vec, 2>(q, head_dim, panel, x);
      done = 2;
    } else {
      products_of<Vec, 1>(q, head_dim, panel, x);
    }
    queries -= done;
    q += done * head_dim;
    x += done * kScoreStride;
  }
}

template <class Vec>
HIMA_INLINE void weights(float* x, int64_t keys, int64_t first, int64_t last, const ScoreRule& rule, float* reference,
                         float* sum, float* values, int64_t width) {
  const float scale = rule.scale, cap = rule.softcap, inverse = cap > 0 ? 1 / cap : 0;
  Vec t{};
  for (int64_t k = 0; k < keys; k += kLanes<Vec>) {
    save(x + k, score_of(load<Vec>(x + k), scale, cap, inverse, &t));
  }
  std::fill(x, x + first, -kInfinity);
  std::fill(x + last, x + keys, -kInfinity);
  Vec top = broadcast<Vec>(-kInfinity);
  for (int64_t k = 0; k < keys; k += kLanes<Vec>) {
    const Vec s = load<Vec>(x + k);
    top = s > top ? s : top;
  }
  const Vec n = whole_log2(broadcast<Vec>(reduce_max(top))), before = broadcast<Vec>(*reference);
  const Vec after = n > before ? n : before;
  if (after[0] != before[0]) {
    const Vec factor = power_of_two(before - after);
    *reference = after[0];
    *sum *= factor[0];
    for (int64_t d = 0; d < width; d += kLanes<Vec>) save(values + d, load<Vec>(values + d) * factor);
  }
  for (int64_t k = 0; k < keys; k += kLanes<Vec>) save(x + k, exp_in_units(load<Vec>(x + k), after));
}

// The columns [0, kVecs vectors) of v and values; the first ones count the sum, too.
template <class Vec, int kQueries, int kVecs>
HIMA_INLINE void add_columns(const float* x, int64_t keys, const float* v, int64_t v_stride, int64_t width,
                             float* values, float* sum) {
  Vec total[kQueries], value[kQueries][kVecs];
#pragma GCC unroll 4
  for (int i = 0; i < kQueries; ++i) {
    total[i] = broadcast<Vec>(sum != nullptr ? sum[i] : 0.0f);
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) value[i][j] = load<Vec>(values + i * width + j * kLanes<Vec>);
  }
  for (int64_t k = 0; k < keys; ++k, v += v_stride) {
    Vec row[kVecs];
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) row[j] = load<Vec>(v + j * kLanes<Vec>);
#pragma GCC unroll 4
    for (int i = 0; i < kQueries; ++i) {
      const Vec p = broadcast<Vec>(x[i * kScoreStride + k]);
      if (sum != nullptr) total[i] += p;
#pragma GCC unroll 4
      for (int j = 0; j < kVecs; ++j) value[i][j] += row[j] * p;
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kQueries; ++i) {
    if (sum != nullptr) sum[i] = total[i][0];
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) save(values + i * width + j * kLanes<Vec>, value[i][j]);
  }
}

template <class Vec, int kQueries>
HIMA_INLINE void add_rows(const float* x, int64_t keys, const float* v, int64_t v_stride, int64_t width, float* values,
                          float* sum) {
  int64_t d = 0;
  for (; d + 4 * kLanes<Vec> <= width; d += 4 * kLanes<Vec>)
    add_columns<Vec, kQueries, 4>(x, keys, v + d, v_stride, width, values + d, d == 0 ? sum : nullptr);
  for (; d < width; d += kLanes<Vec>)
    add_columns<Vec, kQueries, 1>(x, keys, v + d, v_stride, width, values + d, d == 0 ? sum : nullptr);
}

template <class Vec>
HIMA_INLINE void add_values(int64_t queries, const float* x, int64_t keys, const float* v, int64_t v_stride,
                            int64_t width, float* values, float* sum) {
  while (queries > 0) {
    int64_t done = 1;
    if (kValueQueries<Vec> >= 4 && queries >= 4) {
      add_rows<Vec, 4>(x, keys, v, v_stride, width, values, sum);
      done = 4;
    } else if (queries >= 2) {
      add_rows<Vec, 2>(x, keys, v, v_stride, width, values, sum);
      done = 2;
    } else {
      add_rows<Vec, 1>(x, keys, v, v_stride, width, values, sum);
    }
    queries -= done;
    x += done * kScoreStride;
    values += done * width;
    sum += done;
  }
}

// The same source for each instruction set.
#define HIMA_PAGED_ROWS(isa, target, Vec)                                                                       \
  target void products_##isa(int64_t queries, const float* q, int64_t head_dim, const float* panel, float* x) { \
    products<Vec>(queries, q, head_dim, panel, x);                                                              \
  }                                                                                                             \
  target void weights_##isa(float* x, int64_t keys, int64_t first, int64_t last, const ScoreRule& rule,         \
                            float* reference, float* sum, float* values, int64_t width) {                       \
    weights<Vec>(x, keys, first, last, rule, reference, sum, values, width);                                    \
  }                                                                                                             \
  target void add_values_##isa(int64_t queries, const float* x, int64_t keys, const float* v, int64_t v_stride, \
                               int64_t width, float* values, float* sum) {                                      \
    add_values<Vec>(queries, x, keys, v, v_stride, width, values, sum);                                         \
  }                                                                                                             \
  constexpr PagedRows k_##isa{products_##isa, weights_##isa, add_values_##isa};

HIMA_PAGED_ROWS(portable, , Vec4)
#if defined(__x86_64__)
HIMA_PAGED_ROWS(avx2, __attribute__((target("avx2,fma"))), Vec8)
HIMA_PAGED_ROWS(avx512, __attribute__((target("avx512f,fma"))), Vec16)
#endif

}  // namespace

PagedRows pick_paged_rows() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return k_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return k_avx2;
#endif
  return k_portable;
}

}  // namespace himakernels
