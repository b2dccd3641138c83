// Copies parts of a matrix, rounded to bf16, into the panels that tiles of AMX load: blocks of 16 words (pairs of k) by
// 16 lines.
#pragma once

#include <cstdint>

#include "pack.h"

namespace himakernels {

constexpr int64_t kBlockDepth = 32;  // k of a block

// As pack(), but k is filled up with zeros to a multiple of kBlockDepth, and the word of k, k + 1 of line i stands at
// [k / 2 * width + i], or with `by_line` at [k / 32 * 16 * width + i * 16 + k / 2 % 16]. `width` is a multiple of 16.
void pack_blocks(const Lines& lines, int64_t first, int64_t count, int64_t k0, int64_t depth, int64_t width,
                 bool by_line, int64_t panel_stride, float* out);

}  // namespace himakernels
