// What is done to each row of logits [R, V] on the CPU: log-probability, log-sum-exp and entropy, and the gradient.
//
// A row is worked on by one thread from its own elements alone, in a fixed order: its bits depend on nothing else.
#pragma once

#include <cstdint>

namespace himakernels {

constexpr int64_t kIgnoreLabel = -100;

// z = softcap * tanh(x / softcap) * inv_temperature; softcap <= 0 means none.
struct LogitsTransform {
  double inv_temperature;
  double softcap;
};

// S is double for T = double, float otherwise. Labels are in [0, V) or kIgnoreLabel (all outputs 0).
template <class T, class S>
void logits_stats(const T* logits, int64_t row_stride, int64_t rows, int64_t vocab, const int64_t* labels,
                  LogitsTransform transform, S* logprobs, S* lse, S* entropy, int threads);

// For i < count, from row source[i] of logits and of the row vectors, writes row target[i] of dlogits:
//   coef (1[j = label] - p_j) - coef_entropy p_j (log p_j + H), times dz/dx.
// dlogits may be the logits themselves if no target is the source of another pair; D is T, or bf16 where T is float
// (then rows of dlogits begin where those of the logits do).
template <class T, class D, class S>
void logits_grad(const T* logits, int64_t row_stride, D* dlogits, int64_t dlogits_stride, int64_t vocab,
                 const int64_t* source, const int64_t* target, int64_t count, const int64_t* labels,
                 LogitsTransform transform, const S* logprobs, const S* lse, const S* entropy, const S* coef,
                 const S* coef_entropy, int threads);

}  // namespace himakernels
