// Work for several threads. What a range or a task computes never depends on how many threads there are.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#include "workers.h"

namespace himakernels {

// Runs what may throw inside a parallel region, which no exception may leave; the first of them is thrown behind it.
class Caught {
 public:
  template <class Body>
  void run(const Body& body) {
    try {
      body();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!first_) first_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

// body(i) for each i < n, handed out one by one in ascending order: tasks of unequal cost that share nothing.
template <class Body>
void parallel_tasks(int64_t n, int threads, const Body& body) {
  if (threads <= 1 || n <= 1) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  Caught caught;
  std::atomic<int64_t> next{0};
  share_work(static_cast<int>(std::min<int64_t>(threads, n)), [&] {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) caught.run([&] { body(i); });
  });
  caught.rethrow();
}

// body(begin, end) on contiguous ranges of [0, n), several for a thread: one that is held up keeps little from the
// others.
template <class Body>
void parallel_for(int64_t n, int threads, const Body& body) {
  constexpr int64_t kRangesPerThread = 8;
  const int64_t ranges = threads <= 1 ? std::min<int64_t>(n, 1) : std::min(n, kRangesPerThread * threads);
  parallel_tasks(ranges, threads, [&](int64_t i) { body(n * i / ranges, n * (i + 1) / ranges); });
}

}  // namespace himakernels
