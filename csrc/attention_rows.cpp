#include "attention_rows.h"

#include <limits>

#include "attention_units.h"
#include "simd.h"

namespace himakernels {
namespace {

constexpr int kVecs = 2;  // vectors to a row, as in the product's tile
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class Vec>
HIMA_INLINE Vec load(const float* p) {
  return load_vec<Vec>(p);
}
template <class Vec>
HIMA_INLINE void save(float* p, Vec v) {
  std::memcpy(p, &v, sizeof v);
}

template <class Vec>
HIMA_INLINE void scores(float* x, int64_t keys, const ScoreRule& rule) {
  const float inverse = rule.softcap > 0 ? 1 / rule.softcap : 0;
  Vec t{};
  for (int64_t i = 0; i < keys * kVecs; ++i, x += kLanes<Vec>)
    save(x, score_of(load<Vec>(x), rule.scale, rule.softcap, inverse, &t));
}

template <class Vec>
HIMA_INLINE void mask(float* x, int64_t keys, float value, const KeySlots& slots, const QueryLanes& queries,
                      int32_t window) {
  typedef typename VecTraits<Vec>::Int Int;
  const Vec hidden = broadcast<Vec>(value);
  for (int j = 0; j < kVecs; ++j) {
    Int token, position;
    std::memcpy(&token, queries.token + j * kLanes<Vec>, sizeof token);
    std::memcpy(&position, queries.position + j * kLanes<Vec>, sizeof position);
    for (int64_t i = 0; i < keys; ++i) {
      float* at = x + (i * kVecs + j) * kLanes<Vec>;
      Int visible = (token >= slots.token[i]) & (token < slots.end[i]);
      // Positions are >= 0, so that their difference fits.
      if (window != 0) visible &= position - slots.position[i] < window;
      save(at, visible ? load<Vec>(at) : hidden);
    }
  }
}

template <class Vec>
HIMA_INLINE void raise(const float* x, int64_t keys, SoftmaxState* state, float* values, int64_t rows) {
  for (int j = 0; j < kVecs; ++j) {
    const int lane = j * kLanes<Vec>;
    Vec top = broadcast<Vec>(-kInfinity);
    for (int64_t i = 0; i < keys; ++i) {
      const Vec s = load<Vec>(x + i * kVecs * kLanes<Vec> + lane);
      top = s > top ? s : top;
    }
    const Vec n = whole_log2(top), before = load<Vec>(state->reference + lane);
    const Vec after = n > before ? n : before;
    if (std::memcmp(&before, &after, sizeof after) == 0) continue;
    const Vec factor = power_of_two(before - after);
    save(state->reference + lane, after);
    save(state->sum + lane, load<Vec>(state->sum + lane) * factor);
    for (int64_t r = 0; r < rows; ++r) {
      float* at = values + r * kVecs * kLanes<Vec> + lane;
      save(at, load<Vec>(at) * factor);
    }
  }
}

template <class Vec>
HIMA_INLINE void weights(float* x, int64_t keys, SoftmaxState* state) {
  Vec reference[kVecs], sum[kVecs];
  for (int j = 0; j < kVecs; ++j) {
    reference[j] = load<Vec>(state->reference + j * kLanes<Vec>);
    sum[j] = load<Vec>(state->sum + j * kLanes<Vec>);
  }
  for (int64_t i = 0; i < keys; ++i) {
    for (int j = 0; j < kVecs; ++j, x += kLanes<Vec>) {
      const Vec p = exp_in_units(load<Vec>(x), reference[j]);
      save(x, p);
      sum[j] += p;
    }
  }
  for (int j = 0; j < kVecs; ++j) save(state->sum + j * kLanes<Vec>, sum[j]);
}

template <class Vec>
HIMA_INLINE void probabilities(float* x, float* slope, int64_t keys, const ScoreRule& rule, const float* reference,
                               const float* share) {
  const float inverse = rule.softcap > 0 ? 1 / rule.softcap : 0;
  Vec unit[kVecs], part[kVecs], t{};
  for (int j = 0; j < kVecs; ++j) {
    unit[j] = load<Vec>(reference + j * kLanes<Vec>);
    part[j] = load<Vec>(share + j * kLanes<Vec>);
  }
  for (int64_t i = 0; i < keys; ++i) {
    for (int j = 0; j < kVecs; ++j) {
      const int64_t at = (i * kVecs + j) * kLanes<Vec>;
      save(x + at, exp_in_units(score_of(load<Vec>(x + at), rule.scale, rule.softcap, inverse, &t), unit[j]) * part[j]);
      if (slope != nullptr) save(slope + at, 1.0f - t * t);
    }
  }
}

template <class Vec>
HIMA_INLINE void add_dots(const float* p, const float* dp, int64_t keys, float* delta) {
  Vec sum[kVecs];
  for (int j = 0; j < kVecs; ++j) sum[j] = load<Vec>(delta + j * kLanes<Vec>);
  for (int64_t i = 0; i < keys; ++i)
    for (int j = 0; j < kVecs; ++j, p += kLanes<Vec>, dp += kLanes<Vec>) sum[j] += load<Vec>(p) * load<Vec>(dp);
  for (int j = 0; j < kVecs; ++j) save(delta + j * kLanes<Vec>, sum[j]);
}

template <class Vec>
HIMA_INLINE void gradients(const float* p, float* dp, const float* slope, int64_t keys, const float* delta) {
  for (int64_t i = 0; i < keys; ++i) {
    for (int j = 0; j < kVecs; ++j) {
      const int64_t at = (i * kVecs + j) * kLanes<Vec>;
      const Vec ds = load<Vec>(p + at) * (load<Vec>(dp + at) - load<Vec>(delta + j * kLanes<Vec>));
      save(dp + at, slope != nullptr ? ds * load<Vec>(slope + at) : ds);
    }
  }
}

// The same source for each instruction set.
#define HIMA_ATTENTION_ROWS(isa, target, Vec)                                                                          \
  target void scores_##isa(float* x, int64_t keys, const ScoreRule& rule) { scores<Vec>(x, keys, rule); }              \
  target void mask_##isa(float* x, int64_t keys, float value, const KeySlots& slots, const QueryLanes& queries,        \
                         int32_t window) {                                                                             \
    mask<Vec>(x, keys, value, slots, queries, window);                                                                 \
  }                                                                                                                    \
  target void raise_##isa(const float* x, int64_t keys, SoftmaxState* state, float* values, int64_t rows) {            \
    raise<Vec>(x, keys, state, values, rows);                                                                          \
  }                                                                                                                    \
  target void weights_##isa(float* x, int64_t keys, SoftmaxState* state) { weights<Vec>(x, keys, state); }             \
  target void probabilities_##isa(float* x, float* slope, int64_t keys, const ScoreRule& rule, const float* reference, \
                                  const float* share) {                                                                \
    probabilities<Vec>(x, slope, keys, rule, reference, share);                                                        \
  }                                                                                                                    \
  target void add_dots_##isa(const float* p, const float* dp, int64_t keys, float* delta) {                            \
    add_dots<Vec>(p, dp, keys, delta);                                                                                 \
  }                                                                                                                    \
  target void gradients_##isa(const float* p, float* dp, const float* slope, int64_t keys, const float* delta) {       \
    gradients<Vec>(p, dp, slope, keys, delta);                                                                         \
  }                                                                                                                    \
  constexpr AttentionRows k_##isa{scores_##isa,        mask_##isa,     raise_##isa,    weights_##isa,                  \
                                  probabilities_##isa, add_dots_##isa, gradients_##isa};

HIMA_ATTENTION_ROWS(portable, , Vec4)
#if defined(__x86_64__)
HIMA_ATTENTION_ROWS(avx2, __attribute__((target("avx2,fma"))), Vec8)
HIMA_ATTENTION_ROWS(avx512, __attribute__((target("avx512f,fma"))), Vec16)
#endif

}  // namespace

AttentionRows pick_attention_rows(int64_t queries) {
#if defined(__x86_64__)
  if (queries == kVecs * kLanes<Vec16>) return k_avx512;
  if (queries == kVecs * kLanes<Vec8>) return k_avx2;
#endif
  return k_portable;
}

}  // namespace himakernels
