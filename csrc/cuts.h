// The best way to cut a row of units into micro-batches.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace himakernels {

// The order of the units stays. Units [i, j) hold end[j] - end[i] tokens, and the shared[i] that unit i has in common
// with what is cut off: a size that grows with j and shrinks with i, so that the possible i of each j are a window that
// only moves forward, and one pass over j finds the best.
class Cuts {
 public:
  // shared: [units]; end: [units + 1] tokens of the forest before unit i; crossed: [units + 1] samples with rows both
  // before unit i and from it on.
  Cuts(std::vector<int64_t> shared, std::vector<int64_t> end, std::vector<int64_t> crossed);

  int64_t size(int64_t i, int64_t j) const { return end_[j] - end_[i] + shared_[i]; }

  // Where the micro-batches begin, and the number of units. Of the cuts that cost least, those with the smallest
  // largest micro-batch; of these, those with the largest smallest one. No unit may be larger than the budget.
  std::vector<int64_t> within(int64_t budget);

 private:
  // Pairs of a cut and a sample that it crosses (a sample that k cuts cross counts k times, so that a cut costs the
  // same wherever the others are), tokens repeated, micro-batches: compared in this order.
  using Cost = std::array<int64_t, 3>;
  static constexpr Cost kImpossible = {std::numeric_limits<int64_t>::max(), 0, 0};

  struct Best {  // of the first j units
    Cost cost = kImpossible;
    int64_t from = 0;         // the last micro-batch begins here
    Cost next = kImpossible;  // cost, with one more micro-batch that begins at j
  };

  // The least cost with every micro-batch of floor to cap tokens, or kImpossible.
  Cost solve(int64_t floor, int64_t cap);

  int64_t units_;
  std::vector<int64_t> shared_, end_, crossed_;
  std::vector<Best> best_;       // [units + 1]
  std::vector<int64_t> window_;  // possible beginnings, from the head of `solve` on; their costs ascend
};

}  // namespace himakernels
