#include "logits.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "half.h"
#include "parallel.h"
#include "simd.h"

namespace himakernels {
namespace {

constexpr int64_t kSmall = 1 << 16;  // logits below which a second thread costs more than it does (measured)
constexpr int64_t kBlock = 2048;     // elements summed in fp32 lanes before the sum moves to double

template <class Vec>
struct Transform {
  typedef typename VecTraits<Vec>::Scalar S;
  S inv_temperature, softcap, inv_softcap;
  bool capped;
  HIMA_INLINE explicit Transform(const LogitsTransform& t)
      : inv_temperature(static_cast<S>(t.inv_temperature)),
        softcap(static_cast<S>(t.softcap)),
        inv_softcap(t.softcap > 0 ? static_cast<S>(1.0 / t.softcap) : S(0)),
        capped(t.softcap > 0) {}
  HIMA_INLINE Vec value(Vec x) const {
    if (!capped) return as_rounded(x * inv_temperature);
    const S infinity = std::numeric_limits<S>::infinity();
    // An overflowed logit stays +inf, so that it shows in the result.
    return as_rounded((x == infinity ? x : tanh_vec<Vec>(x * inv_softcap) * softcap) * inv_temperature);
  }
};

// Calls body(z, is_padding-free vector) over x[begin:end]; the last, partial vector is padded with -inf.
template <class Vec, class T, class Body>
HIMA_INLINE void for_each_vec(const T* x, int64_t begin, int64_t end, const Transform<Vec>& transform,
                              const Body& body) {
  typedef typename VecTraits<Vec>::Scalar S;
  constexpr int64_t kWidth = kLanes<Vec>;
  int64_t j = begin;
  for (; j + kWidth <= end; j += kWidth) body(transform.value(load_vec<Vec>(x + j)));
  if (j < end) {
    Vec z = transform.value([&]() HIMA_INLINE_LAMBDA {
      Vec v{};
      for (int64_t l = 0; l < end - j; ++l) v[l] = static_cast<S>(to_float(x[j + l]));
      return v;
    }());
    for (int64_t l = end - j; l < kWidth; ++l) z[l] = -std::numeric_limits<S>::infinity();
    body(z);
  }
}

template <class Vec, class T, class S>
HIMA_INLINE void stats_row(const T* x, int64_t vocab, int64_t label, const Transform<Vec>& transform, S* logprob,
                           S* lse, S* entropy) {
  const double infinity = std::numeric_limits<double>::infinity();
  const int64_t ranges[2][2] = {{0, label}, {label + 1, vocab}};
  Vec top = broadcast<Vec>(-std::numeric_limits<S>::infinity());
  for (const auto& range : ranges)
    for_each_vec<Vec>(x, range[0], range[1], transform, [&](Vec z) HIMA_INLINE_LAMBDA { top = z > top ? z : top; });
  const S top_other = reduce_max(top);
  const S shift = top_other == -std::numeric_limits<S>::infinity() ? S(0) : top_other;

  // Over the tokens that are not the label: sum of e = exp(z - shift), and of e * (z - shift).
  double sum = 0, weighted = 0;
  for (const auto& range : ranges) {
    for (int64_t begin = range[0]; begin < range[1]; begin += kBlock) {
      Vec block_sum{}, block_weighted{};
      for_each_vec<Vec>(x, begin, std::min(range[1], begin + kBlock), transform, [&](Vec z) HIMA_INLINE_LAMBDA {
        const Vec d = z - shift;
        const Vec e = exp_vec<Vec>(d);
        block_sum += e;
        block_weighted += e * (d < S(-100) ? broadcast<Vec>(-100) : d);  // 0 * -inf would be NaN
      });
      sum += static_cast<double>(reduce_add(block_sum));
      weighted += static_cast<double>(reduce_add(block_weighted));
    }
  }
  const double label_z = static_cast<double>(transform.value(broadcast<Vec>(to_float(x[label])))[0]);
  const double lse_others = static_cast<double>(shift) + std::log(sum);
  // -logit of the label's probability; an overflowed label shows as NaN, as it does among the others (inf - inf).
  const double d = label_z == infinity ? std::numeric_limits<double>::quiet_NaN() : lse_others - label_z;
  const double softplus = d > 0 ? d + std::log1p(std::exp(-d)) : std::log1p(std::exp(d));   // -log p
  const double log_rest = d > 0 ? -std::log1p(std::exp(-d)) : d - std::log1p(std::exp(d));  // log(1 - p)
  const double p = std::exp(-softplus), rest = std::exp(log_rest);
  // H = H(label or not) + P(not) H(which of the others): no term cancels another.
  double h = p > 0 ? p * softplus : 0.0;
  if (rest > 0) h += rest * (std::log(sum) - weighted / sum - log_rest);
  // Added to the larger of the two: a masked label (-inf) leaves lse_others, a label alone leaves label_z.
  const double total = d > 0 ? lse_others + std::log1p(std::exp(-d)) : label_z + std::log1p(std::exp(d));
  *logprob = static_cast<S>(-softplus);
  *lse = static_cast<S>(total);
  *entropy = static_cast<S>(std::isnan(d) ? d : h);
}

// `out` may be the memory of x, also where its elements are shorter: nothing is written before what lies there was
// read. kEntropy: coef_entropy is not zero. Most losses have no entropy term, and then its arithmetic is left out.
template <bool kEntropy, class Vec, class T, class D, class S>
HIMA_INLINE void grad_row(const T* x, D* out, int64_t vocab, int64_t label, const Transform<Vec>& transform, S logprob,
                          S lse, S entropy, S coef, S coef_entropy) {
  constexpr int64_t kWidth = kLanes<Vec>;
  // The label first: out may be x.
  const S label_x = static_cast<S>(to_float(x[label]));
  const auto slope = [&](Vec v) HIMA_INLINE_LAMBDA {
    if (!transform.capped) return broadcast<Vec>(transform.inv_temperature);
    const Vec t = tanh_vec<Vec>(v * transform.inv_softcap);
    return (S(1) - t * t) * transform.inv_temperature;
  };
  const S rest = static_cast<S>(-std::expm1(static_cast<double>(logprob)));  // 1 - p, not formed by a subtraction
  const S finite_logprob = logprob < S(-100) ? S(-100) : logprob;            // 0 * -inf would be NaN
  S label_dz = coef * rest;
  if constexpr (kEntropy) label_dz -= coef_entropy * std::exp(logprob) * (finite_logprob + entropy);
  const S label_grad = label_dz * slope(broadcast<Vec>(label_x))[0];
  // lse was rounded when it was saved, which is lost in p of a row of large logits. Where the label is likely, the sum
  // label_z - logprob has it again with more digits than S holds.
  const double label_z = static_cast<double>(transform.value(broadcast<Vec>(label_x))[0]);
  const double wide_lse = std::fabs(logprob) < std::fabs(lse) ? label_z - static_cast<double>(logprob) : lse;
  const S lse_high = static_cast<S>(wide_lse);
  const S lse_low = static_cast<S>(wide_lse - lse_high);
  const auto grad = [&](Vec v) HIMA_INLINE_LAMBDA {
    // Above 0 only by the rounding of huge logits and of what was saved of them.
    Vec log_p = (transform.value(v) - lse_high) - lse_low;
    log_p = log_p > S(0) ? Vec{} : log_p;
    const Vec p = exp_vec<Vec>(log_p);
    if constexpr (!kEntropy) return -p * coef * slope(v);
    const Vec finite = log_p < S(-100) ? broadcast<Vec>(-100) : log_p;
    return -p * (coef + coef_entropy * (finite + entropy)) * slope(v);
  };
  int64_t j = 0;
  for (; j + kWidth <= vocab; j += kWidth) store_vec(out + j, grad(load_vec<Vec>(x + j)));
  if (j < vocab) {
    Vec v{};
    for (int64_t l = 0; l < vocab - j; ++l) v[l] = static_cast<S>(to_float(x[j + l]));
    const Vec g = grad(v);
    for (int64_t l = 0; l < vocab - j; ++l) store(out + j + l, static_cast<S>(g[l]));
  }
  store(out + label, label_grad);
}

// The same source for each instruction set; which one runs is chosen once per call.
template <class Vec, class T, class S>
HIMA_INLINE void stats_rows(const T* logits, int64_t row_stride, int64_t begin, int64_t end, int64_t vocab,
                            const int64_t* labels, const LogitsTransform& transform, S* logprobs, S* lse, S* entropy) {
  const Transform<Vec> t(transform);
  for (int64_t r = begin; r < end; ++r) {
    if (labels[r] == kIgnoreLabel) {
      logprobs[r] = lse[r] = entropy[r] = 0;
      continue;
    }
    stats_row<Vec>(logits + r * row_stride, vocab, labels[r], t, logprobs + r, lse + r, entropy + r);
  }
}

template <class Vec, class T, class D, class S>
HIMA_INLINE void grad_rows(const T* logits, int64_t row_stride, D* dlogits, int64_t dlogits_stride, int64_t vocab,
                           const int64_t* source, const int64_t* target, int64_t begin, int64_t end,
                           const int64_t* labels, const LogitsTransform& transform, const S* logprobs, const S* lse,
                           const S* entropy, const S* coef, const S* coef_entropy) {
  const Transform<Vec> t(transform);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t r = source[i];
    D* out = dlogits + target[i] * dlogits_stride;
    if (labels[r] == kIgnoreLabel || (coef[r] == 0 && coef_entropy[r] == 0)) {
      std::fill(out, out + vocab, D{});
      continue;
    }
    const T* x = logits + r * row_stride;
    if (coef_entropy[r] == 0)
      grad_row<false, Vec>(x, out, vocab, labels[r], t, logprobs[r], lse[r], entropy[r], coef[r], S(0));
    else
      grad_row<true, Vec>(x, out, vocab, labels[r], t, logprobs[r], lse[r], entropy[r], coef[r], coef_entropy[r]);
  }
}

#if defined(__x86_64__)
#define HIMA_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define HIMA_AVX2 __attribute__((target("avx2,fma")))
template <class... Args>
HIMA_AVX512 void stats_avx512(Args... args) {
  stats_rows<Vec16>(args...);
}
template <class... Args>
HIMA_AVX2 void stats_avx2(Args... args) {
  stats_rows<Vec8>(args...);
}
template <class... Args>
HIMA_AVX512 void grad_avx512(Args... args) {
  grad_rows<Vec16>(args...);
}
template <class... Args>
HIMA_AVX2 void grad_avx2(Args... args) {
  grad_rows<Vec8>(args...);
}
#endif

enum class Isa { kPortable, kAvx2, kAvx512 };
Isa pick_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return Isa::kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kPortable;
}
const Isa kIsa = pick_isa();

