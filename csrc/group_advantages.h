// Ragged group statistics of rewards in two passes over fp64 accumulators, and the advantages that follow from them.
#pragma once

#include <cstdint>
#include <vector>

namespace himakernels {

enum class Normalize { kStd, kMean, kLeaveOneOut, kNone };

struct GroupAdvantagesOptions {
  Normalize normalize = Normalize::kStd;
  double eps = 1e-4;
  bool normalize_then_sum = false;
  bool scale_by_batch_std = false;
  int threads = 1;
};

// One column of values a sample, `stride` elements apart.
template <class T>
struct Column {
  const T* data;
  int64_t stride;
  T operator[](int64_t i) const { return data[i * stride]; }
};

template <class Real>
struct GroupAdvantagesOutput {
  Real* advantages;  // [samples]
  int64_t* count;    // [groups]
  Real* mean;        // [groups]
  Real* variance;    // [groups], ddof = 1
};

// rewards: one Column for each reward; weights: one number each. Throws std::invalid_argument for a group id outside
// [0, groups). What is computed does not depend on options.threads.
template <class Real, class Id>
void group_advantages(const std::vector<Column<Real>>& rewards, const std::vector<double>& weights, Column<Id> group_id,
                      int64_t samples, int64_t groups, const GroupAdvantagesOptions& options,
                      GroupAdvantagesOutput<Real> out);

}  // namespace himakernels
