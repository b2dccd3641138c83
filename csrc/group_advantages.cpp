#include "group_advantages.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "parallel.h"

namespace himakernels {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kParallelFrom = 65536;  // below, starting threads costs more than the writes that they share

// One group's, 32 bytes: what a sample touches lies in one cache line.
struct Statistics {
  double mean = 0;     // while the first pass runs: the pivot, which is the first member
  double sum = 0;      // of the members' distances from the pivot
  double squares = 0;  // of their deviations from the mean
  int64_t count = 0;

  void add(double x) {
    mean = count == 0 ? x : mean;
    sum += x - mean;
    ++count;
  }
  // Equal members have exactly their value as mean, so that their variance is exactly zero. inf has no mean.
  void end_first_pass() {
    if (count > 0) mean += sum / static_cast<double>(count);
    if (!std::isfinite(mean)) mean = kNaN;
  }
  void add_deviation(double x) { squares += (x - mean) * (x - mean); }
  double variance() const { return squares / static_cast<double>(std::max<int64_t>(count - 1, 1)); }
};

// Ends the first pass and runs the second. The last entry, of the samples that count for nothing, stays empty.
void second_pass(const double* value, const int64_t* slot, int64_t samples, std::vector<Statistics>& stats) {
  stats.back() = Statistics();
  for (Statistics& g : stats) g.end_first_pass();
  Statistics* g = stats.data();
  for (int64_t i = 0; i < samples; ++i) g[slot[i]].add_deviation(value[i]);
  stats.back() = Statistics();
}

// value [samples]; slot [samples]: the group of each sample, or `groups` for one that counts for nothing. Returns one
// entry a group and an empty one. Sums run in sample order: bits depend on nothing else.
std::vector<Statistics> two_pass(const double* value, const int64_t* slot, int64_t samples, int64_t groups) {
  std::vector<Statistics> stats(groups + 1);
  for (int64_t i = 0; i < samples; ++i) stats[slot[i]].add(value[i]);
  second_pass(value, slot, samples, stats);
  return stats;
}

// advantage = (reward - centre) * scale
struct Affine {
  double centre, scale;
};

Affine affine_of(const Statistics& g, const GroupAdvantagesOptions& options, bool by_group_std) {
  const double n = static_cast<double>(g.count);
  switch (options.normalize) {
    case Normalize::kStd:
      return {g.mean, by_group_std ? 1.0 / (std::sqrt(g.variance()) + options.eps) : 1.0};
    case Normalize::kLeaveOneOut:  // r - (sum - r) / (n - 1) = (r - mean) n / (n - 1)
      return {g.mean, g.count > 1 ? n / (n - 1) : 1.0};
    case Normalize::kMean:
      return {g.mean, 1.0};
    case Normalize::kNone:
      break;
  }
  return {0.0, 1.0};
}

// One entry a group; the last one, for samples that count for nothing, makes every value zero.
std::vector<Affine> affine_of(const std::vector<Statistics>& stats, const GroupAdvantagesOptions& options,
                              bool by_group_std) {
  std::vector<Affine> affine;
  affine.reserve(stats.size());
  for (const Statistics& g : stats) affine.push_back(affine_of(g, options, by_group_std));
  affine.back() = {0.0, 0.0};
  return affine;
}

// The whole batch as one group: slot 0, or 1 for a sample that counts for nothing.
Statistics batch_statistics(const double* value, const int64_t* slot, int64_t samples, int64_t groups) {
  const std::unique_ptr<int64_t[]> batch_slot(new int64_t[samples]);
  for (int64_t i = 0; i < samples; ++i) batch_slot[i] = slot[i] == groups;
  return two_pass(value, batch_slot.get(), samples, 1)[0];
}

}  // namespace

