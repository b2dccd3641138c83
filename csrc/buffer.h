// Memory for packed operands, aligned for the widest vectors, and the arithmetic of cutting things into blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace himakernels {

struct FreeAligned {
  void operator()(float* p) const { ::operator delete(p, std::align_val_t{64}); }
};
using Buffer = std::unique_ptr<float, FreeAligned>;

inline Buffer allocate(int64_t count) {
  return Buffer(static_cast<float*>(::operator new(static_cast<size_t>(count) * sizeof(float), std::align_val_t{64})));
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace himakernels
