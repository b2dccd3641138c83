#include "cuts.h"

#include <algorithm>
#include <utility>

namespace himakernels {

Cuts::Cuts(std::vector<int64_t> shared, std::vector<int64_t> end, std::vector<int64_t> crossed)
    : units_(static_cast<int64_t>(shared.size())),
      shared_(std::move(shared)),
      end_(std::move(end)),
      crossed_(std::move(crossed)),
      best_(units_ + 1) {}

std::vector<int64_t> Cuts::within(int64_t budget) {
  const Cost cost = solve(0, budget);
  const int64_t tokens = end_[units_] + cost[1], batches = cost[2];
  int64_t cap = std::min(budget, tokens), floor = 0;
  for (int64_t low = (tokens + batches - 1) / batches; low < cap;) {
    const int64_t middle = low + (cap - low) / 2;
    if (solve(0, middle) == cost) {
      cap = middle;
    } else {
      low = middle + 1;
    }
  }
  for (int64_t high = tokens / batches; floor < high;) {
    const int64_t middle = high - (high - floor) / 2;
    if (solve(middle, cap) == cost) {
      floor = middle;
    } else {
      high = middle - 1;
    }
  }
  solve(floor, cap);
  std::vector<int64_t> begin = {units_};
  while (begin.back() > 0) begin.push_back(best_[begin.back()].from);
  std::reverse(begin.begin(), begin.end());
  return begin;
}

Cuts::Cost Cuts::solve(int64_t floor, int64_t cap) {
  best_[0].cost = {0, 0, 0};
  best_[0].next = {0, 0, 1};
  window_.clear();
  size_t head = 0;
  int64_t entered = 0;
  for (int64_t j = 1; j <= units_; ++j) {
    for (; entered < j && size(entered, j) >= floor; ++entered) {
      if (best_[entered].cost == kImpossible) continue;
      while (window_.size() > head && best_[window_.back()].next > best_[entered].next) window_.pop_back();
      window_.push_back(entered);
    }
    while (head < window_.size() && size(window_[head], j) > cap) ++head;
    Best& best = best_[j];
    best.cost = kImpossible;
    if (head == window_.size()) continue;
    best.from = window_[head];
    best.cost = best_[best.from].next;
    if (j < units_) best.next = {best.cost[0] + crossed_[j], best.cost[1] + shared_[j], best.cost[2] + 1};
  }
  return best_[units_].cost;
}

}  // namespace himakernels
