// Copies parts of a matrix into the panels that a register tile walks through.
#pragma once

#include <cstdint>

#include "half.h"

namespace himakernels {

enum class DType { kFloat32, kBFloat16, kFloat16 };

// The lines of an operand are what the sum does not run over: rows of A, columns of B.
struct Lines {
  const void* data;
  DType dtype;
  int64_t line_stride, k_stride;
};

// Lines [first, first + count) over k in [k0, k0 + depth), widened to fp32, as panels of `width` lines: panel p begins
// at out + p * panel_stride and holds line i at [k * width + i], zeros for lines that are not there. With `pairs` k and
// k + 1 are rounded to bf16 and share the word [k / 2 * width + i]; an odd last k is paired with zero.
void pack(const Lines& lines, int64_t first, int64_t count, int64_t k0, int64_t depth, int64_t width, bool pairs,
          int64_t panel_stride, float* out);

}  // namespace himakernels