template <class... Args>
void run_stats(const double* logits, Args... args) {
  stats_rows<VecDouble>(logits, args...);
}
template <class T, class... Args>
void run_stats(const T* logits, Args... args) {
#if defined(__x86_64__)
  if (kIsa == Isa::kAvx512) return stats_avx512(logits, args...);
  if (kIsa == Isa::kAvx2) return stats_avx2(logits, args...);
#endif
  stats_rows<Vec4>(logits, args...);
}
template <class... Args>
void run_grad(const double* logits, Args... args) {
  grad_rows<VecDouble>(logits, args...);
}
template <class T, class... Args>
void run_grad(const T* logits, Args... args) {
#if defined(__x86_64__)
  if (kIsa == Isa::kAvx512) return grad_avx512(logits, args...);
  if (kIsa == Isa::kAvx2) return grad_avx2(logits, args...);
#endif
  grad_rows<Vec4>(logits, args...);
}

}  // namespace

template <class T, class S>
void logits_stats(const T* logits, int64_t row_stride, int64_t rows, int64_t vocab, const int64_t* labels,
                  LogitsTransform transform, S* logprobs, S* lse, S* entropy, int threads) {
  parallel_for(rows, rows * vocab < kSmall ? 1 : threads, [&](int64_t begin, int64_t end) {
    run_stats(logits, row_stride, begin, end, vocab, labels, transform, logprobs, lse, entropy);
  });
}