template <class Real, class Id>
void group_advantages(const std::vector<Column<Real>>& rewards, const std::vector<double>& weights, Column<Id> group_id,
                      int64_t samples, int64_t groups, const GroupAdvantagesOptions& options,
                      GroupAdvantagesOutput<Real> out) {
  std::unique_ptr<double[]> value(new double[samples]);  // weighted sum of a sample's rewards; 0 where all are NaN
  const std::unique_ptr<int64_t[]> slot(new int64_t[samples]);  // its group, or `groups` where all are NaN
  std::vector<Statistics> stats(groups + 1);
  const bool plain = rewards.size() == 1 && weights[0] == 1.0;
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t g = static_cast<int64_t>(group_id[i]);
    if (static_cast<uint64_t>(g) >= static_cast<uint64_t>(groups)) {
      throw std::invalid_argument("group_id: expected values in [0, " + std::to_string(groups) + "), got " +
                                  std::to_string(g) + " at index " + std::to_string(i));
    }
    double sum;
    bool scored;
    if (plain) {
      sum = rewards[0][i];
      scored = !std::isnan(sum);
      sum = scored ? sum : 0.0;
    } else {
      sum = 0;
      scored = false;
      for (size_t m = 0; m < rewards.size(); ++m) {
        const double r = rewards[m][i];
        if (std::isnan(r)) continue;
        sum += weights[m] * r;
        scored = true;
      }
    }
    value[i] = sum;
    slot[i] = scored ? g : groups;
    stats[slot[i]].add(sum);
  }
  second_pass(value.get(), slot.get(), samples, stats);
  for (int64_t k = 0; k < groups; ++k) {
    out.count[k] = stats[k].count;
    out.mean[k] = static_cast<Real>(stats[k].mean);
    out.variance[k] = static_cast<Real>(stats[k].variance());
  }

  std::vector<Affine> affine;
  if (options.normalize_then_sum) {
    std::unique_ptr<double[]> summed(new double[samples]());
    const std::unique_ptr<double[]> reward(new double[samples]);
    const std::unique_ptr<int64_t[]> column_slot(new int64_t[samples]);
    for (size_t m = 0; m < rewards.size(); ++m) {
      for (int64_t i = 0; i < samples; ++i) {
        const double r = rewards[m][i];
        reward[i] = std::isnan(r) ? 0.0 : r;
        column_slot[i] = std::isnan(r) ? groups : slot[i];
      }
      const std::vector<Affine> column =
          affine_of(two_pass(reward.get(), column_slot.get(), samples, groups), options, true);
      for (int64_t i = 0; i < samples; ++i) {
        const Affine a = column[column_slot[i]];
        summed[i] += weights[m] * ((reward[i] - a.centre) * a.scale);
      }
    }
    value = std::move(summed);
    affine.assign(groups + 1, {0.0, 1.0});
    if (options.scale_by_batch_std) {
      const Statistics batch = batch_statistics(value.get(), slot.get(), samples, groups);
      affine.assign(groups + 1, {batch.mean, 1.0 / (std::sqrt(batch.variance()) + options.eps)});
    }
    affine.back() = {0.0, 0.0};
  } else {
    affine = affine_of(stats, options, !options.scale_by_batch_std);
    if (options.scale_by_batch_std) {
      const Statistics batch = batch_statistics(value.get(), slot.get(), samples, groups);
      for (Affine& a : affine) a.scale /= std::sqrt(batch.variance()) + options.eps;
      affine.back() = {0.0, 0.0};
    }
  }
  parallel_for(samples, samples < kParallelFrom ? 1 : options.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Affine a = affine[slot[i]];
      out.advantages[i] = static_cast<Real>((value[i] - a.centre) * a.scale);
    }
  });
}

#define HIMA_INSTANTIATE(Real, Id)                                                                                   \
  template void group_advantages<Real, Id>(const std::vector<Column<Real>>&, const std::vector<double>&, Column<Id>, \
                                           int64_t, int64_t, const GroupAdvantagesOptions&,                          \
                                           GroupAdvantagesOutput<Real>);
HIMA_INSTANTIATE(float, int32_t)
HIMA_INSTANTIATE(float, int64_t)
HIMA_INSTANTIATE(double, int32_t)
HIMA_INSTANTIATE(double, int64_t)
#undef HIMA_INSTANTIATE

}  // namespace himakernels
