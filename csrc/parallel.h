// Work for several threads. What a range or a task computes never depends on how many threads there are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>

#include "fork_safety.h"

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

// body(begin, end) on one contiguous range of [0, n) a thread.
template <class Body>
void parallel_for(int64_t n, int threads, const Body& body) {
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(usable_threads(threads), n));
  Caught caught;
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(static, 1)
  for (int64_t p = 0; p < parts; ++p) caught.run([&] { body(n * p / parts, n * (p + 1) / parts); });
  caught.rethrow();
}

// body(i) for each i < n, handed out one by one in ascending order: tasks of unequal cost that share nothing.
template <class Body>
void parallel_tasks(int64_t n, int threads, const Body& body) {
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(usable_threads(threads), n));
  Caught caught;
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(dynamic, 1)
  for (int64_t i = 0; i < n; ++i) caught.run([&] { body(i); });
  caught.rethrow();
}

}  // namespace himakernels