template <class T, class D, class S>
void logits_grad(const T* logits, int64_t row_stride, D* dlogits, int64_t dlogits_stride, int64_t vocab,
                 const int64_t* source, const int64_t* target, int64_t count, const int64_t* labels,
                 LogitsTransform transform, const S* logprobs, const S* lse, const S* entropy, const S* coef,
                 const S* coef_entropy, int threads) {
  parallel_for(count, count * vocab < kSmall ? 1 : threads, [&](int64_t begin, int64_t end) {
    run_grad(logits, row_stride, dlogits, dlogits_stride, vocab, source, target, begin, end, labels, transform,
             logprobs, lse, entropy, coef, coef_entropy);
  });
}

#define HIMA_INSTANTIATE_GRAD(T, D, S)                                                                                 \
  template void logits_grad<T, D, S>(const T*, int64_t, D*, int64_t, int64_t, const int64_t*, const int64_t*, int64_t, \
                                     const int64_t*, LogitsTransform, const S*, const S*, const S*, const S*,          \
                                     const S*, int);
#define HIMA_INSTANTIATE(T, S)                                                                                       \
  template void logits_stats<T, S>(const T*, int64_t, int64_t, int64_t, const int64_t*, LogitsTransform, S*, S*, S*, \
                                   int);                                                                             \
  HIMA_INSTANTIATE_GRAD(T, T, S)
HIMA_INSTANTIATE(float, float)
HIMA_INSTANTIATE(BFloat16, float)
HIMA_INSTANTIATE(Float16, float)
HIMA_INSTANTIATE(double, double)
HIMA_INSTANTIATE_GRAD(float, BFloat16, float)

}  // namespace himakernels
