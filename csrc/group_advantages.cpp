#include "group_advantages.h"

#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "parallel.h"

namespace himakernels {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kFailed = -1;           // the slot of a sample that counts for nothing
constexpr int64_t kParallelFrom = 65536;  // below, starting threads costs more than the writes that they share

struct Statistics {
  double sum = 0, low = kInf, high = -kInf;
  double mean = 0, squares = 0;  // squares: sum of squared deviations from the mean
  int64_t count = 0;
  double variance() const { return count > 1 ? squares / static_cast<double>(count - 1) : 0.0; }
};

// slot [samples]: the group of each sample, or kFailed. Sums run in sample order: bits depend on nothing else.
template <class Values>
void two_pass(const Values& values, const int64_t* slot, int64_t samples, std::vector<Statistics>& groups) {
  for (int64_t i = 0; i < samples; ++i) {
    if (slot[i] < 0) continue;
    Statistics& g = groups[slot[i]];
    const double x = values[i];
    g.sum += x;
    g.low = x < g.low ? x : g.low;
    g.high = x > g.high ? x : g.high;
    ++g.count;
  }
  for (Statistics& g : groups) {
    if (g.count == 0) continue;
    // Equal members have exactly their value as mean, so that their variance is exactly zero; inf has no mean.
    g.mean = g.low == g.high ? g.low : g.sum / static_cast<double>(g.count);
    if (!std::isfinite(g.sum)) g.mean = kNaN;
  }
  for (int64_t i = 0; i < samples; ++i) {
    if (slot[i] < 0) continue;
    Statistics& g = groups[slot[i]];
    const double d = values[i] - g.mean;
    g.squares += d * d;
  }
}

// advantage = (reward - centre) * scale
struct Affine {
  double centre, scale;
};

std::vector<Affine> affine_of(const std::vector<Statistics>& groups, const GroupAdvantagesOptions& options,
                              bool group_std) {
  std::vector<Affine> affine(groups.size());
  for (size_t k = 0; k < groups.size(); ++k) {
    const Statistics& g = groups[k];
    const double n = static_cast<double>(g.count);
    switch (options.normalize) {
      case Normalize::kStd:
        affine[k] = {g.mean, group_std ? 1.0 / (std::sqrt(g.variance()) + options.eps) : 1.0};
        break;
      case Normalize::kMean:
        affine[k] = {g.mean, 1.0};
        break;
      case Normalize::kLeaveOneOut:  // r - (sum - r) / (n - 1) = (r - mean) n / (n - 1)
        affine[k] = {g.mean, g.count > 1 ? n / (n - 1) : 1.0};
        break;
      case Normalize::kNone:
        affine[k] = {0.0, 1.0};
        break;
    }
  }
  return affine;
}

}  // namespace

template <class Real, class Id>
void group_advantages(const std::vector<Column<Real>>& rewards, const std::vector<double>& weights, Column<Id> group_id,
                      int64_t samples, int64_t groups, const GroupAdvantagesOptions& options,
                      GroupAdvantagesOutput<Real> out) {
  const std::unique_ptr<double[]> total(new double[samples]);   // weighted sum of a sample's rewards
  const std::unique_ptr<int64_t[]> slot(new int64_t[samples]);  // its group, or kFailed when all of them are NaN
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t g = static_cast<int64_t>(group_id[i]);
    if (g < 0 || g >= groups) {
      throw std::invalid_argument("group_id: expected values in [0, " + std::to_string(groups) + "), got " +
                                  std::to_string(g) + " at index " + std::to_string(i));
    }
    double sum = 0;
    bool scored = false;
    for (size_t m = 0; m < rewards.size(); ++m) {
      const double r = rewards[m][i];
      if (std::isnan(r)) continue;
      scored = true;
      sum += weights[m] * r;
    }
    total[i] = sum;
    slot[i] = scored ? g : kFailed;
  }

  std::vector<Statistics> stats(groups);
  two_pass(total.get(), slot.get(), samples, stats);
  for (int64_t k = 0; k < groups; ++k) {
    out.count[k] = stats[k].count;
    out.mean[k] = static_cast<Real>(stats[k].mean);
    out.variance[k] = static_cast<Real>(stats[k].variance());
  }

  if (options.normalize_then_sum) {
    const std::unique_ptr<double[]> sum(new double[samples]());
    const std::unique_ptr<int64_t[]> column_slot(new int64_t[samples]);
    for (size_t m = 0; m < rewards.size(); ++m) {
      for (int64_t i = 0; i < samples; ++i) {
        column_slot[i] = std::isnan(rewards[m][i]) ? kFailed : static_cast<int64_t>(group_id[i]);
      }
      std::vector<Statistics> column(groups);
      two_pass(rewards[m], column_slot.get(), samples, column);
      const std::vector<Affine> affine = affine_of(column, options, true);
      for (int64_t i = 0; i < samples; ++i) {
        if (column_slot[i] < 0) continue;
        const Affine a = affine[column_slot[i]];
        sum[i] += weights[m] * ((rewards[m][i] - a.centre) * a.scale);
      }
    }
    std::vector<Affine> affine(1, {0.0, 1.0});
    for (int64_t i = 0; i < samples; ++i) slot[i] = slot[i] < 0 ? kFailed : 0;
    if (options.scale_by_batch_std) {
      std::vector<Statistics> batch(1);
      two_pass(sum.get(), slot.get(), samples, batch);
      affine[0] = {batch[0].mean, 1.0 / (std::sqrt(batch[0].variance()) + options.eps)};
    }
    for (int64_t i = 0; i < samples; ++i) {
      out.advantages[i] = slot[i] < 0 ? Real(0) : static_cast<Real>((sum[i] - affine[0].centre) * affine[0].scale);
    }
    return;
  }

  std::vector<Affine> affine = affine_of(stats, options, !options.scale_by_batch_std);
  if (options.scale_by_batch_std) {
    const std::unique_ptr<int64_t[]> whole(new int64_t[samples]);
    for (int64_t i = 0; i < samples; ++i) whole[i] = slot[i] < 0 ? kFailed : 0;
    std::vector<Statistics> batch(1);
    two_pass(total.get(), whole.get(), samples, batch);
    const double scale = 1.0 / (std::sqrt(batch[0].variance()) + options.eps);
    for (Affine& a : affine) a.scale *= scale;
  }
  parallel_for(samples, samples < kParallelFrom ? 1 : options.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (slot[i] < 0) {
        out.advantages[i] = Real(0);
      } else {
        const Affine a = affine[slot[i]];
        out.advantages[i] = static_cast<Real>((total[i] - a.centre) * a.scale);
      }
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
