// Rows of fp32 rounded to bf16, to nearest, ties to even, with the widest vectors that the CPU has.
#pragma once

#include <cstdint>

#include "half.h"

namespace himakernels {

void round_row(const float* from, BFloat16* to, int64_t count);

// to[i] = the pair (low half, high half) = (bf16 of a[i], bf16 of b[i]); `b` may be null: then the high half is 0.
void pair_rows(const float* a, const float* b, uint32_t* to, int64_t count);
void pair_rows(const BFloat16* a, const BFloat16* b, uint32_t* to, int64_t count);

}  // namespace himakernels
