// Splits [0, n) into one contiguous range a thread. What a range computes never depends on how many there are.
#pragma once

#include <algorithm>
#include <cstdint>

namespace himakernels {

template <class Body>
void parallel_for(int64_t n, int threads, const Body& body) {
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, n));
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(static, 1)
  for (int64_t p = 0; p < parts; ++p) body(n * p / parts, n * (p + 1) / parts);
}

}  // namespace himakernels
